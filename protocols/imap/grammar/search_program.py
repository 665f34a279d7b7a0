"""SEARCH's arguments (RFC 9051 section 6.4.4, RFC 5032, RFC 7162) as values of `certmaild.mailbox.search`."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from certmaild.mailbox.search import (
    Aged,
    All,
    And,
    BodyHas,
    DateOf,
    DateOp,
    HasFlags,
    HasKeyword,
    HasUid,
    HeaderHas,
    ModSeqFrom,
    Not,
    OnDay,
    Or,
    SearchKey,
    SizeIs,
    TextHas,
)
from certmaild.mailbox.values import SystemFlag, UidSet
from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.datetimes import parse_date_argument
from certmaild.protocols.imap.grammar.flags import parse_keyword
from certmaild.protocols.imap.grammar.tokens import NUMBER64, Cursor

MAX_DEPTH = 200
MAX_KEYS = 2000

CHARSETS = {
    b"US-ASCII": "ascii",
    b"UTF-8": "utf-8",
    b"ISO-8859-1": "latin-1",
    b"ISO-8859-2": "iso8859-2",
    b"ISO-8859-5": "iso8859-5",
    b"ISO-8859-7": "iso8859-7",
    b"ISO-8859-9": "iso8859-9",
    b"ISO-8859-15": "iso8859-15",
    b"WINDOWS-1250": "cp1250",
    b"WINDOWS-1251": "cp1251",
    b"WINDOWS-1252": "cp1252",
    b"KOI8-R": "koi8-r",
    b"KOI8-U": "koi8-u",
    b"GB2312": "gb18030",
    b"GBK": "gb18030",
    b"GB18030": "gb18030",
    b"BIG5": "big5",
    b"EUC-KR": "euc-kr",
    b"EUC-JP": "euc-jp",
    b"SHIFT_JIS": "shift_jis",
    b"ISO-2022-JP": "iso2022_jp",
}
"""What CHARSET may name, and Python's codec for it."""


class BadCharset(GrammarError):
    """CHARSET names one that is not among `CHARSETS`: ``NO [BADCHARSET (...)]``.

    ``saves``: RETURN (SAVE) was asked for, so ``$`` is empty from now on (RFC 5182 section 2.1).
    """

    def __init__(self, *, saves: bool) -> None:
        super().__init__("charset")
        self.saves = saves


class CharsetForbidden(GrammarError):
    """CHARSET after UTF8=ACCEPT was enabled: ``BAD`` (RFC 9755 section 3)."""


class SearchReturn(Enum):
    """``search-return-opt`` (RFC 4731, RFC 5182)."""

    MIN = b"MIN"
    MAX = b"MAX"
    ALL = b"ALL"
    COUNT = b"COUNT"
    SAVE = b"SAVE"


class Scope(Protocol):
    """The session's selected folder, which makes UIDs of what only it knows."""

    def uids_of_numbers(self, text: bytes) -> UidSet:
        """UIDs of a ``sequence-set``; ``$`` included."""
        ...

    def uids_of_uids(self, text: bytes) -> UidSet:
        """UIDs of a ``sequence-set`` of UIDs; ``$`` included."""
        ...

    def recent(self) -> UidSet:
        r"""UIDs that are ``\Recent`` for this session."""
        ...


@dataclass(frozen=True, slots=True)
class SearchProgram:
    """What to find and how to answer. ``returned`` None: the client gave no RETURN."""

    key: SearchKey
    returned: frozenset[SearchReturn] | None = None
    uses_modseq: bool = False


def parse_search(cursor: Cursor, scope: Scope, *, charset_allowed: bool = True) -> SearchProgram:
    """All arguments of SEARCH. ``charset_allowed`` is false after UTF8=ACCEPT.

    Raises `BadCharset`, `CharsetForbidden`, and `GrammarError` also beyond 200 levels or 2,000 keys.
    """
    returned = None
    if cursor.skip_word(b"RETURN"):
        cursor.space()
        returned = frozenset(cursor.items(lambda: _parse_return(cursor), empty=True, largest=20))
        returned = returned or frozenset((SearchReturn.ALL,))
        cursor.space()
    codec = "utf-8"
    if cursor.skip_word(b"CHARSET"):
        if not charset_allowed:
            raise CharsetForbidden("CHARSET")
        cursor.space()
        known = CHARSETS.get(cursor.astring().upper())
        if known is None:
            raise BadCharset(saves=returned is not None and SearchReturn.SAVE in returned)
        codec = known
        cursor.space()
    keys = _Keys(cursor, scope, codec)
    return SearchProgram(keys.parse(), returned, keys.uses_modseq)


def _parse_return(cursor: Cursor) -> SearchReturn:
    try:
        return SearchReturn(cursor.keyword())
    except ValueError:
        raise GrammarError("search return option") from None


_FLAGS = {
    b"ANSWERED": SystemFlag.ANSWERED,
    b"DELETED": SystemFlag.DELETED,
    b"DRAFT": SystemFlag.DRAFT,
    b"FLAGGED": SystemFlag.FLAGGED,
    b"SEEN": SystemFlag.SEEN,
}
_SIMPLE: dict[bytes, SearchKey] = {
    b"ALL": All(),
    **{word: HasFlags(int(flag)) for word, flag in _FLAGS.items()},
    **{b"UN" + word: HasFlags(int(flag), wanted=False) for word, flag in _FLAGS.items()},
}
_DAYS = {
    prefix + op.name.encode("ascii"): (which, op)
    for prefix, which in ((b"", DateOf.INTERNAL), (b"SENT", DateOf.SENT))
    for op in DateOp
}
_HEADERS = (b"BCC", b"CC", b"FROM", b"SUBJECT", b"TO")


class _Frame:
    """A key whose inner keys are being read: ``b"NOT"``, ``b"OR"``, ``b"("``, or ``b""`` for the whole program."""

    __slots__ = ("keys", "kind")

    def __init__(self, kind: bytes) -> None:
        self.kind = kind
        self.keys: list[SearchKey] = []


class _Keys:
    """Reads ``search-key``s with a stack of its own, so that no input can exhaust Python's."""

    def __init__(self, cursor: Cursor, scope: Scope, codec: str) -> None:
        self.cursor = cursor
        self.scope = scope
        self.codec = codec
        self.uses_modseq = False
        self.count = 0

    def parse(self) -> SearchKey:
        cursor = self.cursor
        stack = [_Frame(b"")]
        while True:
            opened = self._opens()
            if opened:
                if len(stack) >= MAX_DEPTH:
                    raise GrammarError("search too deep")
                stack.append(_Frame(opened))
                continue
            self.count += 1
            if self.count > MAX_KEYS:
                raise GrammarError("search too long")
            key: SearchKey | None = self._leaf()
            while key is not None:
                stack[-1].keys.append(key)
                key = self._closes(stack[-1])
                if key is not None:
                    stack.pop()
                    if not stack:
                        return key
            cursor.space()

    def _opens(self) -> bytes:
        cursor = self.cursor
        if cursor.skip(b"("):
            return b"("
        for word in (b"NOT", b"OR"):
            if cursor.skip_word(word):
                cursor.space()
                return word
        return b""

    def _closes(self, frame: _Frame) -> SearchKey | None:
        """The finished key, or None while the frame wants another one."""
        keys = frame.keys
        if frame.kind == b"NOT":
            return Not(keys[0])
        if frame.kind == b"OR":
            return Or(tuple(keys)) if len(keys) == 2 else None
        if self.cursor.skip(b")") if frame.kind else self.cursor.at_end:
            return keys[0] if len(keys) == 1 else And(tuple(keys))
        return None

    def _leaf(self) -> SearchKey:
        cursor = self.cursor
        first = cursor.peek()
        if first.isdigit() or first in (b"*", b"$"):
            return HasUid(self.scope.uids_of_numbers(cursor.sequence()))
        word = cursor.keyword()
        simple = _SIMPLE.get(word)
        if simple is not None:
            return simple
        marked = self._recent(word)
        if marked is not None:
            return marked
        cursor.space()
        if word in _DAYS:
            return OnDay(*_DAYS[word], parse_date_argument(cursor))
        if word in _HEADERS:
            return HeaderHas(word.decode("ascii").lower(), self._text())
        reader = _ARGUMENTS.get(word)
        if reader is None:
            raise GrammarError("search key")
        return reader(self)

    def _recent(self, word: bytes) -> SearchKey | None:
        if word == b"RECENT":
            return HasUid(self.scope.recent())
        if word == b"OLD":
            return Not(HasUid(self.scope.recent()))
        if word == b"NEW":
            return And((HasUid(self.scope.recent()), HasFlags(int(SystemFlag.SEEN), wanted=False)))
        return None

    def _text(self) -> str:
        octets = self.cursor.astring()
        try:
            return octets.decode(self.codec)
        except UnicodeDecodeError:
            raise GrammarError("not in the charset") from None

    def _header(self) -> SearchKey:
        name = self.cursor.astring()
        if not name or not name.isascii():
            raise GrammarError("header field name")
        self.cursor.space()
        return HeaderHas(name.decode("ascii").lower(), self._text())

    def _modseq(self) -> SearchKey:
        """``[entry-name SP entry-type-req SP] mod-sequence-valzer``; modification times are kept per message only."""
        cursor = self.cursor
        if cursor.peek() == b'"':
            cursor.quoted()
            cursor.space()
            if cursor.keyword() not in (b"PRIV", b"SHARED", b"ALL"):
                raise GrammarError("entry type")
            cursor.space()
        self.uses_modseq = True
        return ModSeqFrom(cursor.number64())


_ARGUMENTS: dict[bytes, Callable[[_Keys], SearchKey]] = {
    b"BODY": lambda keys: BodyHas(keys._text()),
    b"TEXT": lambda keys: TextHas(keys._text()),
    b"HEADER": _Keys._header,
    b"KEYWORD": lambda keys: HasKeyword(parse_keyword(keys.cursor)),
    b"UNKEYWORD": lambda keys: HasKeyword(parse_keyword(keys.cursor), wanted=False),
    b"LARGER": lambda keys: SizeIs(keys.cursor.number64(), larger=True),
    b"SMALLER": lambda keys: SizeIs(keys.cursor.number64(), larger=False),
    b"OLDER": lambda keys: Aged(keys.cursor.nz_number(NUMBER64), younger=False),
    b"YOUNGER": lambda keys: Aged(keys.cursor.nz_number(NUMBER64), younger=True),
    b"UID": lambda keys: HasUid(keys.scope.uids_of_uids(keys.cursor.sequence())),
    b"MODSEQ": _Keys._modseq,
}
