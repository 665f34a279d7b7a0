"""Where slow password hashing runs: a few threads, a bounded queue, and a share of both for each address.

Over a limit the answer is "try again later" before any hashing is done, so that a flood of log-ins costs a bounded
amount of CPU and memory and is never mistaken for wrong passwords (KEYS section 19.6).
"""

import os
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from certmaild.protocols.interfaces import LogInUnavailable
from certmaild.throttle import network_of

T = TypeVar("T")

PLACES = 64
"""Jobs waiting or running. At 250 ms and two cores the last waits 8 s."""
PLACES_PER_NETWORK = 16
QUICK_PLACES = 1024
QUICK_PLACES_PER_NETWORK = 256
"""For asking the login cache, 4 ms each: room for an office of pollers behind one address."""
RETRY_S = 10


class Threads(Protocol):
    """Runs a plain function elsewhere."""

    def run(self, work: Callable[[], T]) -> Awaitable[T]:
        """What ``work`` gives or raises."""
        ...


class ReactorThreads:
    """Threads of their own beside ``reactor``; at most one a core by default."""

    def __init__(self, reactor: IReactorFromThreads, threads: int | None = None, *, name: str = "kdf") -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads or os.cpu_count() or 1, name=name)

    def start(self) -> None:
        """Accept work."""
        self._pool.start()

    def stop(self) -> None:
        """Finish what runs, then end the threads."""
        self._pool.stop()

    def run(self, work: Callable[[], T]) -> Awaitable[T]:
        """What ``work`` gives or raises, on the reactor's thread."""
        return deferToThreadPool(self._reactor, self._pool, work)


class KdfPool:
    """Admission to ``threads``, one address after the other. All calls on the reactor's thread.

    ``at_once`` is how many threads there are (default: one a core). One address never has the last of them, so that a
    flood from it lets others begin at once, unless there is only one.
    """

    def __init__(
        self,
        threads: Threads,
        *,
        places: int = PLACES,
        places_per_network: int = PLACES_PER_NETWORK,
        at_once: int | None = None,
    ) -> None:
        self._threads = threads
        self._places = places
        self._places_per_network = places_per_network
        self._free = at_once or os.cpu_count() or 1
        self._share = max(1, self._free - 1)
        self._taken: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[Deferred[None]]] = OrderedDict()

    async def run(self, peer: str, work: Callable[[], T]) -> T:
        """Run ``work`` for the address ``peer``. Raises `LogInUnavailable` at once when there is no place for it."""
        network = network_of(peer)
        if self.busy >= self._places or self._taken[network] >= self._places_per_network:
            raise LogInUnavailable("Too many log-ins at once, try again later", RETRY_S)
        self._taken[network] += 1
        try:
            await self._turn(network)
            try:
                return await self._threads.run(work)
            finally:
                self._free += 1
                _count_down(self._running, network)
                self._start_next()
        finally:
            _count_down(self._taken, network)

    @property
    def busy(self) -> int:
        """Jobs waiting or running."""
        return self._taken.total()

    async def _turn(self, network: str) -> None:
        """Wait for a thread."""
        turn: Deferred[None] = Deferred()
        self._waiting.setdefault(network, deque()).append(turn)
        self._start_next()
        await turn

    def _start_next(self) -> None:
        """Give the free threads to those whose addresses have waited longest."""
        while self._free and (network := self._next_network()) is not None:
            queue = self._waiting.pop(network)
            turn = queue.popleft()
            if queue:
                self._waiting[network] = queue
            self._free -= 1
            self._running[network] += 1
            turn.callback(None)

    def _next_network(self) -> str | None:
        return next((network for network in self._waiting if self._running[network] < self._share), None)


def _count_down(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
