"""INPROGRESS while a SEARCH takes long (RFC 9585): when it comes, what it says, and that it ends with the command."""

from pathlib import Path
from typing import Any

import pytest
from imap_support import MAIL, House, Line
from twisted.internet.defer import Deferred

from certmaild.mailbox import searching
from certmaild.protocols.imap.progress import PERIOD_S


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Six messages, which a search by text reads one in a slice."""
    monkeypatch.setattr(searching, "_OCTETS_AT_ONCE", 1)
    monkeypatch.setattr(searching, "_MESSAGES_AT_ONCE", 1)
    house = House(tmp_path)
    house.deliver(*[MAIL] * 6)
    return house


@pytest.fixture
def slices(house: House, monkeypatch: pytest.MonkeyPatch) -> "list[tuple[Deferred[Any], Any]]":
    """What the mailbox reads in a thread from now on, each waiting for its turn."""
    waiting: list[tuple[Deferred[Any], Any]] = []

    def scan(work: Any) -> "Deferred[Any]":
        waiting.append((Deferred(), work))
        return waiting[-1][0]

    monkeypatch.setattr(house.engine, "scan", scan)
    return waiting


def go_on(house: House, slices: "list[tuple[Deferred[Any], Any]]") -> None:
    """Let the slice that waits be read."""
    deferred, work = slices.pop()
    house.engine.read(work).chainDeferred(deferred)


def pass_time(house: House, line: Line) -> bytes:
    """What the client is told in the next 10 s."""
    line.take()
    house.clock.advance(PERIOD_S)
    return line.take()


def test_a_search_says_how_far_it_is(house: House, slices: "list[tuple[Deferred[Any], Any]]") -> None:
    line = house.select()
    assert line.send(b"a SEARCH TEXT body\r\n") == b""
    assert pass_time(house, line) == b'* OK [INPROGRESS ("a" 0 6)] Still at work.\r\n'
    go_on(house, slices)
    go_on(house, slices)
    assert pass_time(house, line) == b'* OK [INPROGRESS ("a" 2 6)] Still at work.\r\n'
    assert pass_time(house, line) == b'* OK [INPROGRESS ("a" 2 6)] Still at work.\r\n'
    while slices:
        go_on(house, slices)
    assert line.take() == b"* SEARCH 1 2 3 4 5 6\r\na OK Completed.\r\n"
    assert pass_time(house, line) == b""


def test_a_tag_that_would_end_the_code_is_left_out(house: House, slices: "list[tuple[Deferred[Any], Any]]") -> None:
    line = house.select()
    line.send(b"a]1 UID SEARCH BODY body\r\n")
    assert pass_time(house, line) == b"* OK [INPROGRESS (NIL 0 6)] Still at work.\r\n"


def test_nothing_is_told_when_it_failed_or_the_client_is_gone(
    house: House, slices: "list[tuple[Deferred[Any], Any]]"
) -> None:
    line = house.select()
    line.send(b"a SEARCH TEXT body\r\n")
    slices.pop()[0].errback(OSError("a fault"))
    assert line.take().startswith(b"a NO ")
    assert pass_time(house, line) == b""
    line.send(b"b SEARCH TEXT body\r\n")
    line.hang_up()
    house.clock.advance(PERIOD_S)
    go_on(house, slices)
    assert not slices
