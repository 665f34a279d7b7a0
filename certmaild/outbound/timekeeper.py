"""What time does to a message on its way: it is late, which its sender hears, it goes back, at last it is forgotten."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from twisted.logger import Logger

from certmaild.mailbox.errors import Damaged, StoreUnavailable
from certmaild.mailbox.identifiers import LaneId, QueueId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_queue import Due, Message, MessageState, Task, TaskState
from certmaild.outbound.interfaces import Occasion, Work
from certmaild.outbound.settling import Result, Settler
from certmaild.outbound.spool import Spool, decode_fate, described, encode, encode_fate, fate_of
from certmaild.outbound.timing import Deadlines, Told, deadlines
from certmaild.outbound.values import Envelope, Problem

log = Logger()

AT_ONCE = 64
AGAIN_S = 60
"""A message whose time is over while it is being sent, or that cannot be looked at, is put off for so long."""
NOT_YET = Problem(False, 451, "4.4.7", "It could not be sent so far.")


@dataclass(frozen=True, slots=True)
class _View:
    """One message and where it stands."""

    queue_id: QueueId
    message: Message = field(repr=False)
    state: MessageState
    told: Told
    open: dict[int, tuple[Task, Problem]] = field(repr=False)
    """Copies that are not done, each with the last that is known of it."""


class Timekeeper:
    """Looks at messages when their time has come. ``is_in_hand`` says whether a copy is being sent just now."""

    def __init__(
        self,
        engine: Engine,
        spool: Spool,
        settler: Settler,
        seconds: Callable[[], float],
        is_in_hand: Callable[[LaneId, QueueId, int], bool],
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._settler = settler
        self._seconds = seconds
        self._is_in_hand = is_in_hand

    async def round(self) -> bool:
        """Look at what is due, some at once; whether there is more."""
        queue, now = self._spool.queue, int(self._seconds())

        def work(txn: ReadTxn) -> list[tuple[int, bytes]]:
            return [one for one, _ in zip(queue.due(txn, Due.MESSAGE, now), range(AT_ONCE), strict=False)]

        due = await self._engine.read(work)
        notes: list[Work] = []
        for at_s, what in due:
            try:
                note = await self._look_at(at_s, QueueId(what), now)
            except StoreUnavailable:
                raise
            except Exception:
                log.failure("looking at message {queue_id} failed; it is done later", queue_id=what.hex())
                note = self._put_off(at_s, QueueId(what), now)
            if note is not None:
                notes.append(note)
        if notes:
            await self._engine.write(lambda txn: [note(txn) for note in notes])
        return len(due) == AT_ONCE

    def _put_off(self, at_s: int, queue_id: QueueId, now: int) -> Work:
        """One that cannot be looked at keeps nobody else waiting."""
        queue = self._spool.queue

        def work(txn: WriteTxn) -> None:
            try:
                queue.retime(txn, queue_id, now + AGAIN_S)
            except Damaged:
                log.critical("ALARM: message {queue_id} of the outgoing queue is damaged", queue_id=queue_id.hex())
                queue.undue(txn, Due.MESSAGE, at_s, queue_id)

        return work

    async def _look_at(self, at_s: int, queue_id: QueueId, now: int) -> Work | None:
        """What is left to be noted: all that nobody hears of is written together, since it may be thousands."""
        view = await self._engine.read(lambda txn: self._view(txn, queue_id))
        queue = self._spool.queue
        if view is None or view.state.timer_s != at_s:
            return lambda txn: queue.undue(txn, Due.MESSAGE, at_s, queue_id)
        if not view.state.open:
            return lambda txn: queue.forget(txn, queue_id)
        if dropped := {number: one for number, one in view.open.items() if one[1].permanent}:
            await self._fail(view, dropped, now)
            return None
        if view.state.is_held:
            return lambda txn: queue.retime(txn, queue_id, 0)
        times = self._deadlines(view, view.told)
        if now >= times.expires_s:
            await self._fail(view, view.open, now)
        elif not view.told.delayed and now >= times.delay_s:
            await self._tell_delay(view, times, now)
        elif any(problem.concerns_tls for _, problem in view.open.values()):
            await self._warn(view, times, now)
        else:
            return self._note(view, replace(view.told, checks=view.told.checks + 1))
        return None

    def _view(self, txn: ReadTxn, queue_id: QueueId) -> _View | None:
        queue = self._spool.queue
        message, state = queue.message(txn, queue_id), queue.state(txn, queue_id)
        if message is None or state is None:
            return None
        tasks = {number: task for number, task in queue.tasks(txn, queue_id) if task.state.is_open}
        known = {number: (task, self._last_known(txn, task)) for number, task in tasks.items()}
        return _View(queue_id, message, state, self._spool.told(txn, queue_id), known)

    def _last_known(self, txn: ReadTxn, task: Task) -> Problem:
        """Why a copy is not there yet: what its destination met if it is left alone, else its own last try."""
        lane = self._spool.queue.lane(txn, task.lane_id) if task.state is TaskState.READY else None
        fate = decode_fate(lane.problem) if lane is not None and lane.problem else fate_of(task)
        return fate if isinstance(fate, Problem) else NOT_YET

    def _deadlines(self, view: _View, told: Told) -> Deadlines:
        envelope = self._envelope(view)
        return deadlines(self._spool.times, envelope, view.message.accepted_ms // 1000, told)

    def _envelope(self, view: _View) -> Envelope:
        return described(self._engine, view.queue_id, view.message).envelope

    # Its time is over, or somebody gave it up.

    async def _fail(self, view: _View, which: Mapping[int, tuple[Task, Problem]], now: int) -> None:
        results = {
            number: Result(
                replace(task, state=TaskState.FAILED, next_s=now, fate=encode_fate(problem)), problem, Occasion.FAILED
            )
            for number, (task, problem) in which.items()
            if not self._is_in_hand(task.lane_id, view.queue_id, number)
        }
        queue, queue_id = self._spool.queue, view.queue_id
        next_s = max(now + 1, self._deadlines(view, view.told).next_s(view.told))
        again_s = now + AGAIN_S if len(results) < len(which) else next_s

        def again(txn: WriteTxn) -> None:
            state = queue.state(txn, queue_id)
            if state is not None and state.open:
                queue.retime(txn, queue_id, 0 if state.is_held else again_s)

        await self._settler.settle(queue_id, view.message, results, again, must_report=True)

    # It is late.

    async def _tell_delay(self, view: _View, times: Deadlines, now: int) -> None:
        news = [
            self._settler.news(task, problem, Occasion.DELAYED, times.expires_s) for task, problem in view.open.values()
        ]
        report = await self._settler.report(described(self._engine, view.queue_id, view.message), news)
        await self._engine.write(self._note(view, replace(view.told, delayed=True), report))

    # Its destinations do not prove themselves.

    async def _warn(self, view: _View, times: Deadlines, now: int) -> None:
        """Tell the sender, unless he was told of each of the places within the hour."""
        queue = self._spool.queue
        sender = str(self._envelope(view).reports_to).lower().encode()
        unproven = [(task, problem) for task, problem in view.open.values() if problem.concerns_tls]
        places = {task.place for task, _ in unproven}

        def work(txn: ReadTxn) -> set[bytes]:
            return {place for place in places if not queue.was_said(txn, now, sender, place)}

        new = await self._engine.read(work)
        news = [
            self._settler.news(task, problem, Occasion.WARNED, times.expires_s)
            for task, problem in unproven
            if task.place in new
        ]
        report = await self._settler.report(described(self._engine, view.queue_id, view.message), news)

        def note(txn: WriteTxn) -> None:
            for place in new:
                queue.note_said(txn, now, sender, place)

        await self._engine.write(self._note(view, replace(view.told, warned=True), report, note))

    def _note(self, view: _View, told: Told, *works: Work | None) -> Work:
        """What stores what was done, and when to look again."""
        next_s = self._deadlines(view, told).next_s(told)

        def work(txn: WriteTxn) -> None:
            self._spool.queue.retime(txn, view.queue_id, next_s, encode(told))
            for one in works:
                if one is not None:
                    one(txn)

        return work
