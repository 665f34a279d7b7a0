"""SUBSCRIBE and UNSUBSCRIBE (RFC 9051 sections 6.3.7 and 6.3.8)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import read_name


async def run(context: Context, command: Command) -> None:
    """Subscribe to a folder."""
    await change(context, command, subscribed=True)


async def run_unsubscribe(context: Context, command: Command) -> None:
    """Unsubscribe from a name, also one without a folder."""
    await change(context, command, subscribed=False)


async def change(context: Context, command: Command, *, subscribed: bool) -> None:
    """Write the subscription."""
    cursor = Cursor(command.arguments)
    name = read_name(context, cursor)
    cursor.end()
    context.require_writable_login()
    await context.mailbox.set_subscribed(name.removesuffix("/"), subscribed)
    await context.ok(command)
