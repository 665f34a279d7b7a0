"""COMPRESS=DEFLATE (RFC 4978)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.grammar.tokens import Cursor


async def run(context: Context, command: Command) -> None:
    """Answer in clear, then deflate both directions."""
    cursor = Cursor(command.arguments)
    mechanism = cursor.atom().upper()
    cursor.end()
    if mechanism != b"DEFLATE":
        raise No(b"Only DEFLATE is offered.", b"CANNOT")
    if context.wire.compressing:
        raise No(b"The connection is compressed already.", b"COMPRESSIONACTIVE")
    await context.ok(command)
    context.wire.compress()
