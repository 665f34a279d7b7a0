"""Counts with limits, and amounts that are counted by steps."""

import pytest

from certmaild.tally import LocalTally, Reserve


def test_a_name_past_its_limit_counts_nothing() -> None:
    tally = LocalTally()
    assert tally.count_in((b"a", 2), (b"b", None)) is None
    assert tally.count_in((b"a", 2), (b"b", None)) is None
    assert tally.count_in((b"b", None), (b"a", 2)) == b"a"
    tally.count_out(b"b", amount=2)
    assert len(tally) == 1
    tally.count_out(b"a")
    assert tally.count_in((b"a", 2)) is None


def of_steps(tally: LocalTally) -> Reserve:
    return Reserve(tally, lambda limit: 10)


def test_steps_never_pass_the_limit_and_a_lone_process_comes_to_it() -> None:
    tally = LocalTally()
    reserve = of_steps(tally)
    assert reserve.take(b"a", 25, 24)
    assert reserve.take(b"a", 25, 1)
    assert not reserve.take(b"a", 25, 1)
    assert reserve.used(b"a") == 25
    reserve.give_back(b"a", 1, 25)
    assert reserve.take(b"a", 25, 1)


def test_what_one_does_not_use_another_gets_after_a_sweep() -> None:
    tally = LocalTally()
    one, other = of_steps(tally), of_steps(tally)
    assert one.take(b"a", 20, 1)
    one.give_back(b"a", 1, 20)
    assert not other.take(b"a", 20, 11)
    one.sweep()
    assert other.take(b"a", 20, 11)
    assert not one.take(b"a", 20, 10)
    assert one.take(b"a", 20, 9)
    one.sweep()
    assert one.used(b"a") == 9


def test_much_given_back_leaves_a_step_at_most() -> None:
    tally = LocalTally()
    one, other = of_steps(tally), of_steps(tally)
    assert one.take(b"a", 100, 100)
    one.give_back(b"a", 100, 100)
    assert other.take(b"a", 100, 90)
    assert not other.take(b"a", 100, 1)


@pytest.mark.parametrize("amount", [0, 5])
def test_giving_back_what_was_not_taken_does_nothing(amount: int) -> None:
    tally = LocalTally()
    of_steps(tally).give_back(b"a", amount, 10)
    assert len(tally) == 0
