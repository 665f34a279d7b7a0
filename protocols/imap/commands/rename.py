"""RENAME (RFC 9051 section 6.3.6)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import read_given, tell_new_name


async def run(context: Context, command: Command) -> None:
    """Rename a folder with its children; INBOX instead gives its messages away and stays."""
    cursor = Cursor(command.arguments)
    old = read_given(context, cursor)
    cursor.space()
    new = read_given(context, cursor)
    cursor.end()
    context.require_writable_login()
    await context.mailbox.rename_folder(old.name, new.name)
    await tell_new_name(context, new, old)
    await context.ok(command)
