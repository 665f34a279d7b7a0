"""What the store refuses, each with the IMAP response code it is answered with (RFC 9051 section 7.1, RFC 5530)."""

from typing import ClassVar


class MailboxError(Exception):
    """Base of what the store refuses; `code` is the IMAP response code to answer with."""

    code: ClassVar[bytes | None] = None


class FolderMissing(MailboxError):
    """The folder does not exist, or the user may not know that it does."""

    code = b"NONEXISTENT"


class FolderExists(MailboxError):
    """The name is taken."""

    code = b"ALREADYEXISTS"


class FolderNameInvalid(MailboxError):
    """The name is empty, too long or holds what a folder name may not."""

    code = b"CANNOT"


class FolderProtected(MailboxError):
    """INBOX cannot be deleted, and some moves make no sense."""

    code = b"CANNOT"


class ServerKeepsFolder(FolderProtected):
    """A folder of the server's own, such as Devices: it is deleted and renamed by nobody."""


class NotByThisCode(MailboxError):
    """Whoever came in by a recovery code may look at his devices and remove them, nothing more."""

    code = b"NOPERM"


class HasChildren(MailboxError):
    """A folder with children is not deleted (PROTOCOLS section 2)."""

    code = b"HASCHILDREN"


class LimitReached(MailboxError):
    """Too many folders or keywords."""

    code = b"LIMIT"


class OverQuota(MailboxError):
    """More octets or messages than the account may hold (RFC 9208)."""

    code = b"OVERQUOTA"


class MessageGone(MailboxError):
    """Expunged by another session (RFC 5530)."""

    code = b"EXPUNGEISSUED"


class Damaged(MailboxError):
    """A stored value failed its integrity check, or contradicts another."""

    code = b"SERVERBUG"


class ColumnDamaged(Damaged):
    """The same of a frame of the text column, which can be made anew from the messages."""

    def __init__(self, what: str, box_id: bytes, first_uid: int, directory: bytes) -> None:
        super().__init__(what)
        self.box_id = box_id
        self.first_uid = first_uid
        """The frame's key."""
        self.directory = directory
        """Its stored directory, as it was read."""


class StoreUnavailable(MailboxError):
    """A fault of the store; try again later, nothing is wrong with the request."""

    code = b"UNAVAILABLE"


class StoreFull(StoreUnavailable):
    """Less free disk than the floor (SMTP: 452 4.3.1)."""


class StoreUnfit(MailboxError):
    """The store cannot be opened until somebody mends something; the text is fit to print and says what."""


class StoreInUse(MailboxError):
    """Another daemon serves this store; the text is fit to print and says what to do."""


class AddressError(MailboxError, ValueError):
    """Not a mail address; the text says what is wrong with it and repeats none of it (RFC 5321 section 4.1.2)."""


class AccountMissing(MailboxError):
    """Nobody has this address."""


class AddressTaken(MailboxError):
    """An account or an alias has this address already."""


class SecretRefused(MailboxError):
    """The password, device password or recovery code given to authorise a change is not right."""
