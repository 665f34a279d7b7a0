"""CAPABILITY (RFC 9051 section 6.1.1)."""

from certmaild.protocols.imap.capability import capabilities
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context


async def run(context: Context, command: Command) -> None:
    """List what works here and now."""
    command.no_arguments()
    context.untagged(b"CAPABILITY " + capabilities(context))
    await context.ok(command)
