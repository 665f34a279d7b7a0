"""What one server must prove, decided from the terms that hold for a destination and from what DNS and MTA-STS say.

DANE goes before MTA-STS, and both before the default (RFC 8461 section 2). A partner's record counts as it is written:
only where its level says so are DANE or MTA-STS asked.
"""

from dataclasses import dataclass, replace

from certmaild.keystore.tls_values import Authorities, ClientFiles, Demand, Level, TlsResult
from certmaild.outbound.dane import NOTHING, DaneFinding
from certmaild.outbound.destinations import FoundHost
from certmaild.outbound.mta_sts import StsFinding
from certmaild.outbound.values import Problem
from certmaild.partners.record import PartnerRecord

NO_STS = StsFinding()


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds for a destination, whichever server it is."""

    domain: str
    level: Level
    policy: str
    """Whose terms, in words for reports."""
    names: tuple[str, ...] = ()
    """What certificates may be for; empty: what the level says."""
    ca: Authorities | None = None
    pins: tuple[bytes, ...] = ()
    minimum: str = "1.2"
    client: ClientFiles | None = None
    raised: bool = False
    """DANE and MTA-STS are asked, and what they say goes before the level."""
    named: bool = False
    """The operator named the servers: no DNS led there."""
    require_tls: bool = False
    """REQUIRETLS (RFC 8689 section 4.2.1): proven, and the server's name was had in a way that nobody can forge."""

    @property
    def asks_dane(self) -> bool:
        """Whether TLSA records are looked up."""
        return self.raised or self.level in (Level.DANE, Level.DANE_ONLY)

    @property
    def is_reported(self) -> bool:
        """Whether the domain hears how it went: its own policies counted, not terms agreed on, nor the smart host's."""
        return self.raised and not self.named

    @property
    def asks_sts(self) -> bool:
        """Whether the domain's MTA-STS policy is looked up; it is about MX records."""
        return not self.named and not self.domain.startswith("[") and (self.raised or self.level is Level.STS)


def partner_conditions(record: PartnerRecord, domain: str) -> Conditions:
    """What a partner's record says."""
    return Conditions(
        domain,
        record.level,
        f"partner {record.domain}",
        record.names,
        record.ca,
        record.pins if record.level is Level.PIN else (),
        record.minimum,
        record.client,
        named=bool(record.route),
    )


@dataclass(frozen=True, slots=True)
class Unfit:
    """A server that is not tried, and how a TLS report names the reason."""

    problem: Problem
    result: TlsResult


def decide(
    conditions: Conditions, host: FoundHost, *, expanded: str, dane: DaneFinding = NOTHING, sts: StsFinding = NO_STS
) -> Demand | Unfit:
    """What ``host`` must prove. ``expanded``: where the domain's CNAMEs lead."""
    if dane.failure:
        result = TlsResult.DNSSEC_INVALID if dane.bogus else TlsResult.TLSA_INVALID
        return _unfit(host, result, f"the DNS records by which it proves itself could not be had: {dane.failure}")
    demand = _by_findings(conditions, host, expanded, dane, sts)
    if isinstance(demand, Unfit) or not conditions.require_tls:
        return demand
    return _for_require_tls(conditions, host, demand, sts)


def _by_findings(
    conditions: Conditions, host: FoundHost, expanded: str, dane: DaneFinding, sts: StsFinding
) -> Demand | Unfit:
    if dane.records:
        names = tuple(dict.fromkeys((dane.base, conditions.domain, expanded)))
        return replace(_demand(conditions, Level.DANE, dane.base, names, "DANE"), tlsa=dane.records, ca=None, pins=())
    if conditions.level is Level.DANE_ONLY:
        words = "it publishes no DANE records (TLSA) that DNSSEC vouches for"
        return _unfit(host, TlsResult.DANE_REQUIRED, words)
    if conditions.asks_sts and sts.is_enforced and sts.policy is not None:
        if not sts.policy.covers(host.name):
            words = f"the MTA-STS policy of {conditions.domain} does not name it"
            return _unfit(host, TlsResult.VALIDATION_FAILURE, words)
        return _demand(conditions, Level.STS, host.name, (host.name,), "MTA-STS")
    if conditions.level is Level.STS and not conditions.named:
        why = f": {sts.reason}" if sts.reason else ""
        words = f"its domain {conditions.domain} has no MTA-STS policy in mode enforce{why}"
        return _unfit(host, sts.failure or TlsResult.VALIDATION_FAILURE, words)
    return _by_level(conditions, host)


def _by_level(conditions: Conditions, host: FoundHost) -> Demand:
    if conditions.level is not Level.SECURE:
        return _demand(conditions, conditions.level, host.name, conditions.names or (host.name,), conditions.policy)
    names = conditions.names
    if not names:
        domain = conditions.domain
        own = (domain,) if domain.startswith("[") else (domain, "." + domain)
        # A server that the operator named is not one of unsigned DNS; nor is the address of a literal.
        names = (host.name, *own) if conditions.named else (host.name,) if host.is_literal else own
    return _demand(conditions, Level.SECURE, _server_name(host.name, names), names, conditions.policy)


def _server_name(host: str, names: tuple[str, ...]) -> str:
    """SNI: the server's own name if a certificate for it counts, else a name that does."""
    if any(_fits(host, name) for name in names):
        return host
    return next((name for name in names if not name.startswith((".", "*"))), host)


def _fits(host: str, name: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return host.endswith(name) if name.startswith(".") else host == name


def _for_require_tls(conditions: Conditions, host: FoundHost, demand: Demand, sts: StsFinding) -> Demand | Unfit:
    """RFC 8689 section 4.2.1: never less than a proven name, and a name that was had securely."""
    agreed = demand.level in (Level.SECURE, Level.PIN) or conditions.named or bool(conditions.names)
    covered = sts.is_enforced and sts.policy is not None and sts.policy.covers(host.name)
    if not (agreed or host.name_vouched or covered):
        words = (
            f"The message demands proven TLS on the whole way (REQUIRETLS), and the domain {conditions.domain} does not"
            f" prove by DNSSEC or MTA-STS that {host.name} is its mail server."
        )
        if sts.failure is not None:
            # The policy that would prove it is announced, and may be had tomorrow.
            return Unfit(Problem(False, 451, "4.7.10", words, host.name, concerns_tls=True), sts.failure)
        problem = Problem(True, 550, "5.7.10", words, host.name, concerns_tls=True)
        return Unfit(problem, TlsResult.VALIDATION_FAILURE)
    if demand.level in (Level.MAY, Level.ENCRYPT):
        return replace(demand, level=Level.VERIFY)
    return demand


def _demand(conditions: Conditions, level: Level, server_name: str, names: tuple[str, ...], policy: str) -> Demand:
    return Demand(
        level,
        server_name,
        names,
        ca=conditions.ca,
        pins=conditions.pins,
        minimum=conditions.minimum,
        client=conditions.client,
        policy=policy,
    )


def _unfit(host: FoundHost, result: TlsResult, why: str) -> Unfit:
    words = f"Nothing was sent to the mail server {host.name}, because {why}."
    return Unfit(Problem(False, 451, "4.7.5", words, host.name, concerns_tls=True), result)
