"""Rounds: nobody is called late, few are called early, and one timer serves all."""

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from certmaild.protocols.rounds import EARLY, Rounds


class Caller:
    """Notes when it was called, and asks again as long as it is told to."""

    def __init__(self, clock: Clock, rounds: Rounds, seconds: float = 160) -> None:
        self.clock, self.rounds, self.seconds = clock, rounds, seconds
        self.called: list[float] = []
        rounds.add(self.call, seconds)

    def call(self) -> None:
        self.called.append(self.clock.seconds())
        self.rounds.add(self.call, self.seconds)


def test_one_alone_is_called_on_time() -> None:
    clock = Clock()
    caller = Caller(clock, Rounds(clock))
    clock.pump([160] * 3)
    assert caller.called == [160, 320, 480]


def test_many_are_called_together_and_never_late() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    callers = []
    for _ in range(160):
        callers.append(Caller(clock, rounds))
        clock.advance(1)
    clock.pump([1] * 1600)
    times = {time for caller in callers for time in caller.called if time > 160}
    assert len(times) <= 1600 / (160 * EARLY)
    for caller in callers:
        waits = [after - before for before, after in zip(caller.called, caller.called[1:], strict=False)]
        assert len(waits) >= 9
        assert all(160 * (1 - EARLY) <= wait <= 160 for wait in waits)
    assert len(clock.getDelayedCalls()) == 1


def test_a_shorter_time_is_kept_too() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    slow, quick = Caller(clock, rounds), Caller(clock, rounds, 10)
    clock.pump([1] * 160)
    assert quick.called == [10 * n for n in range(1, 17)]
    assert len(slow.called) == 1


def test_who_is_dropped_is_not_called() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    one, other = Caller(clock, rounds), Caller(clock, rounds)
    assert one.call in rounds
    rounds.drop(one.call)
    rounds.drop(one.call)
    assert one.call not in rounds
    clock.advance(160)
    assert (one.called, other.called) == ([], [160])
    rounds.drop(other.call)
    assert clock.getDelayedCalls() == []


def test_one_that_leaves_during_the_round_of_another_is_not_called_again() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    called: list[str] = []

    def first() -> None:
        called.append("first")
        rounds.drop(second)

    def second() -> None:
        called.append("second")

    rounds.add(first, 10)
    rounds.add(second, 10.5)
    clock.advance(11)
    assert called == ["first"]
    assert clock.getDelayedCalls() == []


def test_a_fault_of_one_keeps_nobody_from_being_called() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    called: list[str] = []
    rounds.add(lambda: called.append(str(1 // 0)), 10)
    rounds.add(lambda: called.append("other"), 10)
    with capturedLogs() as logged:
        clock.advance(10)
    assert called == ["other"]
    assert [event["log_format"] for event in logged] == ["a session failed in its round"]
