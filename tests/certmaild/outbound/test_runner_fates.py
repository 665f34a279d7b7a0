"""What becomes of queued mail that does not go out at once: tried again, given up, told of."""

from typing import Any

import pytest
from outbound_support import (
    AWAY,
    BUSY,
    CONTENT,
    DELIVERED,
    NOBODY,
    NOW,
    PREFIX,
    SENDER,
    UNPROVEN,
    World,
)
from twisted.logger import capturedLogs

from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_queue import TaskState
from certmaild.outbound.interfaces import Occasion
from certmaild.outbound.lane import LINGER_S, LOSSES
from certmaild.outbound.timing import Times
from certmaild.outbound.values import Notify, Problem
from certmaild.protocols.smtp.grammar import NULL_PATH

HOUR = 3600
DAY = 86_400
DONE = [TaskState.DELIVERED]


def test_a_recipient_is_tried_again_after_a_time_that_doubles(world: World) -> None:
    world.courier.fates["bob@example.org"] = BUSY
    queue_id = world.file("bob@example.org", "eve@example.org")
    world.start()
    world.pass_time(3 * HOUR)
    times = [one.at - NOW for one in world.courier.sent if one.to == ("bob@example.org",)]
    assert times == pytest.approx([60, 180, 420, 900, 1860, 3780, 7380], abs=8)
    assert world.states(queue_id) == [TaskState.WAITING, TaskState.DELIVERED]
    assert world.fates(queue_id) == [BUSY, DELIVERED]
    assert world.courier.sent[0].to == ("bob@example.org", "eve@example.org")
    world.courier.fates.clear()
    world.pass_time(HOUR)
    assert world.states(queue_id) == DONE * 2


def test_a_destination_that_is_not_reached_is_left_alone_as_a_whole(world: World) -> None:
    world.courier.problems["example.org"] = AWAY
    ids = [world.file() for _ in range(20)]
    other = world.file("bob@example.net")
    world.start()
    assert world.courier.connected.count("example.org") == 1
    assert world.states(other) == DONE
    written = world.rows(Table.QREADY)
    assert written == 20
    world.pass_time(170)
    assert world.courier.connected.count("example.org") == 2
    assert {task.attempts for queue_id in ids for task in world.tasks(queue_id)} == {0}
    world.courier.problems.clear()
    world.pass_time(60)
    assert set(world.order) == {*ids, other}
    assert world.rows(Table.QLANE) == 0


def test_a_destination_that_is_reached_again_has_failed_no_longer(world: World) -> None:
    world.courier.problems["example.org"] = AWAY
    world.courier.fates["bob@example.org"] = BUSY
    world.file()
    world.start()
    world.pass_time(60)
    world.courier.problems.clear()
    world.pass_time(120)
    assert len(world.courier.sent) == 1
    world.pass_time(2 * LINGER_S)
    world.courier.problems["example.org"] = AWAY
    before = len(world.courier.connected)
    world.file("eve@example.org")
    world.pass_time(90)
    assert len(world.courier.connected) == before + 2


def test_a_plan_that_cannot_be_made_now_holds_everything_back(world: World) -> None:
    world.planner.problems["example.org"] = UNPROVEN
    queue_id = world.file()
    world.start()
    assert not world.courier.connected
    assert world.states(queue_id) == [TaskState.READY]
    world.planner.problems.clear()
    world.pass_time(61)
    assert world.states(queue_id) == DONE


def test_connections_that_are_lost_again_and_again_hold_back_the_destination(world: World) -> None:
    world.slots.each = 1
    world.courier.loses = True
    for at in range(9):
        world.courier.fates[f"p{at}@example.org"] = AWAY
        world.file(f"p{at}@example.org")
    world.start()
    assert len(world.courier.sent) == LOSSES
    world.courier.loses = False
    world.courier.fates.clear()
    world.pass_time(200)
    assert len(world.courier.sent) == 9 + LOSSES


def test_a_message_is_held_until_its_time(world: World) -> None:
    world.file(hold_until_s=NOW + 500)
    world.start()
    world.pass_time(499)
    assert not world.courier.sent
    world.pass_time(2)
    assert world.courier.sent[0].at == pytest.approx(NOW + 500, abs=1)


def test_a_fault_of_ours_is_a_reason_to_try_again(world: World) -> None:
    world.courier.raises = RuntimeError("oops")
    queue_id = world.file()
    with capturedLogs() as events:
        world.start()
    assert any("oops" in str(event.get("log_failure", "")) for event in events)
    world.courier.raises = None
    world.pass_time(61)
    assert world.states(queue_id) == DONE


def test_who_is_refused_for_good_is_reported_with_what_is_left_of_the_message(world: World) -> None:
    world.courier.fates["bob@example.org"] = NOBODY
    queue_id = world.file("bob@example.org", "eve@example.org")
    world.start()
    assert world.reporter.occasions == [(queue_id, "failed", "bob@example.org")]
    assert world.reporter.headers == [PREFIX + CONTENT[: CONTENT.index(b"\r\n\r\n") + 4]]
    (news,) = world.reporter.told[0][1]
    assert (news.fate, news.attempts, news.last_try_s) == (NOBODY, 1, NOW)
    assert world.states(queue_id) == [TaskState.FAILED, TaskState.DELIVERED]


def test_a_destination_that_takes_no_mail_fails_all_that_is_for_it(world: World) -> None:
    null_mx = Problem(True, 556, "5.1.10", "This domain takes no mail.")
    world.planner.problems["example.org"] = null_mx
    ids = [world.file("bob@example.org", "eve@example.org") for _ in range(3)]
    world.start()
    assert [world.states(queue_id) for queue_id in ids] == [[TaskState.FAILED] * 2] * 3
    assert len(world.reporter.told) == 3
    assert world.rows(Table.QLANE) == world.rows(Table.QREADY) == world.rows(Table.REF) == 0


def test_nothing_fails_unheard(world: World) -> None:
    """While no report can be made, a failure is not final."""
    world.courier.fates["bob@example.org"] = NOBODY
    world.reporter.fault = RuntimeError("no reports today")
    queue_id = world.file()
    world.start()
    assert world.states(queue_id) == [TaskState.WAITING]
    world.reporter.fault = None
    world.pass_time(61)
    assert world.states(queue_id) == [TaskState.FAILED]
    assert world.reporter.occasions == [(queue_id, "failed", "bob@example.org")]


def test_a_message_without_a_sender_is_given_up_in_silence(world: World) -> None:
    world.courier.fates["bob@example.org"] = NOBODY
    queue_id = world.file(sender=NULL_PATH)
    world.start()
    assert world.states(queue_id) == [TaskState.FAILED]
    assert not world.reporter.told


def test_of_a_message_without_a_sender_hears_who_is_named_for_that(world: World) -> None:
    world.courier.fates["bob@example.org"] = NOBODY
    world.courier.problems["example.net"] = UNPROVEN
    failed = world.file(sender=NULL_PATH, told=SENDER)
    late = world.file("eve@example.net", sender=NULL_PATH, told=SENDER)
    world.start()
    world.pass_time(5 * HOUR, 10)
    assert [(queue_id, occasion) for queue_id, occasion, _ in world.reporter.occasions] == [
        (failed, "failed"),
        (late, "warned"),
        (late, "delayed"),
    ]


def test_after_its_lifetime_it_goes_back(world: World) -> None:
    world.courier.problems["example.org"] = AWAY
    queue_id = world.file()
    world.start()
    world.pass_time(5 * DAY - 100, 20)
    assert world.states(queue_id) == [TaskState.READY]
    world.pass_time(200, 20)
    assert world.states(queue_id) == [TaskState.FAILED]
    assert world.fates(queue_id) == [AWAY]
    assert [one[1] for one in world.reporter.occasions] == ["delayed", "failed"]
    assert world.rows(Table.REF) == 0


def test_a_message_that_has_to_be_there_by_a_time_goes_back_then(world: World) -> None:
    world.courier.fates["bob@example.org"] = BUSY
    returned = world.file(deliver_by_s=NOW + 600, by_mode="R")
    noted = world.file(deliver_by_s=NOW + 600, by_mode="N")
    world.start()
    world.pass_time(700)
    assert world.states(returned) == [TaskState.FAILED]
    assert world.states(noted) == [TaskState.WAITING]
    assert sorted(world.reporter.occasions) == [
        (returned, "failed", "bob@example.org"),
        (noted, "delayed", "bob@example.org"),
    ]


def test_success_is_reported_where_it_is_asked_for_and_the_next_server_does_not(world: World) -> None:
    world.courier.fates["dsn@example.org"] = type(DELIVERED)(DELIVERED.host, "250 ok", DELIVERED.proof, relays_dsn=True)
    queue_id = world.file("bob@example.org", "dsn@example.org", notify=[Notify.SUCCESS])
    world.start()
    assert world.reporter.occasions == [(queue_id, "relayed", "bob@example.org")]


def test_a_delay_is_told_once(world: World) -> None:
    world.courier.problems["example.org"] = AWAY
    queue_id = world.file()
    world.start()
    world.pass_time(4 * HOUR - 60, 10)
    assert not world.reporter.told
    world.pass_time(20 * HOUR, 10)
    (news,) = world.reporter.told[0][1]
    assert len(world.reporter.told) == 1
    assert (news.occasion, news.fate, news.until_s) == (Occasion.DELAYED, AWAY, NOW + 5 * DAY)
    assert world.states(queue_id) == [TaskState.READY]


def test_a_destination_that_does_not_prove_itself_is_warned_of_once_an_hour(world: World) -> None:
    world.courier.problems["example.org"] = UNPROVEN
    first = world.file("bob@example.org", "eve@example.org")
    world.file()
    world.start()
    world.pass_time(14 * 60)
    assert not world.reporter.told
    world.pass_time(2 * 60)
    assert world.reporter.occasions == [(first, "warned", "bob@example.org"), (first, "warned", "eve@example.org")]
    world.pass_time(40 * 60)
    world.file()
    world.pass_time(10 * 60)
    third = world.file()
    world.file("cat@example.org", sender=NULL_PATH)
    world.pass_time(30 * 60)
    assert [one[0] for one in world.reporter.occasions] == [first, first, third]


def test_other_problems_are_no_reason_to_warn(world: World) -> None:
    world.courier.problems["example.org"] = AWAY
    world.file()
    world.start()
    world.pass_time(3 * HOUR, 5)
    assert not world.reporter.told
    world.courier.problems["example.org"] = UNPROVEN
    world.pass_time(2 * HOUR, 5)
    assert {one[1] for one in world.reporter.occasions} == {"delayed", "warned"}


def test_what_is_done_is_forgotten_after_three_days(world: World) -> None:
    queue_id = world.file("bob@example.org", "eve@example.org")
    world.start()
    world.pass_time(3 * DAY - 60, 30)
    assert len(world.tasks(queue_id)) == 2
    world.pass_time(120, 30)
    for table in Table:
        if table.startswith("q"):
            assert world.rows(table) == 0, table


def test_the_log_names_no_outside_address(world: World) -> None:
    world.courier.fates["bob@example.org"] = BUSY
    world.courier.fates["eve@example.org"] = NOBODY
    with capturedLogs() as events:
        world.file("bob@example.org", "eve@example.org", "cat@example.org")
        world.start()
        world.stop()
    text = repr(events)
    assert "sent to mx.example.org (TLSv1.3" in text
    for name in ("bob@", "eve@", "cat@", "ann@"):
        assert name not in text


def test_times_double_up_to_the_longest() -> None:
    times = Times(retry=60, longest_retry=3600)
    assert [times.pause_s(failures) for failures in (1, 2, 3, 6, 7, 8, 10_000)] == [
        60,
        120,
        240,
        1920,
        3600,
        3600,
        3600,
    ]


def test_a_report_that_cannot_be_filed_doubles_nothing(world: World) -> None:
    """What was delivered is settled although the failure beside it cannot be told yet."""
    world.courier.fates["bob@example.org"] = NOBODY
    world.reporter.breaks = True
    queue_id = world.file("bob@example.org", "eve@example.org")
    world.start()
    assert world.states(queue_id) == [TaskState.WAITING, TaskState.DELIVERED]
    world.reporter.breaks = False
    world.pass_time(61)
    assert world.states(queue_id) == [TaskState.FAILED, TaskState.DELIVERED]
    assert [one.to for one in world.courier.sent] == [("bob@example.org", "eve@example.org"), ("bob@example.org",)]
    assert len(world.reporter.told) == 1


def test_messages_of_which_nobody_hears_are_noted_together(world: World) -> None:
    world.courier.problems["example.org"] = AWAY
    for _ in range(200):
        world.file()
    world.start()
    writes = []
    real_write = world.engine.write

    def write(work: Any, **more: Any) -> Any:
        writes.append(work)
        return real_write(work, **more)

    world.engine.write = write
    world.pass_time(16 * 60)
    assert len(writes) < 20
