"""Where the octets of a FETCH section lie in a message (RFC 9051 section 6.4.5.1)."""

from dataclasses import dataclass

from certmaild.mailbox.cards import Card, part_at
from certmaild.mailbox.content import Content
from certmaild.mailbox.mime_header import pick_fields
from certmaild.protocols.imap.grammar.fetch_items import Section, SectionKind

CHUNK = 256 * 1024
"""The most that one read gives."""
HEADER_LIMIT = 1 << 20
"""Octets of a header that are looked through for fields, and for its end."""


@dataclass(frozen=True, slots=True)
class Span:
    """Octets of the message from ``start`` up to, but not with, ``end``."""

    start: int
    end: int

    def partial(self, partial: tuple[int, int] | None) -> "Span":
        """The part of it that ``<origin.octets>`` names; empty when the origin lies beyond."""
        if partial is None:
            return self
        start = min(self.start + partial[0], self.end)
        return Span(start, min(start + partial[1], self.end))


class MessageReader:
    """One message's octets, read as sections are asked for; keeps the last piece read."""

    __slots__ = ("_content", "_kept", "_kept_at", "card", "prefix", "size")

    def __init__(self, card: Card, content: Content) -> None:
        self.card = card
        self.prefix = len(card.prefix)
        self.size = content.size
        self._content = content
        self._kept = b""
        self._kept_at = 0

    async def read(self, start: int, end: int) -> bytes:
        """Octets from ``start``, at most up to ``end`` and 256 KiB; empty only at the end of the message."""
        at = start - self._kept_at
        if 0 <= at < len(self._kept):
            return self._kept[at : at + end - start]
        self._kept = await self._content.read(start, min(end - start, CHUNK))
        self._kept_at = start
        return self._kept

    async def read_all(self, span: Span, limit: int) -> bytes:
        """The octets of a span, at most ``limit``."""
        end = min(span.end, span.start + limit)
        pieces = []
        at = span.start
        while at < end:
            piece = await self.read(at, end)
            if not piece:
                break
            pieces.append(piece)
            at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # Sections

    def body(self, path: tuple[int, ...]) -> Span | None:
        """A part's content as it stands in the message; None if there is no such part."""
        if not path:
            return Span(0, self.size)
        part = part_at(self.card.parts, path)
        if part is None:
            return None
        start = self.prefix + part.body_offset
        return Span(start, start + part.octets)

    def locate(self, section: Section) -> Span | None:
        """Where a section lies; of ``HEADER.FIELDS`` the whole header. None if the message has no such section."""
        path, kind = section.path, section.kind
        if kind is SectionKind.ALL:
            return self.body(path)
        if kind is SectionKind.MIME:
            part = part_at(self.card.parts, path)
            if part is None:
                return None
            start = self.prefix + part.header_offset if part.header_offset else 0
            return Span(start, self.prefix + part.body_offset)
        if not path:
            whole, header_end = Span(0, self.size), self.prefix + self.card.header_octets
        else:
            part = part_at(self.card.parts, path)
            if part is None or not part.is_message:
                return None
            start = self.prefix + part.body_offset
            whole, header_end = Span(start, start + part.octets), self.prefix + part.text_offset
        if kind is SectionKind.TEXT:
            return Span(header_end, whole.end)
        return Span(whole.start, header_end)

    async def header_fields(self, section: Section) -> bytes | None:
        """``HEADER.FIELDS`` or ``HEADER.FIELDS.NOT``, with the blank line behind it."""
        span = self.locate(section)
        if span is None:
            return None
        header = await self.read_all(span, HEADER_LIMIT)
        return pick_fields(header, section.fields, wanted=section.kind is SectionKind.FIELDS)
