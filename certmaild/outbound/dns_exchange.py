"""One question to one DNS server: UDP, and TCP when the answer does not fit (RFC 1035 section 4.2, RFC 7766)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import dns.exception
import dns.flags
import dns.message
from twisted.internet import error
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import ClientFactory, DatagramProtocol, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

UDP_PAYLOAD = 1232
"""Octets that pass everywhere without fragments (DNS flag day 2020); also what is parsed on the reactor's thread."""
MAX_ANSWER = 16 * 1024
"""By TCP. No record that mail needs comes near; parsing costs about a millisecond a KiB."""

Parse = Callable[[bytes], Awaitable[dns.message.Message]]
"""Parses a long message without keeping the reactor waiting; raises `dns.exception.DNSException`."""


class ServerSilent(Exception):
    """The server gave no answer in time, or could not be reached. Its text is the end of a sentence."""


_FAULTS = (
    ServerSilent,
    TimeoutError,
    error.ConnectError,
    error.CannotListenError,
    OSError,
    dns.exception.DNSException,
)


@dataclass(frozen=True, slots=True)
class Server:
    """A recursive resolver."""

    address: str
    port: int = 53

    @property
    def is_local(self) -> bool:
        """On this machine, so that nobody on the way can set the AD bit (RFC 7672 section 8.2, RFC 6840 5.8)."""
        return self.ip.is_loopback

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        """Its address."""
        return ip_address(self.address)

    @classmethod
    def read(cls, given: str) -> "Server":
        """From ``address`` or ``address#port``. Raises `ValueError`."""
        address, _, port = given.partition("#")
        return cls(str(ip_address(address)), int(port or 53))


async def exchange(
    reactor: Any, server: Server, query: dns.message.Message, timeout_s: float, parse: Parse
) -> dns.message.Message:
    """The server's answer: to this very question, with its id, from his address. Raises `ServerSilent`."""
    try:
        answer = await _by_udp(reactor, server, query).addTimeout(timeout_s, reactor)
        if answer.flags & dns.flags.TC:
            answer = await _by_tcp(reactor, server, query, timeout_s, parse)
    except _FAULTS as fault:
        raise ServerSilent(f"the DNS server {server.address} does not answer") from fault
    return answer


def parse_message(octets: bytes) -> dns.message.Message:
    """A message, also one that was cut. Raises `dns.exception.DNSException`."""
    try:
        return dns.message.from_wire(octets, raise_on_truncation=True)
    except dns.message.Truncated as cut:
        return cut.message()  # type: ignore[no-any-return, no-untyped-call]  # dnspython's


def _by_udp(reactor: Any, server: Server, query: dns.message.Message) -> "Deferred[dns.message.Message]":
    done: Deferred[dns.message.Message] = Deferred()
    # Port 0: the kernel draws a port nobody can guess, and a connected socket takes no other sender's datagrams.
    any_address = "::" if server.ip.version == 6 else ""
    port = reactor.listenUDP(0, _Datagram(server, query, done), any_address, maxPacketSize=UDP_PAYLOAD + 1)

    def close(result: Any) -> Any:
        port.stopListening()
        return result

    return done.addBoth(close)


class _Datagram(DatagramProtocol):
    noisy = False
    transport: Any

    def __init__(self, server: Server, query: dns.message.Message, done: "Deferred[dns.message.Message]") -> None:
        self._server = server
        self._query = query
        self._done = done

    def startProtocol(self) -> None:
        self.transport.connect(self._server.address, self._server.port)
        self.transport.write(self._query.to_wire())

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        if self._done.called:
            return
        try:
            answer = parse_message(datagram)
        except dns.exception.DNSException:
            return
        if self._query.is_response(answer):
            self._done.callback(answer)

    def connectionRefused(self) -> None:
        if not self._done.called:
            self._done.errback(ServerSilent())


async def _by_tcp(
    reactor: Any, server: Server, query: dns.message.Message, timeout_s: float, parse: Parse
) -> dns.message.Message:
    done: Deferred[bytes] = Deferred()
    connector = reactor.connectTCP(server.address, server.port, _StreamFactory(query.to_wire(), done), timeout_s)
    try:
        octets = await done.addTimeout(timeout_s, reactor)
    finally:
        connector.disconnect()
    answer = parse_message(octets) if len(octets) <= UDP_PAYLOAD else await parse(octets)
    if not query.is_response(answer):
        raise dns.exception.FormError
    return answer


class _Stream(Int16StringReceiver):
    MAX_LENGTH = MAX_ANSWER
    factory: "_StreamFactory"

    def connectionMade(self) -> None:
        self.sendString(self.factory.question)  # type: ignore[no-untyped-call]  # Twisted's

    def stringReceived(self, string: bytes) -> None:
        if not self.factory.done.called:
            self.factory.done.callback(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.factory.done.called:
            self.factory.done.errback(ServerSilent())


class _StreamFactory(ClientFactory):
    noisy = False
    protocol = _Stream  # type: ignore[assignment]  # a class is a callable

    def __init__(self, question: bytes, done: "Deferred[bytes]") -> None:
        self.question = question
        self.done = done

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        if not self.done.called:
            self.done.errback(reason)
