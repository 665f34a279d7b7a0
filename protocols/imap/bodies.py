"""The body items of one message's FETCH response, streamed as the client takes them."""

from collections.abc import Sequence

from certmaild.mailbox.cards import Card, part_at
from certmaild.mailbox.decoding import Base64Decoder, Decoder, QuotedPrintableDecoder
from certmaild.mailbox.errors import MessageGone
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import ConnectionGone
from certmaild.protocols.imap.fetch_plan import IDENTITY, check_encoding
from certmaild.protocols.imap.grammar.fetch_items import BodyOctets, SectionKind
from certmaild.protocols.imap.sections import MessageReader, Span

DECODED_IN_MEMORY = 1 << 20
"""Octets of an encoded part up to which it is decoded in one piece."""
_FIELD_KINDS = (SectionKind.FIELDS, SectionKind.FIELDS_NOT)


class _Started:
    """Whether part of a response was written, so that an error can no longer be answered."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written = False


class BodyWriter:
    """Writes ``BODY[]`` and ``BINARY[]`` items; never holds more of a message than one piece of 256 KiB."""

    def __init__(self, context: Context, items: Sequence[BodyOctets]) -> None:
        self._context = context
        self._items = items

    async def tell(self, card: Card, head: bytes, tail: bytes) -> bool:
        """One whole response: ``head``, the items, ``tail``; False if the message is gone and nothing was written.

        What goes wrong once part of it was written raises `ConnectionGone`: the client waits for a literal's octets.
        """
        reader = MessageReader(card, self._context.mailbox.content(card))
        started = _Started()
        space = b"" if head.endswith(b"(") else b" "
        try:
            for item in self._items:
                check_item(card, item)
            for item in self._items:
                await self._tell_item(reader, item, head + space, started)
                head, space = b"", b" "
        except MessageGone as gone:
            if not started.written:
                return False
            raise ConnectionGone from gone
        except Exception as error:
            if not started.written or isinstance(error, ConnectionGone):
                raise
            # Any word of ours would be taken for octets of the literal.
            raise ConnectionGone from error
        self._context.write(tail)
        self._context.separate()
        return True

    async def _tell_item(self, reader: MessageReader, item: BodyOctets, before: bytes, started: _Started) -> None:
        name = item.name if item.partial is None else item.name + b"<%d>" % item.partial[0]
        before += name + b" "
        if item.section.kind in _FIELD_KINDS:
            self._tell_octets(before, cut_octets(await reader.header_fields(item.section), item.partial), started)
            return
        span = reader.locate(item.section)
        if span is None:
            self._tell_octets(before, None, started)
        elif item.binary and (decoder := _decoder_of(reader.card, item.section.path)) is not None:
            await self._tell_decoded(reader, item, span, decoder, before, started)
        else:
            await self._tell_span(reader, span.partial(item.partial), before, started, binary=item.binary)

    def _tell_octets(self, before: bytes, octets: bytes | None, started: _Started, *, binary: bool = False) -> None:
        """A value that is in memory; literal8 only where there is a NUL in it."""
        started.written = True
        if octets is None:
            self._context.write(before + b"NIL")
        else:
            mark = b"~{%d}\r\n" if binary and b"\0" in octets else b"{%d}\r\n"
            self._context.write(before + mark % len(octets) + octets)

    async def _tell_span(
        self, reader: MessageReader, span: Span, before: bytes, started: _Started, *, binary: bool
    ) -> None:
        """Octets as they stand; the first are read before the literal is announced."""
        length = span.end - span.start
        first = await reader.read(span.start, span.end) if length > 0 else b""
        if len(first) >= length:
            self._tell_octets(before, first, started, binary=binary)
            return
        context = self._context
        started.written = True
        context.write(before + (b"~{%d}\r\n" if binary else b"{%d}\r\n") % length + first)
        at = span.start + len(first)
        while at < span.end:
            await context.flush()
            piece = await reader.read(at, span.end)
            if not piece:
                raise MessageGone
            context.write(piece)
            at += len(piece)

    async def _tell_decoded(
        self,
        reader: MessageReader,
        item: BodyOctets,
        span: Span,
        decoder: Decoder,
        before: bytes,
        started: _Started,
    ) -> None:
        """A part with its transfer encoding undone; a large one without holding it."""
        if span.end - span.start <= DECODED_IN_MEMORY:
            encoded = await reader.read_all(span, DECODED_IN_MEMORY)
            octets = cut_octets(decoder.feed(encoded) + decoder.finish(), item.partial)
            self._tell_octets(before, octets, started, binary=True)
            return
        part = part_at(reader.card.parts, item.section.path)
        wanted = Span(0, part.decoded_octets if part else 0).partial(item.partial)
        context = self._context
        started.written = True
        context.write(before + b"~{%d}\r\n" % (wanted.end - wanted.start))
        at, decoded_at = span.start, 0
        while decoded_at < wanted.end:
            piece = await reader.read(at, span.end) if at < span.end else b""
            octets = decoder.feed(piece) if piece else decoder.finish()
            context.write(octets[max(wanted.start - decoded_at, 0) : wanted.end - decoded_at])
            decoded_at += len(octets)
            at += len(piece)
            if not piece and decoded_at < wanted.end:
                raise MessageGone
            await context.flush()


def check_item(card: Card, item: BodyOctets) -> None:
    """Raises `No` when a part's transfer encoding cannot be undone."""
    if item.binary and item.section.path:
        part = part_at(card.parts, item.section.path)
        if part is not None:
            check_encoding(part.encoding)


def _decoder_of(card: Card, path: tuple[int, ...]) -> Decoder | None:
    """What undoes a part's transfer encoding; None where there is nothing to undo."""
    part = part_at(card.parts, path) if path else None
    if part is None or part.is_multipart or part.is_message or part.encoding in IDENTITY:
        return None
    return Base64Decoder() if part.encoding == b"BASE64" else QuotedPrintableDecoder()


def cut_octets(octets: bytes | None, partial: tuple[int, int] | None) -> bytes | None:
    """The piece that ``<origin.octets>`` names."""
    if octets is None or partial is None:
        return octets
    return octets[partial[0] : partial[0] + partial[1]]
