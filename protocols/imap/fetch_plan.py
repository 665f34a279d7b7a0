"""What each FETCH response line is made of, worked out once a command so that the loop over messages is tight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certmaild.mailbox.cards import Card, part_at
from certmaild.mailbox.mime_structure import for_rev1
from certmaild.mailbox.values import EntryBlock
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.grammar.datetimes import format_date_time
from certmaild.protocols.imap.grammar.fetch_items import BinarySize, BodyOctets, Fact, FetchItem, FetchProgram
from certmaild.protocols.imap.ready_items import ready_item

IDENTITY = frozenset((b"7BIT", b"8BIT", b"BINARY"))
KNOWN_ENCODINGS = IDENTITY | {b"BASE64", b"QUOTED-PRINTABLE"}


@dataclass(slots=True)
class Slice:
    """Some messages with what was read of them; of what the plan does not need the lists are empty."""

    numbers: Sequence[int]
    block: EntryBlock
    flags: list[bytes]
    cards: list[Card]
    values: Sequence[Sequence[bytes]]
    """For each item of `Plan.ready` one a message."""


Column = Callable[[Slice], Sequence[object]]
"""One value for each message, in the slice's order."""


class Plan:
    """The items of one FETCH: a template for the line, a column of values for each of its places, and the bodies."""

    def __init__(self, program: FetchProgram, *, by_uid: bool, utf8: bool) -> None:
        items = list(program.items)
        if by_uid and Fact.UID not in items:
            items.insert(0, Fact.UID)
        if program.changed_since is not None and Fact.MODSEQ not in items:
            items.append(Fact.MODSEQ)
        found = [ready for item in items if (ready := ready_item(item)) is not None]
        kept = [ready.item for ready in found]
        rest = [item for item in items if isinstance(item, BodyOctets | BinarySize) and item not in kept]
        if rest:
            # Cards are opened in any case; header fields are read with the other bodies.
            found = [ready for ready in found if not ready.needs_header]
        self.ready = tuple(found)
        self.all_ready = bool(found) and not rest
        """Cards are needed only for messages whose values are not kept."""
        self.bodies = tuple(item for item in items if isinstance(item, BodyOctets)) if rest else ()
        self.sets_seen = any(not item.peek for item in self.bodies)
        self.tells_flags = Fact.FLAGS in items
        self.tells_modseq = Fact.MODSEQ in items
        self.needs_cards = bool(found or rest)
        facts = [item for item in items if item not in self.bodies]
        self._template = b"* %d FETCH (" + b" ".join(map(_template, facts)) + (b"" if self.bodies else b")\r\n")
        places = {ready.item: place for place, ready in enumerate(found)}
        self._columns: list[Column] = [_numbers]
        for item in facts:
            if item in places:
                self._columns += _ready_columns(item, places[item], utf8=utf8)
            else:
                self._columns.append(_column(item))

    def lines(self, part: Slice) -> list[bytes]:
        """The responses; with bodies their beginnings, up to where the first body item stands."""
        template = self._template
        columns = [column(part) for column in self._columns]
        return [template % row for row in zip(*columns, strict=True)]


_TEMPLATES = {
    Fact.UID: b"UID %d",
    Fact.FLAGS: b"FLAGS %b",
    Fact.INTERNALDATE: b"INTERNALDATE %b",
    Fact.SIZE: b"RFC822.SIZE %d",
    Fact.MODSEQ: b"MODSEQ (%d)",
    Fact.ENVELOPE: b"ENVELOPE %b",
    Fact.BODY: b"BODY %b",
    Fact.BODYSTRUCTURE: b"BODYSTRUCTURE %b",
}


def _numbers(part: Slice) -> Sequence[int]:
    return part.numbers


def _template(item: FetchItem) -> bytes:
    if isinstance(item, Fact):
        return _TEMPLATES[item]
    # A field's name may hold the sign that templates are made with.
    return item.name.replace(b"%", b"%%") + (b" %d" if isinstance(item, BinarySize) else b" {%d}\r\n%b")


def _column(item: FetchItem) -> Column:
    if isinstance(item, BinarySize):
        path = item.path
        return lambda part: [binary_size(card, path) for card in part.cards]
    assert isinstance(item, Fact)
    return _ENTRY_COLUMNS[item]


def _ready_columns(item: FetchItem, place: int, *, utf8: bool) -> tuple[Column, ...]:
    """Header fields are a literal: its length and its octets."""
    if isinstance(item, BodyOctets):
        return (lambda part: list(map(len, part.values[place]))), (lambda part: part.values[place])
    if utf8:
        return (lambda part: part.values[place],)
    return (lambda part: list(map(for_rev1, part.values[place])),)


_ENTRY_COLUMNS: dict[Fact, Column] = {
    Fact.UID: lambda part: part.block.uids,
    Fact.FLAGS: lambda part: part.flags,
    Fact.INTERNALDATE: lambda part: [format_date_time(date) for date in part.block.internal_dates],
    Fact.SIZE: lambda part: part.block.sizes,
    Fact.MODSEQ: lambda part: part.block.modseqs,
}


def binary_size(card: Card, path: tuple[int, ...]) -> int:
    """Octets of a part once its transfer encoding is undone; 0 for a part that is not there.

    Raises `No` with UNKNOWN-CTE (RFC 3516 section 4.3).
    """
    if not path:
        return card.full_size
    part = part_at(card.parts, path)
    if part is None:
        return 0
    check_encoding(part.encoding)
    return part.octets if part.is_multipart or part.is_message else part.decoded_octets


def check_encoding(encoding: bytes) -> None:
    """Raises `No` for a transfer encoding that cannot be undone."""
    if encoding not in KNOWN_ENCODINGS:
        raise No(b"The transfer encoding of this part is not known.", b"UNKNOWN-CTE")
