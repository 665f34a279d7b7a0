"""ID (RFC 2971)."""

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import Bye
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.interfaces import ClientId, LogInForbidden

MAX_FIELDS = 30
MAX_FIELD = 30
MAX_VALUE = 1024


async def run(context: Context, command: Command) -> None:
    """Keep what the client says of itself, and say the product's name; version and host are nobody's business."""
    cursor = Cursor(command.arguments)
    context.client_id = parse(cursor)
    cursor.end()
    try:
        await context.wire.introduce()
    except LogInForbidden as forbidden:
        raise Bye(forbidden.public_text.encode("ascii"), b"ALERT") from None
    context.untagged(b'ID ("name" "certmaild")')
    await context.ok(command)


def parse(cursor: Cursor) -> ClientId:
    """Pairs of field and value in the order given; values that are NIL are empty, what is too long is cut."""
    if cursor.skip_word(b"NIL"):
        return ()

    def pair() -> tuple[str, str]:
        field = cursor.string()
        cursor.space()
        value = cursor.nstring() or b""
        return field[:MAX_FIELD].decode("utf-8", "replace"), value[:MAX_VALUE].decode("utf-8", "replace")

    return tuple(cursor.items(pair, empty=True, largest=MAX_FIELDS))
