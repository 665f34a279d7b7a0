"""What the store needs from a key-value engine, stated as ports (DESIGN: the engine port).

A transaction is a plain function handed to `Engine.read`, `Engine.scan` or `Engine.write`. Inside it there is no
await, no clock and no reactor, and it may be run again: an engine of the FoundationDB kind retries it after a
conflict, and group commit runs it again without a neighbour that failed.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from certmaild.mailbox.changes import Change, ChangeHub
from certmaild.mailbox.layout import Table

T = TypeVar("T")


class ReadTxn(Protocol):
    """A consistent snapshot. Values are `bytes` copies, so they outlive the transaction."""

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value, or None."""
        ...

    def scan(
        self, table: Table, start: bytes, stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with ``start <= key < stop`` in key order (to the table's end without ``stop``).

        In a write transaction rows may be written and deleted meanwhile; those ahead of the scan are seen as they
        are when it comes to them.
        """
        ...


class WriteTxn(ReadTxn, Protocol):
    """A snapshot that sees its own writes, committed as a whole or not at all."""

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Write or replace one value."""
        ...

    def delete(self, table: Table, key: bytes) -> bool:
        """Remove one key; whether it was there."""
        ...

    def put_last(self, table: Table, key: bytes, value: object, seal: Callable[[], bytes]) -> None:
        """Write one value that the next in the group may replace: ``seal`` makes its octets once, for the last of them.

        Every other call sees it written. ``value`` is what `last_put` gives, and must not be changed afterwards.
        """
        ...

    def last_put(self, table: Table, key: bytes) -> object | None:
        """The ``value`` of the last `put_last` for this row, while nobody needed its octets; else None: ask `get`."""
        ...

    def announce(self, change: Change) -> None:
        """After the commit, wake whoever watches this, here and in other processes."""
        ...


class Engine(Protocol):
    """Transactions over a closed set of tables. Called on the reactor's thread only."""

    @property
    def hub(self) -> ChangeHub:
        """Where watchers of this process stand."""
        ...

    def read(self, work: Callable[[ReadTxn], T]) -> Awaitable[T]:
        """Run a short read (up to 64 pages) at once, on the calling thread."""
        ...

    def scan(self, work: Callable[[ReadTxn], T]) -> Awaitable[T]:
        """Run a long read in a reader thread; ``work`` returns plain values."""
        ...

    def write(
        self,
        work: Callable[[WriteTxn], T],
        *,
        holding: AbstractContextManager[object] | None = None,
        grows: bool = False,
    ) -> Awaitable[T]:
        """Run ``work`` in the writer thread and answer after the durable commit of its group.

        ``holding`` (a key ring) is entered before queueing and left when the answer is known, so that keys which
        ``work`` uses are not wiped under it. What ``work`` raises comes out here and fails nobody else.
        ``grows`` marks what adds content: it gets `StoreFull` below the floor of free disk, so that there is room
        left for removing. Raises `StoreUnavailable` for a fault of the store.
        """
        ...

    def free_octets(self) -> int:
        """Room above the floor: free disk and reusable pages less the floor; 0 and below refuses what grows."""
        ...

    def close(self) -> Awaitable[None]:
        """Finish queued writes, then let go of files and threads."""
        ...


class RowSealer(Protocol):
    """Seals rows that the server reads alone (KEYS section 2); `keystore.server_secrets.ServerSecrets` is one."""

    def seal_row(self, table: str, key: bytes, plaintext: bytes) -> bytes:
        """The stored value."""
        ...

    def open_row(self, table: str, key: bytes, value: bytes) -> bytes:
        """The plaintext; raises `SealBroken` for a changed or moved row."""
        ...
