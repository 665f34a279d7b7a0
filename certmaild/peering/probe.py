"""Asks every server of a domain what it would prove, without sending mail: both IP versions, one connection each.

What is asked of them is what a message would ask: the terms of a partner's record, whether or not it is in force yet,
else those of ``[outbound]``.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.error import ConnectError, ConnectionRefusedError, TimeoutError

from certmaild.dns.values import Lookup, ask_mx
from certmaild.keystore.errors import CertificateUnfit, TlsUnproven
from certmaild.keystore.tls_client import Handshake, TlsClients
from certmaild.keystore.tls_values import Demand, Level, ShownTls
from certmaild.outbound.dane import DaneFinding, find_tlsa
from certmaild.outbound.demands import Conditions, Unfit, decide, partner_conditions
from certmaild.outbound.destinations import Destinations, Found, FoundHost
from certmaild.outbound.dialing import dial
from certmaild.outbound.mta_sts import MtaSts, StsFinding
from certmaild.outbound.values import Problem
from certmaild.partners.reading import split_host_port
from certmaild.partners.record import PartnerRecord
from certmaild.protocols.smtp.client.connection import ClientConnection, Patience
from certmaild.protocols.smtp.client.errors import ConversationOver
from certmaild.protocols.smtp.client.grammar import Offers

AT_ONCE = 8
"""Connections."""
PATIENCE = Patience(connect=15, greeting=60, handshake=30, command=60)
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Verdict(StrEnum):
    """What came of it."""

    RIGHT = "right"
    FAILS = "fails"
    """It does not prove what it must: no mail would go there."""
    UNREACHED = "unreached"
    """It could not be asked; another time it may."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One address of one server."""

    host: str
    address: str
    port: int
    verdict: Verdict
    words: str = ""
    """Why it is not right, or what should be known: a clause."""
    proof: str = ""
    """How it proved whom it is."""
    shown: ShownTls | None = None
    offers: Offers | None = None
    """Inside TLS, if it came to that."""
    tlsa: str = ""
    """Its TLSA records, in words."""


@dataclass(frozen=True, slots=True)
class Probe:
    """All of a domain's servers."""

    domain: str
    terms: str
    """By what it was judged, in words."""
    asked: tuple[Asked, ...]
    sts: str
    """Its MTA-STS policy, in words."""
    problem: Problem | None = None
    """Why there is nobody to ask."""
    unnamed: tuple[str, ...] = ()
    """MX hosts without an address."""

    @property
    def verdict(self) -> Verdict:
        """Of them all: one that fails fails all, for mail would wait whenever it is tried first."""
        if self.problem is not None:
            return Verdict.FAILS if self.problem.permanent else Verdict.UNREACHED
        verdicts = {one.verdict for one in self.asked}
        for verdict in (Verdict.FAILS, Verdict.RIGHT):
            if verdict in verdicts:
                return verdict
        return Verdict.UNREACHED

    @property
    def not_after(self) -> datetime | None:
        """When the first of their certificates runs out."""
        return min((one.shown.not_after for one in self.asked if one.shown is not None), default=None)


class Prober:
    """Asks servers. ``sources`` are own addresses to connect from; ``port`` is where MX hosts take mail."""

    def __init__(
        self,
        reactor: Any,
        hostname: str,
        tls: TlsClients,
        lookup: Lookup,
        destinations: Destinations,
        sts: MtaSts,
        *,
        sources: Sequence[str] = (),
        patience: Patience = PATIENCE,  # frozen
        port: int = 25,
    ) -> None:
        self._reactor = reactor
        self._hostname = hostname
        self._tls = tls
        self._lookup = lookup
        self._destinations = destinations
        self._sts = sts
        self._sources = {ip_address(source).version: source for source in sources}
        self._patience = patience
        self._port = port

    async def probe(self, domain: str, record: PartnerRecord | None, default: Level) -> Probe:
        """Ask all servers of a domain (lower-case A-labels)."""
        if record is not None:
            conditions = partner_conditions(record, domain)
            terms = f"the record of {record.domain}: level {record.level.value}"
        else:
            conditions = Conditions(domain, default, "default", raised=True)
            terms = f"the default of [outbound]: level {default.value}, raised by DANE and MTA-STS"
        sts = await self._sts.find(domain)
        if record is not None and record.route:
            found, hosts, unnamed = await self._routed(domain, record.route)
        else:
            looked = await self._destinations.find(domain)
            if isinstance(looked, Problem):
                return Probe(domain, terms, (), _sts_words(sts), looked)
            found, hosts = looked, [(host, self._port) for host in looked.hosts]
            unnamed = await self._unnamed(looked)
        places = DeferredSemaphore(AT_ONCE)
        asking = [
            Deferred.fromCoroutine(self._host(places, conditions, found, host, port, sts)) for host, port in hosts
        ]
        asked = [one for each in await gatherResults(asking, consumeErrors=True) for one in each]
        problem = None
        if not hosts:
            problem = Problem(False, 451, "4.4.4", f"None of the servers of the route to {domain} has an address.")
        return Probe(domain, terms, tuple(asked), _sts_words(sts), problem, unnamed)

    async def _routed(
        self, domain: str, route: Sequence[str]
    ) -> tuple[Found, list[tuple[FoundHost, int]], tuple[str, ...]]:
        hosts, unnamed = [], []
        for given in route:
            name, port = split_host_port(given, 25) or (given, 25)
            host = await self._destinations.resolve(name)
            if host.problem is None:
                hosts.append((host, port))
            else:
                unnamed.append(name)
        return Found(domain, domain, tuple(host for host, _ in hosts), True), hosts, tuple(unnamed)

    async def _unnamed(self, found: Found) -> tuple[str, ...]:
        """MX hosts that mail cannot go to."""
        answer = await ask_mx(self._lookup, found.domain)
        known = {host.name for host in found.hosts}
        return tuple(sorted({mx.host for mx in answer.records} - known - {""}))

    async def _host(
        self,
        places: DeferredSemaphore,
        conditions: Conditions,
        found: Found,
        host: FoundHost,
        port: int,
        sts: StsFinding,
    ) -> list[Asked]:
        dane = await find_tlsa(self._lookup, host, port)
        asked_of = dane if conditions.asks_dane else DaneFinding()
        decided = decide(conditions, host, expanded=found.expanded, dane=asked_of, sts=sts)
        unfit = decided if isinstance(decided, Unfit) else None
        # Who is not fit is asked all the same, for what there is to see.
        demand = Demand(Level.ENCRYPT, host.name, policy="probe") if isinstance(decided, Unfit) else decided
        asking = [places.run(self._begin, host, address, port, demand, unfit, dane) for address in host.addresses]
        return list(await gatherResults(asking, consumeErrors=True))

    def _begin(self, *given: Any) -> Deferred[Asked]:
        return Deferred.fromCoroutine(self._address(*given))

    async def _address(
        self, host: FoundHost, address: str, port: int, demand: Demand, unfit: Unfit | None, dane: DaneFinding
    ) -> Asked:
        visit = _Visit(ClientConnection(self._hostname, self._reactor, patience=self._patience))
        verdict, words = await self._visited(visit, address, port, demand)
        if unfit is not None and verdict is not Verdict.UNREACHED:
            verdict, words = Verdict.FAILS, unfit.problem.words
        shown = None if visit.handshake is None else visit.handshake.shown()
        proof = visit.connection.proof
        how = "" if proof is None or not proof.verified or unfit is not None else proof.how
        return Asked(host.name, address, port, verdict, words, how, shown, visit.offers, _tlsa_words(dane))

    async def _visited(self, visit: "_Visit", address: str, port: int, demand: Demand) -> tuple[Verdict, str]:
        source = self._sources.get(ip_address(address).version)
        connection = visit.connection
        try:
            await dial(self._reactor, address, port, connection, timeout_s=self._patience.connect, source=source)
            await connection.open()
            visit.offers = connection.offers
            if not connection.offers.starttls:
                if demand.needs_tls:
                    return Verdict.FAILS, "it does not offer TLS (STARTTLS)"
                return Verdict.RIGHT, "it does not offer TLS: mail goes there in clear text"
            visit.handshake = self._tls.begin(demand)
            await connection.start_tls(visit.handshake)
            visit.offers = connection.offers
            return Verdict.RIGHT, ""
        except TlsUnproven as unproven:
            if demand.needs_tls:
                return Verdict.FAILS, unproven.words
            return Verdict.RIGHT, f"{unproven.words}: mail goes there in clear text"
        except ConversationOver as over:
            return Verdict.UNREACHED, over.words if over.reply is None else f"it says {over.reply}"
        except ConnectError as fault:
            return Verdict.UNREACHED, _connect_words(fault, address)
        except CertificateUnfit as fault:
            return Verdict.FAILS, f"a file of ours cannot be used: {fault}"
        finally:
            if connection.transport is not None:
                connection.leave()


class _Visit:
    """One connection, and what was seen on it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.handshake: Handshake | None = None
        self.offers: Offers | None = None


def _connect_words(fault: ConnectError, address: str) -> str:
    if isinstance(fault, ConnectionRefusedError):
        return "it refuses connections"
    if isinstance(fault, TimeoutError):
        return "it does not answer"
    if fault.osError in _NO_WAY:
        return f"this machine has no way to it by IPv{ip_address(address).version}"
    return "the network leads nowhere"


def _sts_words(sts: StsFinding) -> str:
    if sts.failure is not None and sts.policy is None:
        return f"announced, but it could not be had: {sts.reason}"
    if sts.policy is None:
        return "none"
    late = f"; a newer one could not be had: {sts.reason}" if sts.failure is not None else ""
    return f"mode {sts.policy.mode.value}, for {', '.join(sts.policy.hosts)}{late}"


def _tlsa_words(dane: DaneFinding) -> str:
    if dane.failure:
        return f"could not be had: {dane.failure}"
    if dane.unusable:
        return "none that SMTP can use"
    return ", ".join(f"{one.usage} {one.selector} {one.matching}" for one in dane.records) or "none"
