"""Trial by mail: who writes to ``try@`` from an address that proves itself gets a mailbox for some days.

What he wrote is looked at while it comes, and not kept. Everything that is answered goes to the proven address and
nowhere else; the reply to SMTP is the same, after the same time, whoever has a mailbox here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.client_setup.settings import in_words, settings_for
from certmaild.config_values import Config
from certmaild.guests import trial_texts
from certmaild.guests.account_names import account_name
from certmaild.guests.interfaces import NewGuest
from certmaild.guests.invitations import DAY_S, InThread, new_guest
from certmaild.guests.senders import read_waiting
from certmaild.inbound.inspection import Verdict
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log, daily_counts
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.changes import NOBODY
from certmaild.mailbox.directory import Directory, RecipientFacts
from certmaild.mailbox.errors import AddressError, AddressTaken
from certmaild.mailbox.guests import note_code_dies, write_guest
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_guests import AuditRow, Counted, GuestRow
from certmaild.mailbox.mime_header import read_fields
from certmaild.mailbox.new_accounts import write_account_rows
from certmaild.mailbox.trials import give_way, note_trial_due
from certmaild.outbound.interfaces import Work
from certmaild.partners.book import PartnerBook
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import NotWritable, ServiceMail
from certmaild.routing import TRY, is_on_trial
from certmaild.trace import parse_authors

log = Logger()

OCTETS = 10 * 2**20
MESSAGES = 200
"""Quota of a mailbox on trial, and never more than a guest's."""
TOLD_BEFORE_S = 3 * DAY_S
ANSWER_S = 1.0
"""From the end of the content to its 250, at least: the time says nothing about who has a mailbox here."""
_WANTED = frozenset((b"auto-submitted", b"precedence", b"list-id", b"list-unsubscribe"))
_BULK = re.compile(rb"bulk|junk|list", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A message to ``try@``, without its content."""

    at: Address
    """That it was written to."""
    reverse_path: str
    header: bytes = field(repr=False)
    froms: Sequence[bytes]
    """Values of its From fields."""
    verdict: Verdict


class Trials:
    """Gives mailboxes to try; ``config`` is asked each time."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        mail: ServiceMail,
        directory: Directory,
        partners: PartnerBook,
        config: Callable[[], Config],
        clock: Clock,
        in_thread: InThread,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._directory = directory
        self._partners = partners
        self._config = config
        self._clock = clock
        self._in_thread = in_thread

    def check(self, reverse_path: str) -> None:
        """Whether this sender could have a trial at all, at RCPT. Raises `Refusal`."""
        if not reverse_path:
            raise _refused(trial_texts.AUTOMATIC)
        self._check_address(_address(reverse_path))

    async def take(self, asked: Asked) -> None:
        """Make the mailbox, or tell the sender that he has one; durable when it returns.

        Raises `Refusal`: 550 5.7.1 for who is not proven, for automatic messages, for partners and our own people;
        450 4.7.1 past the limit of a day. Raises `StoreUnavailable`.
        """
        # Anybody's header, of up to a MiB.
        address = await self._in_thread(partial(self._proven, asked))
        at_s = self._clock.seconds() + ANSWER_S
        try:
            await self._take(asked, address)
        except AddressTaken:
            # The same person asks twice at once, or is invited at this moment: he hears of that.
            pass
        except NotWritable:
            raise _refused(trial_texts.NOT_WRITABLE) from None
        finally:
            await _until(self._clock, at_s)

    def _check_address(self, address: Address) -> None:
        if self._mail.is_inside(_path(address)):
            raise _refused(trial_texts.OURS)
        if address.is_literal:
            raise _refused(trial_texts.LITERAL)
        if self._partners.find(address.domain) is not None:
            raise _refused(trial_texts.PARTNER)

    def _proven(self, asked: Asked) -> Address:
        """The one author's address, if his domain vouches for the message."""
        for name, value in read_fields(asked.header, _WANTED):
            is_person = name == b"auto-submitted" and value.strip().lower() == b"no"
            if not is_person and (name != b"precedence" or _BULK.search(value)):
                raise _refused(trial_texts.AUTOMATIC)
        authors = [one for value in asked.froms for one in parse_authors(value)]
        if len(asked.froms) != 1 or len(authors) != 1:
            raise _refused(trial_texts.ONE_AUTHOR)
        address = _address(authors[0])
        is_sender = _address(asked.reverse_path).key == address.key
        by_sender = is_sender and asked.verdict.sender_is_proven
        if asked.verdict.is_junk or not (by_sender or address.domain in asked.verdict.vouched):
            raise _refused(trial_texts.NOT_PROVEN)
        self._check_address(address)
        return address

    async def _take(self, asked: Asked, address: Address) -> None:
        """``address`` is written to as it was proven, ``+tag`` included; the mailbox is for it without."""
        now = int(self._clock.seconds())
        there = await self._directory.recipient(address.base)
        lately = await self._engine.read(lambda txn: self._check_limit(txn, there, now))
        if lately:
            return
        if there is None or _was_never_opened(there):
            what, work = "made", await self._new(asked, address, now)
        else:
            what, work = "there already", await self._told(asked, address, there, now)
        await self._engine.write(work, grows=True)
        log.info("trial for {address}: {what}", address=self._secrets.trace_hash(address.lookup), what=what)

    def _check_limit(self, txn: ReadTxn, there: RecipientFacts | None, now: int) -> bool:
        """Whether who has this mailbox asked within a day. Raises `Refusal` past the limit, whoever asks."""
        if daily_counts.count(txn, self._secrets, NOBODY, Counted.TRIALS, now) >= self._config().invite.trials_per_day:
            raise Refusal(450, "4.7.1", trial_texts.TOO_MANY)
        return there is not None and daily_counts.count(txn, self._secrets, there.user_id, Counted.ASKED, now) > 0

    def _count(self, txn: WriteTxn, who: RecipientFacts, now: int) -> None:
        daily_counts.note(txn, self._secrets, NOBODY, Counted.TRIALS, now, 1)
        daily_counts.note(txn, self._secrets, who.user_id, Counted.ASKED, now, 1)

    async def _told(self, asked: Asked, address: Address, there: RecipientFacts, now: int) -> Work:
        """Word to who has a mailbox here."""
        until_s = there.guest.trial_until_s if there.guest is not None and is_on_trial(there) else 0
        letter = self._answer(trial_texts.is_there_letter(str(address), until_s), asked)
        filed = await self._mail.prepare_notice(letter, _path(address))

        def work(txn: WriteTxn) -> None:
            if not self._check_limit(txn, there, now):
                self._count(txn, there, now)
                filed(txn)

        return work

    async def _new(self, asked: Asked, address: Address, now: int) -> Work:
        """A mailbox, and the letters about it."""
        one = await self._made(address, now)
        row = one.guest.row
        letters = await self._letters(asked, address, one)
        secrets = self._secrets

        def work(txn: WriteTxn) -> None:
            self._check_limit(txn, None, now)
            give_way(txn, secrets, address, now)
            write_account_rows(txn, secrets, one.rows, aliases=(address.base.key,))
            write_guest(txn, secrets, one.guest.user_id, row)
            note_code_dies(txn, one.guest.user_id, row.code_expires_s)
            note_trial_due(txn, one.guest.user_id, max(now, row.trial_until_s - TOLD_BEFORE_S))
            self._count(txn, one.recipient, now)
            audit = AuditRow(at_s=now, by=str(address), act="trial began", whom=one.guest.account)
            audit_log.note(txn, secrets, audit)
            for filed in letters:
                filed(txn)

        return work

    async def _made(self, address: Address, now: int) -> NewGuest:
        invites, secrets = self._config().invite, self._secrets
        domain = invites.domain or ""

        def name(txn: ReadTxn) -> Address:
            return account_name(address, domain, secrets, lambda one: txn.get(Table.ADDR, one.key) is None)

        row = GuestRow(
            ordinary=str(address.base),
            inviter=self._mail.name.postmaster,
            inviter_id="",
            invited_s=now,
            code_expires_s=now + min(invites.code_days, invites.trial_days) * DAY_S,
            trial_until_s=now + invites.trial_days * DAY_S,
        )
        limits = (min(OCTETS, invites.octets), min(MESSAGES, invites.messages))
        named = await self._engine.read(name)
        return await self._in_thread(partial(new_guest, secrets, address, named, row, limits=limits))

    async def _letters(self, asked: Asked, address: Address, one: NewGuest) -> list[Work]:
        """The notice as a notice goes; the code by what ``[outbound]`` demands; the sealed one into the mailbox."""
        mail, row, account, path = self._mail, one.guest.row, one.guest.account, _path(address)
        server, until_s = mail.name.domain, row.trial_until_s
        settings = in_words(settings_for(self._config(), account, ordinary=str(address)))
        notice = trial_texts.notice_letter(str(address), settings, account, until_s, server)
        code = trial_texts.code_letter(account, one.code.text, row.code_expires_s, server)
        welcome = trial_texts.welcome_letter(str(address), account, until_s)
        welcome["From"] = _from(asked)
        placed = await mail.place_for(one.recipient, welcome)
        return [
            await mail.prepare_notice(self._answer(notice, asked), path),
            await mail.prepare(mail.octets(self._answer(code, asked), path), path),
            placed.file,
        ]

    def _answer(self, letter: EmailMessage, asked: Asked) -> EmailMessage:
        """A letter as the answer to his (RFC 3834)."""
        found = read_waiting(asked.header, "", None, "", 0).message_id
        letter["From"] = _from(asked)
        letter["Auto-Submitted"] = "auto-replied"
        if found:
            letter["In-Reply-To"] = letter["References"] = found
        return letter


def _was_never_opened(there: RecipientFacts) -> bool:
    """Whether nobody ever came into a mailbox on trial: it gives way to a new one, with another code."""
    row = there.guest
    return row is not None and is_on_trial(there) and not row.opened_s and not row.joined_s


def _refused(words: str) -> Refusal:
    return Refusal(550, "5.7.1", words)


def _address(text: str) -> Address:
    try:
        return canonical(text)
    except AddressError:
        raise _refused(trial_texts.ONE_AUTHOR) from None


def _path(address: Address) -> Path:
    return Path(address.local, address.domain)


def _from(asked: Asked) -> str:
    return f"certmaild <{TRY}@{asked.at.domain}>"


async def _until(clock: Clock, at_s: float) -> None:
    left_s = at_s - clock.seconds()
    if left_s > 0:
        waiting: Deferred[None] = Deferred()
        clock.callLater(left_s, waiting.callback, None)
        await waiting
