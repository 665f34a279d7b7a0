"""The responder over a transport of Twisted's: places, times, and the end."""

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from certmaild.doorkeeper import InProcessDoorkeeper
from certmaild.protocols.limits import Limits
from certmaild.protocols.web.interfaces import Page
from certmaild.protocols.web.server import REQUEST_S, WebFactory, WebServer

REQUEST = b"GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n"


class Shelf:
    fails = False

    def find(self, host: str, path: str) -> Page | None:
        if self.fails:
            raise RuntimeError("a fault")
        return Page("text/plain", b"content")


class Line(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(clock: Clock) -> WebFactory:
    limits = Limits(connections_per_address=2)
    return WebFactory(Shelf(), InProcessDoorkeeper(limits), limits, clock)


def connect(house: WebFactory) -> tuple[WebServer, Line]:
    server, line = house.buildProtocol(None), Line()
    server.makeConnection(line)  # type: ignore[arg-type]
    return server, line


def lose(server: WebServer) -> None:
    server.connectionLost(Failure(ConnectionError()))


def test_one_answer_and_the_end(house: WebFactory, clock: Clock) -> None:
    server, line = connect(house)
    server.dataReceived(REQUEST + REQUEST)
    server.dataReceived(REQUEST)
    assert line.value().count(b"HTTP/1.1 200 OK") == 1
    assert line.disconnecting and not line.aborted
    clock.advance(REQUEST_S)
    assert line.aborted, "who does not take the answer is cut off"
    lose(server)
    assert len(house.connections) == 0 and not clock.getDelayedCalls()


def test_a_request_has_ten_seconds_however_it_drips_in(house: WebFactory, clock: Clock) -> None:
    server, line = connect(house)
    for at in range(REQUEST_S):
        assert not line.aborted
        server.dataReceived(REQUEST[at : at + 1])
        clock.advance(1)
    assert line.aborted and line.value() == b""


def test_an_address_has_so_many_connections(house: WebFactory) -> None:
    first, _ = connect(house)
    connect(house)
    late, line = connect(house)
    assert line.aborted
    late.dataReceived(REQUEST)
    assert line.value() == b""
    lose(late)
    lose(first)
    _, line = connect(house)
    assert not line.aborted


def test_who_ends_early_and_who_gives_way(house: WebFactory) -> None:
    early, line = connect(house)
    early.dataReceived(REQUEST[:9])
    early.readConnectionLost()
    assert line.disconnecting and line.value() == b""
    lose(early)
    waits, line = connect(house)
    waits.evict()
    assert line.aborted


def test_at_the_end_answers_go_out_and_the_rest_is_cut_off(house: WebFactory) -> None:
    waits, waiting = connect(house)
    answered, line = connect(house)
    answered.dataReceived(REQUEST)
    gone: list[Any] = []
    house.connections.shut_down().addCallback(gone.append)
    assert waiting.aborted and not line.aborted
    lose(waits)
    assert not gone
    lose(answered)
    assert gone == [None]


def test_a_fault_of_ours_ends_the_connection_without_a_word(house: WebFactory) -> None:
    house.shelf.fails = True  # type: ignore[attr-defined]
    server, line = connect(house)
    server.dataReceived(REQUEST)
    assert line.aborted and line.value() == b""
