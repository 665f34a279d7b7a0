"""CREATE (RFC 9051 section 6.3.4), with USE (RFC 6154 section 3)."""

from certmaild.mailbox.values import SpecialUse
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import Bad, No
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import SPECIAL_USE, read_given, tell_new_name

ASSIGNABLE = {name.upper(): use for use, name in SPECIAL_USE.items() if use not in (SpecialUse.ALL, SpecialUse.FLAGGED)}
r"""``\All`` and ``\Flagged`` are views of other folders' messages; a plain folder must not be taken for one."""


async def run(context: Context, command: Command) -> None:
    """Make a folder and its missing parents; a "/" at the end says only that children will follow."""
    cursor = Cursor(command.arguments)
    given = read_given(context, cursor)
    use = None
    if cursor.skip(b" "):
        cursor.expect(b"(")
        if cursor.keyword() != b"USE":
            raise Bad(b"Unknown parameter.")
        cursor.space()
        use = special_use(cursor.items(lambda: read_attribute(cursor), empty=True))
        cursor.expect(b")")
    cursor.end()
    context.require_writable_login()
    await context.mailbox.create_folder(given.name, use)
    await tell_new_name(context, given)
    await context.ok(command)


def read_attribute(cursor: Cursor) -> bytes:
    r"""An attribute such as ``\Sent``, in capitals."""
    cursor.expect(b"\\")
    return b"\\" + cursor.keyword()


def special_use(attributes: list[bytes]) -> SpecialUse | None:
    """The use that was asked for. Raises `No` (USEATTR) for several, and for one that no folder can be given."""
    if not attributes:
        return None
    use = ASSIGNABLE.get(attributes[0])
    if use is None or len(attributes) > 1:
        raise No(b"This special use cannot be given to a mailbox.", b"USEATTR")
    return use
