"""What FETCH asks for (RFC 9051 section 6.4.5, RFC 3516, RFC 7162): items and modifiers as values."""

from dataclasses import dataclass
from enum import Enum

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.tokens import NUMBER64, Cursor, format_astring

MAX_ITEMS = 500
MAX_FIELDS = 500
MAX_PATH = 100


class Fact(Enum):
    """Items without arguments; the value is the name on the wire."""

    UID = b"UID"
    FLAGS = b"FLAGS"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    MODSEQ = b"MODSEQ"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"


class SectionKind(Enum):
    """Which octets of a part (``section-msgtext``, ``section-text``)."""

    ALL = b""
    HEADER = b"HEADER"
    FIELDS = b"HEADER.FIELDS"
    FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """``section-spec``. ``fields`` as the client wrote them."""

    path: tuple[int, ...] = ()
    kind: SectionKind = SectionKind.ALL
    fields: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class BodyOctets:
    """``BODY[]``, ``BINARY[]`` and the RFC822 items. ``name`` is what the response repeats, without the origin."""

    section: Section
    name: bytes
    peek: bool = True
    binary: bool = False
    partial: tuple[int, int] | None = None
    """Origin and most octets."""


@dataclass(frozen=True, slots=True)
class BinarySize:
    """``BINARY.SIZE[]``."""

    path: tuple[int, ...]
    name: bytes


FetchItem = Fact | BodyOctets | BinarySize


@dataclass(frozen=True, slots=True)
class FetchProgram:
    """Items in the order asked, each once, and CHANGEDSINCE."""

    items: tuple[FetchItem, ...]
    changed_since: int | None = None


_FAST = (Fact.FLAGS, Fact.INTERNALDATE, Fact.SIZE)
MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"FAST": _FAST,
    b"ALL": (*_FAST, Fact.ENVELOPE),
    b"FULL": (*_FAST, Fact.ENVELOPE, Fact.BODY),
}
_FACTS = {fact.value: fact for fact in Fact}
_RFC822: dict[bytes, BodyOctets] = {
    b"RFC822": BodyOctets(Section(), b"RFC822", peek=False),
    b"RFC822.HEADER": BodyOctets(Section((), SectionKind.HEADER), b"RFC822.HEADER"),
    b"RFC822.TEXT": BodyOctets(Section((), SectionKind.TEXT), b"RFC822.TEXT", peek=False),
}
_KINDS = {kind.value: kind for kind in SectionKind if kind.value}


def parse_fetch(cursor: Cursor) -> FetchProgram:
    """The items and modifiers of FETCH, to the end of the command."""
    if cursor.peek() == b"(":
        items: tuple[FetchItem, ...] = tuple(cursor.items(lambda: _parse_item(cursor), largest=MAX_ITEMS))
    else:
        macro = next((macro for macro in MACROS if cursor.skip_word(macro)), None)
        items = MACROS[macro] if macro else (_parse_item(cursor),)
    changed_since = None
    if cursor.skip(b" "):
        changed_since = _parse_changed_since(cursor)
    cursor.end()
    return FetchProgram(tuple(dict.fromkeys(items)), changed_since)


def _parse_changed_since(cursor: Cursor) -> int:
    """``(CHANGEDSINCE n)``; no other modifier is announced."""
    cursor.expect(b"(")
    if cursor.keyword() != b"CHANGEDSINCE":
        raise GrammarError("fetch modifier")
    cursor.space()
    modseq = cursor.number64()
    cursor.expect(b")")
    return modseq


def _parse_item(cursor: Cursor) -> FetchItem:
    word = cursor.word()
    bracket = cursor.peek() == b"["
    if bracket and word in (b"BODY", b"BODY.PEEK"):
        section = _parse_section(cursor)
        return _octets(cursor, section, b"BODY[" + format_section(section) + b"]", peek=word == b"BODY.PEEK")
    if bracket and word in (b"BINARY", b"BINARY.PEEK"):
        path = _parse_binary_path(cursor)
        name = b"BINARY[" + _format_path(path) + b"]"
        return _octets(cursor, Section(path), name, peek=word == b"BINARY.PEEK", binary=True)
    if bracket and word == b"BINARY.SIZE":
        path = _parse_binary_path(cursor)
        return BinarySize(path, b"BINARY.SIZE[" + _format_path(path) + b"]")
    if word in _RFC822:
        return _RFC822[word]
    fact = _FACTS.get(word)
    if fact is None:
        raise GrammarError("fetch item")
    return fact


def _octets(cursor: Cursor, section: Section, name: bytes, *, peek: bool, binary: bool = False) -> BodyOctets:
    partial = None
    if cursor.skip(b"<"):
        origin = cursor.number64()
        cursor.expect(b".")
        partial = origin, cursor.nz_number(NUMBER64)
        cursor.expect(b">")
    return BodyOctets(section, name, peek, binary, partial)


def _parse_path(cursor: Cursor) -> tuple[tuple[int, ...], bool]:
    """Part numbers, and whether a dot stands behind them (so a text specifier must follow)."""
    path: list[int] = []
    while cursor.peek().isdigit():
        if len(path) >= MAX_PATH:
            raise GrammarError("part number too deep")
        path.append(cursor.nz_number())
        if not cursor.skip(b"."):
            return tuple(path), False
    return tuple(path), bool(path)


def _parse_binary_path(cursor: Cursor) -> tuple[int, ...]:
    cursor.expect(b"[")
    path, dangling = _parse_path(cursor)
    if dangling:
        raise GrammarError("part number")
    cursor.expect(b"]")
    return path


def _parse_section(cursor: Cursor) -> Section:
    cursor.expect(b"[")
    path, dotted = _parse_path(cursor)
    if (path and not dotted) or (not path and cursor.peek() == b"]"):
        cursor.expect(b"]")
        return Section(path)
    kind = _KINDS.get(cursor.word())
    if kind is None or (kind is SectionKind.MIME and not path):
        raise GrammarError("section")
    fields: tuple[bytes, ...] = ()
    if kind in (SectionKind.FIELDS, SectionKind.FIELDS_NOT):
        cursor.space()
        fields = tuple(cursor.items(lambda: _parse_field_name(cursor), largest=MAX_FIELDS))
    cursor.expect(b"]")
    return Section(path, kind, fields)


def _parse_field_name(cursor: Cursor) -> bytes:
    name = cursor.astring()
    if not name or not name.isascii() or b"\r" in name or b"\n" in name:
        raise GrammarError("header field name")
    return name


def _format_path(path: tuple[int, ...]) -> bytes:
    return b".".join([b"%d" % number for number in path])


def format_section(section: Section) -> bytes:
    """``section-spec``, field names as given."""
    parts = [_format_path(section.path)] if section.path else []
    if section.kind is not SectionKind.ALL:
        parts.append(section.kind.value)
    text = b".".join(parts)
    if section.fields:
        text += b" (" + b" ".join([format_astring(name) for name in section.fields]) + b")"
    return text


def format_item(item: FetchItem) -> bytes:
    """The item as a client asks for it."""
    if isinstance(item, Fact):
        return item.value
    if isinstance(item, BinarySize):
        return item.name
    name = item.name
    if item.peek and not name.startswith(b"RFC822"):
        word, bracket, rest = name.partition(b"[")
        name = word + b".PEEK" + bracket + rest
    return name if item.partial is None else name + b"<%d.%d>" % item.partial
