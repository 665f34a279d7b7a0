"""The connections of one listener, ended together; and the one timer of a connection."""

from twisted.internet.task import Clock

from certmaild.protocols.connections import Connections
from certmaild.protocols.countdown import Countdown


class Connection:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def shut_down(self) -> None:
        self.told.append("shut down")

    def cut_off(self) -> None:
        self.told.append("cut off")


class Quick(Connection):
    """Gone as soon as it is told."""

    def __init__(self, there: "Connections[Connection]") -> None:
        super().__init__()
        self.there = there

    def shut_down(self) -> None:
        super().shut_down()
        self.there.remove(self)


def test_where_nobody_is_the_end_is_at_once() -> None:
    there: Connections[Connection] = Connections()
    assert there.shut_down().called


def test_the_end_waits_for_the_last_and_tells_each_once() -> None:
    there: Connections[Connection] = Connections()
    slow, quick = Connection(), Quick(there)
    for one in (slow, quick):
        there.add(one)
    gone = there.shut_down()
    assert there.shut_down() is gone
    assert slow.told == quick.told == ["shut down"]
    assert len(there) == 1 and not gone.called
    there.cut_off()
    assert slow.told == ["shut down", "cut off"] and quick.told == ["shut down"]
    there.remove(Connection())
    assert not gone.called
    there.remove(slow)
    assert gone.called
    there.remove(slow)


def test_one_call_is_due_at_most() -> None:
    clock = Clock()
    called: list[str] = []
    countdown = Countdown(clock)
    countdown.set(5, lambda: called.append("first"))
    countdown.set(3, lambda: called.append("second"))
    clock.advance(9)
    assert called == ["second"]
    countdown.set(1, lambda: called.append("third"))
    countdown.cancel()
    countdown.cancel()
    assert not clock.getDelayedCalls()
