"""One destination being worked on: where to, connections to it, and what is ready sent on them one after the other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.identifiers import LaneId, QueueId
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.outbound.doubts import Doubts
from certmaild.outbound.hand import Hand, Taken
from certmaild.outbound.interfaces import Courier, CourierConnection, Planner, Work
from certmaild.outbound.settling import Settler
from certmaild.outbound.slots import Slots
from certmaild.outbound.spool import Place, Spool, content_of, decode, encode_fate, recipient_of, size_of
from certmaild.outbound.values import Delivered, Envelope, Fate, OutgoingMessage, Plan, Problem
from certmaild.protocols.transport import Clock

log = Logger()

READY_EACH = 2
"""Another connection is opened while so many messages wait for each that there is."""
LINGER_S = 2.0
"""A connection stays open so long after the last message, for the next one."""
LOSSES = 3
"""Connections lost in a row, with nothing delivered: then the destination is left alone for a while."""
SETTLE_AGAIN_S = 1.0

FAULT = Problem(False, 451, "4.3.0", "Our own server had a fault while sending this; it tries again by itself.")
DAMAGED = Problem(False, 451, "4.3.0", "The stored message cannot be read; the server's operator has to look at it.")


class LeadLost(Exception):
    """Another process works the queue now: nothing may be sent to its end any more."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What all lanes work with."""

    engine: Engine
    spool: Spool
    planner: Planner
    courier: Courier
    settler: Settler
    doubts: Doubts
    slots: Slots
    clock: Clock
    holds: Callable[[], bool]
    """Whether the queue is still this process's."""
    stop_time_s: float = 20.0
    """Messages under way are given so long to be finished."""


class Lane:
    """Works on one destination from now until nothing is ready there, or it has to be left alone."""

    def __init__(self, desk: Desk, lane_id: LaneId, place: Place) -> None:
        self._desk = desk
        self.lane_id = lane_id
        self.place = place
        self._hand = Hand(desk.engine, desk.spool.queue, lane_id)
        self._senders = 0
        self._may_grow = True
        self._stops = False
        self._losses = 0
        self._blocked: Problem | None = None
        self._reached = False
        self._idle: list[Deferred[None]] = []
        self._all_ended: Deferred[None] | None = None

    # From outside.

    def wake(self) -> None:
        """More is ready."""
        idle, self._idle = self._idle, []
        for one in idle:
            one.callback(None)

    def stop(self) -> None:
        """Finish the messages under way, and no more."""
        self._stops = True
        self.wake()

    def has_in_hand(self, queue_id: QueueId, number: int) -> bool:
        """Whether a copy is being sent just now."""
        return self._hand.has(queue_id, number)

    @property
    def is_planned(self) -> bool:
        """Whether the way is being found: it takes a connection soon."""
        return not self._senders

    @property
    def has_failed(self) -> bool:
        """Whether the destination could not be worked on to the end."""
        return self._blocked is not None

    async def run(self) -> None:
        """Work. Ends when nothing is ready, the destination is to be left alone, or `stop` was called."""
        desk = self._desk
        while not self._stops and desk.holds():
            plan = await self._planned()
            if isinstance(plan, Problem):
                self._blocked = plan
            else:
                await self._send_all(plan)
            if self._blocked is not None:
                await self._leave_alone(self._blocked)
                return
            if self._stops or await self._close():
                return
            if self._hand.is_damaged:
                await self._leave_alone(DAMAGED)
                return

    async def _close(self) -> bool:
        """Remove the lane's row if nothing is ready; whether it is gone."""
        queue = self._desk.spool.queue

        def work(txn: WriteTxn) -> bool:
            return queue.close_lane(txn, self.lane_id)

        return await self._desk.engine.write(work)

    async def _planned(self) -> Plan | Problem:
        try:
            return await self._desk.planner.plan(self.place.destination, self.place.terms)
        except Exception:
            log.failure("planning the way to a destination failed")
            return FAULT

    # Connections.

    async def _send_all(self, plan: Plan) -> None:
        """Send on as many connections as there is work for; returns when the last is closed."""
        self._all_ended = Deferred()
        self._start_sender(plan)
        await self._all_ended

    def _start_sender(self, plan: Plan) -> None:
        self._senders += 1
        self._desk.slots.take()
        Deferred.fromCoroutine(self._sender(plan)).addErrback(self._sender_failed).addBoth(self._sender_ended)

    def _sender_failed(self, failure: Any) -> None:
        if not failure.check(LeadLost):
            log.failure("sending to a destination failed", failure)
            self._blocked = self._blocked or FAULT
        self._stops = self._stops or bool(failure.check(LeadLost))

    def _sender_ended(self, _: object) -> None:
        self._senders -= 1
        self._desk.slots.give_back()
        if not self._senders and self._all_ended is not None:
            self._all_ended.callback(None)

    async def _sender(self, plan: Plan) -> None:
        """Open a connection and send on it, and on another in its place, until nothing is ready."""
        while not self._ends and (connection := await self._connected(plan)) is not None:
            try:
                wants_more = await self._use(connection, plan)
            finally:
                await self._closed(connection)
            if not wants_more:
                return

    @property
    def _ends(self) -> bool:
        return self._stops or self._blocked is not None or not self._desk.holds()

    async def _connected(self, plan: Plan) -> CourierConnection | None:
        try:
            found = await self._desk.courier.connect(plan)
        except Exception:
            log.failure("connecting to a destination failed")
            found = FAULT
        if not isinstance(found, Problem):
            self._reached = True
            return found
        if self._senders == 1:
            self._blocked = found
        # Else he takes no more connections than there are.
        self._may_grow = False
        return None

    async def _closed(self, connection: CourierConnection) -> None:
        try:
            await connection.close()
        except Exception:
            log.failure("closing a connection failed")

    async def _use(self, connection: CourierConnection, plan: Plan) -> bool:
        """Send what is ready while the connection lasts; whether another is wanted."""
        while not self._ends:
            taken = await self._hand.take()
            if taken is None:
                if not await self._linger():
                    return False
                continue
            await self._grow(plan)
            try:
                await self._send(connection, taken)
            finally:
                self._hand.put_back(taken)
            if not connection.is_open:
                return True
        return False

    async def _grow(self, plan: Plan) -> None:
        """Open one more connection while there is work for it."""
        desk = self._desk
        if not self._may_grow or not desk.slots.has_room_beside(self._senders):
            return
        if await self._hand.has_more(READY_EACH * self._senders):
            self._start_sender(plan)

    async def _linger(self) -> bool:
        """Wait a moment for more; whether to look again."""
        desk = self._desk
        if self._hand.is_empty:
            await self._close()
        if self._ends or not desk.slots.is_roomy:
            return False
        more: Deferred[None] = Deferred()
        self._idle.append(more)
        late = desk.clock.callLater(LINGER_S, self._give_up, more)
        await more
        if late.active():
            late.cancel()
            return True
        return False

    def _give_up(self, waiting: "Deferred[None]") -> None:
        if waiting in self._idle:
            self._idle.remove(waiting)
            waiting.callback(None)

    # Messages.

    async def _send(self, connection: CourierConnection, taken: Taken) -> None:
        desk, queue_id = self._desk, taken.queue_id

        def last_octets() -> None:
            if not desk.holds():
                raise LeadLost
            desk.doubts.mark(queue_id, self.lane_id, tuple(taken.tasks))

        recipients = {number: recipient_of(task) for number, task in taken.tasks.items()}
        outgoing = OutgoingMessage(
            decode(Envelope, taken.message.envelope),
            tuple(recipients.values()),
            size_of(taken.message),
            lambda: content_of(desk.engine, taken.message),
            queue_id.hex(),
        )
        otherwise = FAULT
        try:
            fates = await connection.send(outgoing, last_octets)
        except LeadLost:
            raise
        except MailboxError:
            log.failure("ALARM: message {queue_id} cannot be read to be sent", queue_id=queue_id.hex())
            fates, otherwise = {}, DAMAGED
        except Exception:
            log.failure("sending message {queue_id} failed", queue_id=queue_id.hex())
            fates = {}
        told = {number: fates.get(recipient, otherwise) for number, recipient in recipients.items()}
        self._count_losses(connection, list(told.values()))
        await self._settle(taken, told)
        desk.doubts.clear(queue_id, self.lane_id)

    def _count_losses(self, connection: CourierConnection, fates: list[Fate]) -> None:
        if any(isinstance(fate, Delivered) for fate in fates):
            self._losses = 0
        elif not connection.is_open:
            self._losses += 1
            if self._losses >= LOSSES:
                self._blocked = next(fate for fate in fates if isinstance(fate, Problem))

    async def _settle(self, taken: Taken, fates: dict[int, Fate]) -> None:
        """Store the fates. While the store cannot, nothing else is sent here: it would be sent twice."""
        tried = {number: (task, fates[number]) for number, task in taken.tasks.items()}
        while True:
            try:
                await self._desk.settler.tried(taken.queue_id, taken.message, tried, self._well())
                return
            except MailboxError:
                log.failure("the fate of message {queue_id} cannot be stored yet", queue_id=taken.queue_id.hex())
                if self._ends:
                    raise
            await self._sleep(SETTLE_AGAIN_S)

    async def _sleep(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        self._desk.clock.callLater(seconds, over.callback, None)
        await over

    # The lane's own row.

    def _well(self) -> Work | None:
        """What notes that the destination is reached again."""
        if not self._reached:
            return None
        queue, lane_id = self._desk.spool.queue, self.lane_id

        def work(txn: WriteTxn) -> None:
            lane = queue.lane(txn, lane_id)
            if lane is not None and lane.failures:
                queue.put_lane(txn, lane_id, replace(lane, failures=0, since_s=0, problem=b""))

        return work

    async def _leave_alone(self, problem: Problem) -> None:
        """Fail what is ready, or try again after a while that doubles each time."""
        if problem.permanent:
            await self._fail_all(problem)
            return
        desk, now = self._desk, int(self._desk.clock.seconds())

        def work(txn: WriteTxn) -> int:
            lane = desk.spool.queue.lane(txn, self.lane_id)
            if lane is None or desk.spool.queue.close_lane(txn, self.lane_id):
                return 0
            failures = lane.failures + 1
            pause = desk.spool.times.pause_s(failures)
            again = replace(
                lane,
                due_s=now + pause,
                failures=failures,
                since_s=lane.since_s or now,
                problem=encode_fate(problem),
            )
            desk.spool.queue.put_lane(txn, self.lane_id, again)
            return pause

        pause = await desk.engine.write(work)
        if not pause:
            return
        log.info(
            "a destination ({kind}) is not reached: {code} {enhanced} {host}; again in {pause} s",
            kind=self.place.destination.kind.value,
            code=problem.code,
            enhanced=problem.enhanced,
            host=problem.host,
            pause=pause,
        )

    async def _fail_all(self, problem: Problem) -> None:
        """The destination will never take anything."""
        while not self._stops and (taken := await self._hand.take()) is not None:
            await self._settle_failed(taken, problem)
        await self._close()

    async def _settle_failed(self, taken: Taken, problem: Problem) -> None:
        try:
            await self._desk.settler.tried(
                taken.queue_id, taken.message, {number: (task, problem) for number, task in taken.tasks.items()}
            )
        finally:
            self._hand.put_back(taken)
