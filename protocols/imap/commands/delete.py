"""DELETE (RFC 9051 section 6.3.5)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.commands.select import leave_folder
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import find_folder, is_other_name, list_line, read_given


async def run(context: Context, command: Command) -> None:
    """Remove a folder with its messages; one that this session has selected is left first."""
    cursor = Cursor(command.arguments)
    given = read_given(context, cursor)
    cursor.end()
    context.require_writable_login()
    folder = await find_folder(context, given.name)
    await context.mailbox.delete_folder(folder.name)
    if context.selected is not None and context.selected.box_id == folder.box_id:
        leave_folder(context)
    if context.rev2 and is_other_name(given, folder.name):
        context.untagged(list_line(context, folder.name, given))
    await context.ok(command)
