"""Plans the way to a destination: which servers, in which order, and what each must prove."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, gatherResults

from certmaild.config_values import Outbound
from certmaild.dns.values import Lookup
from certmaild.keystore.tls_values import Level, Tlsa, TlsResult
from certmaild.outbound.dane import NOTHING, DaneFinding, find_tlsa
from certmaild.outbound.demands import NO_STS, Conditions, Unfit, decide, partner_conditions
from certmaild.outbound.destinations import Destinations, Found, FoundHost
from certmaild.outbound.interfaces import PolicyKind, Terms, TlsPolicy, TlsWatch
from certmaild.outbound.mta_sts import MtaSts, StsFinding
from certmaild.outbound.sts_policy import Mode
from certmaild.outbound.values import Destination, Plan, PlannedHost, Problem, RouteKind, SelfProof
from certmaild.partners.book import PartnerBook
from certmaild.partners.reading import split_host_port
from certmaild.partners.record import PartnerRecord

SUBMISSIONS_PORT = 465
"""TLS from the first octet on (RFC 8314)."""
_LOWERED = frozenset({Level.ENCRYPT, Level.VERIFY, Level.DANE})
"""Default levels that ``TLS-Required: No`` lowers; a higher one is the operator's word against the sender's."""


class DnsPlanner:
    """A `Planner` over DNS, the partners' records and the configuration; `outbound` may be replaced at any time."""

    def __init__(
        self,
        outbound: Outbound,
        partners: PartnerBook,
        lookup: Lookup,
        destinations: Destinations,
        sts: MtaSts,
        seconds: Callable[[], float],
        *,
        watch: TlsWatch | None = None,
        port: int = 25,
    ) -> None:
        """``port``: where MX hosts take mail."""
        self.outbound = outbound
        self._partners = partners
        self._lookup = lookup
        self._destinations = destinations
        self._sts = sts
        self._seconds = seconds
        self._watch = watch
        self._port = port

    async def plan(self, destination: Destination, terms: Terms) -> Plan | Problem:
        """See `interfaces.Planner`."""
        required = terms is Terms.REQUIRED
        if destination.kind is RouteKind.INSIDE:
            words = "This server has no inside server to which mail could be handed."
            return Problem(False, 451, "4.3.5", words)
        record = self._record(destination)
        if record is not None:
            wanted = partner_conditions(record, destination.domain)
            if record.route:
                return await self._by_names(destination, record.route, _with(wanted, required))
            return await self._by_mx(destination, _with(wanted, required))
        if self.outbound.smart_host is not None:
            return await self._by_smart_host(destination, self.outbound.smart_host, required)
        if destination.kind is RouteKind.NOTICE:
            # DANE and MTA-STS count as for anything else; who has neither gets it as well as may be (RFC 7435).
            wanted = Conditions(destination.domain, Level.MAY, "notice", raised=True)
            return await self._by_mx(destination, _with(wanted, required))
        if terms is Terms.OPTIONAL and self.outbound.level in _LOWERED:
            wanted = Conditions(destination.domain, Level.ENCRYPT, "TLS-Required: No")
            return await self._by_mx(destination, wanted)
        wanted = Conditions(destination.domain, self.outbound.level, "default", raised=True)
        return await self._by_mx(destination, _with(wanted, required))

    async def proves_itself(self, domain: str) -> SelfProof | Problem:
        """Whether a domain (lower-case A-labels) proves itself to whoever sends there, partner or not.

        By DANE: each of its servers that can be reached has TLSA records that SMTP can use, all vouched for by DNSSEC.
        By MTA-STS: a policy in mode enforce, which names one of them at least. What DNS does not answer is a `Problem`
        that is not permanent; a domain that takes no mail, a permanent one.
        """
        if self.outbound.smart_host is not None:
            return SelfProof(False, "mail leaves through a smart host, which proves only itself")
        if domain.startswith("["):
            return SelfProof(False, f"{domain} is an address and no domain")
        found = await self._destinations.find(domain)
        if isinstance(found, Problem):
            return found
        conditions = Conditions(domain, Level.VERIFY, "default", raised=True)
        danes = await self._danes(conditions, [(host, self._port) for host in found.hosts])
        failed = next((one for one in danes if one.failure), None)
        if failed is not None:
            words = f"DNS could not be asked how {domain} proves itself: {failed.failure}."
            return Problem(False, 451, "4.4.3", words, concerns_tls=failed.bogus)
        if all(one.records for one in danes):
            return SelfProof(True, f"{domain} proves itself by DANE")
        sts = await self._sts.find(domain)
        if sts.unasked:
            return Problem(False, 451, "4.4.3", f"DNS could not be asked how {domain} proves itself: {sts.unasked}.")
        if sts.is_enforced and sts.policy is not None and any(sts.policy.covers(host.name) for host in found.hosts):
            return SelfProof(True, f"{domain} proves itself by MTA-STS")
        return SelfProof(False, f"{domain} proves itself neither by DANE nor by MTA-STS")

    def _record(self, destination: Destination) -> PartnerRecord | None:
        """The partner's record in force. The server's own messages follow the default, so that he hears of trouble."""
        if destination.kind is RouteKind.SERVICE:
            return None
        record = self._partners.find(destination.domain)
        if record is None or not record.counts_out or not record.is_in_force(self._seconds()):
            return None
        return record

    async def _by_mx(self, destination: Destination, conditions: Conditions) -> Plan | Problem:
        found = await self._destinations.find(destination.domain)
        if isinstance(found, Problem):
            return found
        sts = await self._sts.find(conditions.domain) if conditions.asks_sts else NO_STS
        hosts = [(host, self._port) for host in found.hosts]
        danes = await self._danes(conditions, hosts)
        self._note_policy(conditions, found, danes, sts)
        return self._compose(destination, conditions, found, hosts, danes, sts)

    async def _by_names(
        self, destination: Destination, route: Sequence[str], conditions: Conditions, *, smart: bool = False
    ) -> Plan | Problem:
        """Servers that the operator named. What is wrong with them is his to mend: mail waits for that."""
        hosts, failed = [], False
        for given in route:
            name, port = split_host_port(given, 25) or (given, 25)
            host = await self._destinations.resolve(name)
            if host.problem is None:
                hosts.append((host, port))
            else:
                failed = failed or not host.problem.permanent
        if not hosts:
            words = (
                f"The server through which mail to {destination.domain} goes cannot be found."
                " The administrator of this server may have to correct its name."
            )
            return Problem(False, 451, "4.4.3" if failed else "4.4.4", words)
        found = Found(destination.domain, destination.domain, tuple(host for host, _ in hosts), True)
        danes = await self._danes(conditions, hosts)
        return self._compose(destination, conditions, found, hosts, danes, NO_STS, smart=smart)

    async def _by_smart_host(self, destination: Destination, smart_host: str, required: bool) -> Plan | Problem:
        """It gets our password and all our mail: it proves its own name at every level, whatever senders ask."""
        name, _ = split_host_port(smart_host, 25) or (smart_host, 25)
        level = Level.DANE_ONLY if self.outbound.level is Level.DANE_ONLY else Level.VERIFY
        conditions = Conditions(
            destination.domain, level, "smart host", (name,), raised=True, named=True, require_tls=required
        )
        return await self._by_names(destination, (smart_host,), conditions, smart=True)

    async def _danes(self, conditions: Conditions, hosts: Sequence[tuple[FoundHost, int]]) -> list[DaneFinding]:
        if not conditions.asks_dane:
            return [NOTHING] * len(hosts)
        asking = [Deferred.fromCoroutine(find_tlsa(self._lookup, host, port)) for host, port in hosts]
        return list(await gatherResults(asking, consumeErrors=True))

    def _compose(
        self,
        destination: Destination,
        conditions: Conditions,
        found: Found,
        hosts: Sequence[tuple[FoundHost, int]],
        danes: Sequence[DaneFinding],
        sts: StsFinding,
        *,
        smart: bool = False,
    ) -> Plan | Problem:
        planned, problems = [], []
        for (host, port), dane in zip(hosts, danes, strict=True):
            demand = decide(conditions, host, expanded=found.expanded, dane=dane, sts=sts)
            if isinstance(demand, Unfit):
                problems.append(demand.problem)
                self._note_unfit(conditions, host, demand)
                continue
            implicit = smart and port == SUBMISSIONS_PORT
            planned.append(
                PlannedHost(
                    host.name,
                    host.addresses,
                    port,
                    demand,
                    implicit_tls=implicit,
                    authenticates=smart,
                    is_reported=conditions.is_reported,
                )
            )
        if planned:
            return Plan(destination, tuple(planned), require_tls=conditions.require_tls)
        return next((one for one in problems if not one.permanent), problems[0])

    # For TLS reports.

    def _note_policy(self, conditions: Conditions, found: Found, danes: Sequence[DaneFinding], sts: StsFinding) -> None:
        if self._watch is None or not conditions.is_reported:
            return
        self._watch.policy(conditions.domain, _policy(danes, sts))
        if sts.failure is not None:
            self._watch.session(conditions.domain, "", "", sts.failure, sts.reason)
        if any(one.unusable for one in danes):
            self._watch.session(conditions.domain, "", "", TlsResult.TLSA_INVALID, "no TLSA record that SMTP can use")
        if sts.policy is not None and sts.policy.mode is Mode.TESTING:
            for host in found.hosts:
                if not sts.policy.covers(host.name):
                    words = "the MTA-STS policy does not name it"
                    self._watch.session(conditions.domain, host.name, "", TlsResult.VALIDATION_FAILURE, words)

    def _note_unfit(self, conditions: Conditions, host: FoundHost, unfit: Unfit) -> None:
        if self._watch is not None and conditions.is_reported:
            self._watch.session(conditions.domain, host.name, "", unfit.result, unfit.problem.words)


def _with(conditions: Conditions, required: bool) -> Conditions:
    return replace(conditions, require_tls=required)


def _policy(danes: Sequence[DaneFinding], sts: StsFinding) -> TlsPolicy:
    """RFC 8460 section 4.4: the policy that applied."""
    found = [one for one in danes if one.records]
    if found:
        records = dict.fromkeys(_tlsa_text(record) for one in found for record in one.records)
        return TlsPolicy(PolicyKind.TLSA, tuple(records), tuple(dict.fromkeys(one.base for one in found)))
    if sts.policy is not None:
        lines = tuple(line.strip() for line in sts.text.splitlines() if line.strip())
        return TlsPolicy(PolicyKind.STS, lines, sts.policy.hosts)
    return TlsPolicy(PolicyKind.NONE)


def _tlsa_text(record: Tlsa) -> str:
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"
