"""Who is asked for what proof: partners' records, DANE, MTA-STS, the default, and what messages ask themselves."""

from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dns_support import ScriptedLookup
from support import run

from certmaild.config_values import Outbound
from certmaild.keystore.tls_values import ClientFiles, Demand, Level, Tlsa, TlsResult
from certmaild.outbound.destinations import Destinations
from certmaild.outbound.interfaces import PolicyKind, Terms, TlsPolicy
from certmaild.outbound.mta_sts import StsFinding
from certmaild.outbound.planner import DnsPlanner
from certmaild.outbound.sts_policy import parse_policy
from certmaild.outbound.values import Destination, Plan, PlannedHost, Problem, RouteKind, SelfProof
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import Direction, PartnerRecord

NOW_S = 1_800_000_000.0
SHA256 = "ab" * 32
RECORD = Tlsa(3, 1, 1, bytes.fromhex(SHA256))
TABLE: dict[tuple[str, str], Any] = {
    ("example.org", "MX"): ["10 mx.example.net.", "20 mx2.example.net."],
    ("mx.example.net", "A"): ["192.0.2.1"],
    ("mx2.example.net", "A"): ["192.0.2.2"],
    ("relay.example", "A"): ["192.0.2.25"],
}
DANE = {**TABLE, ("_25._tcp.mx.example.net", "TLSA"): [f"3 1 1 {SHA256}"]}
SECURE = ("example.org", "example.net")


def sts(mode: str, *mx: str) -> StsFinding:
    text = f"version: STSv1\nmode: {mode}\n" + "".join(f"mx: {one}\n" for one in mx) + "max_age: 86400\n"
    return StsFinding(parse_policy(text), text)


@dataclass
class Watch:
    policies: list[tuple[str, TlsPolicy]] = field(default_factory=list)
    sessions: list[tuple[str, str, TlsResult | None]] = field(default_factory=list)

    def policy(self, domain: str, policy: TlsPolicy) -> None:
        self.policies.append((domain, policy))

    def session(self, domain: str, host: str, address: str, result: TlsResult | None, reason: str = "") -> None:
        self.sessions.append((domain, host, result))


class World:
    def __init__(self, table: dict[tuple[str, str], Any] = TABLE, *partners: PartnerRecord, **settings: Any) -> None:
        self.sts = settings.pop("sts", StsFinding())
        self.asked_sts: list[str] = []
        lookup = ScriptedLookup(table, secure=settings.pop("secure", ()))
        self.lookup = lookup
        self.watch = Watch()
        finder = Destinations(lookup, shuffle=lambda hosts: None)
        self.planner = DnsPlanner(
            Outbound(**settings),
            PartnerBook(partners),
            lookup,
            finder,
            self,
            lambda: NOW_S,
            watch=self.watch,  # type: ignore[arg-type]
        )

    async def find(self, domain: str) -> StsFinding:
        """Stands for `MtaSts`."""
        self.asked_sts.append(domain)
        return self.sts

    def plan(
        self, domain: str = "example.org", *, kind: RouteKind = RouteKind.VERIFIED_TLS, terms: Terms = Terms.NORMAL
    ) -> Plan | Problem:
        return run(self.planner.plan(Destination(kind, domain), terms))

    def hosts(self, *args: Any, **kwargs: Any) -> tuple[PlannedHost, ...]:
        plan = self.plan(*args, **kwargs)
        assert isinstance(plan, Plan), plan
        return plan.hosts

    def demand(self, *args: Any, **kwargs: Any) -> Demand:
        return self.hosts(*args, **kwargs)[0].demand

    def problem(self, *args: Any, **kwargs: Any) -> tuple[bool, int, str, bool]:
        problem = self.plan(*args, **kwargs)
        assert isinstance(problem, Problem), problem
        assert problem.words.endswith("."), problem.words
        return problem.permanent, problem.code, problem.enhanced, problem.concerns_tls


NOT_PROVEN = (False, 451, "4.7.5", True)

# The default.


def test_by_default_a_certificate_for_the_mx() -> None:
    first, second = World().hosts()
    assert first == PlannedHost(
        "mx.example.net",
        ("192.0.2.1",),
        25,
        Demand(Level.VERIFY, "mx.example.net", ("mx.example.net",), policy="default"),
    )
    assert second.demand.names == ("mx2.example.net",)


def test_secure_takes_names_of_the_domain_only() -> None:
    demand = World(level=Level.SECURE).demand()
    assert (demand.level, demand.names) == (Level.SECURE, ("example.org", ".example.org"))
    assert demand.server_name == "example.org"
    own = {("example.org", "MX"): ["10 mx.example.org."], ("mx.example.org", "A"): ["192.0.2.1"]}
    assert World(own, level=Level.SECURE).demand().server_name == "mx.example.org"


def test_a_literal_proves_its_address() -> None:
    world = World()
    assert world.demand("[192.0.2.1]").names == ("192.0.2.1",)
    assert world.asked_sts == []
    assert World(level=Level.SECURE).demand("[192.0.2.1]").names == ("192.0.2.1",)


# A notice goes by TLS as good as the destination allows; nothing else does.


def test_a_notice_takes_what_the_destination_has() -> None:
    for level in Level:
        demand = World(level=level).demand(kind=RouteKind.NOTICE)
        assert demand == Demand(Level.MAY, "mx.example.net", ("mx.example.net",), policy="notice")


def test_a_notice_follows_what_the_destination_says_of_itself() -> None:
    assert World(DANE, secure=SECURE).demand(kind=RouteKind.NOTICE).tlsa == (RECORD,)
    world = World(sts=sts("enforce", "mx.example.net"))
    assert [host.demand.level for host in world.hosts(kind=RouteKind.NOTICE)] == [Level.STS]
    assert World(sts=sts("enforce", "*.elsewhere.example")).problem(kind=RouteKind.NOTICE) == NOT_PROVEN
    assert World(sts=sts("testing", "*.elsewhere.example")).demand(kind=RouteKind.NOTICE).level is Level.MAY


def test_a_notice_goes_by_a_partners_record() -> None:
    record = PartnerRecord("example.org", level=Level.SECURE, route=("relay.example",))
    (host,) = World(TABLE, record).hosts(kind=RouteKind.NOTICE)
    assert (host.name, host.demand.level) == ("relay.example", Level.SECURE)


def test_a_notice_goes_by_the_smart_host_on_its_terms() -> None:
    world = World(smart_host="relay.example:587")
    (host,) = world.hosts(kind=RouteKind.NOTICE)
    assert (host.name, host.demand.level, host.authenticates) == ("relay.example", Level.VERIFY, True)


@pytest.mark.parametrize("kind", [kind for kind in RouteKind if kind is not RouteKind.NOTICE])
@pytest.mark.parametrize("terms", Terms)
@pytest.mark.parametrize("level", [level for level in Level if level is not Level.MAY])
def test_nothing_else_goes_in_clear(kind: RouteKind, terms: Terms, level: Level) -> None:
    plan = World(level=level).plan(kind=kind, terms=terms)
    assert isinstance(plan, Problem) or all(host.demand.needs_tls for host in plan.hosts)


# DANE and MTA-STS raise the default.


@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.VERIFY, Level.SECURE, Level.DANE, Level.DANE_ONLY])
def test_dane_goes_before_everything(level: Level) -> None:
    world = World(DANE, secure=SECURE, level=level, sts=sts("enforce", "*.elsewhere.example"))
    assert world.demand() == Demand(
        Level.DANE, "mx.example.net", ("mx.example.net", "example.org"), tlsa=(RECORD,), policy="DANE"
    )


def test_hosts_without_tlsa_follow_the_policy_or_the_level() -> None:
    enforced = World(DANE, secure=SECURE, sts=sts("enforce", "mx2.example.net"))
    assert [host.demand.policy for host in enforced.hosts()] == ["DANE", "MTA-STS"]
    assert [host.demand.policy for host in World(DANE, secure=SECURE).hosts()] == ["DANE", "default"]
    only = World(DANE, secure=SECURE, level=Level.DANE_ONLY)
    assert [host.name for host in only.hosts()] == ["mx.example.net"]
    assert only.watch.sessions == [("example.org", "mx2.example.net", TlsResult.DANE_REQUIRED)]


def test_dane_without_dnssec_is_not_dane() -> None:
    assert World(DANE).demand().policy == "default"
    assert World(DANE, level=Level.DANE_ONLY).problem() == NOT_PROVEN


@pytest.mark.parametrize(("given", "result"), [("FAIL", TlsResult.TLSA_INVALID), ("BOGUS", TlsResult.DNSSEC_INVALID)])
def test_a_host_whose_tlsa_cannot_be_had_is_passed_over(given: str, result: TlsResult) -> None:
    world = World({**DANE, ("_25._tcp.mx.example.net", "TLSA"): given}, secure=SECURE)
    assert [host.name for host in world.hosts()] == ["mx2.example.net"]
    assert world.watch.sessions == [("example.org", "mx.example.net", result)]
    both = {("_25._tcp.mx.example.net", "TLSA"): given, ("_25._tcp.mx2.example.net", "TLSA"): given}
    assert World({**TABLE, **both}, secure=SECURE).problem() == NOT_PROVEN


def test_unusable_tlsa_is_as_none_and_reported() -> None:
    world = World({**DANE, ("_25._tcp.mx.example.net", "TLSA"): [f"1 1 1 {SHA256}"]}, secure=SECURE)
    assert world.demand().policy == "default"
    assert world.watch.sessions == [("example.org", "", TlsResult.TLSA_INVALID)]
    unusable = {**DANE, ("_25._tcp.mx.example.net", "TLSA"): [f"0 1 1 {SHA256}"]}
    assert World(unusable, secure=SECURE, level=Level.DANE_ONLY).problem() == NOT_PROVEN


@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.VERIFY, Level.SECURE, Level.DANE, Level.STS])
def test_an_enforced_policy_raises_the_default(level: Level) -> None:
    world = World(level=level, sts=sts("enforce", "mx2.example.net"))
    (host,) = world.hosts()
    assert host.demand == Demand(Level.STS, "mx2.example.net", ("mx2.example.net",), policy="MTA-STS")
    assert world.watch.sessions == [("example.org", "mx.example.net", TlsResult.VALIDATION_FAILURE)]


def test_no_mx_of_an_enforced_policy() -> None:
    assert World(sts=sts("enforce", "mx.example.com")).problem() == NOT_PROVEN


def test_testing_is_reported_and_stops_nothing() -> None:
    world = World(sts=sts("testing", "mx2.example.net"))
    assert [host.demand.policy for host in world.hosts()] == ["default", "default"]
    assert world.watch.sessions == [("example.org", "mx.example.net", TlsResult.VALIDATION_FAILURE)]
    assert world.watch.policies[0][1].kind is PolicyKind.STS


@pytest.mark.parametrize("finding", [StsFinding(), sts("testing", "mx.example.net")])
def test_level_sts_demands_an_enforced_policy(finding: StsFinding) -> None:
    assert World(level=Level.STS, sts=finding).problem() == NOT_PROVEN


def test_a_policy_that_could_not_be_fetched_is_reported() -> None:
    failed = StsFinding(failure=TlsResult.STS_POLICY_FETCH_ERROR, reason="the policy host answers 500")
    world = World(sts=failed)
    assert world.demand().policy == "default"
    assert world.watch.sessions == [("example.org", "", TlsResult.STS_POLICY_FETCH_ERROR)]
    problem = World(level=Level.STS, sts=failed).plan()
    assert isinstance(problem, Problem)
    assert "the policy host answers 500" in problem.words


def test_what_applied_is_told_to_the_reports() -> None:
    dane, policy, none = World(DANE, secure=SECURE), World(sts=sts("enforce", "*.example.net")), World()
    for world in (dane, policy, none):
        assert all(host.is_reported for host in world.hosts())
        assert not any(host.is_reported for host in world.hosts(terms=Terms.OPTIONAL))
    assert dane.watch.policies == [
        ("example.org", TlsPolicy(PolicyKind.TLSA, (f"3 1 1 {SHA256}",), ("mx.example.net",)))
    ]
    lines = ("version: STSv1", "mode: enforce", "mx: *.example.net", "max_age: 86400")
    assert policy.watch.policies == [("example.org", TlsPolicy(PolicyKind.STS, lines, ("*.example.net",)))]
    assert none.watch.policies == [("example.org", TlsPolicy(PolicyKind.NONE))]


# Partners.


def partner(level: Level, **keys: Any) -> PartnerRecord:
    return PartnerRecord("example.org", level=level, **keys)


CLIENT = ClientFiles(Path("c.pem"), Path("c.key"))
CA = Path("ca.pem")


@pytest.mark.parametrize(
    ("record", "demand"),
    [
        (partner(Level.MAY), Demand(Level.MAY, "mx.example.net", ("mx.example.net",))),
        (partner(Level.ENCRYPT), Demand(Level.ENCRYPT, "mx.example.net", ("mx.example.net",))),
        (partner(Level.VERIFY), Demand(Level.VERIFY, "mx.example.net", ("mx.example.net",))),
        (partner(Level.VERIFY, names=("a.example",)), Demand(Level.VERIFY, "mx.example.net", ("a.example",))),
        (partner(Level.SECURE), Demand(Level.SECURE, "example.org", ("example.org", ".example.org"))),
        (
            partner(Level.SECURE, names=("*.example.net",), ca=CA, client=CLIENT, minimum="1.3", pins=(bytes(32),)),
            Demand(Level.SECURE, "mx.example.net", ("*.example.net",), CA, minimum="1.3", client=CLIENT),
        ),
        (
            partner(Level.PIN, pins=(bytes(32),)),
            Demand(Level.PIN, "mx.example.net", ("mx.example.net",), pins=(bytes(32),)),
        ),
        (partner(Level.DANE), Demand(Level.DANE, "mx.example.net", ("mx.example.net",))),
    ],
    ids=lambda value: value.level.value if isinstance(value, PartnerRecord) else "",
)
def test_a_record_counts_as_written(record: PartnerRecord, demand: Demand) -> None:
    world = World(TABLE, record, sts=sts("enforce", "nobody.example"), level=Level.DANE_ONLY)
    assert world.demand() == replace(demand, policy="partner example.org")
    assert world.watch.policies == []
    assert world.asked_sts == []
    assert not any(host.is_reported for host in world.hosts())


def test_a_partner_by_dane_and_by_sts() -> None:
    assert World(DANE, partner(Level.DANE), secure=SECURE).demand().tlsa == (RECORD,)
    assert World(DANE, partner(Level.DANE_ONLY), secure=SECURE).demand().tlsa == (RECORD,)
    assert World(TABLE, partner(Level.DANE_ONLY)).problem() == NOT_PROVEN
    assert World(DANE, partner(Level.SECURE), secure=SECURE).demand().tlsa == ()
    world = World(TABLE, partner(Level.STS, client=CLIENT), sts=sts("enforce", "mx.example.net"))
    assert world.demand() == Demand(Level.STS, "mx.example.net", ("mx.example.net",), client=CLIENT, policy="MTA-STS")
    assert World(TABLE, partner(Level.STS)).problem() == NOT_PROVEN


def test_a_fixed_route_needs_no_mx() -> None:
    route = ("relay.example:2525", "[192.0.2.7]:25", "gone.example")
    world = World(TABLE, partner(Level.SECURE, route=route))
    first, second = world.hosts()
    assert (first.name, first.addresses, first.port) == ("relay.example", ("192.0.2.25",), 2525)
    assert first.demand.names == ("relay.example", "example.org", ".example.org")
    assert first.demand.server_name == "relay.example"
    assert (second.addresses, second.port) == (("192.0.2.7",), 25)
    assert ("example.org", "MX") not in world.lookup.asked


@pytest.mark.parametrize(("given", "enhanced"), [([], "4.4.4"), ("FAIL", "4.4.3")])
def test_a_fixed_route_that_leads_nowhere_waits_for_the_operator(given: Any, enhanced: str) -> None:
    world = World({("relay.example", "A"): given}, partner(Level.SECURE, route=("relay.example",)))
    assert world.problem() == (False, 451, enhanced, False)


@pytest.mark.parametrize(
    "record",
    [
        partner(Level.ENCRYPT, start=date(2030, 1, 1)),
        partner(Level.ENCRYPT, direction=Direction.IN),
        PartnerRecord("example.com", level=Level.ENCRYPT),
    ],
)
def test_a_record_that_does_not_count_leaves_the_default(record: PartnerRecord) -> None:
    assert World(TABLE, record).demand().policy == "default"


def test_a_record_of_all_domains_below() -> None:
    table = {**TABLE, ("sub.example.org", "MX"): ["10 mx.example.net."]}
    world = World(table, partner(Level.SECURE, subdomains=True))
    assert world.demand("sub.example.org").names == ("sub.example.org", ".sub.example.org")


def test_service_mail_follows_the_default() -> None:
    record = partner(Level.PIN, pins=(bytes(32),))
    assert World(TABLE, record).demand(kind=RouteKind.SERVICE).policy == "default"
    assert World(TABLE, record, smart_host="relay.example").hosts(kind=RouteKind.SERVICE)[0].authenticates


# The smart host.


@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.VERIFY, Level.SECURE, Level.STS])
@pytest.mark.parametrize("terms", [Terms.NORMAL, Terms.OPTIONAL, Terms.REQUIRED])
def test_the_smart_host_proves_its_name_whatever_is_asked(level: Level, terms: Terms) -> None:
    world = World(smart_host="relay.example:587", level=level)
    (host,) = world.hosts(terms=terms)
    assert host.demand == Demand(Level.VERIFY, "relay.example", ("relay.example",), policy="smart host")
    assert (host.port, host.authenticates, host.implicit_tls) == (587, True, False)
    assert world.asked_sts == []
    assert world.watch.policies == []


def test_partners_go_past_the_smart_host() -> None:
    (first, _) = World(TABLE, partner(Level.VERIFY), smart_host="relay.example").hosts()
    assert (first.name, first.authenticates) == ("mx.example.net", False)


def test_port_465_speaks_tls_at_once() -> None:
    assert World(smart_host="relay.example:465").hosts()[0].implicit_tls
    assert not World(TABLE, partner(Level.SECURE, route=("relay.example:465",))).hosts()[0].implicit_tls


def test_a_smart_host_by_dane() -> None:
    table = {**TABLE, ("_587._tcp.relay.example", "TLSA"): [f"3 1 1 {SHA256}"]}
    demand = World(table, smart_host="relay.example:587", secure=["relay.example"], level=Level.DANE_ONLY).demand()
    assert (demand.tlsa, demand.policy) == ((RECORD,), "DANE")
    assert World(smart_host="relay.example:587", level=Level.DANE_ONLY).problem() == NOT_PROVEN


def test_a_smart_host_that_is_gone_bounces_nothing() -> None:
    assert World({}, smart_host="relay.example").problem() == (False, 451, "4.4.4", False)


# What the message asks.


def test_require_tls_needs_a_server_that_is_found_securely() -> None:
    assert World().problem(terms=Terms.REQUIRED) == (True, 550, "5.7.10", True)
    assert World(secure=SECURE).demand(terms=Terms.REQUIRED).level is Level.VERIFY
    assert World(secure=SECURE, level=Level.ENCRYPT).demand(terms=Terms.REQUIRED).level is Level.VERIFY
    assert World(DANE, secure=SECURE).demand(terms=Terms.REQUIRED).level is Level.DANE
    assert World(sts=sts("enforce", "*.example.net")).demand(terms=Terms.REQUIRED).level is Level.STS
    assert World(sts=sts("testing", "*.example.net")).problem(terms=Terms.REQUIRED)[0]
    assert World(level=Level.SECURE).demand(terms=Terms.REQUIRED).level is Level.SECURE
    assert World().demand("[192.0.2.1]", terms=Terms.REQUIRED).level is Level.VERIFY


def test_require_tls_waits_for_a_policy_that_cannot_be_fetched_now() -> None:
    failed = StsFinding(failure=TlsResult.STS_POLICY_FETCH_ERROR, reason="the policy host answers 500")
    assert World(sts=failed).problem(terms=Terms.REQUIRED) == (False, 451, "4.7.10", True)


def test_require_tls_to_partners() -> None:
    assert World(TABLE, partner(Level.SECURE)).demand(terms=Terms.REQUIRED).level is Level.SECURE
    assert World(TABLE, partner(Level.ENCRYPT)).problem(terms=Terms.REQUIRED)[0]
    named = World(TABLE, partner(Level.ENCRYPT, route=("relay.example",)))
    assert named.demand(terms=Terms.REQUIRED).level is Level.VERIFY
    assert World(TABLE, partner(Level.DANE)).problem(terms=Terms.REQUIRED)[0]


def test_require_tls_waits_while_dns_fails() -> None:
    table = {**DANE, ("_25._tcp.mx.example.net", "TLSA"): "FAIL"}
    world = World(table, secure=SECURE)
    world.lookup.table[("example.org", "MX")] = ["10 mx.example.net."]
    assert world.problem(terms=Terms.REQUIRED) == NOT_PROVEN


@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.VERIFY, Level.DANE])
def test_tls_required_no_lowers_the_default_to_encryption(level: Level) -> None:
    world = World(DANE, secure=SECURE, level=level, sts=sts("enforce", "nobody.example"))
    demand = world.demand(terms=Terms.OPTIONAL)
    assert (demand.level, demand.policy, demand.tlsa) == (Level.ENCRYPT, "TLS-Required: No", ())


@pytest.mark.parametrize("level", [Level.SECURE, Level.DANE_ONLY, Level.STS])
def test_tls_required_no_does_not_lower_what_the_operator_raised(level: Level) -> None:
    world = World(DANE, secure=SECURE, level=level, sts=sts("enforce", "mx.example.net"))
    assert world.demand(terms=Terms.OPTIONAL).policy == "DANE"
    assert World(TABLE, partner(Level.SECURE)).demand(terms=Terms.OPTIONAL).level is Level.SECURE


# What DNS says goes through.


def test_problems_of_dns_come_through() -> None:
    assert World({}).problem() == (True, 550, "5.1.2", False)
    assert World({("example.org", "MX"): "FAIL"}).problem() == (False, 451, "4.4.3", False)
    assert World().problem(kind=RouteKind.INSIDE)[:3] == (False, 451, "4.3.5")


# Whether a destination proves itself to whoever asks.

BOTH = {**DANE, ("_25._tcp.mx2.example.net", "TLSA"): [f"3 1 1 {SHA256}"]}


@pytest.mark.parametrize(
    ("world", "is_proven", "words"),
    [
        (World(BOTH, secure=SECURE), True, "example.org proves itself by DANE"),
        (World(DANE, secure=SECURE), False, "example.org proves itself neither by DANE nor by MTA-STS"),
        (World(BOTH), False, "example.org proves itself neither by DANE nor by MTA-STS"),
        (World(DANE, secure=SECURE, sts=sts("enforce", "*.example.net")), True, "example.org proves itself by MTA-STS"),
        (World(sts=sts("enforce", "mx2.example.net")), True, "example.org proves itself by MTA-STS"),
        (World(sts=sts("enforce", "other.example")), False, "example.org proves itself neither by DANE nor by MTA-STS"),
        (World(sts=sts("testing", "*.example.net")), False, "example.org proves itself neither by DANE nor by MTA-STS"),
        (
            World(BOTH, secure=SECURE, smart_host="relay.example:465"),
            False,
            "mail leaves through a smart host, which proves only itself",
        ),
        # What the operator knows of a partner says nothing of what the domain says of itself.
        (World(TABLE, PartnerRecord("example.org")), False, "example.org proves itself neither by DANE nor by MTA-STS"),
    ],
)
def test_what_proves_a_destination_to_whoever_asks(world: World, is_proven: bool, words: str) -> None:
    assert run(world.planner.proves_itself("example.org")) == SelfProof(is_proven, words)


def test_what_dns_does_not_answer_is_neither_proof_nor_its_absence() -> None:
    failing: dict[tuple[str, str], Any] = {
        **TABLE,
        ("_25._tcp.mx2.example.net", "TLSA"): "FAIL",
        ("fails.example", "MX"): "FAIL",
    }
    world = World(failing, secure=SECURE)
    for domain, permanent, enhanced in (
        ("example.org", False, "4.4.3"),
        ("fails.example", False, "4.4.3"),
        ("none.example", True, "5.1.2"),
    ):
        found = run(world.planner.proves_itself(domain))
        assert isinstance(found, Problem)
        assert (found.permanent, found.enhanced) == (permanent, enhanced)
    found = run(World(sts=StsFinding(unasked="no answer")).planner.proves_itself("example.org"))
    assert isinstance(found, Problem)
    assert (found.permanent, found.enhanced) == (False, "4.4.3")
