"""AUTHENTICATE with PLAIN and LOGIN, with an initial response (RFC 9051 section 6.2.2, RFC 4616, RFC 4959)."""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error

from certmaild.protocols.imap.authentication import log_in
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import Bad, No
from certmaild.protocols.imap.grammar.tokens import Cursor


async def run(context: Context, command: Command) -> None:
    """Run one SASL exchange."""
    cursor = Cursor(command.arguments)
    mechanism = cursor.atom().upper()
    initial = None
    if cursor.skip(b" "):
        encoded = cursor.atom()
        # "=" is an initial response of no octets.
        initial = b"" if encoded == b"=" else decode(encoded)
    cursor.end()
    if mechanism == b"PLAIN":
        username, password = parse_plain(initial if initial is not None else await ask(context, b""))
    elif mechanism == b"LOGIN":
        username = initial if initial is not None else await ask(context, b"Username:")
        password = await ask(context, b"Password:")
    else:
        raise No(b"This mechanism is not offered.", b"CANNOT")
    await log_in(context, command, username, password)


async def ask(context: Context, challenge: bytes) -> bytes:
    """Send a challenge and give the client's response. Raises `Bad` when it cancels with ``*``."""
    context.write(b"+ " + b64encode(challenge) + b"\r\n")
    line = await context.wire.read_line(context.limits.auth_line)
    if line == b"*":
        raise Bad(b"Cancelled by the client.")
    return decode(line)


def decode(encoded: bytes) -> bytes:
    """Base64 (RFC 4648 section 4), strictly. Raises `Bad`."""
    try:
        return b64decode(encoded, validate=True)
    except Base64Error:
        raise Bad(b"This is not base64.") from None


def parse_plain(message: bytes) -> tuple[bytes, bytes]:
    """User name and password of a PLAIN message. Raises `No` for an authorization identity of somebody else."""
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise Bad(b"This is not a PLAIN message.")
    authorize_as, username, password = parts
    if authorize_as not in (b"", username):
        raise No(b"Nobody may act for another user.", b"AUTHORIZATIONFAILED")
    return username, password
