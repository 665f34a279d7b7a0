"""What a person sees of the queue, and what he may order: try again, hold, release, drop.

Orders change the stored queue only, so they work beside the process that works it, and without one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from certmaild.mailbox.identifiers import QueueId, UserId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout_queue import Lane, Task, TaskState
from certmaild.outbound.spool import (
    Spool,
    decode,
    decode_fate,
    decode_place,
    encode_fate,
    fate_of,
    recipient_of,
    size_of,
)
from certmaild.outbound.timing import deadlines
from certmaild.outbound.values import Destination, Envelope, Fate, Problem, Recipient


@dataclass(frozen=True, slots=True)
class CopyView:
    """One recipient's copy."""

    number: int
    recipient: Recipient = field(repr=False)
    destination: Destination
    state: TaskState
    attempts: int
    last_try_s: int | None
    next_try_s: int | None
    """When it is tried again; None if it is done, held, or its turn at once."""
    fate: Fate | None
    """What the last try met, its own or its destination's."""
    doubts: int
    unreached: int = 0
    """How often in a row its destination was not reached, or did not prove itself: then no copy is tried."""
    unreached_since_s: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether anything is still to be done."""
        return self.state.is_open


@dataclass(frozen=True, slots=True)
class MessageView:
    """One message."""

    queue_id: str
    accepted_s: int
    size: int
    sender: UserId | None
    envelope: Envelope = field(repr=False)
    is_held: bool
    expires_s: int
    copies: tuple[CopyView, ...] = field(repr=False)


class Orders:
    """Looks at the queue and changes it; each function runs inside a transaction of the caller's."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._queue = spool.queue

    # Looking.

    def ids(self, txn: ReadTxn, *, done: bool = False) -> list[QueueId]:
        """All messages that are not done, or with ``done`` all that are still known; the oldest first."""
        found: list[tuple[int, QueueId]] = []
        for queue_id in self._queue.messages(txn):
            state, message = self._queue.state(txn, queue_id), self._queue.message(txn, queue_id)
            if state is not None and message is not None and (done or state.open):
                found.append((message.accepted_ms, queue_id))
        return [queue_id for _, queue_id in sorted(found)]

    def view(self, txn: ReadTxn, queue_id: QueueId) -> MessageView | None:
        """A message and where it stands; None if it is not known (any more)."""
        message, state = self._queue.message(txn, queue_id), self._queue.state(txn, queue_id)
        if message is None or state is None:
            return None
        envelope = decode(Envelope, message.envelope)
        accepted_s = message.accepted_ms // 1000
        times = deadlines(self._spool.times, envelope, accepted_s, self._spool.told(txn, queue_id))
        lanes: dict[bytes, Lane | None] = {}
        return MessageView(
            queue_id.hex(),
            accepted_s,
            size_of(message),
            message.sender,
            envelope,
            state.is_held,
            times.expires_s,
            tuple(self._copy(txn, number, task, lanes) for number, task in self._queue.tasks(txn, queue_id)),
        )

    def _copy(self, txn: ReadTxn, number: int, task: Task, lanes: dict[bytes, Lane | None]) -> CopyView:
        fate, next_s = fate_of(task), task.next_s if task.state is TaskState.WAITING else None
        unreached, since_s = 0, None
        if task.state is TaskState.READY:
            if task.lane_id not in lanes:
                lanes[task.lane_id] = self._queue.lane(txn, task.lane_id)
            lane = lanes[task.lane_id]
            if lane is not None and lane.problem:
                fate, next_s = decode_fate(lane.problem), lane.due_s
                unreached, since_s = lane.failures, lane.since_s
        return CopyView(
            number,
            recipient_of(task),
            decode_place(task.place).destination,
            task.state,
            task.attempts,
            task.last_s or None,
            next_s,
            fate,
            task.doubts,
            unreached,
            since_s,
        )

    # Changing. Each gives the number of copies that it changed.

    def retry(self, txn: WriteTxn, queue_id: QueueId, now_s: int) -> int:
        """Try what waits at once, and its destinations too, however often they failed."""

        def again(task: Task) -> Task | None:
            return replace(task, state=TaskState.READY) if task.state is TaskState.WAITING else None

        changed = self._change(txn, queue_id, again, now_s)
        for task in [task for _, task in self._queue.tasks(txn, queue_id) if task.state is TaskState.READY]:
            lane = self._queue.lane(txn, task.lane_id)
            if lane is not None and lane.failures:
                if lane.due_s > now_s:
                    self._queue.put_lane(txn, task.lane_id, replace(lane, due_s=now_s))
                changed += 1
        if changed:
            self._queue.announce(txn)
        return changed

    def hold(self, txn: WriteTxn, queue_id: QueueId, now_s: int) -> int:
        """Send it no further, and let no time pass for it, until it is released."""

        def held(task: Task) -> Task | None:
            open_one = task.state.is_open and task.state is not TaskState.HELD
            return replace(task, state=TaskState.HELD) if open_one else None

        changed = self._change(txn, queue_id, held, now_s)
        if changed:
            self._queue.set_held(txn, queue_id, True)
        return changed

    def release(self, txn: WriteTxn, queue_id: QueueId, now_s: int) -> int:
        """Try what was held at once; its time runs again, counted from its acceptance."""

        def freed(task: Task) -> Task | None:
            fate = fate_of(task)
            is_dropped = isinstance(fate, Problem) and fate.permanent
            return replace(task, state=TaskState.READY) if task.state is TaskState.HELD and not is_dropped else None

        changed = self._change(txn, queue_id, freed, now_s)
        if changed:
            self._queue.set_held(txn, queue_id, False)
            self._queue.retime(txn, queue_id, self._next_look(txn, queue_id))
        return changed

    def drop(
        self,
        txn: WriteTxn,
        queue_id: QueueId,
        reason: str,
        now_s: int,
        *,
        report: bool,
        wanted: Callable[[Recipient], bool] = lambda recipient: True,
    ) -> int:
        """Give up what is not done yet. With ``report`` its sender gets a report of it from who works the queue."""
        why = Problem(True, 554, "5.7.0", f"The server's operator removed the message from the queue: {reason}")
        state = TaskState.HELD if report else TaskState.DROPPED

        def dropped(task: Task) -> Task | None:
            if not task.state.is_open or not wanted(recipient_of(task)):
                return None
            return replace(task, state=state, next_s=now_s, fate=encode_fate(why))

        changed = self._change(txn, queue_id, dropped, now_s)
        if changed and report:
            self._queue.retime(txn, queue_id, now_s)
        elif changed and (left := self._queue.state(txn, queue_id)) is not None and not left.open:
            self._queue.retime(txn, queue_id, now_s + self._spool.times.kept)
        return changed

    def _change(self, txn: WriteTxn, queue_id: QueueId, change: Callable[[Task], Task | None], now_s: int) -> int:
        changed = 0
        for number, task in list(self._queue.tasks(txn, queue_id)):
            new = change(task)
            if new is not None:
                self._queue.change_task(txn, queue_id, number, new, now_s)
                changed += 1
        if changed:
            self._queue.announce(txn)
        return changed

    def _next_look(self, txn: ReadTxn, queue_id: QueueId) -> int:
        message, told = self._queue.message(txn, queue_id), self._spool.told(txn, queue_id)
        if message is None:
            return 0
        envelope = decode(Envelope, message.envelope)
        return deadlines(self._spool.times, envelope, message.accepted_ms // 1000, told).next_s(told)
