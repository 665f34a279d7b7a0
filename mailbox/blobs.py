"""Content of messages as encrypted frames: written while it streams in, read frame by frame (KEYS section 5.1).

Clear text never touches the disk. Up to 4 MiB of frames wait in memory for the transaction that files the message;
a larger message goes ahead in staged transactions, and memory stays flat.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from twisted.internet.defer import Deferred

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.primitives import open_frame, seal_frame
from certmaild.mailbox.collect import discard
from certmaild.mailbox.errors import Damaged, MessageGone, StoreUnavailable
from certmaild.mailbox.identifiers import BlobId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import (
    FACTS_FRAME,
    FRAME_OCTETS,
    WHOLE_OCTETS,
    Codec,
    Table,
    encode_stage,
    first_frame_octets,
    frame_context,
    frame_key,
    pack_frame,
    unpack_frame,
)
from certmaild.mailbox.packing import pack, unpack
from certmaild.mailbox.processes import this_process

STAGE_OCTETS = 4 * 1024 * 1024
"""Sealed frames held in memory; more of them are written ahead in transactions of this size."""
LARGE_OCTETS = 1024 * 1024
"""A message above this is hashed, compressed and sealed in a thread, so many octets at a time."""
_LEAST_GAIN = 0.97
"""A frame that compresses to more than this share is stored as it is."""
_MAX_FACTS_OCTETS = 16 * 1024 * 1024


class Blob(Protocol):
    """What a reader must know of a blob: `StoredBlob` has it, and so has each card."""

    @property
    def cek(self) -> bytes:
        """Content encryption key."""
        ...

    @property
    def blob_id(self) -> bytes:
        """Which blob."""
        ...

    @property
    def size(self) -> int:
        """Octets of content."""
        ...

    @property
    def frames(self) -> int:
        """How many."""
        ...

    @property
    def f0_len(self) -> int:
        """Octets in frame 0."""
        ...


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A finished blob. Its last rows are written by `write`, in the transaction that files the message."""

    cek: bytes = field(repr=False)
    blob_id: BlobId
    size: int
    frames: int
    f0_len: int
    sha256: bytes
    """Of the content."""
    rows: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    staged: bool = False
    padding: bool = True

    def with_facts(self, facts: bytes) -> "StoredBlob":
        """The same with one frame more: the large parts of its cards. Empty ``facts`` need none."""
        if not facts:
            return self
        sealed = _seal(self.cek, self.blob_id, FACTS_FRAME, False, facts, self.padding)
        return replace(self, rows=(*self.rows, (frame_key(self.blob_id, FACTS_FRAME), sealed)))

    def write(self, txn: WriteTxn) -> None:
        """Write what is not staged yet. The caller adds the first reference in the same transaction."""
        if self.staged and not txn.delete(Table.STAGE, self.blob_id):
            raise StoreUnavailable("the staged upload was removed")
        for key, value in self.rows:
            txn.put(Table.BLOB, key, value)

    def forget(self, engine: Engine) -> Awaitable[None] | None:
        """Remove what was staged, when the message is not filed after all."""
        return Deferred.fromCoroutine(discard(engine, self.blob_id)) if self.staged else None


class BlobWriter:
    """Takes one message's octets in pieces of any size. ``seconds`` is the time since 1970."""

    def __init__(
        self,
        engine: Engine,
        seconds: Callable[[], float],
        *,
        padding: bool = True,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._engine = engine
        self._seconds = seconds
        self._padding = padding
        drawn = random(48)
        self._cek = drawn[:32]
        self.blob_id = BlobId(drawn[32:])
        self.size = 0
        """Octets taken so far."""
        self._sha256 = hashlib.sha256()
        self._waiting = bytearray()
        self._header_octets = 0
        self._f0_len = 0
        self._frames = 0
        self._rows: list[tuple[bytes, bytes]] = []
        self._row_octets = 0
        self._staged = False
        self._ended = False
        self._hashed_ahead = 0
        """Octets of what waits that the digest has already."""
        self._sealing: Deferred[None] | None = None
        self._flushing: Deferred[None] | None = None

    def set_header_octets(self, octets: int) -> None:
        """Where the header ends, if known before more than 64 KiB came; else it is looked for."""
        self._header_octets = octets

    def write(self, data: bytes | bytearray | memoryview) -> Awaitable[None] | None:
        """Take the next octets. None: go on at once; else await it before the next call.

        What it raises (`StoreFull`, `StoreUnavailable`) ends the upload; call `abort`.
        """
        if self._ended:
            raise StoreUnavailable("the upload has ended")
        self.size += len(data)
        self._waiting += data
        if self.size <= LARGE_OCTETS:
            self._sha256.update(data)
            self._cut()
            self._hashed_ahead = len(self._waiting)
            return None
        if not self._frames:
            self._sha256.update(memoryview(self._waiting)[self._hashed_ahead :])
            self._cut_first()
            self._hashed_ahead = len(self._waiting)
        if len(self._waiting) <= LARGE_OCTETS:
            return None
        if self._sealing is None:
            self._sealing = self._seal_ahead()
            return None
        return self._wait_and_seal()

    async def finish(self) -> StoredBlob:
        """The blob; its last rows are not written yet."""
        if self._sealing is not None:
            await self._sealing
        if self._flushing is not None:
            await self._flushing
        self._sha256.update(memoryview(self._waiting)[self._hashed_ahead :])
        self._cut()
        self._ended = True
        if not self._frames:
            self._f0_len = len(self._waiting)
        self._seal_frame(bytes(self._waiting), last=True)
        self._waiting = bytearray()
        rows, self._rows = tuple(self._rows), []
        return StoredBlob(
            self._cek,
            self.blob_id,
            self.size,
            self._frames,
            self._f0_len,
            self._sha256.digest(),
            rows,
            self._staged,
            self._padding,
        )

    def abort(self) -> Awaitable[None] | None:
        """Forget it all; what was staged is removed. May be called at any time."""
        self._ended = True
        self._rows, self._waiting = [], bytearray()
        for under_way in (self._sealing, self._flushing):
            if under_way is not None:
                under_way.addErrback(lambda failure: None)
        if not self._staged:
            return None
        return Deferred.fromCoroutine(discard(self._engine, self.blob_id))

    # Frames.

    def _cut(self) -> None:
        """Seal each full frame of which it is known that it is not the last."""
        if not self._frames and not self._cut_first():
            return
        done, waiting = 0, self._waiting
        while len(waiting) - done > FRAME_OCTETS:
            self._seal_frame(bytes(memoryview(waiting)[done : done + FRAME_OCTETS]), last=False)
            done += FRAME_OCTETS
        if done:
            del waiting[:done]

    def _cut_first(self) -> bool:
        """Seal frame 0 once its length is known; whether it is."""
        waiting = self._waiting
        if len(waiting) <= WHOLE_OCTETS:
            return False
        if not self._f0_len:
            end = self._header_octets or _header_end(waiting)
            if not end and len(waiting) <= FRAME_OCTETS:
                return False
            self._f0_len = first_frame_octets(end or FRAME_OCTETS)
        if len(waiting) <= self._f0_len:
            return False
        self._seal_frame(bytes(memoryview(waiting)[: self._f0_len]), last=False)
        del waiting[: self._f0_len]
        return True

    def _seal_frame(self, content: bytes, *, last: bool) -> None:
        sealed = _seal(self._cek, self.blob_id, self._frames, last, content, self._padding)
        self._rows.append((frame_key(self.blob_id, self._frames), sealed))
        self._row_octets += len(sealed)
        self._frames += 1

    # Large messages: what is ready is sealed in a thread while more comes, and written while more is sealed.

    def _seal_ahead(self) -> Deferred[None]:
        """Take whole frames, of which none is the last, out of what waits, and seal them in a thread."""
        waiting = self._waiting
        count = (len(waiting) - 1) // FRAME_OCTETS
        with memoryview(waiting) as octets:
            batch = bytes(octets[: count * FRAME_OCTETS])
        del waiting[: len(batch)]
        first, self._frames = self._frames, self._frames + count
        hashed = min(self._hashed_ahead, len(batch))
        self._hashed_ahead -= hashed
        return Deferred.fromCoroutine(self._seal_batch(batch, first, hashed))

    async def _seal_batch(self, batch: bytes, first: int, hashed: int) -> None:
        def work(_: ReadTxn) -> list[tuple[bytes, bytes]]:
            octets = memoryview(batch)
            self._sha256.update(octets[hashed:])
            return [
                (frame_key(self.blob_id, frame), _seal(self._cek, self.blob_id, frame, False, content, self._padding))
                for frame, content in enumerate(_cut_up(octets, FRAME_OCTETS), first)
            ]

        rows = await self._engine.scan(work)
        if self._ended:
            return
        self._rows += rows
        self._row_octets += sum(len(value) for _, value in rows)
        if self._row_octets > STAGE_OCTETS:
            if self._flushing is not None:
                await self._flushing
            if not self._ended:
                self._flushing = self._stage()

    async def _wait_and_seal(self) -> None:
        if self._sealing is not None:
            await self._sealing
        self._sealing = None if self._ended else self._seal_ahead()

    # Staging.

    def _stage(self) -> Deferred[None]:
        """Write the frames that are ready, and with the first of them the stage row."""
        rows, self._rows, self._row_octets = self._rows, [], 0
        first, self._staged = not self._staged, True
        stage = encode_stage(this_process(int(self._seconds()))) if first else None

        def work(txn: WriteTxn) -> None:
            if stage is not None:
                txn.put(Table.STAGE, self.blob_id, stage)
            elif txn.get(Table.STAGE, self.blob_id) is None:
                raise StoreUnavailable("the staged upload was removed")
            for key, value in rows:
                txn.put(Table.BLOB, key, value)

        return Deferred.fromCoroutine(_awaited(self._engine.write(work, grows=True)))


async def _awaited(written: Awaitable[None]) -> None:
    await written


def _cut_up(octets: memoryview, size: int) -> Iterator[memoryview]:
    return (octets[at : at + size] for at in range(0, len(octets), size))


def _header_end(octets: bytearray) -> int:
    """Octets up to and with the blank line; 0 if it is not there."""
    if octets.startswith(b"\r\n"):
        return 2
    return octets.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in octets else 0


# Frames to bytes and back.


def _seal(cek: bytes, blob_id: bytes, frame: int, last: bool, content: bytes | memoryview, padding: bool) -> bytes:
    packed = pack(content)
    if len(packed) < _LEAST_GAIN * len(content):
        plain = pack_frame(Codec.ZSTD, packed, padding)
    else:
        plain = pack_frame(Codec.RAW, bytes(content), padding)
    return seal_frame(cek, frame_context(blob_id, frame, last), plain)


def open_sealed(blob: Blob, frame: int, last: bool, expected_octets: int, value: bytes) -> bytes:
    """The content of one stored frame, which must have so many octets. Raises `Damaged`."""
    try:
        codec, payload = unpack_frame(open_frame(blob.cek, frame_context(blob.blob_id, frame, last), value))
        if codec is Codec.ZSTD:
            content = unpack(payload, expected_octets)
        else:
            content = bytes(payload)
    except SealBroken as broken:
        raise Damaged("frame") from broken
    if len(content) != expected_octets:
        raise Damaged("frame length")
    return content


def frame_at(blob: Blob, offset: int) -> tuple[int, int]:
    """The frame that holds an offset of the content, and where the frame begins."""
    if offset < blob.f0_len:
        return 0, 0
    later = (offset - blob.f0_len) // FRAME_OCTETS
    return 1 + later, blob.f0_len + later * FRAME_OCTETS


def frame_octets(blob: Blob, frame: int) -> int:
    """Content of one frame of a blob."""
    if frame == 0:
        return blob.f0_len
    if frame < blob.frames - 1:
        return FRAME_OCTETS
    return blob.size - blob.f0_len - (frame - 1) * FRAME_OCTETS


def find_frame(txn: ReadTxn, blob: Blob, frame: int) -> bytes | None:
    """The content of one frame; None when it was removed. Raises `Damaged` when it is not the one the card means."""
    value = txn.get(Table.BLOB, frame_key(blob.blob_id, frame))
    if value is None:
        return None
    return open_sealed(blob, frame, frame == blob.frames - 1, frame_octets(blob, frame), value)


async def read_frame(engine: Engine, blob: Blob, frame: int) -> bytes:
    """The content of one frame, in a transaction of its own.

    Raises `MessageGone` when the frames were removed, `Damaged` when the frame is not the one the card means.
    """
    key = frame_key(blob.blob_id, frame)

    def work(txn: ReadTxn) -> bytes | None:
        return txn.get(Table.BLOB, key)

    value = await engine.read(work)
    if value is None:
        raise MessageGone
    return open_sealed(blob, frame, frame == blob.frames - 1, frame_octets(blob, frame), value)


async def read_frames(engine: Engine, blob: Blob, first: int = 0) -> AsyncIterator[bytes]:
    """The content from one frame to the end, a frame at a time; a transaction for each, so it may take long."""
    for frame in range(first, blob.frames):
        yield await read_frame(engine, blob, frame)


async def read_facts(engine: Engine, blob: Blob, octets: int) -> bytes:
    """The large parts of a blob's cards, whose length the card says. Raises `MessageGone`, `Damaged`."""
    key = frame_key(blob.blob_id, FACTS_FRAME)
    value = await engine.read(lambda txn: txn.get(Table.BLOB, key))
    return _open_facts(blob, octets, value)


def find_facts(txn: ReadTxn, blob: Blob, octets: int) -> bytes:
    """`read_facts` inside a transaction."""
    return _open_facts(blob, octets, txn.get(Table.BLOB, frame_key(blob.blob_id, FACTS_FRAME)))


def _open_facts(blob: Blob, octets: int, value: bytes | None) -> bytes:
    if not 0 < octets <= _MAX_FACTS_OCTETS:
        raise Damaged("facts frame length")
    if value is None:
        raise MessageGone
    return open_sealed(blob, FACTS_FRAME, False, octets, value)
