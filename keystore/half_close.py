"""Half-closed TLS connections: who has said all he had to say still gets his answers.

Twisted takes the peer's close_notify, and the end of his TCP stream, for the end of both directions. Here each is told
to the protocol inside as `IHalfCloseableProtocol.readConnectionLost`, and that closes when it has answered. What
was cut off in the middle of a command is not run.
"""

from typing import Protocol, cast

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.components import registerAdapter
from zope.interface import implementer

from certmaild.keystore.primitives import serialization


class _HalfCloseable(Protocol):
    """The part of `IHalfCloseableProtocol` that is used, as mypy reads it."""

    def readConnectionLost(self) -> None: ...


class _Closable(Protocol):
    def loseConnection(self) -> None: ...


class TlsLayer(Protocol):
    """What is used of Twisted's `TLSMemoryBIOProtocol`, most of which has no types."""

    transport: _Closable
    wrappedProtocol: object

    def getHandle(self) -> object: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...


class ServerConnection(SSL.Connection):
    """A server's side of one TLS connection under ``tls``, which tells of the peer's end and does not end with it."""

    tls: TlsLayer
    peer_is_gone = False
    """His TCP stream has ended, so that he will say nothing more, close_notify neither."""

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """The next octets; at the peer's close_notify there are none yet, for Twisted, and none will come."""
        try:
            return super().recv(bufsiz, flags)
        except SSL.ZeroReturnError:
            self.tell_end()
        raise SSL.WantReadError

    def peer_chain(self) -> tuple[bytes, ...]:
        """The certificates that the peer has shown, DER, its own first; nobody has checked them."""
        own = self.get_peer_certificate(as_cryptography=True)
        if own is None:
            return ()
        others = self.get_peer_cert_chain(as_cryptography=True) or []
        return tuple(
            one.public_bytes(serialization.Encoding.DER) for one in (own, *(other for other in others if other != own))
        )

    def shutdown(self) -> bool:
        """Send close_notify; whether nothing is to be waited for any more."""
        return super().shutdown() or self.peer_is_gone

    def tell_end(self) -> None:
        """Tell the protocol inside that nothing more comes, unless it has closed already; else both are done."""
        if self.get_shutdown() & SSL.SENT_SHUTDOWN:
            self.tls.transport.loseConnection()
            return
        inside = cast("_HalfCloseable | None", IHalfCloseableProtocol(self.tls.wrappedProtocol, None))
        if inside is None:
            self.tls.loseConnection()
        else:
            inside.readConnectionLost()


@implementer(IHalfCloseableProtocol)
class _StreamEnd:
    """What TCP asks of a TLS layer when the peer's stream ends; Twisted makes one whenever it happens."""

    def __init__(self, tls: TlsLayer) -> None:
        self._tls = tls

    def readConnectionLost(self) -> None:
        """Go on only where a handshake was completed: else there is nobody to answer."""
        connection = self._tls.getHandle()
        if not isinstance(connection, ServerConnection) or connection.get_peer_finished() is None:
            self._tls.abortConnection()
            return
        connection.peer_is_gone = True
        connection.tell_end()

    def writeConnectionLost(self) -> None:
        """Our own half is never closed alone."""


registerAdapter(_StreamEnd, TLSMemoryBIOProtocol, IHalfCloseableProtocol)  # type: ignore[no-untyped-call]
