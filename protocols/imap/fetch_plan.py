"""What each FETCH response line is made of, worked out once a command so that the loop over messages is tight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certmaild.mailbox.cards import Card, part_at
from certmaild.mailbox.mime_structure import for_rev1, strip_extensions
from certmaild.mailbox.values import EntryBlock
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.grammar.datetimes import format_date_time
from certmaild.protocols.imap.grammar.fetch_items import BinarySize, BodyOctets, Fact, FetchProgram

IDENTITY = frozenset((b"7BIT", b"8BIT", b"BINARY"))
KNOWN_ENCODINGS = IDENTITY | {b"BASE64", b"QUOTED-PRINTABLE"}


@dataclass(slots=True)
class Slice:
    """Some messages with what was read of them. ``flags`` and ``cards`` are empty unless the plan needs them."""

    numbers: Sequence[int]
    block: EntryBlock
    flags: list[bytes]
    cards: list[Card]


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
        self.bodies = tuple(item for item in items if isinstance(item, BodyOctets))
        self.sets_seen = any(not item.peek for item in self.bodies)
        self.tells_flags = Fact.FLAGS in items
        self.tells_modseq = Fact.MODSEQ in items
        facts = [item for item in items if not isinstance(item, BodyOctets)]
        self.needs_cards = bool(self.bodies) or any(
            isinstance(item, BinarySize) or item in (Fact.ENVELOPE, Fact.BODY, Fact.BODYSTRUCTURE) for item in facts
        )
        names = [item.name + b" %d" if isinstance(item, BinarySize) else _TEMPLATES[item] for item in facts]
        self._template = b"* %d FETCH (" + b" ".join(names) + (b"" if self.bodies else b")\r\n")
        self._columns: list[Column] = [_numbers, *(_column(item, utf8=utf8) for item in facts)]

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


def _column(item: Fact | BinarySize, *, utf8: bool) -> Column:
    if isinstance(item, BinarySize):
        path, name = item.path, item.name.replace(b"%", b"%%")
        assert name == item.name
        return lambda part: [binary_size(card, path) for card in part.cards]
    if item is Fact.ENVELOPE:
        return _utf8_envelopes if utf8 else _envelopes
    if item is Fact.BODYSTRUCTURE:
        return lambda part: [card.structure if utf8 else for_rev1(card.structure) for card in part.cards]
    if item is Fact.BODY:
        return lambda part: [_body(card, utf8=utf8) for card in part.cards]
    return _ENTRY_COLUMNS[item]


_ENTRY_COLUMNS: dict[Fact, Column] = {
    Fact.UID: lambda part: part.block.uids,
    Fact.FLAGS: lambda part: part.flags,
    Fact.INTERNALDATE: lambda part: [format_date_time(date) for date in part.block.internal_dates],
    Fact.SIZE: lambda part: part.block.sizes,
    Fact.MODSEQ: lambda part: part.block.modseqs,
}


def _utf8_envelopes(part: Slice) -> list[bytes]:
    return [card.envelope for card in part.cards]


def _envelopes(part: Slice) -> list[bytes]:
    return [for_rev1(card.envelope) for card in part.cards]


def _body(card: Card, *, utf8: bool) -> bytes:
    body = strip_extensions(card.structure)
    return body if utf8 else for_rev1(body)


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
