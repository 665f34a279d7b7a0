"""Dates, to and from seconds and days, against the standard library's calendar."""

import contextlib
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.datetimes import (
    civil_of,
    days_of,
    format_date_time,
    parse_date,
    parse_date_argument,
    parse_date_time,
)
from certmaild.protocols.imap.grammar.tokens import Cursor

EPOCH = date(1970, 1, 1)


@given(st.dates())
def test_days_agree_with_the_calendar(day: date) -> None:
    days = (day - EPOCH).days
    assert days_of(day.year, day.month, day.day) == days
    assert civil_of(days) == (day.year, day.month, day.day)
    assert parse_date(day.strftime("%d-%b-").encode() + b"%04d" % day.year) == days


@given(st.integers(0, 4_000_000_000))
def test_date_times_read_back(seconds: int) -> None:
    text = format_date_time(seconds)
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert text == at.strftime('"%e-%b-%Y %H:%M:%S +0000"').encode()
    assert parse_date_time(text[1:-1]) == seconds


def test_zones() -> None:
    assert parse_date_time(b" 2-Jan-1970 00:00:00 +0100") == 82_800
    assert parse_date_time(b"02-jan-1970 00:00:00 -0130") == 91_800
    assert parse_date_time(b" 1-Jan-1970 00:00:00 +0100") == 0


def test_arguments() -> None:
    assert parse_date_argument(Cursor((b'"1-Feb-1970"',))) == 31
    assert parse_date_argument(Cursor((b"01-FEB-1970",))) == 31
    assert parse_date(b"29-Feb-2000") - parse_date(b"28-Feb-2000") == 1


@given(st.text("0123456789-: +JanFeb", max_size=28))
def test_garbage_raises_grammar_errors_only(garbage: str) -> None:
    for parse in (parse_date, parse_date_time):
        with contextlib.suppress(GrammarError):
            parse(garbage.encode())


@pytest.mark.parametrize(
    "text", [b"", b"1-Foo-2020", b"30-Feb-2020", b"0-Jan-2020", b"29-Feb-1900", b"1-Jan-20", b"1/1/2020"]
)
def test_bad_dates(text: bytes) -> None:
    with pytest.raises(GrammarError):
        parse_date(text)


@pytest.mark.parametrize("time", [b"24:00:00 +0000", b"00:60:00 +0000", b"00:00:61 +0000", b"00:00:00 +0060", b"x"])
def test_bad_times(time: bytes) -> None:
    with pytest.raises(GrammarError):
        parse_date_time(b" 1-Jan-2020 " + time)
