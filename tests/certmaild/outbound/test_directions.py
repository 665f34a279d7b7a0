"""Everything that finds ways, over a real validating resolver, a real policy host and a real store."""

from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from dns_support import DnsNetwork, tlsa
from https_support import WebServer, web_server
from reactor_support import on_reactor, running_reactor
from tls_support import Authority, authority

from certmaild.config import default
from certmaild.config_values import Config
from certmaild.dns.exchange import Server
from certmaild.dns.resolver import Resolver
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.keystore.tls_values import Level, Tlsa
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.outbound.directions import Directions
from certmaild.outbound.interfaces import Terms, Work
from certmaild.outbound.values import Destination, Plan, Problem, RouteKind
from certmaild.partners.book import PartnerBook

KEY = b"a public key"
ZONES = {
    "signed.test": f"@ MX 10 mx\n@ MX 20 bare\nmx A 127.0.3.1\nbare A 127.0.3.2\n_2525._tcp.mx TLSA {tlsa(KEY)}\n",
    "sts.test": '@ MX 10 mx\nmx A 127.0.3.3\n_mta-sts TXT "v=STSv1; id=1"\nmta-sts A 127.0.0.1\n'
    '_smtp._tls TXT "v=TLSRPTv1; rua=mailto:tls@sts.test"\n',
    "plain.test": "@ MX 10 mx\nmx A 127.0.3.4\n@ A 127.0.3.5\n",
    "bogus.test": "@ MX 10 mx\nmx A 127.0.3.6\n",
    "broken.test": "@ MX 10 mx.signed.test.\n@ MX 20 mx.bogus.test.\n",
}
PATH = "/.well-known/mta-sts.txt"
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: *.sts.test\r\nmax_age: 86400\r\n"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsNetwork]:
    folder = tmp_path_factory.mktemp("net")
    signed = {"signed.test", "broken.test"}
    with DnsNetwork(folder, ZONES, signed=signed, bogus={"bogus.test"}, dead={"dead.test"}) as dns_network:
        yield dns_network


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority()


@pytest.fixture
def web(root: Authority) -> Iterator[WebServer]:
    with web_server(root.issue("mta-sts.sts.test")) as server:
        server.pages = {PATH: POLICY}
        yield server


class Letters:
    def __init__(self) -> None:
        self.sent: list[tuple[str, EmailMessage]] = []

    async def prepare_letter(self, letter: EmailMessage, to: str) -> Work:
        def work(txn: WriteTxn) -> None:
            self.sent.append((to, letter))

        return work


class World:
    def __init__(self, folder: Path, network: DnsNetwork, web: WebServer, ca: Path) -> None:
        self.config = self._config(folder)
        secrets = ServerSecrets({name: bytes([number]) * 32 for number, name in enumerate(FILES)})
        self.letters = Letters()

        def begin() -> None:
            self.engine = LmdbEngine(self.config.store, running_reactor(), secrets, floor_octets=0)
            self.engine.start()
            resolver = Resolver(running_reactor(), [Server.read(network.resolver)])
            self.directions = Directions(
                self.config,
                self.engine,
                secrets,
                PartnerBook(),
                resolver,
                self.letters,
                running_reactor(),
                port=2525,
                sts_port=web.port,
                sts_authorities=ca,
            )

        on_reactor(begin)
        on_reactor(self.directions.start)

    def _config(self, folder: Path) -> Config:
        config = default(folder)
        return replace(config, outbound=replace(config.outbound, loopback=True))

    def plan(self, domain: str, **outbound: Any) -> Plan | Problem:
        settings = replace(self.config, outbound=replace(self.config.outbound, **outbound))
        self.directions.take_over(settings)
        destination = Destination(RouteKind.VERIFIED_TLS, domain)
        return on_reactor(lambda: self.directions.planner.plan(destination, Terms.NORMAL))

    def close(self) -> None:
        on_reactor(self.directions.stop)
        on_reactor(lambda: self.engine.close())


@pytest.fixture
def world(tmp_path: Path, network: DnsNetwork, web: WebServer, root: Authority) -> Iterator[World]:
    made = World(tmp_path, network, web, root.write_pem(tmp_path))
    yield made
    made.close()


def hosts(plan: Plan | Problem) -> list[tuple[str, tuple[str, ...], int, Level, str]]:
    assert isinstance(plan, Plan), plan
    return [(one.name, one.addresses, one.port, one.demand.level, one.demand.policy) for one in plan.hosts]


def test_a_signed_zone_by_dane(world: World) -> None:
    plan = world.plan("signed.test")
    assert hosts(plan) == [
        ("mx.signed.test", ("127.0.3.1",), 2525, Level.DANE, "DANE"),
        ("bare.signed.test", ("127.0.3.2",), 2525, Level.VERIFY, "default"),
    ]
    assert isinstance(plan, Plan)
    assert plan.hosts[0].demand.tlsa == (Tlsa(3, 1, 1, sha256(KEY).digest()),)
    assert [name for name, *_ in hosts(world.plan("signed.test", level=Level.DANE_ONLY))] == ["mx.signed.test"]


def test_a_policy_host(world: World, web: WebServer) -> None:
    for _ in range(3):
        assert hosts(world.plan("sts.test")) == [("mx.sts.test", ("127.0.3.3",), 2525, Level.STS, "MTA-STS")]
    assert [(name, path) for name, path, _ in web.asked] == [("mta-sts.sts.test", PATH)]


def test_a_policy_host_that_fails_leaves_the_default(world: World, web: WebServer) -> None:
    web.pages = {}
    assert hosts(world.plan("sts.test"))[0][3:] == (Level.VERIFY, "default")
    problem = world.plan("sts.test", level=Level.STS)
    assert isinstance(problem, Problem)
    assert problem.enhanced == "4.7.5"
    assert "the policy host answers 404" in problem.words


def test_an_unsigned_zone_by_the_level(world: World) -> None:
    assert hosts(world.plan("plain.test")) == [("mx.plain.test", ("127.0.3.4",), 2525, Level.VERIFY, "default")]
    problem = world.plan("plain.test", level=Level.DANE_ONLY)
    assert isinstance(problem, Problem)
    assert (problem.permanent, problem.enhanced, problem.concerns_tls) == (False, "4.7.5", True)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("bogus.test", (False, "4.4.3", True)),
        ("dead.test", (False, "4.4.3", False)),
        ("nowhere.test", (True, "5.1.2", False)),
        ("_x.plain.test", (True, "5.1.2", False)),
    ],
)
def test_problems(world: World, domain: str, expected: tuple[bool, str, bool]) -> None:
    problem = world.plan(domain)
    assert isinstance(problem, Problem)
    assert (problem.permanent, problem.enhanced, problem.concerns_tls) == expected


def test_a_bogus_host_leaves_the_good_one(world: World) -> None:
    assert [name for name, *_ in hosts(world.plan("broken.test"))] == ["mx.signed.test"]


def test_loopback_is_refused_unless_it_is_set(world: World) -> None:
    problem = world.plan("plain.test", loopback=False)
    assert isinstance(problem, Problem)
    assert (problem.permanent, problem.enhanced) == (True, "5.4.4")


def test_sessions_are_in_the_store_after_the_end(world: World) -> None:
    world.plan("sts.test")
    on_reactor(lambda: world.directions.watch.session("sts.test", "mx.sts.test", "127.0.3.3", None))
    on_reactor(world.directions.stop)
    rows = on_reactor(lambda: world.engine.read(lambda txn: list(txn.scan(Table.TLSRPT, b""))))
    assert len(rows) == 1
