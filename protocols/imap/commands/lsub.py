"""LSUB (RFC 3501 section 6.3.9)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.commands.list import Question, ancestors, read_plain
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import attributes_of, wire_name


async def run(context: Context, command: Command) -> None:
    r"""Subscribed names that match, and with ``\Noselect`` their parents that match and are not subscribed.

    The latter is what a client that asks level by level with ``%`` finds its way by.
    """
    cursor = Cursor(command.arguments)
    question = Question(*read_plain(context, cursor))
    cursor.end()
    if question.asks_root:
        context.untagged(b'LSUB (\\Noselect) "/" ""')
        await context.ok(command)
        return
    table = await context.mailbox.folders()
    names = {folder.name: attributes_of(folder) for folder in table if folder.subscribed}
    names.update({name: [] for name in sorted(table.subscriptions) if name not in names})
    matching: dict[str, list[bytes]] = {}
    for name, attributes in names.items():
        await context.flush()
        if question.matches(name):
            matching[name] = attributes
        else:
            for parent in ancestors(name):
                if parent not in names and parent not in matching and question.matches(parent):
                    matching[parent] = [b"\\Noselect", b"\\HasChildren"]
    for name, attributes in matching.items():
        context.untagged(b"LSUB (" + b" ".join(attributes) + b') "/" ' + wire_name(context, name))
    await context.ok(command)
