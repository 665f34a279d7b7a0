"""Looks at what falls due by the store's index of times, in whichever process works the queue."""

from collections.abc import Awaitable, Callable
from itertools import islice

from twisted.logger import Logger

from certmaild.mailbox.interfaces import Engine, ReadTxn
from certmaild.mailbox.layout_queue import Due
from certmaild.mailbox.queue import Queue
from certmaild.outbound.runner import Round
from certmaild.protocols.transport import Clock

log = Logger()

AT_ONCE = 64


class DueRound:
    """From `start` to `stop` each thing of one kind that is due is given to ``look_at``: its time, and what it is.

    ``look_at`` takes it out of the index when it is done (`Queue.undue`). What fails is given again after ``each_s``,
    and keeps nothing behind it waiting. ``until_s``: up to which time things are due; now, unless they wait on.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        kind: Due,
        look_at: Callable[[int, bytes], Awaitable[None]],
        *,
        each_s: Callable[[], float],
        until_s: Callable[[], int] | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._kind = kind
        self._look_at = look_at
        self._each_s = each_s
        self._until_s = until_s or (lambda: int(clock.seconds()))
        self._failed: set[tuple[int, bytes]] = set()
        self._round: Round | None = None

    async def start(self) -> None:
        """Look now, and again and again."""
        self._round = Round(self._clock, self.look)
        self._round.wake()

    async def stop(self) -> None:
        """Finish the one under way, and begin nothing further."""
        if self._round is not None:
            await self._round.stop()

    async def look(self) -> float:
        """Give some of what is due; in how many seconds to look again."""
        until_s = self._until_s()

        def work(txn: ReadTxn) -> list[tuple[int, bytes]]:
            due = Queue.due(txn, self._kind, until_s)
            return list(islice((one for one in due if one not in self._failed), AT_ONCE))

        due = await self._engine.read(work)
        for one in due:
            try:
                await self._look_at(*one)
            except Exception:
                log.failure("{kind} of {what} failed; it is tried again", kind=self._kind.name, what=one[1].hex())
                self._failed.add(one)
        if len(due) == AT_ONCE:
            return 0
        self._failed.clear()
        return self._each_s()
