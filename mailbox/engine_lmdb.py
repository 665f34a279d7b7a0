"""The engine port over LMDB: durable, shared between processes, group commit in one writer thread (DESIGN 4)."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar, cast

import lmdb
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from certmaild.mailbox.changes import Change, ChangeHub
from certmaild.mailbox.errors import StoreFull, StoreUnavailable
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import FORMAT_VERSION, U32, Table
from certmaild.mailbox.ring import Ring

T = TypeVar("T")
log = Logger()

MAP_OCTETS = 1 << 40
"""The same in every process for ever: one with a larger map makes every other's reads fail."""
MAX_READERS = 1024
FLOOR_OCTETS = 256 * 1024 * 1024
"""Default floor of free disk."""
POLL_S = 0.25
"""How often the last transaction is looked at, without workers; with them 0.02."""
GROUP_WRITES = 512
GROUP_OCTETS = 32 * 1024 * 1024
"""A group is committed when it has so many writes or wrote so much; the rest waits for the next."""
_COMMIT_OVERHEAD = 1024 * 1024
"""Pages of the trees that a commit writes beside the values."""
_AMPLE_OCTETS = 1 << 30
"""With so much room on the disk itself nobody counts free pages."""
_READER_CHECK_S = 60
_FORMAT = b"format"


class Reactor(Protocol):
    """What the engine needs of the reactor (`IReactorThreads`, `IReactorTime`)."""

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Run something on the reactor's thread."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        """Run something later."""

    def seconds(self) -> float:
        """The time."""


class _LmdbReads:
    """Reads within one LMDB transaction."""

    __slots__ = ("_dbs", "_get", "_txn")

    def __init__(self, txn: lmdb.Transaction, dbs: dict[Table, lmdb._Database]) -> None:
        self._txn = txn
        self._dbs = dbs
        # Without `buffers` what LMDB gives is bytes.
        self._get = cast("Callable[..., bytes | None]", txn.get)

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self._get(key, None, self._dbs[table])

    def scan(
        self, table: Table, start: bytes, stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        with self._txn.cursor(self._dbs[table]) as cursor:
            if not reverse:
                if cursor.set_range(start):
                    for key, value in cast("Iterator[tuple[bytes, bytes]]", iter(cursor)):
                        if stop is not None and key >= stop:
                            return
                        yield key, value
            elif _seek_before(cursor, stop):
                for key, value in cast("Iterator[tuple[bytes, bytes]]", cursor.iterprev()):
                    if key < start:
                        return
                    yield key, value


def _seek_before(cursor: lmdb.Cursor, stop: bytes | None) -> bool:
    """Place a cursor on the last key below ``stop``; whether there is one."""
    if stop is None or not cursor.set_range(stop):
        return bool(cursor.last())
    return bool(cursor.prev())


class _LmdbWrites(_LmdbReads):
    """Reads and writes of the group that is being gathered."""

    __slots__ = ("changes", "octets", "writes")

    def __init__(self, txn: lmdb.Transaction, dbs: dict[Table, lmdb._Database]) -> None:
        super().__init__(txn, dbs)
        self.changes: list[Change] = []
        self.octets = 0
        self.writes = 0

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        self.writes += 1
        self.octets += len(value)
        self._txn.put(key, value, True, True, False, self._dbs[table])

    def delete(self, table: Table, key: bytes) -> bool:
        self.writes += 1
        return bool(self._txn.delete(key, b"", self._dbs[table]))

    def announce(self, change: Change) -> None:
        self.changes.append(change)

    def scan(
        self, table: Table, start: bytes, stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Seeks anew for each pair, since the caller may write between two."""
        db, low, high = self._dbs[table], start, stop
        while True:
            with self._txn.cursor(db) as cursor:
                if not (_seek_before(cursor, high) if reverse else cursor.set_range(low)):
                    return
                key, value = cast("tuple[bytes, bytes]", cursor.item())
            if key < low or (high is not None and key >= high):
                return
            yield key, value
            if reverse:
                high = key
            else:
                low = key + b"\0"


class _Write:
    """One function on its way to the writer thread and back."""

    __slots__ = ("answer", "deferred", "failed", "grows", "holding", "work")

    def __init__(
        self, work: Callable[[WriteTxn], Any], holding: AbstractContextManager[object] | None, grows: bool
    ) -> None:
        self.work = work
        self.holding = holding
        self.grows = grows
        self.deferred: Deferred[Any] = Deferred()
        self.answer: Any = None
        self.failed = False

    def fail(self, error: BaseException) -> None:
        self.answer = _translated(error)
        self.failed = True

    def fire(self) -> None:
        if self.holding is not None:
            try:
                self.holding.__exit__(None, None, None)
            except Exception:
                log.failure("letting go of keys failed")
        if self.failed:
            self.deferred.errback(self.answer)
        else:
            self.deferred.callback(self.answer)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError):
        return True
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, lmdb.Error) and os.strerror(errno.ENOSPC) in str(error)


def _translated(error: BaseException) -> BaseException:
    """Faults of the store by their names in `certmaild.mailbox.errors`; anything else as it is."""
    if not isinstance(error, lmdb.Error | OSError):
        return error
    kind = StoreFull if _is_full(error) else StoreUnavailable
    translated = kind(type(error).__name__)
    translated.__cause__ = error
    return translated


class LmdbEngine:
    """An `Engine` over one LMDB environment in a directory of its own.

    Opens (and makes) the environment at once, so it is built after any fork. ``sealer`` seals the ring of changes;
    without it other processes are not told. `start` begins to look for their changes.
    """

    def __init__(
        self,
        directory: Path,
        reactor: Reactor,
        sealer: RowSealer | None = None,
        *,
        floor_octets: int = FLOOR_OCTETS,
        poll_s: float = POLL_S,
        map_octets: int = MAP_OCTETS,
    ) -> None:
        self.hub = ChangeHub()
        self._directory = directory
        self._reactor = reactor
        self._floor = floor_octets
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._env = lmdb.open(
            str(directory),
            map_size=map_octets,
            max_dbs=2 * len(Table),
            max_readers=MAX_READERS,
            max_spare_txns=16,
            mode=0o600,
        )
        self._page_octets: int = self._env.stat()["psize"]
        self._env.reader_check()
        self._dbs: dict[Table, lmdb._Database] = {table: self._env.open_db(str(table).encode()) for table in Table}
        self._check_format()
        self._ring = None if sealer is None else Ring(sealer)
        self._closing = False
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._scans: ThreadPool | None = None
        self._polling = LoopingCall(self._poll)
        self._polling.clock = cast("IReactorTime", reactor)
        self._poll_s = poll_s
        self._checking = LoopingCall(self._env.reader_check)
        self._checking.clock = cast("IReactorTime", reactor)
        self._last_txn = self._env.info()["last_txnid"]
        if self._ring is not None:
            with self._env.begin() as txn:
                self._ring.start(_LmdbReads(txn, self._dbs))
        self._writer = Thread(target=self._write_groups, name="store writer", daemon=True)
        self._writer.start()

    def _check_format(self) -> None:
        """Write the format version into a new store, refuse one of another format."""
        meta = self._dbs[Table.META]
        with self._env.begin() as txn:
            found = txn.get(_FORMAT, None, meta)
        if found is None:
            with self._env.begin(write=True) as txn:
                txn.put(_FORMAT, U32.pack(FORMAT_VERSION), db=meta)
        elif found != U32.pack(FORMAT_VERSION):
            self._env.close()
            raise StoreUnavailable("the store has another format than this program")

    def start(self) -> None:
        """Begin to look for other processes' changes and for readers that died."""
        if self._ring is not None:
            self._polling.start(self._poll_s, now=False).addErrback(_stopped, "polling for changes stopped")
        self._checking.start(_READER_CHECK_S, now=False).addErrback(_stopped, "checking readers stopped")

    # Reads.

    def _run_read(self, work: Callable[[ReadTxn], T]) -> T:
        with self._env.begin() as txn:
            return work(_LmdbReads(txn, self._dbs))

    def read(self, work: Callable[[ReadTxn], T]) -> Deferred[T]:
        """See `Engine.read`; the answer is there at once."""
        try:
            return succeed(self._run_read(work))
        except Exception as error:
            return fail(_translated(error))

    def scan(self, work: Callable[[ReadTxn], T]) -> Deferred[T]:
        """See `Engine.scan`."""
        if self._closing:
            return fail(StoreUnavailable("the store is closed"))
        answer: Deferred[T] = Deferred()

        def finish(good: bool, result: Any) -> None:
            if good:
                answer.callback(result)
            else:
                answer.errback(_translated(result.value))

        self._pool().callInThreadWithCallback(
            lambda good, result: self._reactor.callFromThread(finish, good, result), self._run_read, work
        )
        return answer

    def _pool(self) -> ThreadPool:
        if self._scans is None:
            self._scans = ThreadPool(minthreads=0, maxthreads=4, name="store readers")
            self._scans.start()
        return self._scans

    # Writes.

    def write(
        self,
        work: Callable[[WriteTxn], T],
        *,
        holding: AbstractContextManager[object] | None = None,
        grows: bool = False,
    ) -> Deferred[T]:
        """See `Engine.write`."""
        if self._closing:
            return fail(StoreUnavailable("the store is closed"))
        if holding is not None:
            try:
                holding.__enter__()
            except Exception as error:
                return fail(error)
        write = _Write(work, holding, grows)
        self._queue.put(write)
        return write.deferred

    def _write_groups(self) -> None:
        """The writer thread: take all that waits, commit once, answer all; until None comes."""
        while True:
            group: list[_Write] = []
            last = self._take(group)
            if group:
                changes: list[Change] = []
                try:
                    self._commit_group(group, changes)
                except BaseException as error:
                    log.failure("the writer thread failed")
                    for write in group:
                        write.fail(error)
                self._reactor.callFromThread(self._answer, group, changes)
            if last:
                return

    def _take(self, group: list[_Write]) -> bool:
        """Fill a group with what waits, at least one; whether the end of the queue came."""
        write = self._queue.get()
        try:
            while write is not None:
                group.append(write)
                if len(group) >= GROUP_WRITES:
                    return False
                write = self._queue.get_nowait()
        except Empty:
            return False
        return True

    def _answer(self, group: list[_Write], changes: list[Change]) -> None:
        """On the reactor's thread: one call for the whole group."""
        for write in group:
            write.fire()
        self.hub.deliver(changes)

    def _commit_group(self, group: list[_Write], changes: list[Change]) -> None:
        """Give every write of the group its answer or its failure, all durable on return."""
        waiting = group
        if any(write.grows for write in group) and self.free_octets() <= 0:
            for write in group:
                if write.grows:
                    write.fail(StoreFull("too little free disk"))
            waiting = [write for write in group if not write.failed]
        while waiting:
            waiting = self._attempt(waiting, changes)

    def _attempt(self, group: list[_Write], changes: list[Change]) -> list[_Write]:
        """Run and commit one transaction; what is left to run in another."""
        try:
            txn = self._env.begin(write=True)
        except lmdb.Error as error:
            return _fail_all(group, error)
        writes = _LmdbWrites(txn, self._dbs)
        try:
            done = 0
            for write in group:
                if writes.octets > GROUP_OCTETS:
                    break
                if not self._run(write, writes):
                    return [other for other in group if not other.failed]
                done += 1
            ready, left = group[:done], group[done:]
            if writes.writes:
                return self._commit(txn, writes, ready, changes) + left
            changes.extend(writes.changes)
            return left
        finally:
            txn.abort()

    def _run(self, write: _Write, writes: _LmdbWrites) -> bool:
        """Run one function. False if it failed after a write, so that the group must run again without it."""
        written, announced = writes.writes, len(writes.changes)
        try:
            write.answer = write.work(writes)
        except BaseException as error:
            write.fail(error)
            del writes.changes[announced:]
            return writes.writes == written
        return True

    def _commit(
        self, txn: lmdb.Transaction, writes: _LmdbWrites, group: list[_Write], changes: list[Change]
    ) -> list[_Write]:
        """Commit; for a full disk fail what grows and give back the rest to run again."""
        number = None
        try:
            if writes.changes and self._ring is not None:
                number = self._ring.append(writes, writes.changes)
            txn.commit()
        except (lmdb.Error, OSError) as error:
            if self._ring is not None:
                self._ring.forget(number)
            log.error("commit failed: {error}", error=str(error))
            if not _is_full(error) and self._disk_octets() < writes.octets + _COMMIT_OVERHEAD:
                # A write cut short by a full disk reaches us as EIO.
                error = OSError(errno.ENOSPC, str(error))
            growing = [write for write in group if write.grows and not write.failed]
            if _is_full(error) and growing:
                _fail_all(growing, error)
                return [write for write in group if not write.failed]
            return _fail_all(group, error)
        changes.extend(writes.changes)
        return []

    # Other processes, room, end.

    def _poll(self) -> None:
        """Look whether anybody committed, and tell watchers what other processes changed."""
        last_txn = self._env.info()["last_txnid"]
        if last_txn == self._last_txn or self._ring is None:
            return
        self._last_txn = last_txn
        try:
            changes = self._run_read(self._ring.read_new)
        except Exception:
            log.failure("the ring of changes cannot be read")
            changes = None
        if changes is None:
            self.hub.deliver_everything()
        else:
            self.hub.deliver(changes)

    def free_octets(self) -> int:
        """See `Engine.free_octets`. 2 us, and 20 where the disk is nearly full and free pages in the file count."""
        room = self._disk_octets() - self._floor
        if room > _AMPLE_OCTETS:
            return room
        used = 0
        with self._env.begin() as txn:
            for db in self._dbs.values():
                stat = txn.stat(db)
                used += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        reusable = max(self._env.info()["last_pgno"] + 1 - used, 0) * self._page_octets
        return room + reusable

    def _disk_octets(self) -> int:
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> Deferred[None]:
        """See `Engine.close`."""
        if self._closing:
            return succeed(None)
        self._closing = True
        for call in (self._polling, self._checking):
            if call.running:
                call.stop()
        closed: Deferred[None] = Deferred()
        self._queue.put(None)

        def finish() -> None:
            self._writer.join()
            if self._scans is not None:
                self._scans.stop()
            self._reactor.callFromThread(self._let_go, closed)

        Thread(target=finish, name="store closing", daemon=True).start()
        return closed

    def _let_go(self, closed: Deferred[None]) -> None:
        self._env.close()
        closed.callback(None)


def _fail_all(group: list[_Write], error: BaseException) -> list[_Write]:
    """Fail what has not failed yet; nothing is left to run."""
    for write in group:
        if not write.failed:
            write.fail(error)
    return []


def _stopped(failure: Failure, message: str) -> None:
    log.failure("{message}", failure=failure, message=message)
