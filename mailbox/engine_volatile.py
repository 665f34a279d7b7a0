"""Short-lived state that processes share: leases and counters, in an environment without sync, made anew at start."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb

from certmaild.mailbox.layout import U64, VolatileTable, decode_lease, encode_lease

_MAP_OCTETS = 1 << 30
_MAX_READERS = 1024


class VolatileStore:
    """Leases and counters of all processes of one daemon. Each call is one transaction of a few microseconds.

    ``seconds`` must be the same clock in all of them, such as the time since 1970. The process that starts the others
    calls `make_anew` first. Nothing here is needed after a crash: a lost lease runs out, a lost count begins at 0.
    """

    def __init__(self, directory: Path, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._holder = os.urandom(16)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._env = lmdb.open(
            str(directory),
            map_size=_MAP_OCTETS,
            max_dbs=len(VolatileTable),
            max_readers=_MAX_READERS,
            mode=0o600,
            sync=False,
        )
        self._leases = self._env.open_db(VolatileTable.LEASE.encode())
        self._counts = self._env.open_db(VolatileTable.COUNT.encode())

    @staticmethod
    def make_anew(directory: Path) -> None:
        """Remove what an earlier run left. No process may have it open."""
        shutil.rmtree(directory, ignore_errors=True)

    def take(self, name: bytes, seconds: float) -> bool:
        """Claim ``name`` for so long, or renew the own claim; False when another process has it."""
        now = self._seconds()
        with self._env.begin(write=True, db=self._leases) as txn:
            value = txn.get(name)
            if value is not None:
                until_s, holder = decode_lease(bytes(value))
                if holder != self._holder and now < until_s:
                    return False
            txn.put(name, encode_lease(now + seconds, self._holder))
        return True

    def give_back(self, name: bytes) -> None:
        """End the own claim; another's stays."""
        with self._env.begin(write=True, db=self._leases) as txn:
            value = txn.get(name)
            if value is not None and decode_lease(bytes(value))[1] == self._holder:
                txn.delete(name)

    def count(self, name: bytes, change: int = 0) -> int:
        """Change a counter and give its new value; it never falls below 0, and one at 0 takes no room."""
        with self._env.begin(write=bool(change), db=self._counts) as txn:
            value = txn.get(name)
            number = max(0, change + (0 if value is None else int(U64.unpack(value)[0])))
            if change and number:
                txn.put(name, U64.pack(number))
            elif change and value is not None:
                txn.delete(name)
        return number

    def close(self) -> None:
        """Let go of the files."""
        self._env.close()
