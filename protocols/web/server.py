"""The responder over a Twisted transport inside TLS: one `WebServer` per connection, ten seconds for each."""

from typing import cast

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from certmaild.protocols.connections import Connections
from certmaild.protocols.countdown import Countdown
from certmaild.protocols.interfaces import Admission, Doorkeeper
from certmaild.protocols.limits import Limits
from certmaild.protocols.transport import Clock, Transport
from certmaild.protocols.web.interfaces import Shelf
from certmaild.protocols.web.session import Session

log = Logger()

REQUEST_S = 10
"""From the connection to the end of the request, the handshake in it; and as long again for taking the answer."""


class WebFactory(Factory):
    """Makes the server side of each connection."""

    noisy = False

    def __init__(self, shelf: Shelf, doorkeeper: Doorkeeper, limits: Limits, clock: Clock) -> None:
        self.shelf = shelf
        self.doorkeeper = doorkeeper
        self.limits = limits
        self.clock = clock
        self.connections: Connections[WebServer] = Connections()

    def buildProtocol(self, addr: IAddress | None) -> "WebServer":
        """A new connection."""
        server = WebServer(self)
        server.factory = self
        return server


@implementer(IHalfCloseableProtocol)
class WebServer(Protocol):
    """One connection. Nothing is logged of a request: its query may hold an address."""

    def __init__(self, house: WebFactory) -> None:
        self._house = house
        self._session = Session(house.shelf)
        self._admission: Admission | None = None
        self._countdown = Countdown(house.clock)

    @property
    def _line(self) -> Transport:
        return cast(Transport, self.transport)

    def connectionMade(self) -> None:
        """Admit, and start the clock."""
        line, house = self._line, self._house
        self._admission = house.doorkeeper.admit(line.getPeer().host, line.getHost().port, self)
        if self._admission is None:
            line.abortConnection()
            return
        house.connections.add(self)
        self._countdown.set(REQUEST_S, self.cut_off)

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client; what comes behind the request is dropped."""
        if self._admission is None:
            return
        try:
            response = self._session.receive_data(data, now_s=self._house.clock.seconds())
        except Exception:
            log.failure("answering a request failed")
            self.cut_off()
            return
        if response is not None:
            self._line.write(response)
            self._line.loseConnection()
            self._countdown.set(REQUEST_S, self.cut_off)

    def readConnectionLost(self) -> None:
        """The client sends nothing more: without a whole request there is nothing to answer."""
        if not self._session.is_answered:
            self._line.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The client is gone."""
        self._countdown.cancel()
        if self._admission is not None:
            self._admission.leave()
        self._house.connections.remove(self)

    def evict(self) -> None:
        """Give way to other connections."""
        self.cut_off()

    def shut_down(self) -> None:
        """Who is being answered gets the rest."""
        if not self._session.is_answered:
            self.cut_off()

    def cut_off(self) -> None:
        """Close now."""
        self._line.abortConnection()
