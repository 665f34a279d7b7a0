"""The searchable text of one message: header fields and text parts, decoded, read inside a transaction."""

import datetime
import re
from collections.abc import Iterator
from email.utils import parsedate

from certmaild.mailbox.blobs import frame_at, frame_octets, open_sealed
from certmaild.mailbox.cards import Card
from certmaild.mailbox.errors import MessageGone
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.layout import FACTS_FRAME, Table, frame_key
from certmaild.mailbox.mime_header import field_value, header_fields, parameter, parse_media_type
from certmaild.mailbox.mime_parts import Part
from certmaild.mailbox.text import PartText, decode_header, normalise

KEPT_CHARACTERS = 1 << 20
"""Text up to this size is kept for the next key of the same program, and each part of it is one text; more is read
again, in windows."""
_HEADER_LIMIT_OCTETS = 1 << 20
_DAY_S = 86400
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_DATE = re.compile(rb'\("([^"\\]{1,100})"')


def sent_day(card: Card) -> int:
    """Days since 1970 of the Date field as written, without its zone; the day of arrival when there is no such date."""
    match = _DATE.match(card.envelope)
    when = parsedate(match[1].decode("latin-1")) if match else None
    if when is not None:
        try:
            return datetime.date(*when[:3]).toordinal() - _EPOCH
        except ValueError:
            pass
    return card.internal_date // _DAY_S


def read_facts_frame(txn: ReadTxn, card: Card) -> bool:
    """Read a card's facts frame if it has one; False when the blob is gone."""
    if card.frame_octets:
        value = txn.get(Table.BLOB, frame_key(card.blob.blob_id, FACTS_FRAME))
        if value is None:
            return False
        card.with_frame(open_sealed(card.blob, FACTS_FRAME, False, card.frame_octets, value))
    return True


class BlobReader:
    """Octets of one blob inside one read transaction; keeps the last frame."""

    def __init__(self, txn: ReadTxn, card: Card) -> None:
        self._txn = txn
        self._blob = card.blob
        self._number = -1
        self._content = b""

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The octets from ``start`` to ``stop``, at most a frame at a time. Raises `MessageGone`, `Damaged`."""
        stop = min(stop, self._blob.size)
        while start < stop:
            number, begins = frame_at(self._blob, start)
            if number != self._number:
                self._content = self._open(number)
                self._number = number
            piece = self._content[start - begins : stop - begins]
            yield piece
            start += len(piece)

    def _open(self, number: int) -> bytes:
        blob = self._blob
        value = self._txn.get(Table.BLOB, frame_key(blob.blob_id, number))
        if value is None:
            raise MessageGone
        return open_sealed(blob, number, number == blob.frames - 1, frame_octets(blob, number), value)

    def octets(self, start: int, stop: int) -> bytes:
        """The same in one piece."""
        return b"".join(self.pieces(start, stop))


class MessageText:
    """Answers whether header or body hold a text, which is given as `normalise` makes it."""

    def __init__(self, txn: ReadTxn, card: Card) -> None:
        self._card = card
        self._reader = BlobReader(txn, card)
        self._fields: list[tuple[str, str]] | None = None
        self._kept: list[str] | None = None
        self._cut = False

    @property
    def header(self) -> list[tuple[str, str]]:
        """Names (lower case) and values of the header's fields, the trace prefix first."""
        if self._fields is None:
            octets = min(self._card.header_octets, _HEADER_LIMIT_OCTETS)
            header = self._card.prefix + self._reader.octets(0, octets)
            self._fields = [
                (name.decode("latin-1"), normalise(decode_header(field_value(header, start, end))))
                for name, start, end in header_fields(header)
                if name
            ]
        return self._fields

    def body(self, most_characters: int) -> list[str] | None:
        """The texts of the body; None when they are more, or one is so long that it is read in windows."""
        texts: list[str] = []
        for text in self._texts(0):
            most_characters -= len(text)
            if most_characters < 0 or self._cut:
                return None
            texts.append(text)
        return texts

    def header_has(self, name: str, needle: str) -> bool:
        """A field of this name (lower case) holds it; empty: the field is there."""
        return any(field == name and needle in value for field, value in self.header)

    def body_has(self, needle: str) -> bool:
        """The text of a part, or a part's own header, holds it."""
        return not needle or any(needle in text for text in self._texts(len(needle)))

    def text_has(self, needle: str) -> bool:
        """Header or body hold it."""
        return any(needle in value or needle in field for field, value in self.header) or self.body_has(needle)

    def _texts(self, overlap: int) -> Iterator[str]:
        """Normalised texts; of a long part windows that share ``overlap`` characters and more."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[str] = []
        room = KEPT_CHARACTERS
        for part in self._card.parts:
            for text in self._part_texts(part, overlap):
                room -= len(text)
                if room >= 0:
                    kept.append(text)
                yield text
        if room >= 0 and not self._cut:
            self._kept = kept

    def _part_texts(self, part: Part, overlap: int) -> Iterator[str]:
        header = b""
        if part.path and 0 < part.header_offset < part.body_offset:
            header = self._reader.octets(
                part.header_offset, min(part.body_offset, part.header_offset + _HEADER_LIMIT_OCTETS)
            )
            yield normalise(decode_header(header.replace(b"\r\n", b"\n")))
        if part.is_message:
            stop = min(part.text_offset, part.body_offset + _HEADER_LIMIT_OCTETS)
            for _, start, end in header_fields(inner := self._reader.octets(part.body_offset, stop)):
                yield normalise(decode_header(field_value(inner, start, end)))
        elif not part.is_multipart and part.type == b"TEXT" and (part.path or self._alone()):
            yield from self._windows(part, _charset(header or self._main_header()), overlap)

    def _alone(self) -> bool:
        """The message is one part, which the table names twice: as () and as 1."""
        return len(self._card.parts) == 1

    def _main_header(self) -> bytes:
        return self._reader.octets(0, min(self._card.header_octets, _HEADER_LIMIT_OCTETS))

    def _windows(self, part: Part, charset: str, overlap: int) -> Iterator[str]:
        text = PartText(part.encoding, charset)
        tail = ""
        keep = 2 * overlap + 32
        for octets in self._reader.pieces(part.body_offset, part.body_offset + part.octets):
            window = tail + text.feed(octets)
            tail = window
            if len(window) >= KEPT_CHARACTERS:
                self._cut = True
                yield normalise(window)
                tail = window[-keep:]
        yield normalise(tail + text.finish())


def _charset(header: bytes) -> str:
    """The charset parameter of a part's Content-Type; empty without one."""
    for name, start, end in header_fields(header):
        if name == b"content-type":
            parsed = parse_media_type(field_value(header, start, end))
            value = parameter(parsed[2], b"CHARSET") if parsed else None
            return value.decode("latin-1") if value else ""
    return ""
