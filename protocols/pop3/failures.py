"""How failures of log-in and store are answered (RFC 2449 section 8, RFC 3206)."""

from certmaild.mailbox.errors import MailboxError, MessageGone, StoreUnavailable
from certmaild.protocols.interfaces import LogInForbidden, LogInRefused, LogInUnavailable, TooManySessions
from certmaild.protocols.pop3.errors import Refusal


def refusal_of(error: Exception) -> Refusal | None:
    """The answer to an expected failure, None for one that nobody foresaw."""
    match error:
        case Refusal():
            return error
        case LogInRefused():
            return Refusal("Wrong name or password", "AUTH")
        case LogInForbidden():
            return Refusal(error.public_text, "AUTH")
        case LogInUnavailable():
            return Refusal(error.public_text, "SYS/TEMP")
        case TooManySessions():
            return Refusal("Too many sessions, please try again later", "SYS/TEMP")
        case MessageGone():
            return Refusal("No such message any more")
        case StoreUnavailable():
            return Refusal("The mailbox is not available, please try again later", "SYS/TEMP")
        case MailboxError():
            return Refusal("The message cannot be read", "SYS/PERM")
        case _:
            return None
