"""STATUS (RFC 9051 section 6.3.11), with SIZE, HIGHESTMODSEQ, APPENDLIMIT and the items of QUOTA (RFC 9208)."""

from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.values import Folder, SystemFlag
from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import find_folder, read_name, wire_name

ITEMS = frozenset(
    b"MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN SIZE DELETED DELETED-STORAGE HIGHESTMODSEQ APPENDLIMIT".split()
)


async def run(context: Context, command: Command) -> None:
    """Counts of one folder, without selecting it."""
    cursor = Cursor(command.arguments)
    name = read_name(context, cursor)
    cursor.space()
    items = read_items(cursor)
    cursor.end()
    if b"HIGHESTMODSEQ" in items:
        context.enable_condstore()
    folder = await find_folder(context, name)
    await context.take_arrivals()
    context.untagged(await status_line(context, folder, items))
    await context.ok(command)


def read_items(cursor: Cursor) -> list[bytes]:
    """The items asked for, each once. Raises `GrammarError` for one that is not known."""
    items = list(dict.fromkeys(cursor.items(cursor.keyword, largest=2 * len(ITEMS))))
    if not ITEMS.issuperset(items):
        raise GrammarError("unknown status item")
    return items


async def status_line(context: Context, folder: Folder, items: list[bytes]) -> bytes:
    """The STATUS response. Raises `FolderMissing` when the folder has gone meanwhile."""
    status = await context.mailbox.status(folder.box_id)
    values = {
        b"MESSAGES": status.messages,
        b"RECENT": status.recent,
        b"UIDNEXT": status.uid_next,
        b"UIDVALIDITY": status.uid_validity,
        b"UNSEEN": status.unseen,
        b"SIZE": status.size_octets,
        b"DELETED": status.deleted,
        b"HIGHESTMODSEQ": status.highest_modseq,
        b"APPENDLIMIT": context.limits.message_size,
        b"DELETED-STORAGE": 0,
    }
    if b"DELETED-STORAGE" in items and status.deleted:
        values[b"DELETED-STORAGE"] = await deleted_octets(context, folder.box_id)
    listed = b" ".join(b"%s %d" % (item, values[item]) for item in items)
    return b"STATUS " + wire_name(context, folder.name) + b" (" + listed + b")"


async def deleted_octets(context: Context, box_id: BoxId) -> int:
    r"""Octets that EXPUNGE would free: the sizes of the messages with ``\Deleted``."""
    octets = 0
    async for block in context.mailbox.entries(box_id, [range(1, 1 << 32)]):
        sizes = zip(block.flags, block.sizes, strict=True)
        octets += sum(size for flags, size in sizes if flags & SystemFlag.DELETED)
    return octets
