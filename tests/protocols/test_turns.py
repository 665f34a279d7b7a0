"""Sessions that share the reactor's time."""

from collections import Counter

import pytest
from support import WorkingClock
from twisted.logger import capturedLogs

from certmaild.protocols.turns import SLICE_S, TURN_S, Turns

STEP_S = SLICE_S / 5


class Worker:
    """A session with so much to do, in steps of `STEP_S`."""

    def __init__(self, house: "Workers", steps: int) -> None:
        self.house = house
        self.steps = steps
        self.done = 0

    def go(self) -> None:
        turns = self.house.turns
        if not turns.begin(self.go):
            return
        while self.done < self.steps:
            if turns.is_over():
                turns.later(self.go)
                break
            self.house.clock.rightNow += STEP_S
            self.done += 1
        turns.end()

    @property
    def is_done(self) -> bool:
        return self.done == self.steps


class Workers:
    def __init__(self) -> None:
        self.clock = WorkingClock()
        self.turns = Turns(self.clock)

    def make(self, steps: int = 10**6) -> Worker:
        return Worker(self, steps)

    def turn(self) -> float:
        """One pass of the reactor; how long it worked."""
        began = self.clock.rightNow
        self.clock.advance(0)
        return self.clock.rightNow - began


@pytest.fixture
def house() -> Workers:
    return Workers()


def test_a_lone_session_works_at_once_and_asks_the_reactor_for_nothing(house: Workers) -> None:
    worker = house.make(steps=5)
    worker.go()
    assert worker.is_done
    assert not house.clock.getDelayedCalls()


def test_a_lone_session_goes_on_for_a_whole_turn(house: Workers) -> None:
    worker = house.make()
    began = house.clock.rightNow
    worker.go()
    assert house.clock.rightNow - began == pytest.approx(TURN_S, abs=2 * STEP_S)
    assert len(house.clock.getDelayedCalls()) == 1


def test_many_small_pieces_of_work_use_a_turn_up_too(house: Workers) -> None:
    for _ in range(round(TURN_S / STEP_S) + 1):
        house.make(steps=1).go()
    late = house.make(steps=1)
    late.go()
    assert not late.done
    house.turn()
    assert late.is_done
    assert not house.clock.getDelayedCalls()


def test_however_many_wait_a_turn_of_the_reactor_is_short_and_all_get_the_same(house: Workers) -> None:
    workers = [house.make() for _ in range(20)]
    for worker in workers:
        worker.go()
    for _ in range(500):
        assert house.turn() <= TURN_S + SLICE_S + 2 * STEP_S
    done = [worker.done for worker in workers[1:]]
    assert max(done) - min(done) <= 2 * (SLICE_S / STEP_S + 1)


def test_who_has_just_come_goes_before_those_who_have_had_their_share(house: Workers) -> None:
    workers = [house.make() for _ in range(20)]
    for worker in workers:
        worker.go()
    for _ in range(5):
        house.turn()
    for _ in range(10):
        patient = house.make(steps=1)
        patient.go()
        assert not patient.done
        house.turn()
        assert patient.is_done


def test_those_who_always_come_anew_starve_nobody(house: Workers) -> None:
    old = house.make(steps=100)
    house.make().go()
    old.go()
    for _ in range(100):
        for _ in range(100):
            house.make(steps=1).go()
        house.turn()
    assert old.is_done


def test_the_same_session_waits_once(house: Workers) -> None:
    calls: Counter[str] = Counter()

    def go() -> None:
        calls["go"] += 1

    house.turns.later(lambda: None)
    for _ in range(3):
        assert not house.turns.begin(go)
    house.turns.later(go)
    assert not house.turns.begin(go)
    house.turn()
    assert calls["go"] == 1


def test_a_failure_ends_nobody_elses_turn(house: Workers) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    after = house.make(steps=1)
    house.turns.later(fail)
    house.turns.later(after.go)
    with capturedLogs() as logged:
        house.turn()
    assert after.is_done
    assert [str(event["log_failure"].value) for event in logged] == [""]


def test_work_within_work_is_one_share(house: Workers) -> None:
    """A commit may wake another session at once."""
    outer, inner = house.make(), house.make(steps=3)
    assert house.turns.begin(outer.go)
    inner.go()
    assert inner.is_done
    house.turns.end()
    assert not house.clock.getDelayedCalls()


def test_work_that_nobody_saw_begin_ends_too(house: Workers) -> None:
    """A command that a commit resumed asks whether its turn is over until it is."""
    asked = 0
    while not house.turns.is_over():
        asked += 1
    assert 0 < asked <= TURN_S / SLICE_S
    waiting = house.turns.others_first()
    assert not waiting.called
    house.turn()
    assert waiting.called
