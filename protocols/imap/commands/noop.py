"""NOOP and CHECK (RFC 9051 section 6.1.2, RFC 3501 section 6.4.1): a chance to be told what changed."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context


async def run(context: Context, command: Command) -> None:
    """Tell what changed; everything is durable anyway."""
    command.no_arguments()
    if context.selected is not None:
        await context.take_arrivals()
    await context.ok(command)
