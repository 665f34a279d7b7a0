"""The plainest words that will do, to the sender with the code."""

from email.message import EmailMessage

import msgspec

from certmaild.guests.interfaces import Guest, Waiting
from certmaild.keystore.codes import Code
from certmaild.mailbox.guests import read_guest, write_guest
from certmaild.mailbox.interfaces import RowSealer, WriteTxn
from certmaild.outbound.interfaces import Work
from certmaild.reports.service_mail import NotWritable, ServiceMail


class PlainPickup:
    """A `PickupWriter`."""

    def __init__(self, mail: ServiceMail, secrets: RowSealer) -> None:
        self._mail = mail
        self._secrets = secrets

    async def prepare(self, guest: Guest, waiting: Waiting, code: Code) -> Work:
        """As `PickupWriter.prepare`."""
        account = waiting.sender.account
        if account is None:
            raise NotWritable("There is no mailbox here for the sender.")
        whom = guest.account if guest.ordinary is None else str(guest.ordinary)
        letter = _letter(f"Code for {whom}", waiting)
        letter["Certmaild-Invite"] = whom
        letter.set_content(
            f"Your message to {whom} was sealed and waits here: {waiting.reason}.\n"
            "Say this code to the recipient on the telephone, and nobody else:\n\n"
            f"Code: {code.text}\n"
            f"Account: {guest.account}\n"
        )
        placed = await self._mail.place(letter, account.user_id)

        def work(txn: WriteTxn) -> None:
            placed.file(txn)
            row = read_guest(txn, self._secrets, guest.user_id)
            if row is not None:
                row = msgspec.structs.replace(row, pickup_mid=placed.mid.hex())
                write_guest(txn, self._secrets, guest.user_id, row)

        return work

    async def prepare_later(self, guest: Guest, waiting: Waiting) -> Work | None:
        """As `PickupWriter.prepare_later`."""
        account = waiting.sender.account
        if account is None:
            return None
        whom = guest.account if guest.ordinary is None else str(guest.ordinary)
        letter = _letter(f"Waiting for {whom}", waiting)
        same = waiting.sender.address.rpartition("@")[2] == guest.row.inviter.rpartition("@")[2]
        by = f" by {guest.row.inviter}" if same else ""
        letter.set_content(
            f"Your message to {whom} was sealed and waits here.\n\n"
            f"A code by which the recipient opens the mailbox was given out before{by}, so there is none for you to"
            " pass on.\n"
        )
        return (await self._mail.place(letter, account.user_id)).file


def _letter(subject: str, waiting: Waiting) -> EmailMessage:
    letter = EmailMessage()
    letter["Subject"] = subject
    if waiting.message_id:
        letter["In-Reply-To"] = letter["References"] = waiting.message_id
    return letter
