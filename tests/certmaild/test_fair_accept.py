"""A port that steps back for workers with fewer connections."""

from twisted.internet.task import Clock

from certmaild.fair_accept import AT_ONCE, YIELD_S, share_fairly


class Port:
    """Remembers what was asked of it."""

    connected = True
    numberAccepts = 100

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.reading = True

    def doRead(self) -> None:
        self.taken.append(self.numberAccepts)

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False


def test_who_is_not_ahead_takes_one_by_one() -> None:
    port = Port()
    share_fairly(port, Clock(), lambda: False)
    port.doRead()
    port.doRead()
    assert port.taken == [1, 1]


def test_who_is_ahead_waits_and_takes_what_nobody_came_for() -> None:
    port, clock = Port(), Clock()
    share_fairly(port, clock, lambda: True)
    port.doRead()
    assert (port.taken, port.reading) == ([], False)
    clock.advance(YIELD_S)
    assert port.reading
    port.doRead()
    assert port.taken == [AT_ONCE]
    port.doRead()
    assert (port.taken, port.reading) == ([AT_ONCE], False)


def test_a_closed_port_stays_closed() -> None:
    port, clock = Port(), Clock()
    share_fairly(port, clock, lambda: True)
    port.doRead()
    port.connected = False
    clock.advance(YIELD_S)
    assert not port.reading
