"""Works the outgoing queue: starts lanes when they are due, makes copies ready whose time has come, minds the clock.

It reads what is due and nothing else: its memory is that of the destinations it works on, whatever is queued.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import islice

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from certmaild.mailbox.changes import NOBODY, Change, ChangeKind, Watch
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import LaneId, QueueId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout_queue import Due, TaskState, decode_task_key
from certmaild.outbound.lane import Desk, Lane
from certmaild.outbound.spool import decode_place
from certmaild.outbound.timekeeper import Timekeeper
from certmaild.protocols.transport import Clock, Timer

log = Logger()

TASKS_AT_ONCE = 256
LANES_OF_A_TURN = 8
"""Destinations that are begun with before the reactor hears the others."""
LANES_AT_ONCE = 2000
"""Due destinations that are looked at, so that a look takes a few milliseconds."""
LONGEST_SLEEP_S = 60.0
"""The clock may be set: what is due is looked for so often at least."""
AFTER_A_FAULT_S = 5.0
FAILED_KNOWN = 100_000
"""Destinations that are remembered as such which fail; after a start, and past it, they count as all others do."""


class Round:
    """Work that is done whenever it is asked for or its time has come, and never twice at once.

    ``work`` says in how many seconds it wants to be done again.
    """

    def __init__(self, clock: Clock, work: Callable[[], Awaitable[float]]) -> None:
        self._clock = clock
        self._work = work
        self._is_wanted = False
        self._is_running = False
        self._running: Deferred[None] | None = None
        self._timer: Timer | None = None
        self._is_over = False

    def wake(self) -> None:
        """Do it as soon as may be."""
        self._is_wanted = True
        if not self._is_running and not self._is_over:
            # Said before it runs: work that need not wait may wake it from within.
            self._is_running = True
            self._forget_timer()
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addBoth(self._ran)

    async def _run(self) -> None:
        while self._is_wanted and not self._is_over:
            self._is_wanted = False
            try:
                pause = await self._work()
            except Exception:
                log.failure("working the outgoing queue failed; it goes on in a moment")
                pause = AFTER_A_FAULT_S
            self._forget_timer()
            if not self._is_over:
                self._timer = self._clock.callLater(max(0.0, min(pause, LONGEST_SLEEP_S)), self._time_has_come)

    def _ran(self, _: object) -> None:
        self._is_running = False
        self._running = None
        if self._is_wanted:
            self.wake()

    def _time_has_come(self) -> None:
        self._timer = None
        self.wake()

    def _forget_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    async def stop(self) -> None:
        """Do it no more; returns when what is under way is done."""
        self._is_over = True
        self._forget_timer()
        if self._running is not None:
            over: Deferred[None] = Deferred()
            self._running.addBoth(over.callback)
            await over


class Runner:
    """The queue at work in this process, from `start` to `stop`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lanes: dict[LaneId, tuple[Lane, Deferred[None]]] = {}
        self._timekeeper = Timekeeper(desk.engine, desk.spool, desk.settler, desk.clock.seconds, self._is_in_hand)
        self._lane_round = Round(desk.clock, self._look)
        self._message_round = Round(desk.clock, self._mind_the_clock)
        self._watch: Watch | None = None
        self._look_soon: Timer | None = None
        self._resting: set[LaneId] = set()
        self._failed: set[LaneId] = set()
        """Those that could not be worked on to the end, at most `FAILED_KNOWN`."""
        self._stops = False

    async def start(self) -> None:
        """Say what a crash left open, and begin."""
        desk = self._desk
        await desk.doubts.take_stock(desk.engine, desk.spool.queue, int(desk.clock.seconds()))
        if self._stops:
            return
        self._watch = desk.engine.hub.watch(NOBODY, self._changed)
        self.wake()

    def wake(self) -> None:
        """Something in the queue has changed."""
        self._lane_round.wake()
        self._message_round.wake()

    def _changed(self, change: Change) -> None:
        if change.kind is ChangeKind.QUEUE:
            self.wake()

    async def stop(self) -> None:
        """Finish the messages under way if that takes not too long, and end."""
        self._stops = True
        if self._watch is not None:
            self._watch.stop()
        lanes = tuple(self._lanes.values())
        working = [work for _, work in lanes]
        for lane, _ in lanes:
            lane.stop()
        late = self._desk.clock.callLater(self._desk.stop_time_s, self.cut_off)
        await DeferredList(working, consumeErrors=True)
        if late.active():
            late.cancel()
        await self._lane_round.stop()
        await self._message_round.stop()

    def cut_off(self) -> None:
        """Drop what is under way; it is sent again."""
        for _, work in tuple(self._lanes.values()):
            work.cancel()

    # Lanes.

    async def _look(self) -> float:
        """Make ready what waited long enough, and start what is due; in how many seconds to look again."""
        desk, now = self._desk, int(self._desk.clock.seconds())
        while await self._make_ready(now):
            pass
        queue = desk.spool.queue

        def work(txn: ReadTxn) -> list[LaneId]:
            due: list[LaneId] = []
            planned = self._planned
            for _, what in islice(queue.due(txn, Due.LANE, now), LANES_AT_ONCE):
                lane_id = LaneId(what)
                if lane_id in self._lanes:
                    self._lanes[lane_id][0].wake()
                elif lane_id not in self._resting and self._admits(lane_id, planned + len(due)):
                    due.append(lane_id)
                if not desk.slots.admits(planned + len(due), failed=False):
                    break
            return due

        for number, lane_id in enumerate(await desk.engine.read(work), 1):
            await self._start_lane(lane_id, now)
            if not number % LANES_OF_A_TURN:
                await self._others_first()
        return await self._pause(now, Due.LANE, Due.TASK)

    async def _others_first(self) -> None:
        turn: Deferred[None] = Deferred()
        self._desk.clock.callLater(0, turn.callback, None)
        await turn

    @property
    def _planned(self) -> int:
        return sum(lane.is_planned for lane, _ in self._lanes.values())

    def _admits(self, lane_id: LaneId, planned: int) -> bool:
        return self._desk.slots.admits(planned, failed=lane_id in self._failed)

    async def _start_lane(self, lane_id: LaneId, now: int) -> None:
        """Start one, if there is room; when another ends there will be."""
        desk = self._desk
        if self._stops or not self._admits(lane_id, self._planned) or not desk.holds():
            return
        try:
            row = await desk.engine.read(lambda txn: desk.spool.queue.lane(txn, lane_id))
            if row is None or lane_id in self._lanes or self._stops:
                return
            lane = Lane(desk, lane_id, decode_place(row.place))
        except Damaged as damage:
            log.critical("ALARM: a row of the outgoing queue is damaged: {what}", what=str(damage))
            self._rest(lane_id)
            return
        work = Deferred.fromCoroutine(lane.run())
        self._lanes[lane_id] = lane, work
        work.addErrback(self._lane_failed, lane_id).addBoth(self._lane_ended, lane_id)

    def _lane_failed(self, failure: Failure, lane_id: LaneId) -> None:
        if not self._stops:
            log.failure("working on a destination failed; it goes on in a while", failure)
            self._rest(lane_id)

    def _rest(self, lane_id: LaneId) -> None:
        """Leave a lane alone for a while, without a word in the store, which may be what fails."""
        self._resting.add(lane_id)
        self._desk.clock.callLater(AFTER_A_FAULT_S, self._rested, lane_id)

    def _rested(self, lane_id: LaneId) -> None:
        self._resting.discard(lane_id)
        self._lane_round.wake()

    def _lane_ended(self, _: object, lane_id: LaneId) -> None:
        lane, _ = self._lanes.pop(lane_id)
        self._failed.discard(lane_id)
        if lane.has_failed and len(self._failed) < FAILED_KNOWN:
            self._failed.add(lane_id)
        if not self._stops and self._look_soon is None:
            # Many may end with one commit: one look is enough for all.
            self._look_soon = self._desk.clock.callLater(0, self._look_again)

    def _look_again(self) -> None:
        self._look_soon = None
        self._lane_round.wake()

    async def _make_ready(self, now: int) -> bool:
        """Copies whose time has come, some at once; whether there are more."""
        queue = self._desk.spool.queue

        def due(txn: ReadTxn) -> list[tuple[int, bytes]]:
            return [one for one, _ in zip(queue.due(txn, Due.TASK, now), range(TASKS_AT_ONCE), strict=False)]

        found = await self._desk.engine.read(due)

        def work(txn: WriteTxn) -> None:
            for at_s, what in found:
                queue_id, number = decode_task_key(what)
                task = queue.task(txn, queue_id, number)
                if task is None or task.state is not TaskState.WAITING or task.next_s != at_s:
                    queue.undue(txn, Due.TASK, at_s, what)
                else:
                    queue.change_task(txn, queue_id, number, replace(task, state=TaskState.READY), now)

        if found:
            await self._desk.engine.write(work)
        return len(found) == TASKS_AT_ONCE

    # Messages.

    async def _mind_the_clock(self) -> float:
        while not self._stops and self._desk.holds() and await self._timekeeper.round():
            pass
        return await self._pause(int(self._desk.clock.seconds()), Due.MESSAGE)

    def _is_in_hand(self, lane_id: LaneId, queue_id: QueueId, number: int) -> bool:
        found = self._lanes.get(lane_id)
        return found is not None and found[0].has_in_hand(queue_id, number)

    async def _pause(self, now: int, *kinds: Due) -> float:
        """Seconds until the next of these is due."""
        queue = self._desk.spool.queue
        times = await self._desk.engine.read(lambda txn: [queue.next_due_s(txn, kind, now) for kind in kinds])
        return min([at_s - now for at_s in times if at_s is not None], default=LONGEST_SLEEP_S)
