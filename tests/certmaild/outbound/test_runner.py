"""The queue at work: what is sent when, on how many connections, and what happens when it fails."""

from typing import Any

from outbound_support import (
    AWAY,
    CONTENT,
    DELIVERED,
    PREFIX,
    World,
)
from support import run, start
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from certmaild.mailbox.errors import StoreUnavailable
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_queue import TaskState
from certmaild.outbound.interfaces import Terms
from certmaild.outbound.lane import LINGER_S
from certmaild.outbound.runner import Round

HOUR = 3600
DONE = [TaskState.DELIVERED]


# Sent.


def test_what_is_queued_is_sent_once_with_its_prefix(world: World) -> None:
    first = world.file()
    world.start()
    second = world.file()
    world.pass_time(HOUR)
    assert world.order == [first, second]
    assert {one.content for one in world.courier.sent} == {PREFIX + CONTENT}
    assert world.states(first) == DONE
    assert world.fates(first) == [DELIVERED]
    assert not world.doubts.kept
    assert not world.reporter.told


def test_content_without_a_last_line_end_gets_one(world: World) -> None:
    world.file(content=CONTENT[:-2])
    world.start()
    assert world.courier.sent[0].content == PREFIX + CONTENT


def test_messages_in_a_row_share_a_connection_that_is_closed_after_a_while(world: World) -> None:
    world.start()
    for _ in range(3):
        world.file()
        world.pass_time(LINGER_S / 2)
    assert world.courier.connected == ["example.org"]
    assert world.courier.open == {1}
    world.pass_time(2 * LINGER_S)
    assert not world.courier.open
    assert world.rows(Table.QLANE) == 0
    world.file()
    world.pass_time(0)
    assert len(world.courier.connected) == 2
    assert len(world.courier.sent) == 4


def test_a_destination_that_fails_at_once_has_no_other_worked_on_twice(world: World) -> None:
    world.start()
    for at in range(20):
        world.courier.problems[f"d{at}.example"] = AWAY
    world.courier.pause = True
    queue_id = world.file(*[f"bob@d{at}.example" for at in range(20)], "bob@example.org", "eve@example.net")
    world.pass_time(0)
    world.courier.go_on()
    assert sorted(one.to for one in world.courier.sent) == [("bob@example.org",), ("eve@example.net",)]
    assert world.states(queue_id).count(TaskState.DELIVERED) == 2


def test_a_round_is_never_done_twice_at_once() -> None:
    under_way, rounds = 0, 0

    async def work() -> float:
        nonlocal under_way, rounds
        under_way += 1
        rounds += 1
        assert under_way == 1
        if rounds < 3:
            one.wake()
        under_way -= 1
        return 60.0

    one = Round(Clock(), work)
    with capturedLogs() as logs:
        one.wake()
    assert (rounds, logs) == (3, [])


def test_recipients_at_one_destination_are_sent_together(world: World) -> None:
    world.file("a@example.org", "b@example.net", "c@example.org")
    world.start()
    assert sorted(one.to for one in world.courier.sent) == [
        ("a@example.org", "c@example.org"),
        ("b@example.net",),
    ]


def test_no_more_than_100_recipients_in_one_transaction(world: World) -> None:
    world.file(*[f"p{at}@example.org" for at in range(250)])
    world.start()
    assert sorted(len(one.to) for one in world.courier.sent) == [50, 100, 100]


def test_recipients_that_one_transaction_does_not_take_go_in_the_next(world: World) -> None:
    world.courier.recipients_each = 2
    queue_id = world.file(*[f"p{at}@example.org" for at in range(5)])
    world.start()
    assert [len(one.to) for one in world.courier.sent] == [5, 3, 1]
    assert world.states(queue_id) == DONE * 5
    assert {task.attempts for task in world.tasks(queue_id)} == {1}


def test_who_takes_no_recipient_at_all_is_tried_later(world: World) -> None:
    world.courier.recipients_each = 0
    queue_id = world.file()
    world.start()
    assert len(world.courier.sent) == 1
    assert world.states(queue_id) == [TaskState.WAITING]


def test_priority_comes_first_then_age(world: World) -> None:
    world.slots.each = 1
    usual = world.file()
    world.clock.advance(1)
    later = world.file()
    urgent = world.file(priority=4)
    world.start()
    assert world.order == [urgent, usual, later]


def test_connections_are_opened_as_there_is_work_and_no_more(world: World) -> None:
    world.slots.each = 3
    world.courier.pause = True
    for _ in range(40):
        world.file()
    world.start()
    assert len(world.courier.open) == 3
    world.courier.pause = None
    while world.courier.waiting:
        world.courier.go_on()
    assert world.courier.most_open == 3
    assert len(set(world.order)) == len(world.order) == 40


def test_two_messages_need_one_connection(world: World) -> None:
    world.courier.pause = True
    world.file()
    world.file()
    world.start()
    assert len(world.courier.open) == 1


def test_connections_in_all_are_limited(world: World) -> None:
    world.slots.in_all = 2
    world.courier.pause = True
    for at in range(5):
        world.file(f"bob@d{at}.example")
    world.start()
    while world.courier.waiting:
        assert len(world.courier.open) <= 2
        world.courier.go_on(1)
        world.pass_time(2 * LINGER_S)
    assert len(world.courier.sent) == 5


def test_connections_in_all_are_limited_however_long_it_takes_to_find_the_ways(world: World) -> None:
    world.slots.in_all = 2
    world.courier.pause = True
    world.planner.pause = True
    world.start()
    for at in range(9):
        world.file(f"bob@d{at}.example")
        world.pass_time(1)
    world.planner.pause = False
    assert len(world.planner.asked) == 2
    for one in world.planner.waiting:
        one.callback(None)
    while world.courier.waiting:
        assert len(world.courier.open) <= 2
        world.courier.go_on(1)
        world.pass_time(2 * LINGER_S)
    assert len(world.courier.sent) == 9


def test_those_that_fail_again_and_again_leave_room_for_the_others(world: World) -> None:
    world.slots.in_all = 4
    for at in range(8):
        world.courier.problems[f"d{at}.example"] = AWAY
        world.file(f"bob@d{at}.example")
    world.start()
    # From now on each attempt takes for ever.
    world.courier.tarpits = set(world.courier.problems)
    before = len(world.courier.connected)
    world.pass_time(HOUR)
    assert len(world.courier.connected) == before + 2
    good = world.file()
    world.pass_time(1)
    assert world.states(good) == DONE
    world.courier.tarpits.clear()
    world.courier.problems.clear()
    world.courier.go_on()
    world.pass_time(2 * HOUR)
    assert len(world.courier.sent) == 9


def test_who_refuses_a_second_connection_is_served_on_the_first(world: World) -> None:
    world.courier.connections_each = 1
    for _ in range(9):
        world.file()
    world.start()
    assert len(world.courier.sent) == 9
    assert world.courier.most_open == 1
    assert world.rows(Table.QLANE) == 0


def test_a_connection_that_has_sent_enough_is_followed_by_another(world: World) -> None:
    world.slots.each = 1
    world.courier.messages_each = 2
    for _ in range(5):
        world.file()
    world.start()
    assert [one.connection for one in world.courier.sent] == [1, 1, 2, 2, 3]


def test_messages_that_ask_other_things_of_tls_share_no_connection(world: World) -> None:
    world.file()
    world.file(require_tls=True)
    world.file(tls_optional=True)
    world.start()
    assert {terms for _, terms in world.planner.asked} == set(Terms)
    assert len({one.connection for one in world.courier.sent}) == 3


# Crashes, and who leads.


def test_what_was_sent_to_its_end_before_a_crash_is_counted_and_sent_again(world: World) -> None:
    queue_id = world.file("bob@example.org", "eve@example.org")
    world.courier.never_replies = True
    world.start()
    assert len(world.doubts.kept) == 1
    world.courier.never_replies = False
    world.runner = world.make_runner()
    with capturedLogs() as events:
        world.start()
    assert [event["count"] for event in events if "may be doubled" in event["log_format"]] == [2]
    assert world.order == [queue_id]
    assert [task.doubts for task in world.tasks(queue_id)] == [1, 1]
    assert not world.doubts.kept


def test_a_mark_of_what_is_settled_counts_for_nothing(world: World) -> None:
    kept: dict[bytes, bytes] = {}
    queue_id = world.file()
    world.courier.before_reply = lambda: kept.update(world.doubts.kept)
    world.start()
    assert len(kept) == 1
    assert world.states(queue_id) == DONE
    world.stop()
    world.doubts.kept = kept
    world.runner = world.make_runner()
    with capturedLogs() as events:
        world.start()
    assert not [event for event in events if "may be doubled" in event.get("log_format", "")]


def test_who_no_longer_leads_sends_nothing_to_its_end(world: World) -> None:
    world.courier.pause = True
    queue_id = world.file()
    world.start()
    world.leads = False
    world.courier.go_on()
    assert not world.courier.sent
    assert not world.doubts.kept
    assert world.states(queue_id) == [TaskState.READY]
    assert not world.courier.open


def test_stopping_finishes_what_is_under_way_and_begins_nothing(world: World) -> None:
    world.courier.pause = True
    first, second = world.file(), world.file()
    world.start()
    ended: list[object] = []
    start(world.runner.stop()).addBoth(ended.append)
    assert not ended
    world.courier.go_on()
    assert ended == [None]
    assert world.order == [first]
    assert world.states(second) == [TaskState.READY]
    assert not world.courier.open
    assert not world.clock.getDelayedCalls()


def test_what_is_under_way_too_long_is_cut_off(world: World) -> None:
    world.courier.pause = True
    queue_id = world.file()
    world.start()
    ended: list[object] = []
    start(world.runner.stop()).addBoth(ended.append)
    world.pass_time(30)
    assert ended == [None]
    assert world.states(queue_id) == [TaskState.READY]


def test_a_fate_that_cannot_be_stored_is_stored_later_and_nothing_is_sent_twice(world: World) -> None:
    queue_id = world.file()
    real_write = world.engine.write
    refusing = [True]

    def write(work: Any, **more: Any) -> Any:
        if refusing[0] and world.courier.sent:

            async def refuse() -> None:
                raise StoreUnavailable("no")

            return refuse()
        return real_write(work, **more)

    world.engine.write = write
    world.start()
    world.pass_time(10)
    assert world.states(queue_id) == [TaskState.READY]
    refusing[0] = False
    world.pass_time(2)
    assert world.states(queue_id) == DONE
    assert len(world.courier.sent) == 1


def test_a_damaged_row_stops_nobody_else(world: World) -> None:
    broken = world.file()
    good = [world.file() for _ in range(3)]

    def damage(txn: Any) -> None:
        key, value = next(txn.scan(Table.QTASK, bytes.fromhex(broken)))
        txn.put(Table.QTASK, key, value[:-1] + bytes([value[-1] ^ 1]))

    run(world.engine.write(damage))
    with capturedLogs() as events:
        world.start()
        world.pass_time(HOUR)
    assert set(world.order) == set(good)
    assert any("ALARM" in event.get("log_format", "") for event in events)
    assert len(events) < 200
