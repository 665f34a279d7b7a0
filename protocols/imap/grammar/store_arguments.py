"""STORE's arguments behind the set (RFC 9051 section 6.4.6, RFC 7162 section 3.1.3)."""

from dataclasses import dataclass

from certmaild.mailbox.values import FlagOp, Flags
from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.flags import parse_store_flags
from certmaild.protocols.imap.grammar.tokens import Cursor


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What to do with the flags; ``silent`` asks for no FETCH responses."""

    op: FlagOp
    flags: Flags
    silent: bool
    unchanged_since: int | None = None


_OPS = {op.value.encode("ascii") + tail: (op, bool(tail)) for op in FlagOp for tail in (b"", b".SILENT")}


def parse_store(cursor: Cursor) -> StoreRequest:
    """``[(UNCHANGEDSINCE n) SP] [+-]FLAGS[.SILENT] SP flags``, to the end of the command."""
    unchanged_since = None
    if cursor.skip(b"("):
        if cursor.keyword() != b"UNCHANGEDSINCE":
            raise GrammarError("store modifier")
        cursor.space()
        unchanged_since = cursor.number64()
        cursor.expect(b")")
        cursor.space()
    op = _OPS.get(cursor.keyword())
    if op is None:
        raise GrammarError("store item")
    cursor.space()
    flags = parse_store_flags(cursor)
    cursor.end()
    return StoreRequest(op[0], flags, op[1], unchanged_since)
