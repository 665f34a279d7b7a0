"""ENABLE (RFC 9051 section 6.3.1)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import CONDSTORE, IMAP4REV2, UTF8_ACCEPT, Context
from certmaild.protocols.imap.grammar.tokens import Cursor

WIRE_NAMES = {CONDSTORE: b"CONDSTORE", IMAP4REV2: b"IMAP4rev2", UTF8_ACCEPT: b"UTF8=ACCEPT"}


async def run(context: Context, command: Command) -> None:
    """Enable what is known and not yet enabled, and list that; unknown names are passed over."""
    cursor = Cursor(command.arguments)
    asked = [cursor.atom().upper()]
    while cursor.skip(b" "):
        asked.append(cursor.atom().upper())
    cursor.end()
    new = [name for name in dict.fromkeys(asked) if name in WIRE_NAMES and name not in context.enabled]
    context.untagged(b" ".join([b"ENABLED", *(WIRE_NAMES[name] for name in new)]))
    if CONDSTORE in new:
        context.enable_condstore()
    context.enabled.update(new)
    await context.ok(command)
