"""The client's connection on a Twisted transport with a clock: time limits, back-pressure, ends, cancelled work."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from line_support import Line
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from certmaild.protocols.smtp.client.connection import CLOSING_S, ClientConnection, Sent
from certmaild.protocols.smtp.client.errors import ConversationOver
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments

HELLO = b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n"
ANN, BOB = MailArguments(Path("ann", "example.com")), RcptArguments(Path("bob", "p.example"))
GO = b"250 Ok\r\n250 Ok\r\n354 Go\r\n"


class Wire:
    """A connection over a transport that keeps what is written."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.connection = ClientConnection("us.example", self.clock)
        self.line = Line(self.connection)

    def begin(self, work: Coroutine[Any, Any, Any]) -> "Outcome":
        return Outcome(work)

    def opened(self, hello: bytes = HELLO) -> "Wire":
        outcome = self.begin(self.connection.open())
        self.line.send(hello)
        assert outcome.results == [None]
        self.line.take()
        return self

    def sending(
        self,
        content: Callable[[], AsyncIterator[bytes]],
        last_octets: Callable[[], None] = lambda: None,
        count: int = 1,
    ) -> "Outcome":
        return self.begin(self.connection.send(ANN, [BOB] * count, content, last_octets or (lambda: None)))


class Outcome:
    """What became of a coroutine."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.results: list[Any] = []
        self.deferred: Deferred[Any] = Deferred.fromCoroutine(work)
        self.deferred.addBoth(self.results.append)

    @property
    def words(self) -> str:
        """How it failed."""
        (failure,) = self.results
        assert isinstance(failure, Failure)
        assert isinstance(failure.value, ConversationOver)
        return failure.value.words

    @property
    def sent(self) -> Sent:
        (sent,) = self.results
        assert isinstance(sent, Sent)
        return sent


async def short() -> AsyncIterator[bytes]:
    yield b"x\r\n"


def test_the_greeting_has_five_minutes_and_so_has_each_reply() -> None:
    wire = Wire()
    outcome = wire.begin(wire.connection.open())
    wire.clock.advance(299)
    wire.line.send(b"220 mx\r\n")
    wire.clock.advance(299)
    assert not outcome.results
    # An octet is no reply.
    wire.line.send(b"250-")
    wire.clock.advance(1)
    assert outcome.words == "it did not answer within 300 s"
    assert wire.line.aborted
    assert not wire.connection.is_ready


def test_each_recipient_may_take_as_long_as_a_command() -> None:
    wire = Wire().opened()
    outcome = wire.sending(short, count=3)
    for _ in range(4):
        wire.clock.advance(299)
        wire.line.send(b"250 Ok\r\n")
    wire.clock.advance(299)
    assert not outcome.results
    wire.clock.advance(1)
    assert outcome.sent.over is not None
    assert outcome.sent.replies == (None, None, None)


def test_data_alone_has_two_minutes() -> None:
    wire = Wire().opened(b"220 mx\r\n250 mx\r\n")
    outcome = wire.sending(short)
    wire.line.send(b"250 Ok\r\n")
    assert wire.line.send(b"250 Ok\r\n").endswith(b"DATA\r\n")
    wire.clock.advance(119)
    assert not outcome.results
    wire.clock.advance(1)
    assert outcome.sent.over is not None
    assert outcome.sent.over.words == "it did not answer within 120 s"


def test_the_end_has_ten_minutes() -> None:
    wire = Wire().opened()
    outcome = wire.sending(short)
    wire.line.take()
    assert wire.line.send(GO) == b"x\r\n.\r\n"
    wire.clock.advance(599)
    assert not outcome.results
    wire.line.send(b"250 Taken\r\n")
    assert [str(reply) for reply in outcome.sent.replies] == ["250 Taken"]
    # And then we may be silent.
    wire.clock.advance(10_000)
    assert wire.connection.is_ready


def test_content_is_read_no_faster_than_it_is_taken() -> None:
    wire = Wire().opened()
    pieces, closed = [], []

    async def content() -> AsyncIterator[bytes]:
        try:
            for number in range(5):
                pieces.append(number)
                yield b"x\r\n"
        finally:
            closed.append(True)

    outcome = wire.sending(content)
    wire.line.slow = True
    wire.line.send(GO)
    for number in range(1, 6):
        assert pieces == list(range(number))
        wire.clock.advance(179)
        wire.connection.resumeProducing()
    assert closed == [True]
    assert not outcome.results
    wire.line.send(b"250 Ok\r\n")
    assert outcome.sent.over is None


def test_some_of_the_content_has_to_be_taken_in_three_minutes() -> None:
    wire = Wire().opened()
    outcome = wire.sending(short)
    wire.line.slow = True
    wire.line.send(GO)
    wire.clock.advance(180)
    assert outcome.sent.over is not None
    assert outcome.sent.over.words == "it did not answer within 180 s"
    assert wire.line.aborted


def test_our_own_store_may_take_its_time() -> None:
    wire = Wire().opened()
    waiting: Deferred[None] = Deferred()

    async def content() -> AsyncIterator[bytes]:
        await waiting
        yield b"x\r\n"

    outcome = wire.sending(content)
    wire.line.send(GO)
    wire.clock.advance(100_000)
    assert not outcome.results
    waiting.callback(None)
    assert wire.line.take() == b"x\r\n.\r\n"


@pytest.mark.parametrize("where", ["content", "last octets", "closing"])
def test_a_fault_of_ours_cuts_the_line_before_the_end(where: str) -> None:
    wire = Wire().opened()

    async def content() -> AsyncIterator[bytes]:
        try:
            yield b"x\r\n"
            if where == "content":
                raise ZeroDivisionError
        finally:
            if where == "closing":
                raise ZeroDivisionError

    def last_octets() -> None:
        if where == "last octets":
            raise ZeroDivisionError

    outcome = wire.sending(content, last_octets)
    assert b".\r\n" not in wire.line.send(GO)
    assert wire.line.aborted
    outcome.results.pop().trap(ZeroDivisionError)


@pytest.mark.parametrize("replies", [b"", GO[:8], GO])
def test_cancelled_work_cuts_the_line(replies: bytes) -> None:
    wire = Wire().opened()

    async def content() -> AsyncIterator[bytes]:
        await Deferred()
        yield b""

    outcome = wire.sending(content)
    wire.line.send(replies)
    outcome.deferred.cancel()
    outcome.results.pop().trap(CancelledError)
    assert wire.line.aborted
    assert not wire.connection.is_ready


def test_a_server_that_ends_the_conversation_while_idle() -> None:
    for said in (b"421 4.4.2 Idle too long\r\n", b"250 What?\r\n", None):
        wire = Wire().opened()
        assert wire.connection.is_ready
        wire.line.hang_up() if said is None else wire.line.send(said)
        assert not wire.connection.is_ready
        assert wire.line.closed
        outcome = wire.sending(short)
        assert outcome.sent.over is not None
        assert (outcome.sent.replies[0] is not None) == (said is not None and said.startswith(b"421"))
        quitting = wire.begin(wire.connection.quit())
        assert quitting.results == [None]


def test_quit_waits_a_moment() -> None:
    wire = Wire().opened()
    outcome = wire.begin(wire.connection.quit())
    assert wire.line.take() == b"QUIT\r\n"
    assert not outcome.results
    wire.line.send(b"221 Bye\r\n")
    assert outcome.results == [None]
    assert wire.line.closed
    assert not wire.line.aborted
    wire = Wire().opened()
    outcome = wire.begin(wire.connection.quit())
    wire.clock.advance(5)
    assert outcome.results == [None]
    assert wire.line.aborted


def test_leaving_says_so_where_it_can() -> None:
    wire = Wire().opened()
    wire.connection.leave()
    assert wire.line.take() == b"QUIT\r\n"
    assert wire.line.closed
    wire = Wire()
    wire.connection.leave()
    assert wire.line.take() == b""
    assert wire.line.closed
    wire.connection.cut()
    assert not wire.clock.getDelayedCalls()


def test_a_peer_that_does_not_let_go_is_cut_off() -> None:
    wire = Wire()
    wire.line.hang_up = lambda: None  # type: ignore[method-assign]
    outcome = wire.begin(wire.connection.open())
    wire.line.send(b"554 Go away\r\n")
    assert outcome.words == "it answered 554 Go away"
    wire.clock.advance(CLOSING_S - 1)
    assert not wire.line.aborted
    wire.clock.advance(1)
    assert wire.line.aborted


def test_a_reply_after_the_content_was_stopped() -> None:
    """BDAT: a chunk is refused while the content is read; nothing more of it is."""
    wire = Wire().opened(b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    waiting: Deferred[None] = Deferred()

    async def content() -> AsyncIterator[bytes]:
        yield b"x\r\n" * 100_000
        await waiting
        yield b"y\r\n"

    outcome = wire.sending(content)
    wire.line.take()
    assert wire.line.send(b"250 Ok\r\n250 Ok\r\n").startswith(b"BDAT 300000\r\n")
    assert wire.line.send(b"452 Full\r\n") == b"RSET\r\n"
    waiting.callback(None)
    wire.line.send(b"250 Ok\r\n")
    assert [str(reply) for reply in outcome.sent.replies] == ["452 Full"]
    assert outcome.sent.over is None
    assert wire.connection.is_ready
