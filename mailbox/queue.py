"""The outgoing queue in the store: rows of messages, recipients and destinations, and the two orders they are found by.

A recipient's copy is *ready* in its destination's lane, highest priority first, or *waits* for its time; lanes, copies
and messages that have a time stand in one index ordered by it. So whoever works the queue reads what is due and no
more: nothing is gathered at the start, and memory does not grow with what is queued. Every function runs inside a
transaction of the caller's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.changes import QUEUE_CHANGED
from certmaild.mailbox.errors import Damaged, StoreUnavailable
from certmaild.mailbox.identifiers import LaneId, QueueId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table, decode_count, encode_count
from certmaild.mailbox.layout_queue import (
    Due,
    Lane,
    Message,
    MessageState,
    Task,
    TaskState,
    decode_due_key,
    decode_lane,
    decode_message,
    decode_ready_key,
    decode_said,
    decode_state,
    decode_task,
    decode_task_key,
    due_key,
    encode_lane,
    encode_message,
    encode_said,
    encode_state,
    encode_task,
    ready_key,
    said_key,
    task_key,
)
from certmaild.mailbox.ownership import drop_reference

HOUR_S = 3600
_CLEANED_AT_ONCE = 100


class QueueSealer(RowSealer, Protocol):
    """What the queue's secret does; `keystore.server_secrets.QueueSeals` is one."""

    def place_hash(self, place: bytes) -> bytes:
        """16 octets that stand for a destination."""
        ...


@dataclass(frozen=True, slots=True)
class NewTask:
    """A recipient to be queued."""

    place: bytes = field(repr=False)
    """Where to: equal octets share a lane."""
    recipient: bytes = field(repr=False)


class Queue:
    """The queue's rows under their seals."""

    def __init__(self, seals: QueueSealer) -> None:
        self._seals = seals

    def lane_id(self, place: bytes) -> LaneId:
        """What the lane of a destination is called."""
        return LaneId(self._seals.place_hash(place))

    # In.

    def enqueue(
        self,
        txn: WriteTxn,
        queue_id: QueueId,
        message: Message,
        tasks: Sequence[NewTask],
        *,
        now_s: int,
        timer_s: int,
        priority: int = 0,
        not_before_s: int = 0,
    ) -> None:
        """File a message for its recipients and count one reference to its blob.

        The blob's rows are written by the caller, in this transaction and before (`write_arrivals` does). Raises
        `StoreUnavailable` for an id that is in use.
        """
        if not tasks:
            raise ValueError("a queued message has a recipient")
        if txn.get(Table.QMSG, queue_id) is not None:
            raise StoreUnavailable("queue id in use")
        count = txn.get(Table.REF, message.blob_id)
        txn.put(Table.REF, message.blob_id, encode_count(1 + (0 if count is None else decode_count(count))))
        self._put(txn, Table.QMSG, queue_id, encode_message(message))
        self._put_state(txn, queue_id, MessageState(len(tasks), timer_s))
        txn.put(Table.QDUE, due_key(Due.MESSAGE, timer_s, queue_id), b"")
        waits = not_before_s > now_s
        for number, new in enumerate(tasks):
            task = Task(
                TaskState.WAITING if waits else TaskState.READY,
                self.lane_id(new.place),
                priority,
                message.accepted_ms,
                new.place,
                new.recipient,
                not_before_s if waits else 0,
            )
            self._write_task(txn, queue_id, number, None, task, now_s)
        self.announce(txn)

    @staticmethod
    def announce(txn: WriteTxn) -> None:
        """Wake whoever works the queue."""
        txn.announce(QUEUE_CHANGED)

    # Reading.

    def message(self, txn: ReadTxn, queue_id: QueueId) -> Message | None:
        """A message; None if there is none. Raises `Damaged`, as all that read."""
        plain = self._get(txn, Table.QMSG, queue_id)
        return None if plain is None else decode_message(plain)

    def state(self, txn: ReadTxn, queue_id: QueueId) -> MessageState | None:
        """How a message stands."""
        plain = self._get(txn, Table.QSTATE, queue_id)
        return None if plain is None else decode_state(plain)

    def task(self, txn: ReadTxn, queue_id: QueueId, number: int) -> Task | None:
        """One recipient's copy."""
        plain = self._get(txn, Table.QTASK, task_key(queue_id, number))
        return None if plain is None else decode_task(plain)

    def tasks(self, txn: ReadTxn, queue_id: QueueId) -> Iterator[tuple[int, Task]]:
        """All of a message's, also those that are done, by number."""
        for key, value in txn.scan(Table.QTASK, queue_id, _after(queue_id)):
            yield decode_task_key(key)[1], decode_task(self._open(Table.QTASK, key, value))

    def lane(self, txn: ReadTxn, lane_id: LaneId) -> Lane | None:
        """A destination that has something ready."""
        plain = self._get(txn, Table.QLANE, lane_id)
        return None if plain is None else decode_lane(plain)

    @staticmethod
    def messages(txn: ReadTxn, after: QueueId | None = None) -> Iterator[QueueId]:
        """The ids of all messages above ``after``, also of those that are done."""
        for key, _ in txn.scan(Table.QMSG, b"" if after is None else after + b"\0"):
            yield QueueId(key)

    @staticmethod
    def ready(txn: ReadTxn, lane_id: LaneId) -> Iterator[tuple[QueueId, int]]:
        """What is ready in a lane, in the order it is to be sent; the copies of one message stand together."""
        for key, _ in txn.scan(Table.QREADY, lane_id, _after(lane_id)):
            yield decode_ready_key(key)

    @staticmethod
    def due(txn: ReadTxn, kind: Due, until_s: int) -> Iterator[tuple[int, bytes]]:
        """What is due by then, the earliest first: when, and what."""
        for key, _ in txn.scan(Table.QDUE, bytes([kind]), due_key(kind, until_s + 1, b"")):
            yield decode_due_key(key)

    @staticmethod
    def next_due_s(txn: ReadTxn, kind: Due, after_s: int) -> int | None:
        """When the first is due that is not yet; None if nothing is."""
        for key, _ in txn.scan(Table.QDUE, due_key(kind, after_s + 1, b""), bytes([kind + 1])):
            return decode_due_key(key)[0]
        return None

    # Recipients' copies.

    def change_task(self, txn: WriteTxn, queue_id: QueueId, number: int, new: Task, now_s: int) -> None:
        """Replace a copy's row, and where it is found. The last one that is done lets the content go."""
        old = self.task(txn, queue_id, number)
        if old is None:
            return
        self._write_task(txn, queue_id, number, old, new, now_s)
        if old.state.is_open and not new.state.is_open:
            self._one_done(txn, queue_id, now_s)

    def _write_task(
        self, txn: WriteTxn, queue_id: QueueId, number: int, old: Task | None, new: Task, now_s: int
    ) -> None:
        key = task_key(queue_id, number)
        before, after = (None if old is None else _place_of(old, key)), _place_of(new, key)
        if before is not None and before != after:
            txn.delete(*before)
        if after is not None and before != after:
            txn.put(*after, b"")
        self._put(txn, Table.QTASK, key, encode_task(new))
        if new.state is TaskState.READY:
            self._open_lane(txn, new.lane_id, new.place, now_s)

    def _one_done(self, txn: WriteTxn, queue_id: QueueId, now_s: int) -> None:
        state, message = self.state(txn, queue_id), self.message(txn, queue_id)
        if state is None or message is None:
            return
        left = max(0, state.open - 1)
        self._put_state(txn, queue_id, replace(state, open=left))
        if not left:
            drop_reference(txn, message.blob_id, now_s)

    # Messages.

    def retime(self, txn: WriteTxn, queue_id: QueueId, timer_s: int, notes: bytes | None = None) -> None:
        """Look at a message again at another time, 0 for never; ``notes`` replace the former."""
        state = self.state(txn, queue_id)
        if state is None:
            return
        if state.timer_s != timer_s:
            if state.timer_s:
                txn.delete(Table.QDUE, due_key(Due.MESSAGE, state.timer_s, queue_id))
            if timer_s:
                txn.put(Table.QDUE, due_key(Due.MESSAGE, timer_s, queue_id), b"")
        self._put_state(txn, queue_id, replace(state, timer_s=timer_s, notes=state.notes if notes is None else notes))

    def set_held(self, txn: WriteTxn, queue_id: QueueId, held: bool) -> None:
        """Note that a message is held or released; its copies are the caller's."""
        state = self.state(txn, queue_id)
        if state is not None:
            self._put_state(txn, queue_id, replace(state, is_held=held))

    def forget(self, txn: WriteTxn, queue_id: QueueId) -> None:
        """Remove a message that is done with all its rows."""
        state = self.state(txn, queue_id)
        if state is None or state.open:
            return
        if state.timer_s:
            self.undue(txn, Due.MESSAGE, state.timer_s, queue_id)
        for key, _ in txn.scan(Table.QTASK, queue_id, _after(queue_id)):
            txn.delete(Table.QTASK, key)
        txn.delete(Table.QSTATE, queue_id)
        txn.delete(Table.QMSG, queue_id)

    @staticmethod
    def undue(txn: WriteTxn, kind: Due, at_s: int, what: bytes) -> None:
        """Remove a time at which there is nothing to look at."""
        txn.delete(Table.QDUE, due_key(kind, at_s, what))

    # Lanes.

    def _open_lane(self, txn: WriteTxn, lane_id: LaneId, place: bytes, now_s: int) -> None:
        if txn.get(Table.QLANE, lane_id) is None:
            self._put_lane(txn, lane_id, None, Lane(now_s, place))

    def put_lane(self, txn: WriteTxn, lane_id: LaneId, new: Lane) -> None:
        """Replace a lane's row and its time; of no effect once it is closed."""
        old = self.lane(txn, lane_id)
        if old is not None:
            self._put_lane(txn, lane_id, old, new)

    def _put_lane(self, txn: WriteTxn, lane_id: LaneId, old: Lane | None, new: Lane) -> None:
        if old is not None and old.due_s != new.due_s:
            txn.delete(Table.QDUE, due_key(Due.LANE, old.due_s, lane_id))
        if old is None or old.due_s != new.due_s:
            txn.put(Table.QDUE, due_key(Due.LANE, new.due_s, lane_id), b"")
        self._put(txn, Table.QLANE, lane_id, encode_lane(new))

    def close_lane(self, txn: WriteTxn, lane_id: LaneId) -> bool:
        """Remove the row of a lane in which nothing is ready; whether it is gone."""
        if next(self.ready(txn, lane_id), None) is not None:
            return False
        lane = self.lane(txn, lane_id)
        if lane is not None:
            txn.delete(Table.QDUE, due_key(Due.LANE, lane.due_s, lane_id))
            txn.delete(Table.QLANE, lane_id)
        return True

    # Warnings.

    def was_said(self, txn: ReadTxn, now_s: int, sender: bytes, place: bytes) -> bool:
        """Whether this sender was told of this place within an hour."""
        what, hour = self._seals.place_hash(sender + b"\0" + place), now_s // HOUR_S
        values = [txn.get(Table.QSAID, said_key(one, what)) for one in (hour - 1, hour)]
        return any(value is not None and decode_said(value) > now_s - HOUR_S for value in values)

    def note_said(self, txn: WriteTxn, now_s: int, sender: bytes, place: bytes) -> None:
        """He is told now."""
        hour = now_s // HOUR_S
        txn.put(Table.QSAID, said_key(hour, self._seals.place_hash(sender + b"\0" + place)), encode_said(now_s))
        self._forget_said(txn, now_s)

    @staticmethod
    def _forget_said(txn: WriteTxn, now_s: int) -> None:
        old = txn.scan(Table.QSAID, b"", said_key(now_s // HOUR_S - 1, b""))
        for key, _ in list(islice(old, _CLEANED_AT_ONCE)):
            txn.delete(Table.QSAID, key)

    # Counts.

    def count(self, txn: WriteTxn, now_s: int, what: bytes) -> int:
        """Count one of these; how many there were in this hour of the clock, this one included."""
        key = self._count_key(now_s, what)
        value = txn.get(Table.QSAID, key)
        number = 1 + (0 if value is None else decode_said(value))
        txn.put(Table.QSAID, key, encode_said(number))
        self._forget_said(txn, now_s)
        return number

    def counted(self, txn: ReadTxn, now_s: int, what: bytes) -> int:
        """How many `count` has counted in this hour of the clock."""
        value = txn.get(Table.QSAID, self._count_key(now_s, what))
        return 0 if value is None else decode_said(value)

    def _count_key(self, now_s: int, what: bytes) -> bytes:
        return said_key(now_s // HOUR_S, self._seals.place_hash(b"\0count\0" + what))

    # Seals.

    def _put_state(self, txn: WriteTxn, queue_id: QueueId, state: MessageState) -> None:
        self._put(txn, Table.QSTATE, queue_id, encode_state(state))

    def _put(self, txn: WriteTxn, table: Table, key: bytes, plain: bytes) -> None:
        txn.put(table, key, self._seals.seal_row(table, key, plain))

    def _get(self, txn: ReadTxn, table: Table, key: bytes) -> bytes | None:
        value = txn.get(table, key)
        return None if value is None else self._open(table, key, value)

    def _open(self, table: Table, key: bytes, value: bytes) -> bytes:
        try:
            return self._seals.open_row(table, key, value)
        except SealBroken as broken:
            raise Damaged(f"row of {table}") from broken


def _place_of(task: Task, key: bytes) -> tuple[Table, bytes] | None:
    """Where a copy is found: among what is ready, by its time, or nowhere."""
    if task.state is TaskState.READY:
        return Table.QREADY, ready_key(task.lane_id, task.priority, task.accepted_ms, key)
    if task.state is TaskState.WAITING:
        return Table.QDUE, due_key(Due.TASK, task.next_s, key)
    return None


def _after(prefix: bytes) -> bytes | None:
    """The first key that no longer begins with this; None at the end of the table."""
    number = int.from_bytes(prefix, "big") + 1
    return number.to_bytes(len(prefix), "big") if number < 1 << 8 * len(prefix) else None
