"""SELECT and EXAMINE (RFC 9051 sections 6.3.2 and 6.3.3)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import Bad
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import find_folder, list_line, read_given
from certmaild.protocols.imap.states import Move
from certmaild.protocols.imap.view import SelectedView


async def run(context: Context, command: Command) -> None:
    """Open a folder for reading and writing."""
    read_only = context.login is not None and context.login.read_only
    await open_folder(context, command, read_only=read_only)


async def run_examine(context: Context, command: Command) -> None:
    """Open a folder for reading."""
    await open_folder(context, command, read_only=True)


async def open_folder(context: Context, command: Command, *, read_only: bool) -> None:
    """Leave the folder that was selected, even if this one cannot be (RFC 9051 section 6.3.2), and show the new one."""
    cursor = Cursor(command.arguments)
    given = read_given(context, cursor)
    parameters = []
    if cursor.skip(b" "):
        parameters = cursor.items(cursor.keyword)
    cursor.end()
    if any(parameter != b"CONDSTORE" for parameter in parameters):
        raise Bad(b"Unknown parameter.")
    leave_folder(context)
    if parameters:
        context.enable_condstore()
    folder = await find_folder(context, given.name)
    await context.take_arrivals()
    state = await context.mailbox.select(folder.box_id, read_only=read_only)
    view = context.selected = SelectedView(folder.name, state, read_only=read_only)
    context.session.move(Move.SELECT)
    context.untagged(b"%d EXISTS" % len(view))
    if not context.rev2:
        context.untagged(b"%d RECENT" % view.recent_count)
        first = view.number(state.first_unseen) if state.first_unseen is not None else None
        if first is not None:
            context.untagged(b"OK [UNSEEN %d] First unseen" % first)
    context.untagged(b"OK [UIDVALIDITY %d] UIDs valid" % state.uid_validity)
    context.untagged(b"OK [UIDNEXT %d] Predicted next UID" % state.uid_next)
    context.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % state.highest_modseq)
    context.tell_flags()
    if context.rev2:
        context.untagged(list_line(context, folder, given))
    await context.ok(command, b"Selected.", b"READ-ONLY" if read_only else b"READ-WRITE")


def leave_folder(context: Context) -> None:
    """Deselect, with the CLOSED code that parts old responses from new ones (RFC 7162 section 3.2.11)."""
    if context.selected is not None:
        context.selected = None
        context.untagged(b"OK [CLOSED] Previous mailbox closed")
    context.session.move(Move.UNSELECT)
