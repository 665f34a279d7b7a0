"""The outgoing queue in a process that may work it: all that takes part, put together, and the lease."""

from collections.abc import Callable, Sequence
from typing import Protocol

from certmaild.config_values import Outbound
from certmaild.mailbox.interfaces import Engine
from certmaild.outbound.doubts import Doubts, DoubtStore
from certmaild.outbound.interfaces import Courier, Planner, Reporter
from certmaild.outbound.lane import Desk
from certmaild.outbound.leader import Leader, Leases, Worker
from certmaild.outbound.runner import Runner
from certmaild.outbound.settling import Settler
from certmaild.outbound.slots import Slots
from certmaild.outbound.spool import Spool
from certmaild.outbound.timing import times_of
from certmaild.protocols.transport import Clock

IN_ALL = 100
"""Connections to other servers at once."""


class Shared(Leases, DoubtStore, Protocol):
    """What the processes share: `VolatileStore`."""


class Dispatch:
    """From `start` to `stop` this process works the queue whenever no other does."""

    def __init__(
        self,
        engine: Engine,
        spool: Spool,
        planner: Planner,
        courier: Courier,
        reporter: Reporter,
        shared: Shared,
        clock: Clock,
        *,
        hash_address: Callable[[str], str],
        outbound: Outbound,
        stop_time_s: float = 20.0,
        beside: Sequence[Worker] = (),
    ) -> None:
        """``beside``: what else is done by the one process that works the queue, while it does."""
        self._beside = beside
        self._runner: Runner | None = None
        self._leader = Leader(shared, clock, self._make_worker)
        self._slots = Slots(outbound.connections, max(IN_ALL, outbound.connections))
        self._desk = Desk(
            engine,
            spool,
            planner,
            courier,
            Settler(engine, spool, reporter, clock.seconds, hash_address),
            Doubts(shared),
            self._slots,
            clock,
            self._leader.holds,
            stop_time_s,
        )

    def _make_worker(self) -> Worker:
        self._runner = Runner(self._desk)
        return _Together([*self._beside, self._runner])

    def start(self) -> None:
        """Begin."""
        self._leader.start()

    async def stop(self) -> None:
        """Finish the messages under way within the time set, and let another process have the queue."""
        await self._leader.stop()

    def cut_off(self) -> None:
        """Drop what is under way: `stop` waits no longer."""
        if self._runner is not None:
            self._runner.cut_off()

    def take_over(self, outbound: Outbound) -> None:
        """Go by these settings from now on."""
        self._desk.spool.times = times_of(outbound)
        self._slots.each = outbound.connections
        self._slots.in_all = max(IN_ALL, outbound.connections)


class _Together:
    """Several workers as one; the last to start is the first to stop."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    async def start(self) -> None:
        for worker in self._workers:
            await worker.start()

    async def stop(self) -> None:
        for worker in reversed(self._workers):
            await worker.stop()
