"""Hands pickup codes to senders, sealed into their mailboxes, and has the operator's program carry them."""

import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.guests import code_texts
from certmaild.guests.code_command import CodeCommand
from certmaild.guests.interfaces import Guest, Waiting
from certmaild.keystore.codes import Code
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.directory import RecipientFacts
from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.guests import note_code_dies, read_guest, write_guest
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import Engine, RowSealer, WriteTxn
from certmaild.outbound.interfaces import Work
from certmaild.protocols.smtp.grammar import Path
from certmaild.reports.service_mail import NotWritable, ServiceMail

log = Logger()

SERVICE = "invite"
"""Local part of the address at which codes are renewed."""
COMMIT_S = 600
"""A transaction that has not made a guest by then never will."""


def tag_of(user_id: UserId) -> str:
    """How a guest is named in the address that renews his code: 26 letters and digits."""
    return base64.b32encode(user_id).decode("ascii").rstrip("=").lower()


def user_of(tag: str) -> UserId | None:
    """Inverse of `tag_of`."""
    try:
        found = base64.b32decode(tag.upper() + "=" * (-len(tag) % 8))
    except (binascii.Error, ValueError):
        return None
    return UserId(found) if len(found) == 16 else None


def answer_renews(letter: EmailMessage, user_id: UserId, reader: str) -> EmailMessage:
    """The same letter; what its reader (an address) answers to it is about this guest's code."""
    letter["Reply-To"] = f"{SERVICE}+{tag_of(user_id)}@{reader.rpartition('@')[2]}"
    return letter


@dataclass(frozen=True, slots=True)
class Shown:
    """A code to be shown to somebody."""

    guest: Guest
    code: Code = field(repr=False)
    sender: str
    """Main address of who is to pass it on."""
    reason: str = ""
    renewed: bool = False

    @property
    def whom(self) -> str:
        """The guest as the sender knows him."""
        return self.guest.account if self.guest.ordinary is None else str(self.guest.ordinary)


class PickupLetters:
    """A `PickupWriter`; renewals write by it too. ``later`` is ``reactor.callLater``."""

    def __init__(
        self,
        engine: Engine,
        sealer: RowSealer,
        mail: ServiceMail,
        command: CodeCommand,
        later: Callable[[float, Callable[[], None]], object],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._engine = engine
        self._sealer = sealer
        self._mail = mail
        self._command = command
        self._later = later
        self._random = random

    async def prepare(self, guest: Guest, waiting: Waiting, code: Code) -> Work:
        """See `PickupWriter.prepare`."""
        sender = waiting.sender
        shown = Shown(guest, code, sender.address, waiting.reason)
        letter = self.letter(shown)
        if waiting.message_id:
            letter["In-Reply-To"] = letter["References"] = waiting.message_id
        mid, filed = await self._filed(letter, sender.account, sender.address)
        self._carry_when_made(shown, sender.account)

        def work(txn: WriteTxn) -> None:
            filed(txn)
            row = read_guest(txn, self._sealer, guest.user_id)
            if row is not None:
                shows = "" if mid is None else mid.hex()
                write_guest(txn, self._sealer, guest.user_id, msgspec.structs.replace(row, pickup_mid=shows))
                note_code_dies(txn, guest.user_id, row.code_expires_s)

        return work

    async def _filed(
        self, letter: EmailMessage, account: RecipientFacts | None, address: str
    ) -> tuple[Mid | None, Work]:
        """Into a mailbox here; to a sender elsewhere by TLS that is proven to the end, or not at all."""
        if account is not None:
            placed = await self._mail.place(letter, account.user_id)
            return placed.mid, placed.file
        local, _, domain = address.rpartition("@")
        path = Path(local, domain)
        return None, await self._mail.prepare(self._mail.octets(letter, path), path, require_tls=True)

    def letter(self, shown: Shown) -> EmailMessage:
        """Shows the code."""
        domain, tag = shown.sender.rpartition("@")[2], tag_of(shown.guest.user_id)
        letter = code_texts.code_letter(
            shown.whom,
            shown.guest.account,
            shown.code.text,
            shown.guest.row.code_expires_s,
            shown.reason,
            domain=shown.guest.row.inviter.rpartition("@")[2],
            renewed=shown.renewed,
            command=self._command.is_set,
        )
        letter["Certmaild-Invite"] = shown.whom
        answer_renews(letter, shown.guest.user_id, shown.sender)
        letter["Message-ID"] = f"<{SERVICE}.{tag}.{self._random(8).hex()}@{domain}>"
        return letter

    async def prepare_later(self, guest: Guest, waiting: Waiting) -> Work | None:
        """See `PickupWriter.prepare_later`."""
        account, row = waiting.sender.account, guest.row
        if account is None or row.joined_s:
            return None
        address = waiting.sender.address
        same = address.rpartition("@")[2] == row.inviter.rpartition("@")[2]
        whom = guest.account if guest.ordinary is None else str(guest.ordinary)
        letter = answer_renews(code_texts.later_letter(whom, row.inviter if same else None), guest.user_id, address)
        if waiting.message_id:
            letter["In-Reply-To"] = letter["References"] = waiting.message_id
        try:
            return (await self._mail.place(letter, account.user_id)).file
        except NotWritable:
            return None

    # The operator's program.

    def _carry_when_made(self, shown: Shown, account: RecipientFacts | None) -> None:
        """Run it once the transaction that makes the guest is committed, which the change of his account tells."""
        if not self._command.is_set:
            return

        def changed(change: Change) -> None:
            if change.kind is ChangeKind.ACCOUNT:
                watch.stop()
                self.carry(shown, None if account is None else account.user_id)

        watch = self._engine.hub.watch(shown.guest.user_id, changed)
        self._later(COMMIT_S, watch.stop)

    def carry(self, shown: Shown, sender: UserId | None) -> None:
        """Run it now, in the background; the sender is told if it fails."""
        if self._command.is_set:
            carrying = Deferred.fromCoroutine(self._carry(shown, sender))
            carrying.addErrback(lambda failure: log.failure("after a code was made", failure))

    async def _carry(self, shown: Shown, sender: UserId | None) -> None:
        if await self._command.carry(shown.code, shown.whom, shown.guest.account, shown.sender) or sender is None:
            return
        try:
            placed = await self._mail.place(code_texts.command_failed_letter(shown.whom), sender)
            await self._engine.write(placed.file)
        except (NotWritable, MailboxError):
            log.failure("a sender could not be told that the code command failed")
