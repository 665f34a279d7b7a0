"""Short-lived state that processes share: leases, counts, levels and seals, in an environment without sync."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import lmdb

from certmaild.mailbox.environment import unopened
from certmaild.mailbox.errors import MailboxError, StoreInUse
from certmaild.mailbox.layout import (
    Stage,
    VolatileTable,
    decode_amount,
    decode_kept,
    decode_lease,
    decode_level,
    decode_slot,
    decode_stage,
    encode_amount,
    encode_kept,
    encode_lease,
    encode_level,
    encode_stage,
    slot_key,
)
from certmaild.mailbox.processes import boot_id, still_lives

_MAP_OCTETS = 1 << 30
_MAX_READERS = 1024
_SLICE = 256
"""Rows removed in one transaction: the others' transactions wait for it."""


class VolatileStore:
    """What the processes of one daemon share. Each call is one transaction of a few microseconds.

    ``seconds`` must be the same clock in all of them, such as the time since 1970. ``slot`` is the number of this
    process, from 1 to ``slots`` for workers: what it counts and holds can be given back when it is dead. The process
    that starts the others calls `make_anew` first. Nothing here is needed after the daemon's end.
    Raises `StoreFull`, `StoreUnfit`.
    """

    def __init__(self, directory: Path, seconds: Callable[[], float], *, slot: int = 0, slots: int = 0) -> None:
        self._seconds = seconds
        self._slot = slot_key(slot)
        self._slots = [slot_key(one) for one in range(slots + 1)]
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._env = lmdb.open(
                str(directory),
                map_size=_MAP_OCTETS,
                max_dbs=len(VolatileTable),
                max_readers=_MAX_READERS,
                mode=0o600,
                sync=False,
            )
            self._dbs = {table: self._env.open_db(table.encode()) for table in VolatileTable}
        except lmdb.Error as fault:
            raise unopened(directory, fault) from fault

    @staticmethod
    def make_anew(directory: Path) -> None:
        """Remove what an earlier run left, but for its doubts. Raises `StoreInUse` while another daemon has it."""
        first, doubts = VolatileStore._left_in(directory)
        if first is not None and first.pid != os.getpid() and still_lives(first):
            raise StoreInUse(
                f"a certmaild (process {first.pid}) serves the store beside {directory} already: stop it first"
            )
        shutil.rmtree(directory, ignore_errors=True)
        if doubts:
            fresh = VolatileStore(directory, lambda: 0.0)
            for name, value in doubts.items():
                fresh.put_doubt(name, value)
            fresh.close()

    @staticmethod
    def _left_in(directory: Path) -> tuple[Stage | None, dict[bytes, bytes]]:
        """The process that made what is there, and the doubts it left."""
        if not (directory / "data.mdb").exists():
            return None, {}
        try:
            there = VolatileStore(directory, lambda: 0.0)
        except MailboxError:
            # Damaged: nobody serves from it, and it is made anew.
            return None, {}
        try:
            first = there.processes().get(0)
            # What was never synced means nothing after the machine itself has fallen.
            return first, there.doubts() if first is not None and first.boot_id == boot_id() else {}
        finally:
            there.close()

    # Leases.

    def take(self, name: bytes, seconds: float) -> bool:
        """Claim ``name`` for so long, or renew the own claim; False when another process has it."""
        now = self._seconds()
        with self._writing(VolatileTable.LEASE) as txn:
            value = _get(txn, name)
            if value is not None:
                until_s, holder = decode_lease(value)
                if holder != self._slot and now < until_s:
                    return False
            txn.put(name, encode_lease(now + seconds, self._slot))
        return True

    def give_back(self, name: bytes) -> None:
        """End the own claim; another's stays."""
        with self._writing(VolatileTable.LEASE) as txn:
            value = _get(txn, name)
            if value is not None and decode_lease(value)[1] == self._slot:
                txn.delete(name)

    # Counts.

    def count_in(self, *wanted: tuple[bytes, int | None], amount: int = 1) -> bytes | None:
        """Count ``amount`` under each name, unless the count of all processes would pass the name's limit.

        Gives the name that is full, and then nothing was counted; None when all is well.
        """
        with self._writing(VolatileTable.COUNT) as txn:
            for name, limit in wanted:
                if limit is not None and self._sum(txn, name) + amount > limit:
                    return name
            for name, _ in wanted:
                key = self._slot + name
                txn.put(key, encode_amount(_number(txn, key) + amount))
        return None

    def count_out(self, *names: bytes, amount: int = 1) -> None:
        """Take back what this process counted; a count at 0 takes no room."""
        with self._writing(VolatileTable.COUNT) as txn:
            for name in names:
                key = self._slot + name
                left = _number(txn, key) - amount
                if left > 0:
                    txn.put(key, encode_amount(left))
                else:
                    txn.delete(key)

    def counted(self, name: bytes) -> dict[int, int]:
        """The count of each process that has one, by its number."""
        with self._env.begin(db=self._dbs[VolatileTable.COUNT]) as txn:
            numbers = {decode_slot(slot): _number(txn, slot + name) for slot in self._slots}
        return {slot: number for slot, number in numbers.items() if number}

    def is_ahead(self, name: bytes) -> bool:
        """Whether another process that is there (`enter`) has a lower count than this one."""
        with self._env.begin(db=self._dbs[VolatileTable.COUNT]) as txn:
            own = _number(txn, self._slot + name)
            there = self._dbs[VolatileTable.PROCESS]
            return own > 0 and any(
                _number(txn, slot + name) < own
                for slot in self._slots[1:]
                if slot != self._slot and txn.get(slot, db=there) is not None
            )

    def _sum(self, txn: lmdb.Transaction, name: bytes) -> int:
        return sum(_number(txn, slot + name) for slot in self._slots)

    def give_back_all(self, slot: int) -> None:
        """Remove what a dead process counted and held."""
        own = slot_key(slot)
        self._remove(VolatileTable.COUNT, lambda key, _: key.startswith(own))
        self._remove(VolatileTable.LEASE, lambda _, value: decode_lease(value)[1] == own)
        with self._writing(VolatileTable.PROCESS) as txn:
            txn.delete(own)

    # Levels: a number that was so high at a time.

    @contextmanager
    def levels(self) -> "Iterator[SharedLevels]":
        """Levels, read and written in one transaction."""
        with self._writing(VolatileTable.LEVEL) as txn:
            yield SharedLevels(txn)

    def forget_levels(self, before_s: float, kinds: bytes) -> int:
        """Remove levels of these kinds (a name's first octet) last written before then; how many."""

        def goes(key: bytes, value: bytes) -> bool:
            return key[0] in kinds and decode_level(value)[1] < before_s

        return self._remove(VolatileTable.LEVEL, goes)

    # Seals: what one process proved, for the others to open.

    def put_sealed(self, name: bytes, value: bytes) -> None:
        """Keep a sealed value, or another in its place."""
        with self._writing(VolatileTable.SEALED) as txn:
            txn.put(name, encode_kept(self._seconds(), value))

    def read_sealed(self, name: bytes) -> bytes | None:
        """A sealed value."""
        with self._env.begin(db=self._dbs[VolatileTable.SEALED]) as txn:
            value = _get(txn, name)
        return None if value is None else decode_kept(value)[1]

    def drop_sealed(self, name: bytes) -> None:
        """Remove a sealed value, if it is there."""
        with self._writing(VolatileTable.SEALED) as txn:
            txn.delete(name)

    def forget_sealed(self, before_s: float) -> int:
        """Remove sealed values kept before then; how many."""
        return self._remove(VolatileTable.SEALED, lambda _, value: decode_kept(value)[0] < before_s)

    # Doubts: what was sent to its end, and is not settled.

    def put_doubt(self, name: bytes, value: bytes) -> None:
        """Note what a crash from now on leaves open."""
        with self._writing(VolatileTable.DOUBT) as txn:
            txn.put(name, value)

    def drop_doubt(self, name: bytes) -> None:
        """It is settled."""
        with self._writing(VolatileTable.DOUBT) as txn:
            txn.delete(name)

    def doubts(self) -> dict[bytes, bytes]:
        """All that is open, also what an earlier process left."""
        with self._env.begin(db=self._dbs[VolatileTable.DOUBT]) as txn, txn.cursor() as cursor:
            return {bytes(key): bytes(value) for key, value in cursor}

    # Who is there.

    def enter(self, process: Stage) -> None:
        """Say which process has this number."""
        with self._writing(VolatileTable.PROCESS) as txn:
            txn.put(self._slot, encode_stage(process))

    def leave(self) -> None:
        """Say that no process has this number any more: the daemon's last word, so that the next may start at once."""
        # On a full disk the row stays: the process that it names is soon gone.
        with suppress(lmdb.Error), self._writing(VolatileTable.PROCESS) as txn:
            txn.delete(self._slot)

    def processes(self) -> dict[int, Stage]:
        """Who said so, by number."""
        with self._env.begin(db=self._dbs[VolatileTable.PROCESS]) as txn, txn.cursor() as cursor:
            return {decode_slot(bytes(key)): decode_stage(bytes(value)) for key, value in cursor}

    def close(self) -> None:
        """Let go of the files."""
        self._env.close()

    def check_readers(self) -> None:
        """Free the places of readers whose process died."""
        self._env.reader_check()

    @contextmanager
    def _writing(self, table: VolatileTable) -> Iterator[lmdb.Transaction]:
        with self._env.begin(write=True, db=self._dbs[table]) as txn:
            yield txn

    def _remove(self, table: VolatileTable, goes: Callable[[bytes, bytes], bool]) -> int:
        """Remove rows in slices; a row written meanwhile is looked at again."""
        db = self._dbs[table]
        with self._env.begin(db=db) as txn, txn.cursor() as cursor:
            names = [bytes(key) for key, value in cursor if goes(bytes(key), bytes(value))]
        for at in range(0, len(names), _SLICE):
            with self._env.begin(write=True, db=db) as txn:
                for name in names[at : at + _SLICE]:
                    value = _get(txn, name)
                    if value is not None and goes(name, value):
                        txn.delete(name)
        return len(names)


class SharedLevels:
    """The levels within one transaction."""

    def __init__(self, txn: lmdb.Transaction) -> None:
        self._txn = txn

    def get(self, name: bytes) -> tuple[float, float] | None:
        """A level, and when it was so high."""
        value = _get(self._txn, name)
        return None if value is None else decode_level(value)

    def put(self, name: bytes, level: float, at_s: float) -> None:
        """Write a level."""
        self._txn.put(name, encode_level(level, at_s))

    def drop(self, name: bytes) -> None:
        """Remove a level, if it is there."""
        self._txn.delete(name)


def _get(txn: lmdb.Transaction, key: bytes) -> bytes | None:
    # Without `buffers` what LMDB gives is bytes.
    return cast("bytes | None", txn.get(key))


def _number(txn: lmdb.Transaction, key: bytes) -> int:
    value = _get(txn, key)
    return 0 if value is None else decode_amount(value)
