"""Folder names and attributes between the wire and the store."""

from dataclasses import dataclass

from certmaild.mailbox.errors import FolderMissing
from certmaild.mailbox.folders import INBOX, spelled
from certmaild.mailbox.values import Folder, SpecialUse
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.mailbox_names import decode_mailbox_name, format_mailbox_name, parse_mailbox_name
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


@dataclass(frozen=True, slots=True)
class Given:
    """A name as it is used here, and as the client spelled it."""

    name: str
    spelling: str


def read_given(context: Context, cursor: Cursor) -> Given:
    """The ``mailbox`` that stands at the cursor, less a ``/`` at its end. Raises `GrammarError`."""
    octets = cursor.astring()
    name = parse_mailbox_name(octets, utf8=context.utf8).removesuffix("/")
    return Given(name, decode_mailbox_name(octets, utf8=context.utf8).removesuffix("/"))


def is_other_name(given: Given, name: str) -> bool:
    """Whether a folder is called otherwise than the client spelled it; ``INBOX`` in any case is no other name."""
    return given.spelling != name and name != INBOX


def list_line(context: Context, folder: Folder | str, old: Given | None = None) -> bytes:
    """The LIST response that tells of one folder outside LIST; of a name alone that it exists no longer.

    ``old`` is what the client calls it, told where it differs (OLDNAME, RFC 9051 section 6.3.9.7).
    """
    name = folder if isinstance(folder, str) else folder.name
    listed = [b"\\NonExistent"] if isinstance(folder, str) else attributes_of(folder)
    if not isinstance(folder, str) and folder.subscribed:
        listed.append(b"\\Subscribed")
    line = b"LIST (" + b" ".join(listed) + b') "/" ' + wire_name(context, name)
    if old is not None and is_other_name(old, name):
        line += b' ("OLDNAME" (' + wire_name(context, old.spelling) + b"))"
    return line


async def tell_new_name(context: Context, given: Given, old: Given | None = None) -> None:
    """After CREATE, or RENAME from ``old``: LIST with OLDNAME if a name was spelled otherwise than it is kept.

    Only rev2 has it; other clients may not expect a LIST that they did not ask for.
    """
    names = [given] if old is None else [given, old]
    if context.rev2 and any(is_other_name(one, spelled(one.name)) for one in names):
        folder = (await context.mailbox.folders()).by_name(given.name)
        if folder is not None:
            context.untagged(list_line(context, folder, names[-1]))


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
