"""What tests share: running coroutines without a reactor, engines, a sealer that seals nothing."""

import queue
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.engine_memory import MemoryEngine

T = TypeVar("T")
PATIENCE_S = 60


class PumpReactor(Clock):
    """A clock whose calls from threads are run by whoever waits in `run`."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._calls.put(lambda: callable(*args, **kwargs))

    def addReader(self, reader: object) -> None:
        """Nobody rings a bell here."""

    def removeReader(self, reader: object) -> None:
        """As little."""

    def pump(self, timeout_s: float) -> bool:
        """Run one call that a thread asked for; whether there was one."""
        try:
            call = self._calls.get(timeout=timeout_s)
        except queue.Empty:
            return False
        call()
        return True


reactor = PumpReactor()
"""Give this to engines in tests; `run` pumps it."""


def start(work: Coroutine[Any, Any, T] | Awaitable[T]) -> "Deferred[T]":
    """A Deferred of a coroutine or an awaitable, started but not waited for."""
    if isinstance(work, Deferred):
        return work
    if isinstance(work, Coroutine):
        return Deferred.fromCoroutine(work)

    async def wait() -> T:
        return await work

    return Deferred.fromCoroutine(wait())


def run(work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
    """Drive a coroutine (or any awaitable) to its end; what it returns or raises."""
    outcome: list[Any] = []
    start(work).addBoth(outcome.append)
    give_up = time.monotonic() + PATIENCE_S
    while not outcome:
        if not reactor.pump(1) and time.monotonic() > give_up:
            raise AssertionError("nothing fired the awaited Deferred")
    result = outcome[0]
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


class WorkingClock(Clock):
    """A clock on which each look takes ``look_s``: time passes while a session works.

    As in a reactor, what a call asks for is not run in the same `advance`.
    """

    look_s = 0.0

    def seconds(self) -> float:
        self.rightNow += self.look_s
        return super().seconds()

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class ClearSealer:
    """A `RowSealer` for tests that are not about sealing: binds the place, hides nothing."""

    def seal_row(self, table: str, key: bytes, plaintext: bytes) -> bytes:
        return b"%s|%s|" % (table.encode(), key.hex().encode()) + plaintext

    def open_row(self, table: str, key: bytes, value: bytes) -> bytes:
        place = b"%s|%s|" % (table.encode(), key.hex().encode())
        assert value.startswith(place), "row is not in its place"
        return value[len(place) :]


def memory_engine() -> MemoryEngine:
    return MemoryEngine()


def lmdb_engine(directory: Path, **settings: Any) -> LmdbEngine:
    """An engine in ``directory/store``; close it with ``run(engine.close())``."""
    settings.setdefault("sealer", ClearSealer())
    settings.setdefault("floor_octets", 0)
    return LmdbEngine(directory / "store", reactor, **settings)
