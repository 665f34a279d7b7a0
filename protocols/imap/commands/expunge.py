"""EXPUNGE and UID EXPUNGE (RFC 9051 sections 6.4.3 and 6.4.9)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.sets import choose


async def run(context: Context, command: Command) -> None:
    r"""Remove what has ``\Deleted``; the EXPUNGE responses come with the OK."""
    command.no_arguments()
    view = context.require_writable()
    await context.mailbox.expunge(view.box_id, by=context.credential_id)
    await context.ok(command)


async def run_uid(context: Context, command: Command) -> None:
    r"""The same for messages of these UIDs."""
    cursor = Cursor(command.arguments)
    numbers = cursor.sequence()
    cursor.end()
    view = context.require_writable()
    chosen = choose(view, numbers, by_uid=True)
    if chosen:
        await context.mailbox.expunge(view.box_id, chosen.uids, by=context.credential_id)
    await context.ok(command)
