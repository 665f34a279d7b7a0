"""Makes a guest's mailbox: prepared while the message waits, written in the transaction that files it.

Nothing that opens the mailbox stays here: the code is handed to the sender, sealed, and the root key is kept only as
sealed to him.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, gatherResults

from certmaild.config_values import Invites
from certmaild.guests.account_names import account_name
from certmaild.guests.interfaces import Guest, NewGuest, NoticeWriter, PickupWriter, Waiting
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import check_public_key, create_user_keys, seal_bequest
from certmaild.mailbox import audit_log, daily_counts, ways_in
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.directory import RecipientFacts
from certmaild.mailbox.guests import has_heard, note_heard, write_bequest, write_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Account, Option, Role, SentCopies, State
from certmaild.mailbox.layout_guests import AuditRow, Counted, GuestRow
from certmaild.mailbox.new_accounts import prepare_account, write_account_rows
from certmaild.mailbox.trials import give_way
from certmaild.outbound.interfaces import Work
from certmaild.protocols.smtp.errors import Refusal
from certmaild.routing import Invite

T = TypeVar("T")
DAY_S = 86_400
AT_ONCE = 2
"""Guests prepared at a time: each takes a thread for some 30 ms."""


class InThread(Protocol):
    """Runs work off the reactor's thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


def too_many(limit: int, left: int) -> Refusal:
    """What a sender hears who would invite more people than one may."""
    return Refusal(
        450,
        "4.7.1",
        f"You may invite {limit} new people in 24 hours, and {left} are left: write to fewer, or wait, or ask the"
        " administrator",
    )


class Invitations:
    """Makes guests as ``settings`` say at the time."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        settings: Callable[[], Invites],
        pickup: PickupWriter,
        notices: NoticeWriter,
        *,
        seconds: Callable[[], float],
        in_thread: InThread,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._settings = settings
        self._pickup = pickup
        self._notices = notices
        self._seconds = seconds
        self._in_thread = in_thread

    async def prepare(self, invited: Sequence[Invite], waiting: Waiting) -> "Prepared":
        """Mailboxes for people who have none, each of another address.

        Raises `Refusal` 450 4.7.1 past the limit of one sender, `StoreUnavailable`, `NotWritable`.
        """
        now, sender = int(self._seconds()), waiting.sender.account
        if sender is None:
            raise Refusal(550, "5.7.1", "Only people with a mailbox here invite others")
        limit = self._settings().invitations_per_sender
        names, before = await self._engine.read(lambda txn: self._names(txn, invited, sender.user_id, now))
        if before + len(invited) > limit:
            raise too_many(limit, max(limit - before, 0))
        made: list[tuple[NewGuest, Work]] = []
        for at in range(0, len(invited), AT_ONCE):
            some = zip(invited[at : at + AT_ONCE], names[at : at + AT_ONCE], strict=True)
            making = [Deferred.fromCoroutine(self._made(one, name, sender, waiting, now)) for one, name in some]
            made += await gatherResults(making, consumeErrors=True)
        guests = [guest for guest, _ in made]
        words = [letter for _, letter in made]
        for one in guests:
            words += self._notice(one.guest, waiting)
        return Prepared(self._secrets, guests, words, sender, waiting.reason, now, limit)

    async def _made(
        self, one: Invite, name: Address, sender: RecipientFacts, waiting: Waiting, now: int
    ) -> tuple[NewGuest, Work]:
        """A guest, and the letter with his code. Each begins in a thread, so between two letters others have a turn."""
        guest = await self._in_thread(partial(make_guest, self._secrets, self._settings(), one, name, sender, now))
        return guest, await self._pickup.prepare(guest.guest, waiting, guest.code)

    def _notice(self, guest: Guest, waiting: Waiting) -> list[Work]:
        return [] if guest.ordinary is None else [self._notices.noted(guest.user_id, waiting.sender.writer)]

    async def prepare_words(
        self, guests: Sequence[RecipientFacts], waiting: Waiting, partners: Sequence[Address] = ()
    ) -> list[Work]:
        """For a message to people who are guests already: notices, and words to a sender who is not the first.

        ``partners``: addresses that wrote it, and that they may write to from now on.
        """
        words: list[Work] = []
        for one in guests:
            guest = guest_of(one)
            if guest is None:
                continue
            words += self._notice(guest, waiting)
            sender = waiting.sender
            if one.role is Role.GUEST:
                words += [partial(_note_heard, self._secrets, guest.user_id, partner) for partner in partners]
            if sender.account is not None and not guest.row.joined_s:
                address = canonical(sender.address)
                if not await self._has_heard(guest.user_id, address):
                    words.append(partial(_note_heard, self._secrets, guest.user_id, address))
                    # Letters to many in a row let others have a turn between two.
                    await self._in_thread(_nothing)
                    later = await self._pickup.prepare_later(guest, waiting)
                    words += [] if later is None else [later]
        return words

    async def _has_heard(self, user_id: UserId, address: Address) -> bool:
        return await self._engine.read(lambda txn: has_heard(txn, self._secrets, user_id, address))

    def _names(self, txn: ReadTxn, invited: Sequence[Invite], sender: UserId, now: int) -> tuple[list[Address], int]:
        """The main addresses of the accounts to be made, and how many ``sender`` invited lately."""
        taken: set[bytes] = set()
        names: list[Address] = []
        domain = self._settings().domain or ""

        def is_free(name: Address) -> bool:
            return name.key not in taken and txn.get(Table.ADDR, name.key) is None

        for one in invited:
            name = one.address.base if one.is_own_name else account_name(one.address, domain, self._secrets, is_free)
            taken.add(name.key)
            names.append(name)
        return names, daily_counts.count(txn, self._secrets, sender, Counted.INVITED, now)


def make_guest(
    secrets: ServerSecrets, settings: Invites, one: Invite, name: Address, sender: RecipientFacts, now: int
) -> NewGuest:
    """A guest whom a sender invites, named ``name``. Takes some 30 ms, for a thread."""
    row = GuestRow(
        ordinary="" if one.is_own_name else str(one.address.base),
        inviter=sender.address,
        inviter_id=sender.user_id.hex(),
        invited_s=now,
        code_expires_s=now + settings.code_days * DAY_S,
        language=one.language,
    )
    is_guest = one.role is Role.GUEST
    limits = (settings.octets, settings.messages) if is_guest else (None, None)
    return new_guest(secrets, one.address, name, row, role=one.role, limits=limits, sender=sender)


def new_guest(
    secrets: ServerSecrets,
    address: Address,
    name: Address,
    row: GuestRow,
    *,
    role: Role = Role.GUEST,
    limits: tuple[int | None, int | None],
    sender: RecipientFacts | None = None,
) -> NewGuest:
    """A mailbox that a pickup code opens, and a ``sender`` may open; ``limits`` of octets and messages.

    Takes some 30 ms, for a thread.
    """
    user, now = create_user_keys(secrets), row.invited_s
    try:
        user_id = UserId(user.user_id)
        way = ways_in.new_pickup(secrets, user_id, user.root, created=now, expires=row.code_expires_s)
        account = Account(
            State.ACTIVE,
            role,
            SentCopies.SERVER,
            *limits,
            now,
            now,
            name.lookup,
            name.display,
            Option.SERVICE_FOLDERS,
        )
        rows = prepare_account(account, user, [(way.credential_id, way.row)], now=now)
        recipient = RecipientFacts(
            user_id,
            account.address,
            account.state,
            account.role,
            account.sent_copies,
            account.octets_limit,
            account.messages_limit,
            check_public_key(secrets, user_id, user.public_key_row),
            row,
        )
        bequest = None
        if sender is not None:
            bequest = seal_bequest(sender.public_key, sender.user_id, user_id, user.root.reveal())
    finally:
        user.root.wipe()
        user.keys.close()
    guest = Guest(user_id, account.address, canonical(row.ordinary) if row.ordinary else None, row)
    return NewGuest(address, rows, guest, recipient, way.code, bequest)


@dataclass(frozen=True, slots=True)
class Prepared:
    """New guests, ready to be written."""

    secrets: ServerSecrets
    guests: Sequence[NewGuest]
    words: Sequence[Work]
    sender: RecipientFacts
    reason: str
    now: int
    limit: int

    def write(self, txn: WriteTxn) -> None:
        """Make the mailboxes. Raises `AddressTaken` where somebody has one meanwhile, `Refusal` as `prepare` does."""
        secrets, sender, now = self.secrets, self.sender, self.now
        before = daily_counts.count(txn, secrets, sender.user_id, Counted.INVITED, now)
        if before + len(self.guests) > self.limit:
            raise too_many(self.limit, max(self.limit - before, 0))
        daily_counts.note(txn, secrets, sender.user_id, Counted.INVITED, now, len(self.guests))
        for one in self.guests:
            guest = one.guest
            if guest.ordinary is not None:
                give_way(txn, secrets, guest.ordinary, now)
            aliases = () if guest.ordinary is None else (guest.ordinary.key,)
            write_account_rows(txn, secrets, one.rows, aliases=aliases)
            write_guest(txn, secrets, guest.user_id, guest.row)
            write_bequest(txn, guest.user_id, one.bequest)
            note_heard(txn, secrets, guest.user_id, canonical(sender.address))
            whom = guest.account if guest.ordinary is None else str(guest.ordinary)
            audit_log.note(
                txn,
                secrets,
                AuditRow(at_s=now, by=sender.address, act="guest invited", whom=whom, detail=self.reason),
            )
        for word in self.words:
            word(txn)


def guest_of(facts: RecipientFacts) -> Guest | None:
    """What notices and letters need of who was invited once; None for anybody else."""
    row = facts.guest
    if row is None:
        return None
    return Guest(facts.user_id, facts.address, canonical(row.ordinary) if row.ordinary else None, row)


def waits_for_joining(facts: RecipientFacts, sender: str | None) -> bool:
    """Whether a message stays out of sight until the guest has joined.

    It does unless a user of the inviter's domain submits it; ``sender`` is his main address, None on port 25.
    """
    row = facts.guest
    if row is None or row.joined_s:
        return False
    return sender is None or sender.rpartition("@")[2] != row.inviter.rpartition("@")[2]


def _nothing() -> None:
    """Takes no time."""


def _note_heard(secrets: ServerSecrets, user_id: UserId, address: Address, txn: WriteTxn) -> None:
    note_heard(txn, secrets, user_id, address)
