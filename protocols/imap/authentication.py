"""Log-in for LOGIN and AUTHENTICATE: one place where its refusals become response codes (RFC 5530)."""

from certmaild.protocols.imap.capability import capabilities
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.interfaces import LogInForbidden, LogInRefused, LogInUnavailable, TooManySessions

MAX_CREDENTIAL = 4096
"""Octets of a user name or a password."""


async def log_in(context: Context, command: Command, username: bytes, password: bytes) -> None:
    """Prove the user, or refuse: AUTHENTICATIONFAILED only for a wrong name or password, never for our own faults."""
    if not username or not password or max(len(username), len(password)) > MAX_CREDENTIAL:
        raise No(b"Authentication failed.", b"AUTHENTICATIONFAILED")
    try:
        await context.wire.log_in(username, password)
    except LogInRefused:
        raise No(b"Authentication failed.", b"AUTHENTICATIONFAILED") from None
    except LogInForbidden as forbidden:
        raise No(forbidden.public_text.encode("ascii"), b"CONTACTADMIN") from None
    except LogInUnavailable:
        raise No(b"Log-in is not possible at the moment; try again later.", b"UNAVAILABLE") from None
    except TooManySessions:
        raise No(b"Too many sessions; close another client.", b"LIMIT") from None
    await context.ok(command, b"Logged in.", b"CAPABILITY " + capabilities(context))
