"""A message's octets: reading by offset over encrypted frames, and writing a new one with its scan."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.sealing import open_card
from certmaild.mailbox.blobs import BlobWriter, StoredBlob, find_frame, frame_at, read_facts
from certmaild.mailbox.cards import Card
from certmaild.mailbox.errors import Damaged, MailboxError, MessageGone
from certmaild.mailbox.frame_streams import FrameStream
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_messages import card_key
from certmaild.mailbox.mime import Scanner
from certmaild.mailbox.mime_parts import Scan

log = Logger()

PIECE_OCTETS = 256 * 1024
"""The most that one `Content.read` gives."""
WHOLE_LIMIT_OCTETS = 1 << 20
HEADERS_OCTETS = 1 << 20
"""Octets of frames opened for headers in one go: some 2 ms."""


def open_cards(txn: ReadTxn, user_id: UserId, keys: Sequence[tuple[bytes, bytes]]) -> list[Card | None]:
    """Cards by (mid, MK), None for one that is gone. Raises `Damaged`."""
    cards: list[Card | None] = []
    for mid, mk in keys:
        value = txn.get(Table.CARD, card_key(user_id, mid))
        if value is None:
            cards.append(None)
            continue
        try:
            cards.append(Card(mid, open_card(mk, user_id, mid, value)))
        except SealBroken as broken:
            raise Damaged("card") from broken
    return cards


def read_headers(txn: ReadTxn, cards: Sequence[Card], limit: int) -> list[bytes | None]:
    """Headers of ``BODY[]`` up to ``limit`` octets, trace prefix included; None where the frames are gone.

    Of the first cards only, once their frames had `HEADERS_OCTETS`. Raises `Damaged`.
    """
    headers: list[bytes | None] = []
    opened = 0
    for card in cards:
        headers.append(_read_header(txn, card, limit))
        opened += max(card.blob.f0_len, card.header_octets)
        if opened > HEADERS_OCTETS:
            break
    return headers


def _read_header(txn: ReadTxn, card: Card, limit: int) -> bytes | None:
    blob, header = card.blob, card.prefix
    end = min(len(header) + card.header_octets, limit)
    for number in range(blob.frames):
        if len(header) >= end:
            break
        content = find_frame(txn, blob, number)
        if content is None:
            return None
        header += content
    return header[:end]


async def with_facts(engine: Engine, card: Card) -> Card | None:
    """The card with its facts frame read; None when the blob is gone."""
    try:
        card.with_frame(await read_facts(engine, card.blob, card.frame_octets))
    except MessageGone:
        return None
    return card


class Content:
    """The octets of ``BODY[]``: the recipient's trace prefix, then the blob (KEYS section 5.1)."""

    def __init__(self, card: Card, frames: FrameStream) -> None:
        self._card = card
        self._frames = frames
        self._prefix = card.prefix

    @property
    def size(self) -> int:
        """RFC822.SIZE."""
        return len(self._prefix) + self._card.size

    @property
    def prefix(self) -> int:
        """Octets of the trace prefix: what to add to the offsets of the part table."""
        return len(self._prefix)

    async def read(self, offset: int, length: int) -> bytes:
        """Octets from ``offset``, at most ``length`` and some 256 KiB, often fewer; empty only at the end.

        A reader that goes through the whole message in order, alone, is told before its end, by `Damaged`, if the
        digest is not the card's. Raises `MessageGone` when the message was expunged and its frames are removed,
        `Damaged`.
        """
        stop = min(offset + length, self.size)
        prefix = len(self._prefix)
        if offset >= stop:
            return b""
        if offset < prefix:
            head = self._prefix[offset:stop]
            return head + await self._piece(0, stop - prefix) if stop > prefix else head
        return await self._piece(offset - prefix, stop - prefix)

    async def _piece(self, start: int, stop: int) -> bytes:
        """Blob octets from ``start`` to ``stop`` or the end of the frame."""
        number, begins = frame_at(self._frames.blob, start)
        content = await self._frames.frame(number)
        if start == begins and stop - begins >= len(content):
            piece = content
        else:
            piece = content[start - begins : stop - begins]
        if not piece:
            raise Damaged("frame table")
        return piece

    async def whole(self) -> bytes:
        """All of it, checked against the digest; for messages up to 1 MiB (raises ValueError above)."""
        if self.size > WHOLE_LIMIT_OCTETS:
            raise ValueError("message too large to be held whole")
        pieces = []
        at = 0
        while piece := await self.read(at, PIECE_OCTETS):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)


class MessageWriter:
    """One message on its way in: blob and scan together."""

    def __init__(self, engine: Engine, seconds: Callable[[], float], scanner: Scanner, *, padding: bool = True) -> None:
        self._engine = engine
        self._writer = BlobWriter(engine, seconds, padding=padding)
        self._scanner = scanner
        self._blob: StoredBlob | None = None

    async def write(self, data: bytes) -> None:
        """Take the next octets, any number; returns when there is room for more."""
        scanner = self._scanner
        if scanner.may_take_long(len(data)):
            await self._engine.scan(lambda _: scanner.feed(data))
        else:
            scanner.feed(data)
        pause = self._writer.write(data)
        if pause is not None:
            await pause

    async def finish(self) -> tuple[StoredBlob, Scan]:
        """Durable as far as staged; give both to `NewMessage`."""
        self._blob = await self._writer.finish()
        scanner = self._scanner
        if scanner.may_take_long():
            return self._blob, await self._engine.scan(lambda _: scanner.finish())
        return self._blob, scanner.finish()

    def abort(self) -> None:
        """Forget it; what was staged is removed. Of no effect on a message that was filed."""
        removal = self._writer.abort() if self._blob is None else self._blob.forget(self._engine)
        if removal is not None:
            Deferred.fromCoroutine(_ignored(removal)).addErrback(lambda failure: log.failure("abort failed", failure))


async def _ignored(removal: Awaitable[None]) -> None:
    with suppress(MailboxError):
        await removal
