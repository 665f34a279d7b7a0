"""Writes the notices that are due, in the one process that works the queue.

It decides anew by what is in the store then, and files the notice with the note that it was sent in one transaction. So
whatever restarts, each notice goes once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage

from msgspec import structs
from twisted.logger import Logger

from certmaild.client_setup.settings import settings_for
from certmaild.config_values import Config
from certmaild.guests.languages import languages_for
from certmaild.guests.notice_text import NoticeFacts, NoticeText, notice_text
from certmaild.guests.notices import next_notice_s
from certmaild.guests.writers import shown_writer
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import last_day, read_account
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.arrivals import count_waiting
from certmaild.mailbox.changes import NOBODY, Change, ChangeKind, Watch
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.guests import forget_notice_due, read_guest, set_notice_due
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_accounts import State
from certmaild.mailbox.layout_guests import GuestRow, WriterRow
from certmaild.mailbox.layout_queue import Due
from certmaild.mailbox.queue import HOUR_S, Queue
from certmaild.outbound.runner import Round
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import NotWritable, ServiceMail

log = Logger()

AFTER_A_FAULT_S = 300
AT_ONCE = 16
MOST_COUNTED = 1000
"""Waiting messages of one guest that are counted."""
SPREAD_S = 600
"""Notices that were too many in an hour are looked at during so many seconds of the next."""


@dataclass(frozen=True, slots=True)
class _View:
    """A guest, when his time has come."""

    row: GuestRow
    account: str
    waiting: int
    may_s: int
    """As `next_notice_s` says."""


class NoticeRound:
    """From `start` to `stop` notices are written."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        mail: ServiceMail,
        config: Callable[[], Config],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._config = config
        self._clock = clock
        self._queue = Queue(secrets.queue)
        self._round: Round | None = None
        self._watch: Watch | None = None

    async def start(self) -> None:
        """Write what is due, from now on."""
        self._round = Round(self._clock, self._look)
        self._watch = self._engine.hub.watch(NOBODY, self._changed)
        self._round.wake()

    async def stop(self) -> None:
        """Finish the notice under way, and begin nothing further."""
        if self._watch is not None:
            self._watch.stop()
        if self._round is not None:
            await self._round.stop()

    def _changed(self, change: Change) -> None:
        if change.kind is ChangeKind.QUEUE and self._round is not None:
            self._round.wake()

    async def _look(self) -> float:
        """Write some of what is due; in how many seconds to look again."""
        now_s = int(self._clock.seconds())

        def work(txn: ReadTxn) -> list[tuple[int, bytes]]:
            return [one for one, _ in zip(Queue.due(txn, Due.NOTICE, now_s), range(AT_ONCE), strict=False)]

        due = await self._engine.read(work)
        for at_s, what in due:
            await self._look_at(at_s, UserId(what))
        if len(due) == AT_ONCE:
            return 0
        next_s = await self._engine.read(lambda txn: Queue.next_due_s(txn, Due.NOTICE, now_s))
        return float("inf") if next_s is None else max(0, next_s - now_s)

    async def _look_at(self, at_s: int, user_id: UserId) -> None:
        try:
            await self._tell(at_s, user_id)
        except NotWritable as why:
            log.warn("no notice to the guest {guest}: {why}", guest=user_id.hex(), why=str(why))
            await self._engine.write(lambda txn: self._give_up(txn, at_s, user_id))
        except Exception:
            log.failure("a notice could not be written; it is tried again")
            again_s = int(self._clock.seconds()) + AFTER_A_FAULT_S
            await self._engine.write(lambda txn: self._put_off(txn, at_s, user_id, again_s))

    def _give_up(self, txn: WriteTxn, at_s: int, user_id: UserId) -> None:
        row = read_guest(txn, self._secrets, user_id)
        if row is None or row.notice_due_s != at_s:
            forget_notice_due(txn, user_id, at_s)
            return
        set_notice_due(txn, self._secrets, user_id, structs.replace(row, writers=()), 0)

    def _put_off(self, txn: WriteTxn, at_s: int, user_id: UserId, again_s: int) -> None:
        row = read_guest(txn, self._secrets, user_id)
        if row is not None and row.notice_due_s == at_s:
            set_notice_due(txn, self._secrets, user_id, row, again_s)
        else:
            forget_notice_due(txn, user_id, at_s)

    async def _tell(self, at_s: int, user_id: UserId) -> None:
        """Write the notice that was due then, unless it has become needless or has to wait."""
        now_s = int(self._clock.seconds())
        view = await self._engine.read(lambda txn: self._view(txn, at_s, user_id, now_s))
        if view is None or not view.waiting:
            await self._engine.write(lambda txn: self._give_up(txn, at_s, user_id))
            return
        if view.may_s > now_s:
            await self._engine.write(lambda txn: self._put_off(txn, at_s, user_id, view.may_s))
            return
        to = _ordinary(view.row)
        text = self._text(view, to)
        letter = _letter(text)
        writer = view.row.writers[-1] if view.row.writers else WriterRow("", view.row.inviter, view.row.inviter_id)
        sender = UserId(bytes.fromhex(writer.user_id)) if writer.user_id else None
        filed = await self._mail.prepare_notice(letter, _path(to.wire), told=_path(writer.address), sender=sender)

        def work(txn: WriteTxn) -> str:
            now = self._view(txn, at_s, user_id, now_s)
            if now is None or not now.waiting or now.may_s > now_s:
                self._put_off(txn, at_s, user_id, now_s + 1)
                return "looked at again"
            if later_s := self._too_many(txn, user_id, to, writer, now_s):
                self._put_off(txn, at_s, user_id, later_s)
                return "too many in this hour, later"
            filed(txn)
            done = structs.replace(now.row, noticed_s=now_s, writers=())
            set_notice_due(txn, self._secrets, user_id, done, 0)
            return "queued"

        what = await self._engine.write(work, grows=True)
        log.info(
            "notice to the guest {guest} at {address}: {what}",
            guest=user_id.hex(),
            address=self._secrets.trace_hash(to.lookup),
            what=what,
        )

    def _view(self, txn: ReadTxn, at_s: int, user_id: UserId, now_s: int) -> _View | None:
        """How a guest stands; None where this time means nothing any more."""
        row = read_guest(txn, self._secrets, user_id)
        account = read_account(txn, self._secrets, user_id)
        if row is None or row.notice_due_s != at_s or account is None or account.state is not State.ACTIVE:
            return None
        may_s = next_notice_s(row, last_day(txn, self._secrets, user_id), now_s, self._config().invite)
        return _View(row, account.display, count_waiting(txn, user_id, MOST_COUNTED), may_s)

    def _too_many(self, txn: WriteTxn, user_id: UserId, to: Address, writer: WriterRow, now_s: int) -> int:
        """When to look again, if this hour has had its notices; else count this one and give 0.

        One a quiet period to a mailbox, whatever ``+tag`` it was invited by; so many to a domain, and for one writer.
        """
        invites = self._config().invite
        in_an_hour = max(1, HOUR_S // max(1, invites.notice_quiet))
        limits = (
            (b"notice to\0" + to.base.key, in_an_hour),
            (b"notice at\0" + to.domain.encode(), invites.notices_per_domain),
            (b"notice for\0" + (writer.user_id or writer.address).encode(), invites.invitations_per_sender),
        )
        if any(self._queue.counted(txn, now_s, what) >= most for what, most in limits):
            return (now_s // HOUR_S + 1) * HOUR_S + int.from_bytes(user_id[:2], "big") % SPREAD_S
        for what, _ in limits:
            self._queue.count(txn, now_s, what)
        return 0

    def _text(self, view: _View, to: Address) -> NoticeText:
        config, row = self._config(), view.row
        name, invites = self._mail.name, config.invite
        by_domain = {one.domain: one.language for one in invites.domains}
        languages = languages_for(to, known=row.language, by_domain=by_domain, otherwise=invites.languages)
        writers = row.writers or (WriterRow("", row.inviter),)
        at_s = max(one.at_s for one in writers) or int(self._clock.seconds())
        facts = NoticeFacts(
            tuple(shown_writer(one) for one in writers),
            view.waiting,
            datetime.fromtimestamp(at_s, UTC),
            settings_for(config, view.account, ordinary=row.ordinary),
            name.domain,
            name.postmaster,
            invites.unused_days,
            bool(row.joined_s),
        )
        return notice_text(facts, languages, invites.templates)


def _ordinary(row: GuestRow) -> Address:
    try:
        return canonical(row.ordinary)
    except AddressError:
        raise NotWritable("He has no ordinary address.") from None


def _path(address: str) -> Path:
    local, _, domain = address.rpartition("@")
    return Path(local, domain)


def _letter(text: NoticeText) -> EmailMessage:
    """Plain text, that says of itself that a machine wrote it (`ServiceMail.octets`)."""
    letter = EmailMessage()
    letter["Subject"] = text.subject
    letter.set_content(text.text, cte="7bit" if text.text.isascii() else "quoted-printable")
    letter["Content-Language"] = ", ".join(text.languages)
    return letter
