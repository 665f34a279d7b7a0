"""One LMDB environment with the store's tables: transactions over it, its faults by our names, its room."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import lmdb

from certmaild.mailbox.changes import Change
from certmaild.mailbox.errors import MailboxError, StoreFull, StoreUnavailable, StoreUnfit
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.layout import FORMAT_VERSION, U32, Table

T = TypeVar("T")

MAP_OCTETS = 1 << 40
"""The same in every process for ever: one with a larger map makes every other's reads fail."""
MAX_READERS = 1024
_COMMIT_OVERHEAD = 1024 * 1024
"""Pages of the trees that a commit writes beside the values."""
_AMPLE_OCTETS = 1 << 30
"""With so much room on the disk itself nobody counts free pages."""
_FORMAT = b"format"


class LmdbReads:
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


class LmdbWrites(LmdbReads):
    """Reads and writes of the group that is being gathered."""

    __slots__ = ("_last", "changes", "octets", "writes")

    def __init__(self, txn: lmdb.Transaction, dbs: dict[Table, lmdb._Database]) -> None:
        super().__init__(txn, dbs)
        self.changes: list[Change] = []
        self.octets = 0
        self.writes = 0
        self._last: dict[tuple[Table, bytes], tuple[object, Callable[[], bytes]]] = {}

    def get(self, table: Table, key: bytes) -> bytes | None:
        if (table, key) in self._last:
            self._write_last(table)
        return self._get(key, None, self._dbs[table])

    def put_last(self, table: Table, key: bytes, value: object, seal: Callable[[], bytes]) -> None:
        self.writes += 1
        self._last[table, key] = value, seal

    def last_put(self, table: Table, key: bytes) -> object | None:
        found = self._last.get((table, key))
        return None if found is None else found[0]

    def finish(self) -> None:
        """Write what `put_last` left, before the commit."""
        self._write_last(None)

    def _write_last(self, table: Table | None) -> None:
        """Write the rows of one table, or all, that wait for their last value."""
        for place in [place for place in self._last if table is None or place[0] is table]:
            _, seal = self._last.pop(place)
            self._txn.put(place[1], seal(), True, True, False, self._dbs[place[0]])

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        if self._last:
            self._last.pop((table, key), None)
        self.writes += 1
        self.octets += len(value)
        self._txn.put(key, value, True, True, False, self._dbs[table])

    def delete(self, table: Table, key: bytes) -> bool:
        if self._last:
            self._write_last(table)
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
            if self._last:
                self._write_last(table)
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


def is_full(error: BaseException) -> bool:
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError):
        return True
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, lmdb.Error) and os.strerror(errno.ENOSPC) in str(error)


def translated_fault(error: BaseException) -> BaseException:
    """Faults of the store by their names in `certmaild.mailbox.errors`; anything else as it is."""
    if not isinstance(error, lmdb.Error | OSError):
        return error
    kind = StoreFull if is_full(error) else StoreUnavailable
    fault = kind(type(error).__name__)
    fault.__cause__ = error
    return fault


def unopened(directory: Path, fault: lmdb.Error) -> MailboxError:
    """What a person is told when the environment in ``directory`` cannot be opened."""
    if is_full(fault) or free_on_disk(directory) < _COMMIT_OVERHEAD:
        return StoreFull(f"the disk of {directory} is full")
    if os.strerror(errno.EACCES) in str(fault):
        return StoreUnfit(f"{directory} cannot be opened: it must belong to the user who runs certmaild")
    if isinstance(fault, lmdb.InvalidError | lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.VersionMismatchError):
        return StoreUnfit(f"{directory} is damaged or no store ({fault}): put the last backup in its place")
    return StoreUnfit(f"{directory} cannot be opened: {fault}")


def free_on_disk(directory: Path) -> int:
    """Octets that are free on the disk of a directory."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


class Environment:
    """The environment in a directory of its own, made if need be and open from the start.

    Raises `StoreFull`, `StoreUnfit`.
    """

    def __init__(self, directory: Path, map_octets: int = MAP_OCTETS) -> None:
        self._directory = directory
        self._map_octets = map_octets
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._open()
        except lmdb.Error as fault:
            raise unopened(directory, fault) from fault

    def _open(self) -> None:
        self._env = lmdb.open(
            str(self._directory),
            map_size=self._map_octets,
            max_dbs=2 * len(Table),
            max_readers=MAX_READERS,
            max_spare_txns=16,
            mode=0o600,
        )
        self._page_octets: int = self._env.stat()["psize"]
        self._env.reader_check()
        self.dbs: dict[Table, lmdb._Database] = {table: self._env.open_db(str(table).encode()) for table in Table}
        self._check_format()

    def _check_format(self) -> None:
        """Write the format version into a new store, refuse one of another format."""
        meta = self.dbs[Table.META]
        with self._env.begin() as txn:
            found = txn.get(_FORMAT, None, meta)
        if found is None:
            with self._env.begin(write=True) as txn:
                txn.put(_FORMAT, U32.pack(FORMAT_VERSION), db=meta)
            self._keep_names()
        elif found != U32.pack(FORMAT_VERSION):
            self._env.close()
            raise StoreUnfit(f"the store in {self._directory} is of another version of certmaild: start that one")

    def _keep_names(self) -> None:
        """Sync the names of new files: LMDB syncs only what is in them."""
        for directory in (self._directory, self._directory.parent):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def read(self, work: Callable[[ReadTxn], T]) -> T:
        """Run a read, on this thread."""
        with self._env.begin() as txn:
            return work(LmdbReads(txn, self.dbs))

    def read_numbered(self, work: Callable[[ReadTxn], T]) -> tuple[T, int]:
        """Run a read, on this thread; also the number of the last commit that it could see.

        That may be less than `last_txn`, which counts a commit whose writer has still to let readers see it.
        """
        with self._env.begin() as txn:
            return work(LmdbReads(txn, self.dbs)), int(txn.id())

    def begin_write(self) -> lmdb.Transaction:
        """A write transaction, when no other process has one; to be ended on this thread."""
        return self._env.begin(write=True)

    def reopen(self) -> None:
        """Close and open again, after a fault that LMDB forgives only so. No transaction may be under way."""
        self._env.close()
        self._open()

    def close(self) -> None:
        """Let go of the files."""
        self._env.close()

    def check_readers(self) -> None:
        """Free the places of readers whose process died; they would make the file grow."""
        self._env.reader_check()

    @property
    def last_txn(self) -> int:
        """Number of the last commit, in whatever process."""
        return int(self._env.info()["last_txnid"])

    def disk_octets(self) -> int:
        """Free on the disk."""
        return free_on_disk(self._directory)

    def free_octets(self, floor: int) -> int:
        """Free on the disk and in the file above ``floor``. 2 us; 20 where the disk is nearly full."""
        room = self.disk_octets() - floor
        if room > _AMPLE_OCTETS:
            return room
        used = 0
        with self._env.begin() as txn:
            for db in self.dbs.values():
                stat = txn.stat(db)
                used += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        reusable = max(self._env.info()["last_pgno"] + 1 - used, 0) * self._page_octets
        return int(room + reusable)

    def named_fault(self, error: BaseException, written_octets: int) -> BaseException:
        """The fault of a failed commit: a write cut short by a full disk reaches us as EIO."""
        if not is_full(error) and self.disk_octets() < written_octets + _COMMIT_OVERHEAD:
            return OSError(errno.ENOSPC, str(error))
        return error
