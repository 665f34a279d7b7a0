"""Messages being read frame by frame: what a reader wants next is opened ahead of him, in a thread.

Opening 256 KiB takes 0.4 ms, most of it outside the GIL: a reader who goes through a large message finds the next
frames open, and its digest is taken on the way. A client that fetches a large part in pieces shares a stream from piece
to piece.
"""

import hashlib
from collections import OrderedDict

from twisted.internet.defer import Deferred

from certmaild.mailbox.blobs import find_frame
from certmaild.mailbox.cards import BlobFacts
from certmaild.mailbox.errors import Damaged, MessageGone
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn

FRAMES_AHEAD = 2
"""Opened together; as many more may be open already, so a stream holds 1.25 MiB at most."""
STREAMS_KEPT = 16


class _Digest:
    """SHA-256 over frames opened in order from the first."""

    __slots__ = ("next_frame", "sha256")

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.next_frame = 0

    def take(self, blob: BlobFacts, number: int, content: bytes) -> None:
        """Take a frame if it is the next. Raises `Damaged` at the last if the digest is not the card's."""
        if number == self.next_frame:
            self.sha256.update(content)
            self.next_frame += 1
            if self.next_frame == blob.frames and self.sha256.digest() != blob.sha256:
                raise Damaged("digest")


class _Ahead:
    """Frames that a thread opens."""

    __slots__ = ("contents", "failure", "numbers", "waiters")

    def __init__(self, numbers: range) -> None:
        self.numbers = numbers
        self.contents: list[bytes] = []
        self.failure: Exception | None = None
        self.waiters: list[Deferred[None]] | None = []

    async def run(self, stream: "FrameStream", digest: _Digest | None) -> None:
        """Open them; never raises."""
        try:
            self.contents = await stream.engine.scan(
                lambda txn: [stream.open(txn, number, digest) for number in self.numbers]
            )
        except Exception as error:
            self.failure = error
        waiters, self.waiters = self.waiters or [], None
        for waiter in waiters:
            waiter.callback(None)

    async def content(self, number: int) -> bytes:
        """One of them, once it is there."""
        if self.waiters is not None:
            waiter: Deferred[None] = Deferred()
            self.waiters.append(waiter)
            await waiter
        if self.failure is not None:
            raise self.failure
        return self.contents[number - self.numbers.start]


class FrameStream:
    """One message's frames for whoever reads it now."""

    __slots__ = ("_ahead", "_content", "_digest", "_held", "_number", "blob", "engine")

    def __init__(self, engine: Engine, blob: BlobFacts) -> None:
        self.engine = engine
        self.blob = blob
        self._number = -1
        self._content = b""
        self._held: dict[int, bytes] = {}
        self._ahead: _Ahead | None = None
        self._digest: _Digest | None = None

    def open(self, txn: ReadTxn, number: int, digest: _Digest | None) -> bytes:
        """The content of a frame. Raises `MessageGone` when it was removed, `Damaged`."""
        content = find_frame(txn, self.blob, number)
        if content is None:
            raise MessageGone
        if digest is not None:
            digest.take(self.blob, number, content)
        return content

    async def frame(self, number: int) -> bytes:
        """The content of a frame; the second of two in a row has the next ones opened ahead.

        Who reads all frames in order is told at the end, by `Damaged`, if the digest is not the card's.
        """
        if number == self._number:
            return self._content
        in_order = number == self._number + 1
        content = self._held.pop(number, None)
        if content is None:
            content = await self._open(number)
        self._number, self._content = number, content
        if in_order and number:
            self._go_ahead()
        return content

    async def _open(self, number: int) -> bytes:
        ahead = self._ahead
        if ahead is not None and number in ahead.numbers:
            content = await ahead.content(number)
            if self._ahead is ahead:
                self._ahead = None
                later = range(number + 1, ahead.numbers.stop)
                self._held = {other: ahead.contents[other - ahead.numbers.start] for other in later}
            return content
        if ahead is not None or number == 0:
            # A thread may still be at work with the old one.
            self._digest = None if number else _Digest()
        self._ahead = None
        self._held.clear()
        return await self.engine.read(lambda txn: self.open(txn, number, self._digest))

    def _go_ahead(self) -> None:
        first = max(self._held, default=self._number) + 1
        count = min(FRAMES_AHEAD, self.blob.frames - first)
        if self._ahead is None and len(self._held) < FRAMES_AHEAD and count > 0:
            self._ahead = _Ahead(range(first, first + count))
            Deferred.fromCoroutine(self._ahead.run(self, self._digest))


class FrameStreams:
    """The streams of all open mailboxes that were read last, so that the next piece finds its frames open."""

    def __init__(self, limit: int = STREAMS_KEPT) -> None:
        self._limit = limit
        self._streams: OrderedDict[tuple[UserId, bytes], FrameStream] = OrderedDict()

    def find(self, engine: Engine, user_id: UserId, blob: BlobFacts) -> FrameStream:
        """The stream of a message, a new one if there is none."""
        key = user_id, blob.blob_id
        stream = self._streams.get(key)
        # The key is compared with the place: who has the blob's id but another key gets no frame of the stream.
        if stream is None or stream.blob != blob:
            stream = self._streams[key] = FrameStream(engine, blob)
        self._streams.move_to_end(key)
        if len(self._streams) > self._limit:
            self._streams.popitem(last=False)
        return stream

    def forget(self, user_id: UserId) -> None:
        """Drop those of a mailbox that was closed."""
        for key in [key for key in self._streams if key[0] == user_id]:
            del self._streams[key]
