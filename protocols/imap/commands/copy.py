"""COPY and UID COPY (RFC 9051 section 6.4.7)."""

from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.values import CopyResult
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.grammar.sequence_sets import format_sequence_set
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import read_name
from certmaild.protocols.imap.sets import Chosen, choose, refuse_expunged


async def run(context: Context, command: Command) -> None:
    """Copy messages by reference, all or none; tells COPYUID."""
    numbers, name = read_target(context, command)
    context.require_writable_login()
    target = await target_folder(context, name)
    chosen = await choose_existing(context, command, numbers)
    code = None
    if chosen:
        result = await context.mailbox.copy(context.view.box_id, chosen.uids, target)
        code = copyuid(result)
    await context.ok(command, b"Copied.", code)


def read_target(context: Context, command: Command) -> tuple[bytes, str]:
    """``sequence-set SP mailbox``."""
    cursor = Cursor(command.arguments)
    numbers = cursor.sequence()
    cursor.space()
    name = read_name(context, cursor)
    cursor.end()
    return numbers, name


async def target_folder(context: Context, name: str) -> BoxId:
    """The folder that messages go to. Raises `No` with TRYCREATE (RFC 9051 section 7.1)."""
    folder = (await context.mailbox.folders()).by_name(name)
    if folder is None:
        raise No(b"No such mailbox; create it first.", b"TRYCREATE")
    return folder.box_id


async def choose_existing(context: Context, command: Command, numbers: bytes) -> Chosen:
    """The messages, none of them gone: a sequence number of a message that is gone is refused (RFC 5530)."""
    view = context.view
    chosen = choose(view, numbers, by_uid=command.by_uid)
    if chosen and not command.by_uid:
        await context.sync(expunge=False)
        refuse_expunged(view, chosen)
    return chosen


def copyuid(result: CopyResult) -> bytes | None:
    """The COPYUID code; None when nothing was copied."""
    if not result.new_uids:
        return None
    old, new = format_sequence_set(result.source_uids), format_sequence_set(result.new_uids)
    return b"COPYUID %d %s %s" % (result.uid_validity, old, new)
