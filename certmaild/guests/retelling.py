"""The message that shows a pickup code, in the inviter's mailbox, and what takes its place."""

from email.message import EmailMessage

from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.outbound.interfaces import Work
from certmaild.reports.service_mail import NotWritable, ServiceMail


async def retold(mail: ServiceMail, row: GuestRow, letter: EmailMessage) -> Work:
    """What puts a letter in the place of the one that shows the code: nobody reads that from the commit on.

    Nothing where none does in a mailbox here. Raises `StoreUnavailable`.
    """
    if not row.pickup_mid or not row.inviter_id:
        return nothing
    try:
        placed = await mail.replace(UserId(bytes.fromhex(row.inviter_id)), Mid(bytes.fromhex(row.pickup_mid)), letter)
    except NotWritable:
        return nothing
    return placed.file


def nothing(txn: WriteTxn) -> None:
    """No letter."""
