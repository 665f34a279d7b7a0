"""What the making of a guest's mailbox asks of others: words to the sender with the code, words to the guest."""

from dataclasses import dataclass, field
from typing import Protocol

from certmaild.keystore.codes import Code
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.directory import RecipientFacts
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout_guests import GuestRow, WriterRow
from certmaild.mailbox.new_accounts import AccountRows
from certmaild.outbound.interfaces import Work


@dataclass(frozen=True, slots=True)
class Sender:
    """Who writes to a guest."""

    address: str
    """Main address of his account in look-up form; a partner's reverse-path."""
    name: str = ""
    """As his From field names him, without anything that a client makes a link of; empty where it does not."""
    account: RecipientFacts | None = None
    """His mailbox here; None for a partner."""

    @property
    def writer(self) -> WriterRow:
        """As his guests are told of him."""
        return WriterRow(self.name, self.address, "" if self.account is None else self.account.user_id.hex())


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits for a guest."""

    sender: Sender
    reason: str = ""
    """Why it was sealed for a guest and not sent on, in words."""
    message_id: str = ""
    """With its angle brackets; empty where the message has none, or none that can be repeated."""
    subject: str = ""
    at_s: int = 0
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest as he stands, or will stand when the transaction is through."""

    user_id: UserId
    account: str
    """Account name: main address in look-up form."""
    ordinary: Address | None
    """Where notices go; None: he has no address but the account's, so nobody writes there."""
    row: GuestRow


@dataclass(frozen=True, slots=True)
class NewGuest:
    """A guest's mailbox, prepared outside of a transaction and written inside of it."""

    address: Address
    """That the message was written to, ``+tag`` included."""
    rows: AccountRows
    guest: Guest
    recipient: RecipientFacts
    """As the directory will give him."""
    code: Code = field(repr=False)
    bequest: bytes | None = field(repr=False)
    """His root key as sealed to the sender (`certmaild.keystore.users.seal_bequest`)."""


class PickupWriter(Protocol):
    """Hands the pickup code to the sender."""

    async def prepare(self, guest: Guest, waiting: Waiting, code: Code) -> Work:
        """What files the message with the code in the sender's mailbox.

        It runs in the transaction that makes the guest, after his rows are written, and may change his row (read it
        there again). Raises `StoreUnavailable`, `NotWritable`.
        """
        ...

    async def prepare_later(self, guest: Guest, waiting: Waiting) -> Work | None:
        """What tells a later sender, once, that a code was given out before; by whom only if both are of one domain.

        Asked for a message to a guest who has not joined yet and has had none from this sender. It runs in the
        transaction that files the message. Raises as `prepare` does.
        """
        ...


class NoticeWriter(Protocol):
    """Tells guests at their ordinary addresses that mail waits; `certmaild.guests.notices.Notices` does."""

    def noted(self, user_id: UserId, writer: WriterRow) -> Work:
        """What notes, in the transaction that files a message, that somebody wrote to a guest.

        It runs after the rows of a new guest are written, and changes his row.
        """
        ...
