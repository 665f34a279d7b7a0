"""Which process works the outgoing queue: the one that has the lease; when it dies, another takes it."""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from certmaild.protocols.transport import Clock, Timer

log = Logger()

LEASE = b"queue"
LEASE_S = 15.0
"""The supervisor frees a dead worker's lease at once; this is for one that stands still."""
TICK_S = 1.0
MARGIN_S = 2.0
"""So long before the lease ends nothing is sent to its end any more."""


class Leases(Protocol):
    """Leases among processes; `VolatileStore` is one."""

    def take(self, name: bytes, seconds: float) -> bool:
        """Claim or renew one; False when another process has it."""
        ...

    def give_back(self, name: bytes) -> None:
        """End the own claim."""
        ...


class Worker(Protocol):
    """What the leader does."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End."""
        ...


class Leader:
    """Asks for the lease each second, and has ``make`` give a new worker of the queue whenever it gets it."""

    def __init__(self, leases: Leases, clock: Clock, make: Callable[[], Worker]) -> None:
        self._leases = leases
        self._clock = clock
        self._make = make
        self._until_s = 0.0
        self._worker: Worker | None = None
        self._stopping: Deferred[None] | None = None
        self._timer: Timer | None = None

    def holds(self) -> bool:
        """Whether the queue is this process's, and stays so for a moment."""
        return self._clock.seconds() < self._until_s - MARGIN_S

    def start(self) -> None:
        """Begin to ask."""
        self._tick()

    def _tick(self) -> None:
        self._timer = self._clock.callLater(TICK_S, self._tick)
        now = self._clock.seconds()
        try:
            has_it = self._leases.take(LEASE, LEASE_S)
        except Exception:
            # A full disk, say: what was claimed before lasts a while yet.
            log.failure("the lease of the outgoing queue cannot be renewed")
            has_it = self.holds()
        else:
            self._until_s = now + LEASE_S if has_it else 0.0
        if has_it and self._worker is None and self._stopping is None:
            self._begin()
        elif not has_it and self._worker is not None:
            log.warn("another process works the outgoing queue now")
            self._end()

    def _begin(self) -> None:
        log.info("this process works the outgoing queue")
        self._worker = worker = self._make()
        Deferred.fromCoroutine(worker.start()).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        log.failure("the outgoing queue cannot be worked; it is tried again", failure)
        self._end()

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            self._stopping = Deferred.fromCoroutine(worker.stop())
            self._stopping.addErrback(lambda failure: log.failure("the outgoing queue did not stop well", failure))
            self._stopping.addBoth(self._ended)

    def _ended(self, _: object) -> None:
        self._stopping = None

    async def stop(self) -> None:
        """Finish what is under way, and let another process have the queue."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._end()
        if self._stopping is not None:
            over: Deferred[None] = Deferred()
            self._stopping.addBoth(lambda _: over.callback(None))
            await over
        self._until_s = 0.0
        self._leases.give_back(LEASE)
