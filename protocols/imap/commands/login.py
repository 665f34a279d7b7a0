"""LOGIN (RFC 9051 section 6.2.3); only TLS listeners exist, so it is never disabled."""

from certmaild.protocols.imap.authentication import log_in
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.tokens import Cursor


async def run(context: Context, command: Command) -> None:
    """Prove a user by name and password."""
    cursor = Cursor(command.arguments)
    username = cursor.astring()
    cursor.space()
    password = cursor.astring()
    cursor.end()
    await log_in(context, command, username, password)
