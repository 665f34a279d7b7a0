"""Work of several messages runs in a row, in order, and never for longer than a turn."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from certmaild.together import TURN_S, Together


class Turns:
    """A clock whose calls are made one turn at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Callable[..., object]] = []

    def seconds(self) -> float:
        return self.now

    def callLater(self, delay: float, call: Callable[..., object], *args: object) -> Any:
        assert delay == 0
        self.calls.append(call)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def test_those_who_join_in_one_turn_go_on_in_a_row_at_its_end() -> None:
    clock, order = Turns(), []
    together = Together(clock)
    for name in "abc":
        together.joined().addCallback(lambda _, name=name: order.append(name))
    assert not order
    assert len(clock.calls) == 1
    clock.turn()
    assert order == ["a", "b", "c"]
    assert not clock.calls


def test_long_work_leaves_the_rest_to_later_turns() -> None:
    clock, order = Turns(), []
    together = Together(clock)

    def work(name: str) -> None:
        order.append(name)
        clock.now += TURN_S * 0.6

    for name in "abcd":
        together.joined().addCallback(lambda _, name=name: work(name))
    clock.turn()
    assert order == ["a", "b"]
    clock.turn()
    assert order == ["a", "b", "c", "d"]


def test_who_joins_while_the_line_goes_is_not_forgotten() -> None:
    clock = Turns()
    together = Together(clock)
    later: list[Deferred[None]] = []
    together.joined().addCallback(lambda _: later.append(together.joined()))
    clock.turn()
    clock.turn()
    assert later[0].called
