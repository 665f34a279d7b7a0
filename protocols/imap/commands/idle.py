"""IDLE (RFC 9051 section 6.3.13, RFC 2177)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import Bad
from certmaild.protocols.imap.interfaces import Woken

MAX_LINE = 64


async def run(context: Context, command: Command) -> None:
    """Tell every change at once until DONE, and a word every two minutes so that no NAT forgets the client."""
    command.no_arguments()
    context.write(b"+ idling\r\n")
    woken = Woken.CHANGE
    while woken is not Woken.INPUT:
        if woken is Woken.TIME:
            context.untagged(b"OK Still here")
        elif context.selected is not None:
            await context.sync(expunge=True)
        await context.flush()
        if context.selected is not None:
            context.selected.fold()
        woken = await context.wire.wait(context.limits.idle_still_here)
    if (await context.wire.read_line(MAX_LINE)).upper() != b"DONE":
        raise Bad(b"DONE was expected.")
    await context.ok(command)
