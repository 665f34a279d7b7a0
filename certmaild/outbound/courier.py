"""Opens connections to the servers of a plan, and to nobody who has not proven what he must.

Each host's addresses are tried in order, then the next host. TLS follows the `Demand`: only where that is `Level.MAY`
may a connection go on in clear, and after a handshake that failed it is a new one. What they had to say is told as one
`Problem`, a temporary one, since people can mend all of it; but REQUIRETLS that no server offers is final.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from typing import Any

from twisted.internet.error import ConnectBindError, ConnectError, ConnectionRefusedError, TimeoutError
from twisted.logger import Logger

from certmaild.keystore.errors import CertificateUnfit, TlsUnproven
from certmaild.keystore.tls_client import TlsClients
from certmaild.keystore.tls_values import Demand, TlsResult
from certmaild.outbound.dialing import dial
from certmaild.outbound.hand_over import HandOver
from certmaild.outbound.interfaces import TlsWatch
from certmaild.outbound.values import Plan, PlannedHost, Problem
from certmaild.protocols.smtp.client.connection import ClientConnection, Patience
from certmaild.protocols.smtp.client.errors import ConversationOver
from certmaild.protocols.smtp.client.grammar import Credentials, Reply

log = Logger()

ATTEMPTS = 12
"""Addresses tried in a row; each may cost half a minute."""
ATTEMPTS_S = 600
"""After so long no further address is tried: each may cost minutes where somebody answers slowly on purpose."""


class LogInFailed(Exception):
    """The smart host cannot be logged in to; the text is a clause."""

    def __init__(self, words: str, reply: Reply | None = None) -> None:
        super().__init__(words)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class _Way:
    """One address of one host."""

    plan: Plan
    host: PlannedHost
    address: str


class SmtpCourier:
    """`certmaild.outbound.interfaces.Courier` over TCP."""

    def __init__(
        self,
        reactor: Any,
        hostname: str,
        tls: TlsClients,
        *,
        sources: Sequence[str] = (),
        credentials: Credentials | None = None,
        patience: Patience | None = None,
        watch: TlsWatch | None = None,
    ) -> None:
        """``hostname`` is ours, for EHLO; ``sources`` are own addresses to connect from, one of each IP version.

        ``credentials`` are for hosts that a plan says to log in to.
        """
        self._reactor = reactor
        self._hostname = hostname
        self._tls = tls
        self._sources = {ip_address(source).version: source for source in sources}
        self._credentials = credentials
        self._patience = patience or Patience()
        self._watch = watch

    async def connect(self, plan: Plan) -> HandOver | Problem:
        """A connection to the first host that can be reached, proves what it must and greets us; else a `Problem`."""
        problems: list[Problem] = []
        until = self._reactor.seconds() + ATTEMPTS_S
        for way in islice(_ways(plan), ATTEMPTS):
            if problems and self._reactor.seconds() >= until:
                break
            found = await self._try(way)
            if isinstance(found, HandOver):
                unable = found.unable_to_require_tls() if plan.require_tls else None
                if unable is None:
                    return found
                await found.close()
                found = unable
            problems.append(found)
            log.info(
                "no way to {host} [{address}]: {words}", host=way.host.name, address=way.address, words=found.words
            )
        if not problems:
            return Problem(False, 451, "4.4.4", f"No server is known for {plan.destination.domain}.")
        return min(problems, key=_silence)

    async def _try(self, way: _Way) -> HandOver | Problem:
        try:
            try:
                return await self._open(way, in_clear=False)
            except TlsUnproven as unproven:
                if not _may_go_in_clear(way.host):
                    return _unsafe(way, unproven)
                return await self._open(way, in_clear=True)
        except ConversationOver as over:
            return _broken_off(way, over)
        except ConnectError as fault:
            return _unreachable(way, fault)
        except LogInFailed as fault:
            words = f"The smart host {way.host.name} cannot be used: {fault}. The server's operator has to look at it."
            reply = "" if fault.reply is None else str(fault.reply)
            return Problem(False, 454, "4.7.0", words, way.host.name, reply)
        except CertificateUnfit as fault:
            log.error("TLS to {host} cannot begin: {fault}", host=way.host.name, fault=str(fault))
            words = "A certificate file of our own cannot be used; the server's operator has to look at it."
            return Problem(False, 451, "4.3.5", words, way.host.name)

    async def _open(self, way: _Way, *, in_clear: bool) -> HandOver:
        """One connection that is ready. Raises what `_try` tells in words."""
        host = way.host
        at_once = self._tls.begin(host.demand) if host.implicit_tls and not in_clear else None
        connection = ClientConnection(
            self._hostname, self._reactor, patience=self._patience, is_lmtp=host.is_lmtp, tls=at_once
        )
        await self._dial(way, connection)
        try:
            await connection.open()
            if at_once is None and not in_clear:
                await self._start_tls(connection, host.demand)
            if host.demand.needs_tls and connection.proof is None:
                raise TlsUnproven("it speaks in clear", TlsResult.STARTTLS_NOT_SUPPORTED)
            if not in_clear:
                self._tell(way, connection, None)
            if host.authenticates:
                await self._log_in(connection)
        except BaseException as fault:
            if isinstance(fault, TlsUnproven):
                self._tell(way, connection, fault)
            connection.leave()
            raise
        return HandOver(connection, host.name, self._reactor)

    async def _dial(self, way: _Way, connection: ClientConnection) -> None:
        source = self._sources.get(ip_address(way.address).version)
        await dial(
            self._reactor, way.address, way.host.port, connection, timeout_s=self._patience.connect, source=source
        )

    async def _start_tls(self, connection: ClientConnection, demand: Demand) -> None:
        if connection.offers.starttls:
            await connection.start_tls(self._tls.begin(demand))
        elif demand.needs_tls:
            raise TlsUnproven("it does not offer TLS (STARTTLS)", TlsResult.STARTTLS_NOT_SUPPORTED)

    async def _log_in(self, connection: ClientConnection) -> None:
        if self._credentials is None:
            raise LogInFailed("no user name and password are set for it")
        if connection.proof is None or not connection.proof.verified:
            raise LogInFailed("it has not proven itself, so it gets no password")
        if not connection.offers.mechanisms & {"PLAIN", "LOGIN"}:
            raise LogInFailed("it offers no log-in by password (AUTH PLAIN or LOGIN)")
        try:
            await connection.log_in(self._credentials)
        except ConversationOver as over:
            if over.reply is None or not over.reply.is_permanent:
                raise
            raise LogInFailed("it does not accept our user name and password", over.reply) from None

    def _tell(self, way: _Way, connection: ClientConnection, failure: TlsUnproven | None) -> None:
        if self._watch is None or not way.host.is_reported:
            return
        if failure is not None or connection.proof is not None:
            result, reason = (None, "") if failure is None else (failure.result, failure.words)
            self._watch.session(way.plan.destination.domain, way.host.name, way.address, result, reason)


def _ways(plan: Plan) -> Iterator[_Way]:
    for host in plan.hosts:
        for address in host.addresses:
            yield _Way(plan, host, address)


def _may_go_in_clear(host: PlannedHost) -> bool:
    """Whether TLS that came to nothing may be done without. Never where it was to prove anything."""
    demand = host.demand
    return not demand.needs_tls and not demand.tlsa and not demand.pins and not host.implicit_tls


def _silence(problem: Problem) -> tuple[bool, int]:
    """What may pass goes first, then the most telling: what TLS lacked, what a server said, what else went wrong."""
    return problem.permanent, 0 if problem.concerns_tls else 1 if problem.reply else 2


def _unsafe(way: _Way, unproven: TlsUnproven) -> Problem:
    host = way.host.name
    words = f"The server {host} is not safe to send to: {unproven.words}. Nothing was sent to it."
    enhanced = "4.7.4" if unproven.result is TlsResult.STARTTLS_NOT_SUPPORTED else "4.7.5"
    return Problem(False, 451, enhanced, words, host, concerns_tls=True)


def _broken_off(way: _Way, over: ConversationOver) -> Problem:
    host, reply = way.host.name, over.reply
    if reply is None:
        return Problem(False, 451, "4.4.2", f"The server {host} could not be talked to: {over.words}.", host)
    words = f"The server {host} takes no mail from this server now."
    enhanced = reply.enhanced if reply.enhanced.startswith("4.") else "4.3.2"
    return Problem(False, reply.code if reply.code < 500 else 451, enhanced, words, host, str(reply))


def _unreachable(way: _Way, fault: ConnectError) -> Problem:
    if isinstance(fault, ConnectionRefusedError):
        why = "it refuses connections"
    elif isinstance(fault, TimeoutError):
        why = "it does not answer"
    elif isinstance(fault, ConnectBindError):
        why = "the address to connect from, as it is set, is none of this machine's"
    else:
        why = "the network leads nowhere"
    words = f"The server {way.host.name} [{way.address}] cannot be reached: {why}."
    return Problem(False, 451, "4.4.1", words, way.host.name)
