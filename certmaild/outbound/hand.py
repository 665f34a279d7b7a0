"""What of one destination is being sent just now, and what comes next."""

from dataclasses import dataclass, field

from twisted.logger import Logger

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import LaneId, QueueId
from certmaild.mailbox.interfaces import Engine, ReadTxn
from certmaild.mailbox.layout_queue import Message, Task
from certmaild.mailbox.queue import Queue

log = Logger()

RECIPIENTS = 100
"""At most in one transaction: what every server must take (RFC 5321 section 4.5.3.1.8)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One message and those of its recipients that go in one transaction."""

    queue_id: QueueId
    message: Message = field(repr=False)
    tasks: dict[int, Task] = field(repr=False)


class Hand:
    """Takes from what is ready in a lane; in memory alone, so that what a killed process had is simply ready again."""

    def __init__(self, engine: Engine, queue: Queue, lane_id: LaneId) -> None:
        self._engine = engine
        self._queue = queue
        self._lane_id = lane_id
        self._held: set[tuple[QueueId, int]] = set()
        self.is_damaged = False
        """Whether something that is ready cannot be read; it stays here, so that the others go."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being sent."""
        return not self._held

    def has(self, queue_id: QueueId, number: int) -> bool:
        """Whether a copy is being sent."""
        return (queue_id, number) in self._held

    def put_back(self, taken: Taken) -> None:
        """It is settled."""
        self._held -= {(taken.queue_id, number) for number in taken.tasks}

    async def has_more(self, enough: int) -> bool:
        """Whether so many copies are ready that nobody sends."""

        def work(txn: ReadTxn) -> bool:
            others = 0
            for task in self._queue.ready(txn, self._lane_id):
                others += task not in self._held
                if others >= enough:
                    return True
            return False

        return await self._engine.read(work)

    async def take(self) -> Taken | None:
        """The next message, for as many of its recipients as one transaction takes; None if nothing is ready."""
        while True:
            try:
                return await self._engine.read(self._next)
            except Damaged as damage:
                log.critical("ALARM: a row of the outgoing queue is damaged: {what}", what=str(damage))
                self.is_damaged = True

    def _next(self, txn: ReadTxn) -> Taken | None:
        queue = self._queue
        first: QueueId | None = None
        numbers: list[int] = []
        for queue_id, number in queue.ready(txn, self._lane_id):
            if (queue_id, number) in self._held:
                continue
            if len(numbers) == RECIPIENTS or (first is not None and first != queue_id):
                break
            first = queue_id
            numbers.append(number)
        if first is None:
            return None
        self._held.update((first, number) for number in numbers)
        message = queue.message(txn, first)
        tasks = {number: queue.task(txn, first, number) for number in numbers}
        if message is None or None in tasks.values():
            raise Damaged("queued message")
        return Taken(first, message, {number: task for number, task in tasks.items() if task is not None})
