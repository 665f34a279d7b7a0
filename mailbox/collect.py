"""Removal of frames nobody will read: of dead blobs after an hour, of uploads whose process is gone (KEYS 6, 7)."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from certmaild.mailbox.identifiers import BlobId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import (
    FACTS_FRAME,
    FRAME_OCTETS,
    U32,
    Table,
    dead_key,
    decode_dead_key,
    decode_stage,
    frame_key,
)
from certmaild.mailbox.processes import still_lives

log = Logger()

EVERY_S = 600
GRACE_S = 3600
"""A dead blob's frames stay so long, for a literal that is being sent from them."""
LOW_OCTETS = 256 * 1024 * 1024
"""With less room above the floor than this, dead blobs go at once."""
SLICE_FRAMES = 64 * 1024 * 1024 // FRAME_OCTETS
"""Frames removed in one transaction."""
_SLICE_BLOBS = 256


class Collector:
    """Removes dead and abandoned blobs. ``seconds`` is the time since 1970."""

    def __init__(self, engine: Engine, seconds: Callable[[], float], *, grace_s: int = GRACE_S) -> None:
        self._engine = engine
        self._seconds = seconds
        self._grace_s = grace_s
        self._loop: LoopingCall | None = None

    def start(self, clock: IReactorTime) -> None:
        """Collect now and every ten minutes."""
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._collect_logged()))
        self._loop.clock = clock
        self._loop.start(EVERY_S)

    def stop(self) -> None:
        """Collect no more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    async def _collect_logged(self) -> None:
        try:
            await self.collect()
        except Exception:
            log.failure("collecting dead blobs failed")

    async def collect(self) -> int:
        """One round; how many frames were removed."""
        await self.abandon()
        removed = 0
        while True:
            low = self._engine.free_octets() < LOW_OCTETS
            before = int(self._seconds()) - (0 if low else self._grace_s)
            frames, done = await self._engine.write(lambda txn, before=before: _remove_slice(txn, before))  # type: ignore[misc]
            removed += frames
            if done:
                return removed

    async def abandon(self) -> int:
        """Hand over uploads whose process is gone as dead; how many."""
        gone = await self._engine.scan(_abandoned)

        def work(txn: WriteTxn) -> None:
            for blob_id in gone:
                _abandon(txn, blob_id)

        if gone:
            await self._engine.write(work)
        return len(gone)


async def discard(engine: Engine, blob_id: BlobId) -> None:
    """Remove an upload that will not be finished, at once: else whoever drops many fills the disk till the next round.

    What a crash leaves of it the next `Collector.collect` finds.
    """
    await engine.write(lambda txn: _abandon(txn, blob_id))
    while not await engine.write(lambda txn: _remove_discarded(txn, blob_id)):
        pass


def _abandon(txn: WriteTxn, blob_id: BlobId) -> None:
    """From now on it is a dead blob that never lived."""
    if txn.delete(Table.STAGE, blob_id):
        txn.put(Table.DEAD, dead_key(0, blob_id), b"")


def _remove_discarded(txn: WriteTxn, blob_id: BlobId) -> bool:
    """Remove a slice of its frames; whether all are gone."""
    key = dead_key(0, blob_id)
    if txn.get(Table.DEAD, key) is None:
        return True
    _, done = _remove_frames(txn, blob_id, SLICE_FRAMES)
    if done:
        txn.delete(Table.DEAD, key)
    return done


def _abandoned(txn: ReadTxn) -> list[BlobId]:
    return [BlobId(key) for key, value in txn.scan(Table.STAGE, b"") if not still_lives(decode_stage(value))]


def _remove_slice(txn: WriteTxn, before_s: int) -> tuple[int, bool]:
    """Remove up to one slice of frames of blobs that died by ``before_s``; how many, and whether that was all."""
    frames = 0
    for blobs, (key, _) in enumerate(txn.scan(Table.DEAD, b"")):
        died_s, blob_id = decode_dead_key(key)
        if died_s > before_s:
            break
        if blobs == _SLICE_BLOBS or frames >= SLICE_FRAMES:
            return frames, False
        removed, done = _remove_frames(txn, blob_id, SLICE_FRAMES - frames)
        frames += removed
        if not done:
            return frames, False
        txn.delete(Table.DEAD, key)
    return frames, True


def _remove_frames(txn: WriteTxn, blob_id: BlobId, limit: int) -> tuple[int, bool]:
    """Remove up to ``limit`` frames of a blob; how many, and whether none is left.

    Frames are numbered without gaps, so only the first left is looked for: a scan would copy every frame's value.
    """
    first = next(txn.scan(Table.BLOB, blob_id, frame_key(blob_id, FACTS_FRAME)), None)
    removed = 0
    if first is not None:
        (frame,) = U32.unpack(first[0][16:])
        while removed < limit and txn.delete(Table.BLOB, frame_key(blob_id, frame + removed)):
            removed += 1
        if removed == limit:
            return removed, False
    txn.delete(Table.BLOB, frame_key(blob_id, FACTS_FRAME))
    return removed, True
