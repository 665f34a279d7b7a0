"""When the supervisor gives a place to another process."""

from typing import Any

import pytest
from twisted.internet.task import Clock

from certmaild.supervisor import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, WorkerPlace


class Process:
    """A worker that does nothing."""

    pid = 1
    place: WorkerPlace | None = None

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def open(self, bound: object, **message: Any) -> None:
        self.told.append({"do": "open", **message})

    def tell(self, **message: Any) -> None:
        self.told.append(message)


class Supervisor:
    """What a place asks of its supervisor."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.is_closing = False
        self.bound: list[object] = []
        self.key = b"k"
        self.hired: list[float] = []
        self.dead: list[int] = []

        class Settings:
            workers, path, data, secrets, text = 1, None, "/data", "/secrets", ""

        self.config = Settings()

    def hire(self) -> Process:
        self.hired.append(self.reactor.seconds())
        return Process()

    def prepare_spare(self) -> None:
        pass

    def worker_died(self, slot: int) -> None:
        self.dead.append(slot)


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor()


@pytest.fixture
def place(supervisor: Supervisor) -> WorkerPlace:
    made = WorkerPlace(supervisor, 1)  # type: ignore[arg-type]
    made.start()
    made.heard({"do": "serving"})
    return made


def test_the_first_death_is_mended_at_once_and_the_next_ones_after_growing_pauses(
    supervisor: Supervisor, place: WorkerPlace
) -> None:
    clock, pauses = supervisor.reactor, []
    for _ in range(11):
        died, hired = clock.seconds(), len(supervisor.hired)
        place.ended("signal 9")
        while len(supervisor.hired) == hired:
            clock.advance(0.05)
        pauses.append(round(clock.seconds() - died, 1))
    assert pauses[0] <= 0.1
    assert pauses[1] == pytest.approx(FIRST_PAUSE_S, abs=0.1)
    assert pauses[2] == pytest.approx(2 * FIRST_PAUSE_S, abs=0.1)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S, abs=0.1)
    assert supervisor.dead == [1] * 11


def test_a_worker_that_served_for_a_while_is_replaced_at_once_again(supervisor: Supervisor, place: WorkerPlace) -> None:
    for _ in range(5):
        place.ended("signal 9")
        supervisor.reactor.advance(LONGEST_PAUSE_S)
        supervisor.reactor.advance(STEADY_S + 1)
    place.ended("signal 9")
    supervisor.reactor.advance(0)
    assert supervisor.hired[-1] == supervisor.reactor.seconds()


def test_nobody_is_hired_while_closing(supervisor: Supervisor, place: WorkerPlace) -> None:
    gone = place.stop()
    assert not gone.called
    place.ended("exit status 0")
    assert gone.called
    supervisor.reactor.advance(LONGEST_PAUSE_S)
    assert len(supervisor.hired) == 1
    assert supervisor.dead == []


def test_closing_within_a_pause_ends_it(supervisor: Supervisor, place: WorkerPlace) -> None:
    place.ended("signal 9")
    supervisor.reactor.advance(0)
    place.ended("signal 9")
    assert place.stop().called
    supervisor.reactor.advance(LONGEST_PAUSE_S)
    assert len(supervisor.hired) == 2
