"""Fetches MTA-STS policies: HTTPS with a WebPKI certificate, no redirect, 64 KiB, 60 seconds (RFC 8461 section 3.3)."""

from functools import partial
from typing import Any, cast

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from certmaild.dns.values import Lookup, ask_a, ask_aaaa
from certmaild.keystore.tls_values import Authorities, TlsResult
from certmaild.keystore.tls_web import is_certificate_fault, web_client
from certmaild.outbound.destinations import Allowed, may_be_reached

MAX_POLICY = 64 * 1024
MAX_RECEIVED = MAX_POLICY + 32 * 1024
"""With the header."""
LONGEST_S = 60
CONNECT_S = 15
MAX_TRIED = 4
"""Addresses of the policy host."""


class FetchFailed(Exception):
    """No policy was had. Its text is the end of a sentence."""

    def __init__(self, result: TlsResult, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


class StsFetch:
    """Fetches policy files."""

    def __init__(
        self,
        reactor: Any,
        lookup: Lookup,
        *,
        allowed: Allowed = may_be_reached,
        authorities: Authorities | None = None,
        port: int = 443,
        longest_s: float = LONGEST_S,
    ) -> None:
        """``authorities`` None: the system's. ``port`` is for tests."""
        self._reactor = reactor
        self._endpoints = partial(_Endpoints, reactor, lookup, allowed, authorities, port)
        self._longest_s = longest_s

    async def fetch(self, domain: str) -> str:
        """The policy file of a domain (lower-case A-labels). Raises `FetchFailed`."""
        endpoints = self._endpoints()
        pool = HTTPConnectionPool(self._reactor, persistent=False)  # type: ignore[no-untyped-call]  # Twisted's
        agent = Agent.usingEndpointFactory(self._reactor, endpoints, pool=pool)  # type: ignore[no-untyped-call]  # Twisted's
        fetching = Deferred.fromCoroutine(_fetch(HTTPClient(_Identity(agent)), domain))  # type: ignore[arg-type]  # zope's
        try:
            return await fetching.addTimeout(self._longest_s, self._reactor, _too_late)
        finally:
            endpoints.abort()


def _too_late(outcome: object, timeout_s: float) -> str:
    raise _unreachable("the policy host takes too long")


async def _fetch(client: HTTPClient, domain: str) -> str:
    url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
    try:
        response: Any = await client.get(url, allow_redirects=False, unbuffered=True)
    except FetchFailed:
        raise
    except Exception:
        failure = Failure()  # type: ignore[no-untyped-call]  # Twisted's
        reasons = [failure, *getattr(failure.value, "reasons", ())]
        known = [one.value for one in reasons if isinstance(one.value, FetchFailed)]
        if known:
            raise known[0] from None
        if any(is_certificate_fault(one) for one in reasons):
            words = "the policy host has no valid certificate for its name"
            raise FetchFailed(TlsResult.STS_WEBPKI_INVALID, words) from None
        raise _unreachable("the policy host does not answer as a web server does") from failure.value
    if response.code != 200:
        raise _unreachable(f"the policy host answers {response.code}")
    media: bytes = response.headers.getRawHeaders(b"content-type", [b""])[0].partition(b";")[0].strip().lower()
    if media != b"text/plain":
        raise FetchFailed(TlsResult.STS_POLICY_INVALID, "the policy is not sent as text/plain")
    done: Deferred[bytes] = Deferred()
    response.deliverBody(_Text(done))
    octets = await done
    return octets.decode("ascii", "replace")


def _unreachable(reason: str) -> FetchFailed:
    return FetchFailed(TlsResult.STS_POLICY_FETCH_ERROR, reason)


class _Text(Protocol):
    """Gathers a body."""

    def __init__(self, done: "Deferred[bytes]") -> None:
        self._done = done
        self._octets = b""

    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        if len(self._octets) > MAX_POLICY and not self._done.called:
            self._done.errback(FetchFailed(TlsResult.STS_POLICY_INVALID, "the policy is too long"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._done.called:
            return
        if reason.check(ResponseDone):  # type: ignore[no-untyped-call]  # Twisted's
            self._done.callback(self._octets)
        else:
            self._done.errback(_unreachable("the policy was cut off"))


@implementer(IAgent)
class _Identity:
    """Asks for the octets as they are: what treq unpacks has no bound."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> "Deferred[IResponse]":
        headers = Headers() if headers is None else headers.copy()
        headers.removeHeader(b"accept-encoding")
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(self._check)

    def _check(self, response: Any) -> Any:
        if response.headers.hasHeader(b"content-encoding"):
            raise FetchFailed(TlsResult.STS_POLICY_INVALID, "the policy is sent packed, unasked")
        return response


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Leads to the addresses that our own resolver finds."""

    def __init__(
        self, reactor: Any, lookup: Lookup, allowed: Allowed, authorities: Authorities | None, port: int
    ) -> None:
        self.reactor = reactor
        self.port = port
        self.authorities = authorities
        self._lookup = lookup
        self._allowed = allowed
        self.opened: list[_Bounded] = []

    def abort(self) -> None:
        """Cut the connections that are still there; one in TLS would else wait for the host's farewell."""
        for connection in self.opened:
            connection.transport.abortConnection()

    def endpointForURI(self, uri: URI) -> Any:
        return _Endpoint(self, uri.host.decode("ascii"))

    async def addresses(self, host: str) -> list[str]:
        found, failed = [], "the policy host has no address"
        for ask in (ask_aaaa, ask_a):
            answer = await ask(self._lookup, host)
            found += [one for one in answer.records if self._allowed(one)][: MAX_TRIED // 2]
            if answer.failed:
                failed = f"DNS could not be asked for the policy host: {answer.reason}"
        if not found:
            raise _unreachable(failed)
        return found


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, endpoints: _Endpoints, host: str) -> None:
        self._endpoints = endpoints
        self._host = host

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        creator = web_client(self._host, self._endpoints.authorities)
        for address in await self._endpoints.addresses(self._host):
            kind: Any = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            endpoint = kind(self._endpoints.reactor, address, self._endpoints.port, CONNECT_S)
            try:
                wrapper: Any = wrapClientTLS(creator, endpoint)
                bounded = await wrapper.connect(_BoundedFactory(factory))  # type: ignore[no-untyped-call]  # Twisted's
            except ConnectError:
                continue
            self._endpoints.opened.append(bounded)
            return cast(IProtocol, bounded.wrappedProtocol)
        raise _unreachable("the policy host cannot be connected to")


class _Bounded(ProtocolWrapper):
    """Cuts a connection that brings more than any policy needs: a header without end, too."""

    received = 0
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > MAX_RECEIVED:
            self.transport.abortConnection()
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]  # Twisted's


class _BoundedFactory(WrappingFactory):
    protocol = _Bounded
    noisy = False
