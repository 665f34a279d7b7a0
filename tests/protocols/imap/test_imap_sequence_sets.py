"""Sequence sets: ranges from text, text from numbers."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.sequence_sets import (
    MAX_RANGES,
    format_sequence_set,
    merge_ranges,
    parse_seq_number,
    parse_seq_range,
    parse_sequence_set,
)


@given(st.sets(st.integers(1, 300), min_size=1))
def test_numbers_read_back(numbers: set[int]) -> None:
    text = format_sequence_set(sorted(numbers))
    ranges = parse_sequence_set(text, largest=1)
    assert [number for part in ranges for number in part] == sorted(numbers)


@given(st.lists(st.integers(1, 50), min_size=1))
def test_order_is_kept(numbers: list[int]) -> None:
    """COPYUID pairs two sets by order."""
    told: list[int] = []
    for part in format_sequence_set(numbers).split(b","):
        first, _, last = part.partition(b":")
        told += range(int(first), int(last or first) + 1)
    assert told == numbers


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=8))
def test_sets_are_normalised(ends: list[tuple[int, int]]) -> None:
    text = b",".join(b"%d:%d" % pair for pair in ends)
    ranges = parse_sequence_set(text, largest=9)
    assert {n for part in ranges for n in part} == {n for a, b in ends for n in range(min(a, b), max(a, b) + 1)}
    assert all(left.stop < right.start for left, right in itertools.pairwise(ranges))


@given(st.binary(max_size=20))
def test_garbage_raises_grammar_errors_only(garbage: bytes) -> None:
    with contextlib.suppress(GrammarError):
        parse_sequence_set(garbage, largest=5)


def test_star() -> None:
    assert parse_seq_range(b"*", largest=7) == range(7, 8)
    assert parse_seq_range(b"9:*", largest=7) == range(7, 10)
    assert parse_seq_range(b"*:2", largest=7) == range(2, 8)
    assert parse_sequence_set(b"1:*", largest=0) == (range(1, 2),)


@pytest.mark.parametrize(
    "text", [b"", b"0", b"0:3", b"1:", b":1", b"1,,2", b"1:2:3", b"a", b"4294967296", b"1" * 40, b"$,1", b"-1"]
)
def test_refused(text: bytes) -> None:
    with pytest.raises(GrammarError):
        parse_sequence_set(text, largest=5)


def test_bounds() -> None:
    assert parse_seq_number(b"4294967295") == 4294967295
    with pytest.raises(GrammarError):
        parse_sequence_set(b",".join([b"1"] * (MAX_RANGES + 1)), largest=5)
    assert parse_sequence_set(b",".join([b"1"] * MAX_RANGES), largest=5) == (range(1, 2),)
    assert merge_ranges(()) == ()
    assert format_sequence_set(()) == b""
