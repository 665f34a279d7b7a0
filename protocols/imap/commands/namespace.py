"""NAMESPACE (RFC 9051 section 6.3.10)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context


async def run(context: Context, command: Command) -> None:
    """One personal namespace with "/" between levels; nobody sees another's folders."""
    command.no_arguments()
    context.untagged(b'NAMESPACE (("" "/")) NIL NIL')
    await context.ok(command)
