"""The engine port over sorted dictionaries: for tests, and the measure of what the port promises."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from certmaild.mailbox.changes import Change, ChangeHub
from certmaild.mailbox.errors import StoreFull, StoreUnavailable
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table

T = TypeVar("T")
_ROOM = 1 << 40


class _Rows:
    """One table: values by key, and the keys in order."""

    __slots__ = ("keys", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.values:
            insort(self.keys, key)
        self.values[key] = value

    def delete(self, key: bytes) -> bool:
        if key not in self.values:
            return False
        del self.values[key]
        del self.keys[bisect_left(self.keys, key)]
        return True


class _Txn:
    """Writes go straight into the tables; what stood there before is kept for undoing."""

    def __init__(self, tables: dict[Table, _Rows]) -> None:
        self._tables = tables
        self.undo: list[tuple[Table, bytes, bytes | None]] = []
        self.changes: list[Change] = []

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self._tables[table].values.get(key)

    def scan(
        self, table: Table, start: bytes, stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        rows = self._tables[table]
        keys = rows.keys
        low, high = start, stop
        while True:
            first = bisect_left(keys, low)
            end = len(keys) if high is None else bisect_left(keys, high)
            if first >= end:
                return
            key = keys[end - 1 if reverse else first]
            yield key, rows.values[key]
            if reverse:
                high = key
            else:
                low = key + b"\0"

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        rows = self._tables[table]
        self.undo.append((table, key, rows.values.get(key)))
        rows.put(key, bytes(value))

    def delete(self, table: Table, key: bytes) -> bool:
        rows = self._tables[table]
        self.undo.append((table, key, rows.values.get(key)))
        return rows.delete(key)

    def put_last(self, table: Table, key: bytes, value: object, seal: Callable[[], bytes]) -> None:
        # A group of one.
        self.put(table, key, seal())

    def last_put(self, table: Table, key: bytes) -> object | None:
        return None

    def announce(self, change: Change) -> None:
        self.changes.append(change)

    def roll_back(self) -> None:
        for table, key, value in reversed(self.undo):
            if value is None:
                self._tables[table].delete(key)
            else:
                self._tables[table].put(key, value)


class MemoryEngine:
    """An `Engine` whose answers are there at once. ``room`` stands for the free disk and may be set by a test."""

    def __init__(self) -> None:
        self.hub = ChangeHub()
        self.room = _ROOM
        self._tables = {table: _Rows() for table in Table}
        self._closed = False

    def read(self, work: Callable[[ReadTxn], T]) -> Deferred[T]:
        """See `Engine.read`."""
        if self._closed:
            return fail(StoreUnavailable("the store is closed"))
        try:
            return succeed(work(_Txn(self._tables)))
        except Exception as error:
            return fail(error)

    scan = read

    def write(
        self,
        work: Callable[[WriteTxn], T],
        *,
        holding: AbstractContextManager[object] | None = None,
        grows: bool = False,
    ) -> Deferred[T]:
        """See `Engine.write`."""
        if self._closed:
            return fail(StoreUnavailable("the store is closed"))
        txn = _Txn(self._tables)
        try:
            with holding or nullcontext():
                if grows and self.room <= 0:
                    raise StoreFull("no room")
                answer = work(txn)
        except Exception as error:
            txn.roll_back()
            return fail(error)
        self.hub.deliver(txn.changes)
        return succeed(answer)

    def free_octets(self) -> int:
        """See `Engine.free_octets`."""
        return self.room

    def close(self) -> Deferred[None]:
        """See `Engine.close`."""
        self._closed = True
        return succeed(None)
