"""GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208): one root, named ``""``, for the whole mailbox."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import find_folder, read_name, wire_name

UNIT = 1024
"""Octets in one unit of STORAGE."""


async def run_get(context: Context, command: Command) -> None:
    """GETQUOTA: use and limits of the root."""
    cursor = Cursor(command.arguments)
    root = cursor.astring()
    cursor.end()
    if root:
        raise No(b"No such quota root.", b"NONEXISTENT")
    context.untagged(await quota_line(context))
    await context.ok(command)


async def run_root(context: Context, command: Command) -> None:
    """GETQUOTAROOT: which root a folder belongs to, and its use and limits."""
    cursor = Cursor(command.arguments)
    name = read_name(context, cursor)
    cursor.end()
    folder = await find_folder(context, name)
    context.untagged(b"QUOTAROOT " + wire_name(context, folder.name) + b' ""')
    context.untagged(await quota_line(context))
    await context.ok(command)


async def run_set(context: Context, command: Command) -> None:
    """SETQUOTA: only the administrator sets limits; QUOTASET is announced nowhere (RFC 9208 section 4.1.3)."""
    cursor = Cursor(command.arguments)
    cursor.astring()
    cursor.space()
    cursor.items(lambda: _read_limit(cursor), empty=True)
    cursor.end()
    raise No(b"Quotas are set by the administrator.", b"NOPERM")


def _read_limit(cursor: Cursor) -> None:
    cursor.atom()
    cursor.space()
    cursor.number64()


async def quota_line(context: Context) -> bytes:
    """The QUOTA response; a resource without a limit is left out."""
    quota = await context.mailbox.quota()
    listed = []
    if quota.octets_limit is not None:
        listed.append(b"STORAGE %d %d" % (-(-quota.octets // UNIT), quota.octets_limit // UNIT))
    if quota.messages_limit is not None:
        listed.append(b"MESSAGE %d %d" % (quota.messages, quota.messages_limit))
    return b'QUOTA "" (' + b" ".join(listed) + b")"
