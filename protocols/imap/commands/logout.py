"""LOGOUT (RFC 9051 section 6.1.3)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.states import Move


async def run(context: Context, command: Command) -> None:
    """Say ``* BYE``, then OK; the server closes in state LOGOUT."""
    command.no_arguments()
    context.untagged(b"BYE Until next time.")
    await context.ok(command)
    context.session.move(Move.LOG_OUT)
