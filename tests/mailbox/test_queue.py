"""The outgoing queue in the store: in the order it is to be sent, found by time, sealed, and gone when done."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import lmdb_engine, memory_engine, run

from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.mailbox.changes import NOBODY, QUEUE_CHANGED, Change
from certmaild.mailbox.errors import Damaged, StoreUnavailable
from certmaild.mailbox.identifiers import BlobId, QueueId, UserId
from certmaild.mailbox.layout import Table, decode_count
from certmaild.mailbox.layout_queue import (
    Due,
    Lane,
    Message,
    MessageState,
    Task,
    TaskState,
    decode_lane,
    decode_message,
    decode_state,
    decode_task,
    due_key,
    encode_lane,
    encode_message,
    encode_state,
    encode_task,
    ready_key,
    task_key,
)
from certmaild.mailbox.queue import HOUR_S, NewTask, Queue

NOW = 1_800_000_000
SECRETS = ServerSecrets({name: sha256(name.encode()).digest() for name in FILES})
QUEUED = Queue(SECRETS.queue)
BLOB = BlobId(b"b" * 16)
HERE, THERE = b"verified\0example.org", b"verified\0example.net"
TABLES = [table for table in Table if table.startswith("q")]


@pytest.fixture(params=["memory", "lmdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    engine: Any = memory_engine() if request.param == "memory" else lmdb_engine(tmp_path)
    yield engine
    run(engine.close())


def message(accepted_ms: int = NOW * 1000, blob_id: BlobId = BLOB) -> Message:
    return Message(
        b"k" * 32, blob_id, 100, 1, 100, 40, True, accepted_ms, UserId(b"u" * 16), b"Received: x\r\n", b"envelope"
    )


def enqueue(engine: Any, name: bytes, *places: bytes, accepted_ms: int = NOW * 1000, **more: Any) -> QueueId:
    queue_id = QueueId(name.ljust(6, b"."))
    tasks = [NewTask(place, b"to-%d@%s" % (at, place)) for at, place in enumerate(places or (HERE,))]
    more = {"now_s": NOW, "timer_s": NOW + 60, **more}
    run(engine.write(lambda txn: QUEUED.enqueue(txn, queue_id, message(accepted_ms), tasks, **more)))
    return queue_id


def ready(engine: Any, place: bytes = HERE) -> list[tuple[bytes, int]]:
    return run(engine.read(lambda txn: list(QUEUED.ready(txn, QUEUED.lane_id(place)))))


def due(engine: Any, kind: Due, until_s: int = 1 << 40) -> list[tuple[int, bytes]]:
    return run(engine.read(lambda txn: list(QUEUED.due(txn, kind, until_s))))


def change(engine: Any, queue_id: QueueId, number: int = 0, **fields: Any) -> None:
    def work(txn: Any) -> None:
        task = QUEUED.task(txn, queue_id, number)
        assert task is not None
        QUEUED.change_task(txn, queue_id, number, replace(task, **fields), NOW)

    run(engine.write(work))


def rows(engine: Any, *tables: Table) -> dict[tuple[Table, bytes], bytes]:
    wanted = tables or TABLES
    return run(engine.read(lambda txn: {(t, key): value for t in wanted for key, value in txn.scan(t, b"")}))


def test_what_is_filed_is_read_back(engine: Any) -> None:
    queue_id = enqueue(engine, b"one", HERE, THERE, priority=3)
    tasks = run(engine.read(lambda txn: list(QUEUED.tasks(txn, queue_id))))
    assert [(number, task.state, task.place, task.recipient, task.priority) for number, task in tasks] == [
        (0, TaskState.READY, HERE, b"to-0@" + HERE, 3),
        (1, TaskState.READY, THERE, b"to-1@" + THERE, 3),
    ]
    assert run(engine.read(lambda txn: QUEUED.message(txn, queue_id))) == message()
    assert run(engine.read(lambda txn: QUEUED.state(txn, queue_id))) == MessageState(2, NOW + 60)
    assert due(engine, Due.MESSAGE) == [(NOW + 60, queue_id)]


def test_a_lane_is_due_from_its_first_message_on(engine: Any) -> None:
    enqueue(engine, b"one")
    enqueue(engine, b"two", now_s=NOW + 9)
    assert due(engine, Due.LANE) == [(NOW, QUEUED.lane_id(HERE))]


def test_who_watches_the_queue_is_told(engine: Any) -> None:
    told: list[Change] = []
    engine.hub.watch(NOBODY, told.append)
    enqueue(engine, b"one")
    assert told == [QUEUE_CHANGED]


def test_priority_comes_before_age_and_a_message_stands_together(engine: Any) -> None:
    late = enqueue(engine, b"late", HERE, HERE, accepted_ms=2)
    early = enqueue(engine, b"early", HERE, THERE, HERE, accepted_ms=1)
    urgent = enqueue(engine, b"urgent", accepted_ms=3, priority=9)
    idle = enqueue(engine, b"idle", accepted_ms=0, priority=-9)
    assert ready(engine) == [(urgent, 0), (early, 0), (early, 2), (late, 0), (late, 1), (idle, 0)]
    assert ready(engine, THERE) == [(early, 1)]


def test_an_id_is_used_once(engine: Any) -> None:
    enqueue(engine, b"one")
    with pytest.raises(StoreUnavailable):
        enqueue(engine, b"one")


def test_held_back_until_its_time(engine: Any) -> None:
    queue_id = enqueue(engine, b"one", not_before_s=NOW + 100)
    assert not ready(engine)
    assert not due(engine, Due.LANE)
    assert due(engine, Due.TASK) == [(NOW + 100, task_key(queue_id, 0))]
    assert run(engine.read(lambda txn: QUEUED.next_due_s(txn, Due.TASK, NOW))) == NOW + 100
    assert run(engine.read(lambda txn: QUEUED.next_due_s(txn, Due.TASK, NOW + 100))) is None
    change(engine, queue_id, state=TaskState.READY, next_s=0)
    assert ready(engine) == [(queue_id, 0)]
    assert not due(engine, Due.TASK)
    assert due(engine, Due.LANE)


def test_the_content_is_let_go_with_the_last_recipient(engine: Any) -> None:
    queue_id = enqueue(engine, b"one", HERE, HERE)
    other = enqueue(engine, b"two")
    assert decode_count(rows(engine, Table.REF)[Table.REF, BLOB]) == 2
    change(engine, other, state=TaskState.FAILED)
    change(engine, queue_id, 0, state=TaskState.DELIVERED)
    change(engine, queue_id, 0, state=TaskState.DELIVERED, fate=b"again")
    assert decode_count(rows(engine, Table.REF)[Table.REF, BLOB]) == 1
    assert not rows(engine, Table.DEAD)
    change(engine, queue_id, 1, state=TaskState.DROPPED)
    assert not rows(engine, Table.REF)
    assert len(rows(engine, Table.DEAD)) == 1
    assert not ready(engine)


def test_only_what_is_done_is_forgotten(engine: Any) -> None:
    queue_id = enqueue(engine, b"one", HERE, THERE)
    for number in (0, 1):
        run(engine.write(lambda txn: QUEUED.forget(txn, queue_id)))
        assert (Table.QMSG, queue_id) in rows(engine)
        change(engine, queue_id, number, state=TaskState.DELIVERED)
    run(engine.write(lambda txn: QUEUED.forget(txn, queue_id)))
    run(engine.write(lambda txn: [QUEUED.close_lane(txn, QUEUED.lane_id(place)) for place in (HERE, THERE)]))
    assert not rows(engine)


def test_a_lane_with_something_ready_is_not_closed(engine: Any) -> None:
    lane_id = QUEUED.lane_id(HERE)
    queue_id = enqueue(engine, b"one")
    assert not run(engine.write(lambda txn: QUEUED.close_lane(txn, lane_id)))
    change(engine, queue_id, state=TaskState.HELD)
    assert run(engine.write(lambda txn: QUEUED.close_lane(txn, lane_id)))
    assert not due(engine, Due.LANE)
    run(engine.write(lambda txn: QUEUED.put_lane(txn, lane_id, Lane(NOW, HERE))))
    assert not due(engine, Due.LANE)


def test_a_lane_that_is_held_back_moves_in_time(engine: Any) -> None:
    lane_id = QUEUED.lane_id(HERE)
    enqueue(engine, b"one")
    away = Lane(NOW + 60, HERE, 1, NOW, b"problem")
    run(engine.write(lambda txn: QUEUED.put_lane(txn, lane_id, away)))
    assert due(engine, Due.LANE) == [(NOW + 60, lane_id)]
    assert not due(engine, Due.LANE, NOW + 59)
    assert run(engine.read(lambda txn: QUEUED.lane(txn, lane_id))) == away
    enqueue(engine, b"two")
    assert due(engine, Due.LANE) == [(NOW + 60, lane_id)]


def test_a_message_is_looked_at_at_its_time(engine: Any) -> None:
    queue_id = enqueue(engine, b"one")
    run(engine.write(lambda txn: QUEUED.retime(txn, queue_id, NOW + 500, b"notes")))
    assert due(engine, Due.MESSAGE) == [(NOW + 500, queue_id)]
    run(engine.write(lambda txn: QUEUED.retime(txn, queue_id, 0)))
    assert not due(engine, Due.MESSAGE)
    assert run(engine.read(lambda txn: QUEUED.state(txn, queue_id))) == MessageState(1, 0, notes=b"notes")


def test_a_sender_is_warned_of_a_place_once_an_hour(engine: Any) -> None:
    def may(now_s: int, sender: bytes = b"ann", place: bytes = HERE) -> bool:
        if run(engine.read(lambda txn: QUEUED.was_said(txn, now_s, sender, place))):
            return False
        run(engine.write(lambda txn: QUEUED.note_said(txn, now_s, sender, place)))
        return True

    assert may(NOW)
    assert not may(NOW + HOUR_S - 1)
    assert may(NOW, b"bob")
    assert may(NOW, b"ann", THERE)
    assert may(NOW + HOUR_S)
    assert may(NOW + 4 * HOUR_S)
    assert len(rows(engine, Table.QSAID)) == 1


def test_the_disk_shows_neither_who_nor_where(engine: Any) -> None:
    enqueue(engine, b"one", HERE, THERE, not_before_s=NOW + 9)
    enqueue(engine, b"two")
    run(engine.write(lambda txn: QUEUED.note_said(txn, NOW, b"ann@example.com", HERE)))
    octets = b"".join(key + value for (_, key), value in rows(engine).items())
    for secret in (b"example", b"to-0", b"envelope", b"Received", b"k" * 32, b"u" * 16):
        assert secret not in octets


@pytest.mark.parametrize("table", [Table.QMSG, Table.QSTATE, Table.QTASK, Table.QLANE])
def test_a_changed_or_moved_row_does_not_open(engine: Any, table: Table) -> None:
    queue_id, other = enqueue(engine, b"one", HERE), enqueue(engine, b"two", THERE)
    found = {key: value for (_, key), value in rows(engine, table).items()}
    assert len(found) == 2
    (key, value), (_, moved) = found.items()

    def read(txn: Any) -> None:
        for one in (queue_id, other):
            QUEUED.message(txn, one)
            QUEUED.state(txn, one)
            list(QUEUED.tasks(txn, one))
        for place in (HERE, THERE):
            QUEUED.lane(txn, QUEUED.lane_id(place))

    run(engine.read(read))
    for wrong in (moved, value[:-1] + bytes([value[-1] ^ 1]), value[:20], b""):
        run(engine.write(lambda txn, wrong=wrong: txn.put(table, key, wrong)))
        with pytest.raises(Damaged):
            run(engine.read(read))


octets = st.binary(max_size=40)
numbers = st.integers(0, 2**32 - 1)
tasks = st.builds(
    Task,
    st.sampled_from(TaskState),
    st.binary(min_size=16, max_size=16),
    st.integers(-9, 9),
    st.integers(0, 2**63),
    octets,
    octets,
    st.integers(0, 2**63),
    numbers,
    numbers,
    numbers,
    numbers,
    octets,
)


@given(tasks, st.builds(Lane, numbers, octets, numbers, numbers, octets), octets)
def test_values_survive_the_disk(task: Task, lane: Lane, rest: bytes) -> None:
    assert decode_task(encode_task(task)) == task
    assert decode_lane(encode_lane(lane)) == lane
    state = MessageState(task.attempts, task.next_s, task.doubts % 2 == 0, rest)
    assert decode_state(encode_state(state)) == state
    one = replace(message(), prefix=rest, envelope=task.fate, sender=None)
    assert decode_message(encode_message(one)) == one


@given(octets)
def test_other_octets_are_damage(plain: bytes) -> None:
    for decode in (decode_task, decode_lane, decode_state, decode_message):
        with pytest.raises(Damaged):
            decode(b"\2" + plain)
    with pytest.raises(Damaged):
        decode_task(plain)


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from(TaskState), st.integers(1, 50), st.booleans()),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_orders_say_what_the_rows_say(steps: list[tuple[int, int, TaskState, int, bool]]) -> None:
    """Whatever happens: what is ready or waits is found, each lane with something ready is due, references are kept."""
    engine = memory_engine()
    ids = [enqueue(engine, b"m%d" % at, HERE, THERE, priority=at, accepted_ms=at) for at in range(4)]
    for at, number, state, delay, closes in steps:
        before = run(engine.read(lambda txn, at=at, number=number: QUEUED.task(txn, ids[at], number)))
        assert before is not None
        if before.state.is_open:
            change(engine, ids[at], number, state=state, next_s=NOW + delay)
        if closes:
            run(engine.write(lambda txn: [QUEUED.close_lane(txn, QUEUED.lane_id(place)) for place in (HERE, THERE)]))
    wanted: dict[Table, set[bytes]] = {
        Table.QREADY: set(),
        Table.QDUE: {due_key(Due.MESSAGE, NOW + 60, i) for i in ids},
    }
    holding = 0
    lanes = set()
    for queue_id in ids:
        open_ones = 0
        for number, task in run(engine.read(lambda txn, queue_id=queue_id: list(QUEUED.tasks(txn, queue_id)))):
            key = task_key(queue_id, number)
            open_ones += task.state.is_open
            if task.state is TaskState.READY:
                wanted[Table.QREADY].add(ready_key(task.lane_id, task.priority, task.accepted_ms, key))
                lanes.add(task.lane_id)
            elif task.state is TaskState.WAITING:
                wanted[Table.QDUE].add(due_key(Due.TASK, task.next_s, key))
        holding += open_ones > 0
        state = run(engine.read(lambda txn, queue_id=queue_id: QUEUED.state(txn, queue_id)))
        assert state is not None
        assert state.open == open_ones
    run(engine.write(lambda txn: [QUEUED.close_lane(txn, QUEUED.lane_id(place)) for place in (HERE, THERE)]))
    wanted[Table.QDUE] |= {due_key(Due.LANE, NOW, lane_id) for lane_id in lanes}
    for table, keys in wanted.items():
        assert {key for _, key in rows(engine, table)} == keys
    count = rows(engine, Table.REF).get((Table.REF, BLOB))
    assert (0 if count is None else decode_count(count)) == holding
