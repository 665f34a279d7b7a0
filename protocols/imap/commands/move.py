"""MOVE and UID MOVE (RFC 9051 section 6.4.8)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.commands.copy import choose_existing, copyuid, read_target, target_folder
from certmaild.protocols.imap.context import Context


async def run(context: Context, command: Command) -> None:
    """Move messages by reference: an untagged COPYUID, the EXPUNGEs, then OK."""
    numbers, name = read_target(context, command)
    view = context.require_writable()
    target = await target_folder(context, name)
    chosen = await choose_existing(context, command, numbers)
    if chosen:
        moved = await context.mailbox.move(view.box_id, chosen.uids, target, by=context.credential_id)
        code = copyuid(moved)
        if code is not None:
            context.untagged(b"OK [" + code + b"] Moved.")
    await context.ok(command)
