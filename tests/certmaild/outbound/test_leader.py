"""One process works the queue, and another goes on when it dies."""

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
from outbound_support import SECRETS, World
from support import run, start
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from certmaild.config_values import Outbound
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.layout import slot_key
from certmaild.mailbox.processes import this_process
from certmaild.outbound.dispatch import Dispatch
from certmaild.outbound.leader import LEASE_S, MARGIN_S, TICK_S, Leader


class Worker:
    def __init__(self) -> None:
        self.works = False
        self.stopping: Deferred[None] | None = None
        self.fault: Exception | None = None

    async def start(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.works = True

    async def stop(self) -> None:
        self.works = False
        if self.stopping is not None:
            await self.stopping


class Process:
    """One of those that share a volatile store."""

    def __init__(self, shared: VolatileStore, clock: Clock, slot: int) -> None:
        # LMDB opens a file once in a process.
        self.shared = copy(shared)
        self.shared._slot = slot_key(slot)
        self.made: list[Worker] = []
        self.leader = Leader(self.shared, clock, self.make)

    def make(self) -> Worker:
        self.made.append(Worker())
        return self.made[-1]

    @property
    def works(self) -> bool:
        return bool(self.made) and self.made[-1].works

    def die(self) -> None:
        """It stops where it is, and its clock with it."""
        assert self.leader._timer is not None
        self.leader._timer.cancel()


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1_800_000_000)
    return clock


@pytest.fixture
def two(tmp_path: Path, clock: Clock) -> Iterator[list[Process]]:
    shared = VolatileStore(tmp_path / "volatile", clock.seconds, slots=2)
    yield [Process(shared, clock, slot) for slot in (1, 2)]
    shared.close()


def pass_time(clock: Clock, seconds: float) -> None:
    clock.pump([TICK_S / 2] * int(seconds * 2 / TICK_S))


def test_one_of_two_works_and_goes_on(two: list[Process], clock: Clock) -> None:
    first, second = two
    first.leader.start()
    second.leader.start()
    pass_time(clock, 10 * LEASE_S)
    assert (first.works, second.works) == (True, False)
    assert (first.leader.holds(), second.leader.holds()) == (True, False)
    assert len(first.made) == 1


def test_another_goes_on_a_second_after_one_died(two: list[Process], clock: Clock) -> None:
    first, second = two
    for one in two:
        one.leader.start()
    first.die()
    second.shared.give_back_all(1)  # as the supervisor does
    pass_time(clock, TICK_S)
    assert second.works


def test_one_that_stands_still_loses_the_lease_before_another_has_it(two: list[Process], clock: Clock) -> None:
    first, second = two
    for one in two:
        one.leader.start()
    first.die()
    pass_time(clock, LEASE_S - MARGIN_S)
    assert not first.leader.holds()
    assert not second.works
    pass_time(clock, MARGIN_S + TICK_S)
    assert second.works
    with capturedLogs() as events:
        first.leader._tick()
    assert not first.works
    assert any("another process" in event["log_format"] for event in events)


def test_one_that_stops_politely_lets_another_have_it(two: list[Process], clock: Clock) -> None:
    first, second = two
    for one in two:
        one.leader.start()
    first.made[0].stopping = Deferred()
    ended: list[object] = []
    start(first.leader.stop()).addBoth(ended.append)
    pass_time(clock, TICK_S)
    assert not ended
    assert not second.works
    first.made[0].stopping.callback(None)
    pass_time(clock, TICK_S)
    assert ended == [None]
    assert second.works


def test_who_cannot_begin_tries_again(two: list[Process], clock: Clock) -> None:
    first = two[0]
    broken = Worker()
    broken.fault = RuntimeError("no")
    workers = [broken, Worker()]
    first.leader._make = lambda: workers.pop(0)
    with capturedLogs() as events:
        first.leader.start()
    assert any("cannot be worked" in event["log_format"] for event in events)
    last = workers[0]
    pass_time(clock, TICK_S)
    assert last.works


def test_a_lease_that_cannot_be_renewed_lasts_until_its_end(two: list[Process], clock: Clock) -> None:
    first = two[0]
    first.leader.start()

    def fail(name: bytes, seconds: float) -> bool:
        raise OSError("disk full")

    first.shared.take = fail  # type: ignore[method-assign]
    pass_time(clock, LEASE_S / 2)
    assert first.works
    pass_time(clock, LEASE_S)
    assert not first.works


def dispatch(world: World, shared: VolatileStore, outbound: Outbound = Outbound()) -> Dispatch:  # noqa: B008 frozen
    return Dispatch(
        world.engine,
        world.spool,
        world.planner,
        world.courier,
        world.reporter,
        shared,
        world.clock,
        hash_address=SECRETS.trace_hash,
        outbound=outbound,
    )


def test_what_a_killed_process_left_open_is_counted_by_the_next_daemon(tmp_path: Path) -> None:
    world = World()
    folder = tmp_path / "volatile"
    shared = VolatileStore(folder, world.clock.seconds)
    shared.enter(this_process(1))
    first = dispatch(world, shared)
    queue_id = world.file()
    world.courier.never_replies = True
    first.start()
    world.pass_time(0)
    assert len(world.courier.sent) == 0
    shared.close()
    world.clock.calls.clear()
    VolatileStore.make_anew(folder)
    shared = VolatileStore(folder, world.clock.seconds)
    assert len(shared.doubts()) == 1
    world.courier.never_replies = False
    second = dispatch(world, shared)
    with capturedLogs() as events:
        second.start()
        world.pass_time(1)
    assert [event["count"] for event in events if "may be doubled" in event["log_format"]] == [1]
    assert world.order == [queue_id]
    assert not shared.doubts()
    run(second.stop())
    shared.close()


def test_doubts_from_before_a_fall_of_the_machine_are_forgotten(tmp_path: Path) -> None:
    shared = VolatileStore(tmp_path / "volatile", lambda: 0.0)
    shared.enter(replace(this_process(1), boot_id=b"another boot....", pid=1))
    shared.put_doubt(b"name", b"value")
    shared.close()
    VolatileStore.make_anew(tmp_path / "volatile")
    shared = VolatileStore(tmp_path / "volatile", lambda: 0.0)
    assert not shared.doubts()
    shared.close()


def test_settings_are_taken_over(tmp_path: Path) -> None:
    world = World()
    shared = VolatileStore(tmp_path / "volatile", world.clock.seconds)
    one = dispatch(world, shared)
    world.courier.pause = True
    one.take_over(Outbound(connections=2, retry=7))
    for _ in range(20):
        world.file()
    one.start()
    world.pass_time(0)
    assert len(world.courier.open) == 2
    assert world.spool.times.retry == 7
    world.courier.pause = None
    while world.courier.waiting:
        world.courier.go_on()
    run(one.stop())
    shared.close()
