"""FETCH items whose values are kept ready by page: immutable facts of a message that clients ask of all messages."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from certmaild.mailbox.cards import Card
from certmaild.mailbox.layout_messages import SCAN_VERSION
from certmaild.mailbox.mime_header import LISTED_FIELDS, pick_fields
from certmaild.mailbox.mime_structure import strip_extensions
from certmaild.protocols.imap.grammar.fetch_items import BodyOctets, Fact, FetchItem, Section, SectionKind


@dataclass(frozen=True, slots=True)
class ReadyItem:
    """One item and how its value is made."""

    item: FetchItem
    kind: bytes
    """Its name in the store: a digest, for the fields that a client asks for are of any number."""
    needs_header: bool
    value: Callable[[Card, bytes], bytes]
    """Of a card, and the header if it is read. ENVELOPE and structures are in our canonical form."""
    listed: bool = False
    """The card has what is asked of the header, unless that is unusually large."""

    def reads_header(self, card: Card) -> bool:
        """Whether the message's header must be opened for it."""
        return self.needs_header and not (self.listed and card.listed)


def ready_item(item: FetchItem) -> ReadyItem | None:
    """How the value of an item is made; None for an item that is not kept."""
    if item is Fact.ENVELOPE:
        return ReadyItem(item, _kind(b"ENVELOPE"), False, lambda card, header: card.envelope)
    if item is Fact.BODYSTRUCTURE:
        return ReadyItem(item, _kind(b"BODYSTRUCTURE"), False, lambda card, header: card.structure)
    if item is Fact.BODY:
        return ReadyItem(item, _kind(b"BODY"), False, lambda card, header: strip_extensions(card.structure))
    if isinstance(item, BodyOctets) and item.peek and item.partial is None:
        return _fields(item, item.section)
    return None


def _fields(item: BodyOctets, section: Section) -> ReadyItem | None:
    """The message's own header fields of some names, or all others."""
    if section.path or section.kind not in (SectionKind.FIELDS, SectionKind.FIELDS_NOT):
        return None
    wanted = section.kind is SectionKind.FIELDS
    names = sorted({name.lower() for name in section.fields})
    kind = _kind(section.kind.value + b"".join([b"\0" + name for name in names]))
    listed = wanted and LISTED_FIELDS.issuperset(names)

    def value(card: Card, header: bytes) -> bytes:
        return pick_fields((listed and card.listed) or header, names, wanted=wanted)

    return ReadyItem(item, kind, True, value, listed)


def _kind(name: bytes) -> bytes:
    return sha256(b"%d %b" % (SCAN_VERSION, name)).digest()[:8]
