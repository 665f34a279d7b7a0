"""Flags as arguments (RFC 9051 section 9: ``flag``, ``flag-list``, ``store-att-flags``)."""

from collections.abc import Iterable

from certmaild.mailbox.values import Flags, SystemFlag
from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.tokens import Cursor

MAX_FLAGS = 128
MAX_KEYWORD = 255
_SYSTEM = {
    b"ANSWERED": SystemFlag.ANSWERED,
    b"FLAGGED": SystemFlag.FLAGGED,
    b"DELETED": SystemFlag.DELETED,
    b"SEEN": SystemFlag.SEEN,
    b"DRAFT": SystemFlag.DRAFT,
    b"RECENT": 0,
}
r"""``\Recent`` is the server's to set: asking for it is passed over, as old clients copy it with the rest."""


def parse_keyword(cursor: Cursor) -> str:
    """A ``flag-keyword``, at most 255 octets."""
    word = cursor.atom()
    if len(word) > MAX_KEYWORD:
        raise GrammarError("keyword too long")
    return word.decode("ascii")


def _parse_flag(cursor: Cursor) -> int | str:
    if not cursor.skip(b"\\"):
        return parse_keyword(cursor)
    bit = _SYSTEM.get(cursor.keyword())
    if bit is None:
        raise GrammarError("system flag")
    return int(bit)


def _collect(flags: Iterable[int | str]) -> Flags:
    system = 0
    keywords = set()
    for flag in flags:
        if isinstance(flag, int):
            system |= flag
        else:
            keywords.add(flag)
    return Flags(system, frozenset(keywords))


def parse_flag_list(cursor: Cursor) -> Flags:
    """``flag-list``: in parentheses, empty allowed. Raises `GrammarError` for an unknown system flag."""
    return _collect(cursor.items(lambda: _parse_flag(cursor), empty=True, largest=MAX_FLAGS))


def parse_store_flags(cursor: Cursor) -> Flags:
    """The flags of STORE: a list, or flags separated by spaces up to the end."""
    if cursor.peek() == b"(":
        return parse_flag_list(cursor)
    found = [_parse_flag(cursor)]
    while cursor.skip(b" "):
        if len(found) >= MAX_FLAGS:
            raise GrammarError("too many flags")
        found.append(_parse_flag(cursor))
    return _collect(found)
