"""From a domain to a message taken: DNSSEC, DANE and MTA-STS lead the courier to real servers that prove it or not."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path as File
from typing import Any

import pytest
import tls_support
from dns_support import DnsNetwork, tlsa
from https_support import web_server
from reactor_support import on_reactor, running_reactor
from smtp_peer_support import Peer
from tls_support import Authority, Certified

from certmaild.config import default
from certmaild.config_values import Config
from certmaild.dns.exchange import Server
from certmaild.dns.resolver import Resolver
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.keystore.tls_client import TlsClients
from certmaild.keystore.tls_values import Level, Pem, Proof
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.mailbox.tls_days import TlsDays
from certmaild.outbound.courier import SmtpCourier
from certmaild.outbound.directions import Directions
from certmaild.outbound.interfaces import Terms, Work
from certmaild.outbound.tls_report import Submitter, report_json
from certmaild.outbound.values import (
    Delivered,
    Destination,
    Envelope,
    OutgoingMessage,
    Problem,
    Recipient,
    RouteKind,
)
from certmaild.partners.book import PartnerBook
from certmaild.protocols.smtp.grammar import Path

CONTENT = b"Subject: x\r\n\r\nHello.\r\n"
HOSTS = {
    "right": "127.0.3.1",
    "wrong": "127.0.3.2",
    "anchor": "127.0.3.3",
    "stripped": "127.0.3.4",
    "unsigned": "127.0.3.5",
    "policy": "127.0.3.6",
    "liar": "127.0.3.7",
    "second": "127.0.3.8",
}
SIGNED = ("right", "wrong", "anchor", "stripped", "second")
POLICY = "version: STSv1\nmode: enforce\nmx: mx.policy.test\nmx: mx.liar.test\nmax_age: 86400\n"


class Letters:
    async def prepare_letter(self, letter: EmailMessage, to: str) -> Work:
        def work(txn: WriteTxn) -> None:
            pass

        return work


class World:
    """Servers, DNS, a policy host, and one server of ours without its queue."""

    def __init__(self, folder: File, root: Authority, web_port: int, web_ca: File) -> None:
        self.folder = folder
        self.root = root
        self.peers: dict[str, Peer] = {}
        self.certificates = {name: self._certificate(name) for name in HOSTS}
        for name in HOSTS:
            self.peers[name] = self._peer(name)
        self.dns = DnsNetwork(folder, self._zones(), signed=[f"{name}.test" for name in SIGNED])
        self.config: Config = default(folder)
        self.config = replace(self.config, outbound=replace(self.config.outbound, loopback=True))
        secrets = self.secrets = ServerSecrets({name: bytes([number]) * 32 for number, name in enumerate(FILES)})

        def begin() -> None:
            self.engine = LmdbEngine(self.config.store, running_reactor(), secrets, floor_octets=0)
            self.engine.start()
            self.directions = Directions(
                self.config,
                self.engine,
                secrets,
                PartnerBook(),
                Resolver(running_reactor(), [Server.read(self.dns.resolver)]),
                Letters(),
                running_reactor(),
                port=self.port,
                sts_port=web_port,
                sts_authorities=web_ca,
            )
            tls = TlsClients(Pem(root.pem.decode()))
            self.courier = SmtpCourier(running_reactor(), "us.example", tls, watch=self.directions.watch)

        on_reactor(begin)

    @property
    def port(self) -> int:
        return self.peers["right"].port

    def _certificate(self, name: str) -> Certified:
        if name in ("right", "wrong", "second"):
            # DANE-EE needs no authority and no name (RFC 7672 section 3.1.1).
            return tls_support.self_signed("nobody.example")
        return self.root.issue("mx.other.test" if name == "liar" else f"mx.{name}.test")

    def _peer(self, name: str) -> Peer:
        folder = self.folder / name
        folder.mkdir(parents=True)
        context = None if name == "stripped" else self.certificates[name].server(folder)
        port = self.peers["right"].port if self.peers else 0
        return Peer(context, address=HOSTS[name], port=port, offers_in_tls=("REQUIRETLS",))

    def _zones(self) -> dict[str, str]:
        certificates = self.certificates
        other = tls_support.self_signed("x").spki
        at = f"_{self.port}._tcp.mx TLSA"
        records = {
            "right": f"{at} {tlsa(certificates['right'].spki)}\n",
            "wrong": f"{at} {tlsa(other)}\n",
            "anchor": f"{at} {tlsa(self.root.der, usage=2, selector=0)}\n",
            "stripped": f"{at} {tlsa(other)}\n",
            "unsigned": f"{at} {tlsa(other)}\n",
            "policy": '_mta-sts TXT "v=STSv1; id=1"\nmta-sts A 127.0.0.1\n',
            "liar": '_mta-sts TXT "v=STSv1; id=1"\nmta-sts A 127.0.0.1\n',
            "second": f"@ MX 5 mx.wrong.test.\n{at} {tlsa(other)}\n{at} {tlsa(certificates['second'].spki)}\n",
        }
        return {f"{name}.test": f"@ MX 10 mx\nmx A {HOSTS[name]}\n{more}" for name, more in records.items()}

    def send(self, name: str, level: Level = Level.VERIFY, terms: Terms = Terms.NORMAL) -> Delivered | Problem:
        self.directions.take_over(replace(self.config, outbound=replace(self.config.outbound, level=level)))
        destination = Destination(RouteKind.VERIFIED_TLS, f"{name}.test")
        recipient = Recipient(Path("bob", destination.domain), RouteKind.VERIFIED_TLS, "")

        async def pieces() -> AsyncIterator[bytes]:
            yield CONTENT

        message = OutgoingMessage(Envelope(Path("ann", "us.example")), (recipient,), len(CONTENT), pieces)

        async def work() -> Any:
            plan = await self.directions.planner.plan(destination, terms)
            if isinstance(plan, Problem):
                return plan
            connection = await self.courier.connect(plan)
            if isinstance(connection, Problem):
                return connection
            fates = await connection.send(message, lambda: None)
            await connection.close()
            return fates[recipient]

        fate: Delivered | Problem = on_reactor(work)
        return fate

    def proof(self, name: str, **more: Any) -> Proof:
        fate = self.send(name, **more)
        assert isinstance(fate, Delivered), fate
        assert fate.proof is not None
        return fate.proof

    def problem(self, name: str, **more: Any) -> Problem:
        """Why nothing was sent: nobody heard who writes to whom."""
        del self.peers[name].commands[:]
        fate = self.send(name, **more)
        assert isinstance(fate, Problem), fate
        assert (fate.permanent, fate.concerns_tls) == (False, True), fate
        assert fate.enhanced.startswith("4.7."), fate
        assert "MAIL" not in self.peers[name].verbs()
        return fate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    root = tls_support.authority()
    with web_server(root.issue("mta-sts.policy.test", "mta-sts.liar.test")) as web:
        web.pages = {"/.well-known/mta-sts.txt": POLICY}
        made = World(folder, tls_support.authority(), web.port, root.write_pem(folder))
        with made.dns:
            yield made
        on_reactor(made.directions.stop)
        on_reactor(lambda: made.engine.close())
        for peer in made.peers.values():
            peer.__exit__()


@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.VERIFY, Level.SECURE, Level.DANE, Level.DANE_ONLY])
def test_dane_binds_a_key_that_nobody_certified(world: World, level: Level) -> None:
    proof = world.proof("right", level=level)
    assert (proof.how, proof.policy, proof.verified) == ("DANE 3 1 1", "DANE", True)


def test_dane_by_an_authority_of_the_domain(world: World) -> None:
    assert world.proof("anchor").how == "DANE 2 0 1"


def test_another_key_than_dane_says(world: World) -> None:
    assert "TLSA" in world.problem("wrong").words


def test_dane_forbids_clear_text(world: World) -> None:
    assert "STARTTLS" in world.problem("stripped").words


def test_the_next_server_and_the_next_key(world: World) -> None:
    fate = world.send("second")
    assert isinstance(fate, Delivered)
    assert fate.host == "mx.second.test"


def test_tlsa_of_an_unsigned_zone_says_nothing(world: World) -> None:
    proof = world.proof("unsigned")
    assert (proof.how, proof.policy) == ("certificate for mx.unsigned.test", "default")
    assert "DANE" in world.problem("unsigned", level=Level.DANE_ONLY).words


def test_an_enforced_policy(world: World) -> None:
    proof = world.proof("policy", level=Level.STS)
    assert (proof.how, proof.policy) == ("certificate for mx.policy.test", "MTA-STS")
    assert "mx.other.test" in world.problem("liar", level=Level.ENCRYPT).words


def test_tls_required_no_encrypts_and_asks_for_no_proof(world: World) -> None:
    proof = world.proof("liar", terms=Terms.OPTIONAL)
    assert (proof.verified, proof.policy) == (False, "TLS-Required: No")


def test_require_tls_goes_to_vouched_servers_only(world: World) -> None:
    assert world.proof("right", terms=Terms.REQUIRED).how == "DANE 3 1 1"
    fate = world.send("unsigned", terms=Terms.REQUIRED)
    assert isinstance(fate, Problem)
    assert (fate.permanent, fate.enhanced) == (True, "5.7.10")


def test_how_it_went_is_reported(world: World) -> None:
    for name in ("right", "wrong", "stripped", "liar"):
        world.send(name)
    world.send("liar", terms=Terms.OPTIONAL)
    on_reactor(world.directions.watch.flush)
    day = int(running_reactor().seconds()) // 86_400
    days = TlsDays(world.secrets.queue)

    def reported(name: str) -> dict[str, set[str]]:
        row = on_reactor(lambda: world.engine.read(lambda txn: days.read(txn, day, f"{name}.test")))
        assert row is not None
        return {
            policy["policy"]["policy-type"]: {one["result-type"] for one in policy.get("failure-details", [])}
            for policy in json.loads(report_json(row, day, Submitter("us.example", "us.example", "x"), "1"))["policies"]
        }

    assert reported("right") == {"tlsa": set()}
    assert reported("wrong") == {"tlsa": {"validation-failure"}}
    assert reported("stripped") == {"tlsa": {"starttls-not-supported"}}
    assert reported("liar") == {"sts": {"certificate-host-mismatch"}}
