"""Folder names and attributes between the wire and the store."""

from certmaild.mailbox.errors import FolderMissing
from certmaild.mailbox.values import Folder, SpecialUse
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.mailbox_names import format_mailbox_name, parse_mailbox_name
from certmaild.protocols.imap.grammar.tokens import Cursor

SPECIAL_USE: dict[SpecialUse, bytes] = {
    SpecialUse.ARCHIVE: b"\\Archive",
    SpecialUse.DRAFTS: b"\\Drafts",
    SpecialUse.JUNK: b"\\Junk",
    SpecialUse.SENT: b"\\Sent",
    SpecialUse.TRASH: b"\\Trash",
    SpecialUse.FLAGGED: b"\\Flagged",
    SpecialUse.ALL: b"\\All",
    SpecialUse.IMPORTANT: b"\\Important",
}
"""RFC 6154 and RFC 8457."""


def read_name(context: Context, cursor: Cursor) -> str:
    """The ``mailbox`` that stands at the cursor. Raises `GrammarError`."""
    return parse_mailbox_name(cursor.astring(), utf8=context.utf8)


def wire_name(context: Context, name: str) -> bytes:
    """The name as this session is to be sent it: UTF-8 where enabled, else modified UTF-7."""
    return format_mailbox_name(name, utf8=context.utf8)


async def find_folder(context: Context, name: str) -> Folder:
    """The folder of this name. Raises `FolderMissing`."""
    folder = (await context.mailbox.folders()).by_name(name)
    if folder is None:
        raise FolderMissing
    return folder


def attributes_of(folder: Folder) -> list[bytes]:
    """What LIST says of a folder in any case (RFC 3348, RFC 6154)."""
    listed = [b"\\HasChildren" if folder.has_children else b"\\HasNoChildren"]
    if folder.special_use is not None:
        listed.append(SPECIAL_USE[folder.special_use])
    return listed
