"""A courier on a running reactor, with messages for it, and what it tells for TLS reports."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Protocol

from reactor_support import on_reactor, running_reactor
from tls_support import Authority

from certmaild.keystore.tls_client import TlsClients
from certmaild.keystore.tls_values import Demand, Level, Pem, TlsResult
from certmaild.outbound.courier import SmtpCourier
from certmaild.outbound.interfaces import TlsPolicy
from certmaild.outbound.values import (
    Destination,
    Envelope,
    Fate,
    OutgoingMessage,
    Plan,
    PlannedHost,
    Problem,
    Recipient,
    RouteKind,
)
from certmaild.protocols.smtp.grammar import Path

MX = "mx.p.example"
ANN, BOB, EVE = Path("ann", "example.com"), Path("bob", "p.example"), Path("eve", "p.example")
CONTENT = (
    b"From: ann@example.com\r\nTo: bob@p.example\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\nSubject: x\r\n\r\n.\r\nHello.\r\n"
)
TOWARDS = Destination(RouteKind.VERIFIED_TLS, "p.example")


class Listening(Protocol):
    """Whatever has a port."""

    port: int


class Watch:
    """Keeps what TLS reports would tell."""

    def __init__(self) -> None:
        self.saw: list[str] = []

    def policy(self, domain: str, policy: TlsPolicy) -> None:
        """The planner's."""

    def session(self, domain: str, host: str, address: str, result: TlsResult | None, reason: str = "") -> None:
        assert (domain, host) in (("p.example", MX), ("p.example", address))
        assert bool(reason) == (result is not None)
        self.saw.append("success" if result is None else result.value)


class Post:
    """A courier with its watcher, driven from the test's thread."""

    def __init__(self, root: Authority, **settings: Any) -> None:
        self.watch = Watch()
        self.courier = SmtpCourier(
            running_reactor(), "us.example", TlsClients(Pem(root.pem.decode())), watch=self.watch, **settings
        )

    def connect(self, *hosts: PlannedHost) -> Any:
        return on_reactor(lambda: self.courier.connect(Plan(TOWARDS, hosts)))

    def send(self, host: PlannedHost, *messages: OutgoingMessage) -> list[Fate]:
        """Connect, send, close; the fates in order, or the one problem."""

        async def work() -> list[Fate]:
            connection = await self.courier.connect(Plan(TOWARDS, (host,)))
            if isinstance(connection, Problem):
                return [connection]
            fates: list[Fate] = []
            for one in messages or (message(),):
                assert connection.is_open
                found = await connection.send(one, lambda: None)
                fates += [found[recipient] for recipient in one.recipients]
            await connection.close()
            return fates

        return on_reactor(work)


def host(peer: Listening, level: Level = Level.VERIFY, **more: Any) -> PlannedHost:
    demand = Demand(level, MX, policy="default")
    own = {name: more.pop(name) for name in tuple(more) if name in Demand.__slots__}
    return PlannedHost(
        MX, more.pop("addresses", (getattr(peer, "address", "127.0.0.1"),)), peer.port, replace(demand, **own), **more
    )


def message(*paths: Path, content: bytes = CONTENT, size: int | None = None, **envelope: Any) -> OutgoingMessage:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 7):
            yield content[at : at + 7]

    recipients = tuple(Recipient(path, RouteKind.VERIFIED_TLS, "") for path in paths or (BOB,))
    return OutgoingMessage(Envelope(ANN, **envelope), recipients, len(content) if size is None else size, pieces)
