"""How a command fails, and the one table that turns failures of the floors below into tagged responses."""

from certmaild.mailbox.errors import (
    Damaged,
    FolderExists,
    FolderMissing,
    FolderNameInvalid,
    FolderProtected,
    HasChildren,
    LimitReached,
    MailboxError,
    MessageGone,
    NotByThisCode,
    OverQuota,
    ServerKeepsFolder,
    StoreFull,
    StoreUnavailable,
)
from certmaild.protocols.errors import GrammarError, ProtocolError, StateError


class CommandFailed(ProtocolError):
    """Ends a command with a tagged response. Texts are ours: nothing that the client sent is put into them."""

    status = b"NO"

    def __init__(self, text: bytes, code: bytes | None = None) -> None:
        super().__init__(text.decode("ascii"))
        self.text = text
        self.code = code


class No(CommandFailed):
    """Understood and refused."""


class Bad(CommandFailed):
    """Not understood, or not now; counts towards the limit of bad commands."""

    status = b"BAD"


class Bye(ProtocolError):
    """Ends the session with ``* BYE``."""

    def __init__(self, text: bytes, code: bytes | None = None) -> None:
        super().__init__(text.decode("ascii"))
        self.text = text
        self.code = code


class ConnectionGone(ProtocolError):
    """The client left while a command waited for it, or can no longer be answered: it waits for a literal's octets.

    The connection is cut off without a word; a cause, if there is one, is logged.
    """


TEXTS: dict[type[MailboxError], bytes] = {
    FolderMissing: b"No such mailbox.",
    FolderExists: b"A mailbox of this name exists.",
    FolderNameInvalid: b"This is not a name that a mailbox can have.",
    ServerKeepsFolder: b"The server itself keeps this mailbox.",
    FolderProtected: b"This cannot be done to this mailbox.",
    NotByThisCode: b"A recovery code shows your devices, and no more: log in with a new device password for your mail.",
    HasChildren: b"The mailbox has children; delete these first.",
    LimitReached: b"The limit of mailboxes or keywords is reached.",
    OverQuota: b"The quota of the mailbox would be exceeded.",
    MessageGone: b"Some of the messages were expunged by another session.",
    Damaged: b"Stored data is damaged; the administrator has been told.",
    StoreFull: b"The server has no room at the moment; try again later.",
    StoreUnavailable: b"The mailbox is not available at the moment; try again later.",
}
"""RFC 5530 texts by error; the code is the error's own."""
INTERNAL_ERROR = b"Internal error; it has been recorded."


def failure_of(error: Exception) -> CommandFailed | None:
    """The tagged response to ``error``, or None when it is no foreseen one (then: log it, answer `INTERNAL_ERROR`)."""
    if isinstance(error, CommandFailed):
        return error
    if isinstance(error, MailboxError):
        text = next((TEXTS[kind] for kind in type(error).__mro__ if kind in TEXTS), b"The mailbox refused this.")
        return No(text, error.code)
    if isinstance(error, GrammarError):
        return Bad(b"The arguments are not understood.", b"CLIENTBUG")
    if isinstance(error, StateError):
        return Bad(b"Not in this state.", b"CLIENTBUG")
    return None
