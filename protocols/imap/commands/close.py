"""CLOSE and UNSELECT (RFC 9051 sections 6.4.1 and 6.4.2)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.states import Move


async def run(context: Context, command: Command) -> None:
    r"""Remove what has ``\Deleted`` without a word, and leave the folder."""
    command.no_arguments()
    view = context.view
    if not view.read_only:
        await context.mailbox.expunge(view.box_id, by=context.credential_id)
    await leave(context, command)


async def run_unselect(context: Context, command: Command) -> None:
    """Leave the folder as it is."""
    command.no_arguments()
    await leave(context, command)


async def leave(context: Context, command: Command) -> None:
    """Back to the state without a folder."""
    context.selected = None
    context.session.move(Move.UNSELECT)
    await context.ok(command)
