"""One question to one DNS server: UDP, and TCP when the answer does not fit (RFC 1035 section 4.2, RFC 7766)."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import dns.exception
import dns.flags
import dns.message
from twisted.internet import error
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

UDP_PAYLOAD = 1232
"""Octets that pass everywhere without fragments (DNS flag day 2020); longer answers are parsed in a thread."""
MAX_ANSWER = 16 * 1024
"""By TCP. No record that mail needs comes near, and reading so much takes a while."""

Parse = Callable[[bytes], Awaitable[dns.message.Message]]
"""Parses a long message without keeping the reactor waiting; raises `dns.exception.DNSException`."""


class ServerSilent(Exception):
    """The server gave no answer in time, or could not be reached. Its text is the end of a sentence."""


_FAULTS = (
    ServerSilent,
    TimeoutError,
    error.ConnectError,
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
    asking = _Datagrams(reactor, server, query)
    asking.start()
    return asking.answered


@implementer(IReadDescriptor)
class _Datagrams:
    """A socket for one question: its port is drawn by the kernel, and it is connected, so that nobody else is heard.

    Twisted's own UDP ports write two lines to the log for each.
    """

    def __init__(self, reactor: Any, server: Server, query: dns.message.Message) -> None:
        self._reactor = reactor
        self._server = server
        self._query = query
        family = socket.AF_INET6 if server.ip.version == 6 else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.answered: Deferred[dns.message.Message] = Deferred()
        self.answered.addBoth(self._close)

    def start(self) -> None:
        """Ask, and listen. Raises `OSError`."""
        try:
            self._socket.connect((self._server.address, self._server.port))
            self._socket.send(self._query.to_wire())
        except OSError:
            self._socket.close()
            raise
        self._reactor.addReader(self)

    def _close(self, outcome: Any) -> Any:
        self._reactor.removeReader(self)
        self._socket.close()
        return outcome

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor."""
        return "DNS"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives up on the socket."""
        if not self.answered.called:
            self.answered.errback(ServerSilent())

    def doRead(self) -> None:
        """One datagram, the answer or noise; or word that nobody listens there."""
        try:
            octets = self._socket.recv(UDP_PAYLOAD + 1)
            answer = parse_message(octets)
        except (BlockingIOError, InterruptedError, dns.exception.DNSException):
            return
        except OSError:
            self.answered.errback(ServerSilent())
            return
        if self._query.is_response(answer):
            self.answered.callback(answer)


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
