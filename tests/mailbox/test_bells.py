"""Bells: who is woken, how often, and what happens when nobody listens."""

import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from certmaild.mailbox.bells import PAUSE_S, Bell, Bells

ROOT = Path(__file__).parents[2]


class ReadingClock(Clock):
    """A clock that also calls readers with something to read, when told to `turn`."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Bell] = set()

    def addReader(self, reader: Bell) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Bell) -> None:
        self.readers.discard(reader)

    def turn(self) -> None:
        ready, _, _ = select.select(list(self.readers), [], [], 0)
        for reader in ready:
            reader.doRead()


class House:
    """A process that listens, and counts what it hears."""

    def __init__(self, directory: Path, clock: ReadingClock, slot: int) -> None:
        self.heard = 0
        self.bell = Bell(directory, slot, clock)
        self.bell.hang(self._hear)

    def _hear(self) -> None:
        self.heard += 1


@pytest.fixture
def clock() -> ReadingClock:
    return ReadingClock()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "volatile" / "bells"


@pytest.fixture
def houses(place: Path, clock: ReadingClock) -> Iterator[list[House]]:
    made = [House(place, clock, slot) for slot in (1, 2, 3)]
    yield made
    for house in made:
        house.bell.take_down()


def test_all_others_are_woken_once(place: Path, clock: ReadingClock, houses: list[House]) -> None:
    Bells(place, slot=2, slots=3).ring()
    clock.turn()
    clock.advance(PAUSE_S)
    clock.turn()
    assert [house.heard for house in houses] == [1, 0, 1]


def test_the_command_line_wakes_whoever_is_there(place: Path, clock: ReadingClock, houses: list[House]) -> None:
    bells = Bells(place)
    bells.ring()
    bells.close()
    clock.turn()
    assert [house.heard for house in houses] == [1, 1, 1]


def test_a_burst_is_heard_at_once_and_then_together(place: Path, clock: ReadingClock, houses: list[House]) -> None:
    bells, house = Bells(place, slot=2, slots=3), houses[0]
    bells.ring()
    clock.turn()
    for _ in range(20):
        bells.ring()
        clock.turn()
    assert house.heard == 1
    clock.advance(PAUSE_S)
    clock.turn()
    assert house.heard == 2
    clock.advance(PAUSE_S)
    clock.turn()
    assert house.heard == 2


def test_a_full_pipe_keeps_nobody_waiting(place: Path, clock: ReadingClock, houses: list[House]) -> None:
    bells = Bells(place, slot=2, slots=3)
    for _ in range(100_000):
        bells.ring()
    # What lies in it is read in pieces, and then there is silence.
    for _ in range(100):
        clock.turn()
        clock.advance(PAUSE_S)
    before = houses[0].heard
    clock.turn()
    assert houses[0].heard == before > 0
    bells.ring()
    clock.turn()
    assert houses[0].heard == before + 1


def test_where_nobody_listens_nothing_happens(place: Path, clock: ReadingClock) -> None:
    for bells in (Bells(place), Bells(place, slot=1, slots=3)):
        bells.ring()
    house = House(place, clock, 2)
    bells.ring()
    house.bell.take_down()
    house.bell.take_down()
    assert list(place.iterdir()) == []
    bells.ring()
    clock.turn()
    # It was rung, but had no turn.
    assert house.heard == 0


def test_who_takes_the_place_of_another_is_heard_of(place: Path, clock: ReadingClock) -> None:
    bells = Bells(place, slot=1, slots=3)
    for _ in range(3):
        house = House(place, clock, 2)
        bells.ring()
        clock.turn()
        assert house.heard == 1
        house.bell.take_down()
    bells.close()


HANG = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from twisted.internet import reactor
from certmaild.mailbox.bells import Bell
Bell(Path(sys.argv[1]), 2, reactor).hang(lambda: None)
print("hangs", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_leaves_is_replaced(place: Path, clock: ReadingClock) -> None:
    bells = Bells(place, slot=1, slots=3)
    words = [sys.executable, "-P", "-c", HANG.format(root=str(ROOT)), str(place)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hangs\n"
        bells.ring()
        os.kill(process.pid, signal.SIGKILL)
    bells.ring()
    assert (place / "2").is_fifo()
    house = House(place, clock, 2)
    bells.ring()
    clock.turn()
    assert house.heard == 1
    house.bell.take_down()


def test_only_the_own_user_can_ring(place: Path, houses: list[House]) -> None:
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in place.iterdir()} == {0o600}


def test_what_is_no_pipe_is_left_alone(tmp_path: Path, place: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    place.mkdir(parents=True)
    (place / "2").symlink_to(elsewhere)
    Bells(place).ring()
    assert elsewhere.read_text() == "kept"


def test_without_a_pipe_the_log_says_so(tmp_path: Path, clock: ReadingClock) -> None:
    (tmp_path / "volatile").write_text("a file")
    with capturedLogs() as logged:
        House(tmp_path / "volatile" / "bells", clock, 1)
    assert [event["log_format"] for event in logged] == ["no pipe at {path}, so changes are seen late: {fault}"]
    assert not clock.readers


def test_the_end_of_the_reactor_takes_it_down(place: Path, clock: ReadingClock) -> None:
    house = House(place, clock, 1)
    house.bell.connectionLost(Failure(ConnectionError()))
    assert not clock.readers
    assert not list(place.iterdir())
    house = House(place, clock, 1)
    Bells(place).ring()
    clock.turn()
    house.bell.take_down()
    clock.advance(PAUSE_S)
    assert not clock.readers
