"""What the houses of IMAP and POP3 for tests share: a doorkeeper, and a transport that keeps what is written."""

from types import SimpleNamespace
from typing import Any


class Door:
    """A doorkeeper that lets all in, or none."""

    open = True
    inside = logged_in = 0

    def admit(self, peer: str, port: int, give_way: object) -> "Door | None":
        self.inside += self.open
        return self if self.open else None

    def authenticated(self) -> None:
        self.logged_in += 1

    def leave(self) -> None:
        self.inside -= 1


class Line:
    """A transport that keeps what is written, and closes at once."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.written = bytearray()
        self.closed = self.aborted = self.reading_paused = False
        self.slow = False
        """Whether the client reads nothing by itself."""
        self.producer: Any = None
        server.makeConnection(self)

    def getPeer(self) -> Any:
        return SimpleNamespace(host="192.0.2.1", port=1993)

    getHost = getPeer

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data
        if self.slow:
            self.producer.pauseProducing()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading_paused = True

    def resumeProducing(self) -> None:
        self.reading_paused = False

    def loseConnection(self) -> None:
        assert self.producer is None
        self.hang_up()

    def abortConnection(self) -> None:
        self.aborted = True
        self.hang_up()

    def hang_up(self) -> None:
        if not self.closed:
            self.closed = True
            self.server.connectionLost()

    def send(self, data: bytes) -> bytes:
        """Send octets; what came back."""
        if not self.closed:
            self.server.dataReceived(data)
        return self.take()

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self.written)
        self.written.clear()
        return taken
