"""Text that comes into its column as messages come, in the background."""

from pathlib import Path
from typing import Any

import pytest
from mailbox_support import House, mail, make_house
from support import run
from text_support import alarms, build, frames, named, text_rows
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_text import Kind
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.text_keeper import GROWTH_S, LONGEST_REST_S


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = make_house(tmp_path)
    house.append(*[mail(f"subject {n}", f"marked{n}text " + "words " * 1000) for n in range(100)])
    return house


class Later:
    """A house whose pool has a clock, as the daemon's has."""

    def __init__(self, directory: Path, *, ahead: bool = False) -> None:
        self.clock = Clock()
        self.house = make_house(directory)
        self.house.mailbox.close()
        engine, secrets = self.house.engine, self.house.secrets
        self.house.pool = MailboxPool(
            engine, secrets, engine.hub, self.clock.seconds, call_later=self.clock.callLater, ahead=ahead
        )
        self.house.mailbox = self.house.pool.open(self.house.user_id, "joe@example.com", self.house.keys)

    def wait(self) -> None:
        self.clock.advance(GROWTH_S)


def test_what_comes_into_a_searched_folder_comes_into_its_column(tmp_path: Path) -> None:
    later = Later(tmp_path)
    house = later.house
    house.append(mail("one"))
    build(house)
    later.wait()
    house.append(mail("two"), mail("three"))
    house.deliver(mail("four"))
    run(house.mailbox.absorb())
    assert named(house) == [1]
    later.wait()
    assert named(house) == [1, 2, 3, 4]
    house.append(mail("five"), mail("six"), box="Archive")
    run(house.mailbox.copy(house.box("Archive"), [range(1, 2)], house.box()))
    run(house.mailbox.move(house.box("Archive"), [range(2, 3)], house.box()))
    later.wait()
    assert named(house) == [1, 2, 3, 4, 5, 6]
    # Nobody has searched the other one.
    assert frames(house, "Archive") == []
    assert not later.clock.getDelayedCalls()


def test_ahead_every_folder_has_a_column(tmp_path: Path) -> None:
    later = Later(tmp_path, ahead=True)
    house = later.house
    house.append(mail("one"), box="Archive")
    house.deliver(mail("two"))
    run(house.mailbox.absorb())
    later.wait()
    assert frames(house, "Archive") == [[1]] and frames(house) == [[1]]


def test_nothing_is_built_for_who_has_gone(tmp_path: Path) -> None:
    later = Later(tmp_path, ahead=True)
    later.house.append(mail("one"))
    later.house.mailbox.close()
    later.wait()
    assert text_rows(later.house) == {}


def test_damage_met_in_the_background_is_made_good(tmp_path: Path) -> None:
    later = Later(tmp_path)
    house = later.house
    house.append(mail("one"), mail("two"))
    build(house)
    later.wait()
    key = next(key for key in text_rows(house) if key[32] == Kind.HEADERS)
    house.put(Table.TEXT, key, b"nonsense")
    house.append(mail("three"))
    with capturedLogs() as logs:
        later.wait()
    assert alarms(logs) == 1 and named(house) == [1, 2, 3]


def test_what_comes_while_the_column_grows_is_added_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In slices of what a second brings, not of each message for itself."""
    later = Later(tmp_path)
    house = later.house
    house.append(mail("one"))
    build(house)
    later.wait()
    waiting: list[tuple[Deferred[Any], Any]] = []

    def scan(work: Any) -> "Deferred[Any]":
        waiting.append((Deferred(), work))
        return waiting[-1][0]

    monkeypatch.setattr(house.engine, "scan", scan)

    def go_on() -> None:
        deferred, work = waiting.pop()
        house.engine.read(work).chainDeferred(deferred)

    house.append(mail("two"))
    later.wait()
    house.append(mail("three"))
    go_on()
    go_on()
    assert named(house) == [1, 2] and not waiting
    house.append(mail("four"))
    later.wait()
    house.append(mail("five"))
    later.wait()
    while waiting:
        go_on()
        # A slice that took long is followed by a rest.
        later.clock.advance(LONGEST_REST_S)
    assert named(house) == [1, 2, 3, 4, 5]
    assert not later.clock.getDelayedCalls()
