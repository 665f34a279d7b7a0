"""What a person orders the queue to do, while it works and while it does not."""

from collections.abc import Callable
from typing import Any

import pytest
from outbound_support import AWAY, BUSY, DELIVERED, NOW, World
from support import run

from certmaild.mailbox.identifiers import QueueId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_queue import TaskState
from certmaild.outbound.orders import MessageView, Orders
from certmaild.outbound.values import Problem

DAY = 86_400


@pytest.fixture
def world() -> World:
    return World()


def order(world: World, name: str, queue_id: str, *words: Any, **more: Any) -> int:
    method: Callable[..., int] = getattr(Orders(world.spool), name)
    now = int(world.clock.seconds())
    done = run(world.engine.write(lambda txn: method(txn, QueueId(bytes.fromhex(queue_id)), *words, now, **more)))
    world.clock.advance(0)
    return done


def view(world: World, queue_id: str) -> MessageView:
    found = run(world.engine.read(lambda txn: Orders(world.spool).view(txn, QueueId(bytes.fromhex(queue_id)))))
    assert found is not None
    return found


def test_what_waits_is_tried_at_once(world: World) -> None:
    world.courier.fates["bob@example.org"] = BUSY
    queue_id = world.file()
    world.start()
    world.courier.fates.clear()
    assert order(world, "retry", queue_id) == 1
    assert world.states(queue_id) == [TaskState.DELIVERED]
    assert order(world, "retry", queue_id) == 0


def test_a_destination_that_is_left_alone_is_tried_at_once(world: World) -> None:
    world.courier.problems["example.org"] = AWAY
    queue_id = world.file()
    world.start()
    world.pass_time(65)
    assert view(world, queue_id).copies[0].fate == AWAY
    assert view(world, queue_id).copies[0].next_try_s == NOW + 60 + 120
    world.courier.problems.clear()
    assert order(world, "retry", queue_id) == 1
    assert world.states(queue_id) == [TaskState.DELIVERED]


def test_a_held_message_waits_without_end_and_goes_when_it_is_released(world: World) -> None:
    queue_id = world.file("bob@example.org", "eve@example.net")
    assert order(world, "hold", queue_id) == 2
    assert order(world, "hold", queue_id) == 0
    world.start()
    world.pass_time(20 * DAY, 600)
    assert not world.courier.sent
    assert not world.reporter.told
    assert view(world, queue_id).is_held
    # Its time is over: it goes back, or out if it is faster.
    assert order(world, "release", queue_id) == 2
    assert not view(world, queue_id).is_held
    world.pass_time(1)
    assert all(not state.is_open for state in world.states(queue_id))


def test_what_is_held_while_it_is_sent_stays_held_unless_it_went(world: World) -> None:
    world.courier.pause = True
    world.courier.fates["bob@example.org"] = BUSY
    queue_id = world.file("bob@example.org", "eve@example.org")
    world.start()
    assert order(world, "hold", queue_id) == 2
    world.courier.go_on()
    assert world.states(queue_id) == [TaskState.HELD, TaskState.DELIVERED]
    assert order(world, "release", queue_id) == 1


def test_dropped_in_silence(world: World) -> None:
    queue_id = world.file("bob@example.org", "eve@example.org")
    wanted = lambda recipient: recipient.path.local == "bob"  # noqa: E731
    assert order(world, "drop", queue_id, "spam", report=False, wanted=wanted) == 1
    world.start()
    assert [one.to for one in world.courier.sent] == [("eve@example.org",)]
    assert world.states(queue_id) == [TaskState.DROPPED, TaskState.DELIVERED]
    assert not world.reporter.told
    other = world.file("cat@example.com", hold_until_s=NOW + 100)
    assert order(world, "drop", other, "spam", report=False) == 1
    world.pass_time(4 * DAY, 600)
    for table in Table:
        if table.startswith("q"):
            assert not run(world.engine.read(lambda txn, table=table: list(txn.scan(table, b"")))), table


@pytest.mark.parametrize("held", [False, True])
def test_dropped_with_a_report_by_who_works_the_queue(world: World, held: bool) -> None:
    queue_id = world.file("bob@example.org", "eve@example.org")
    if held:
        order(world, "hold", queue_id)
    assert order(world, "drop", queue_id, "it is too large", report=True) == 2
    assert order(world, "release", queue_id) == 0
    world.start()
    world.pass_time(1)
    assert not world.courier.sent
    assert world.states(queue_id) == [TaskState.FAILED] * 2
    assert {one[1] for one in world.reporter.occasions} == {"failed"}
    fate = world.fates(queue_id)[0]
    assert isinstance(fate, Problem)
    assert "it is too large" in fate.words


def test_a_drop_is_reported_when_a_report_can_be_made(world: World) -> None:
    world.reporter.fault = RuntimeError("no reports today")
    queue_id = world.file()
    order(world, "drop", queue_id, "spam", report=True)
    world.start()
    world.pass_time(120)
    assert world.states(queue_id) == [TaskState.HELD]
    world.reporter.fault = None
    world.pass_time(120)
    assert world.states(queue_id) == [TaskState.FAILED]
    assert len(world.reporter.told) == 1
    assert not world.courier.sent


def test_what_is_dropped_while_it_is_sent_is_given_up_unless_it_went(world: World) -> None:
    world.courier.pause = True
    world.courier.fates["bob@example.org"] = BUSY
    queue_id = world.file("bob@example.org", "eve@example.org")
    world.start()
    assert order(world, "drop", queue_id, "spam", report=True) == 2
    world.courier.go_on()
    world.pass_time(120)
    assert world.states(queue_id) == [TaskState.FAILED, TaskState.DELIVERED]
    assert [one[2] for one in world.reporter.occasions] == ["bob@example.org"]


def test_what_is_shown_of_a_message(world: World) -> None:
    queue_id = world.file("bob@example.org", "eve@example.net", priority=3)
    world.courier.problems["example.net"] = AWAY
    world.start()
    found = view(world, queue_id)
    assert (found.accepted_s, found.expires_s, found.envelope.priority) == (NOW, NOW + 5 * DAY, 3)
    bob, eve = found.copies
    assert (bob.state, bob.fate, bob.attempts, bob.next_try_s) == (TaskState.DELIVERED, DELIVERED, 1, None)
    assert (eve.state, eve.fate, eve.attempts, eve.next_try_s) == (TaskState.READY, AWAY, 0, NOW + 60)


def test_the_oldest_are_listed_first(world: World) -> None:
    ids = []
    for _ in range(5):
        ids.insert(0, world.file())
        world.clock.advance(-10)
    orders = Orders(world.spool)
    listed = run(world.engine.read(lambda txn: orders.ids(txn)))
    assert [one.hex() for one in listed] == ids
    order(world, "drop", ids[0], "spam", report=False)
    assert len(run(world.engine.read(lambda txn: orders.ids(txn)))) == 4
    assert len(run(world.engine.read(lambda txn: orders.ids(txn, done=True)))) == 5
