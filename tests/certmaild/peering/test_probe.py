"""`certmaild partner test`: every server asked, each failure with its reason, no mail sent."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import tls_support
from command_support import Line, make_line
from dns_support import DnsNetwork, ScriptedLookup, tlsa
from reactor_support import on_reactor, running_reactor
from smtp_peer_support import Between, Peer
from tls_support import Authority

from certmaild.keystore.tls_client import TlsClients
from certmaild.keystore.tls_values import Level, Pem
from certmaild.outbound.destinations import Destinations
from certmaild.outbound.mta_sts import StsFinding
from certmaild.outbound.sts_policy import Mode, StsPolicy
from certmaild.partners.record import PartnerRecord
from certmaild.peering.probe import Probe, Prober, Verdict
from certmaild.protocols.smtp.client.connection import Patience

MX = "mx.p.example"
NO_STS = StsFinding()
QUICK = Patience(connect=2, greeting=2, handshake=2, command=2)


@pytest.fixture(scope="module")
def root() -> Authority:
    return tls_support.authority()


class Policies:
    """Stands for `MtaSts`."""

    def __init__(self, finding: StsFinding) -> None:
        self.finding = finding

    async def find(self, domain: str) -> StsFinding:
        return self.finding


def probe(
    root: Authority,
    table: dict[tuple[str, str], Any],
    record: PartnerRecord | None = None,
    *,
    port: int = 25,
    level: Level = Level.VERIFY,
    sts: StsFinding = NO_STS,
    secure: list[str] | None = None,
) -> Probe:
    lookup = ScriptedLookup(table, secure=secure or [])
    prober = Prober(
        running_reactor(),
        "us.example",
        TlsClients(Pem(root.pem.decode())),
        lookup,
        Destinations(lookup, allowed=lambda address: True),
        Policies(sts),  # type: ignore[arg-type]
        patience=QUICK,
        port=port,
    )
    return on_reactor(lambda: prober.probe("p.example", record, level))


def routed(peer: Peer | Between, **terms: Any) -> PartnerRecord:
    return PartnerRecord("p.example", route=(f"{MX}:{peer.port}",), **terms)


HERE = {(MX, "A"): ["127.0.0.1"]}


def one(found: Probe) -> Any:
    (asked,) = found.asked
    return asked


def test_a_server_that_keeps_to_the_terms(root: Authority, tmp_path: Path) -> None:
    issued = root.issue(MX, "p.example", end=timedelta(days=20))
    with Peer(issued.server(tmp_path), offers_in_tls=("REQUIRETLS", "DSN", "CHUNKING")) as peer:
        found = probe(root, HERE, routed(peer))
    asked = one(found)
    assert (found.verdict, asked.verdict, asked.words) == (Verdict.RIGHT, Verdict.RIGHT, "")
    assert asked.proof == "certificate for mx.p.example"
    assert asked.shown.version == "TLSv1.3" and asked.shown.names == (MX, "p.example")
    assert asked.shown.issuer == "Test authority" and asked.shown.pin == issued.pin
    assert asked.shown.not_after == issued.certificate.not_valid_after_utc == found.not_after
    assert asked.offers.require_tls and asked.offers.dsn and asked.offers.chunking and asked.offers.size == 10000000
    assert peer.verbs() == ["EHLO", "STARTTLS", "EHLO", "QUIT"]


def old_tls(issued: Authority, folder: Path) -> ssl.SSLContext:
    context = issued.server(folder, ssl.TLSVersion.TLSv1)
    context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


Made = tuple[Callable[[Authority, Path], Peer], str]
BAD: dict[str, Made] = {
    "expired": (
        lambda root, folder: Peer(root.issue(MX, start=timedelta(days=-9), end=timedelta(days=-1)).server(folder)),
        "its certificate expired on ",
    ),
    "another name": (
        lambda root, folder: Peer(root.issue("mx.other.example").server(folder)),
        "its certificate is for mx.other.example",
    ),
    "unknown authority": (
        lambda root, folder: Peer(tls_support.authority("Elsewhere").issue(MX).server(folder)),
        "an authority that is not known here (Elsewhere)",
    ),
    "no STARTTLS": (lambda root, folder: Peer(), "it does not offer TLS (STARTTLS)"),
    "STARTTLS refused": (
        lambda root, folder: Peer(root.issue(MX).server(folder), answers={"STARTTLS": b"454 4.7.0 Not now\r\n"}),
        "it offers STARTTLS and then refuses it",
    ),
    "TLS 1.0": (lambda root, folder: Peer(old_tls(root.issue(MX), folder)), "it does not offer TLS 1.2 or later"),
}


@pytest.mark.parametrize("fault", BAD)
def test_each_failure_with_its_reason(root: Authority, tmp_path: Path, fault: str) -> None:
    make, words = BAD[fault]
    with make(root, tmp_path) as peer:
        found = probe(root, HERE, routed(peer))
    asked = one(found)
    assert (found.verdict, asked.verdict) == (Verdict.FAILS, Verdict.FAILS)
    assert words in asked.words
    assert asked.proof == ""
    assert "MAIL" not in peer.verbs()
    # What it showed is to be seen all the same.
    assert (asked.shown is None) == (fault in ("no STARTTLS", "STARTTLS refused", "TLS 1.0"))


def test_clear_text_only_where_the_record_says_so(root: Authority) -> None:
    with Peer() as peer:
        asked = one(probe(root, HERE, routed(peer, level=Level.MAY)))
    assert asked.verdict is Verdict.RIGHT and "clear text" in asked.words


def test_pins_minimum_and_client_certificates_are_asked_as_a_message_would(root: Authority, tmp_path: Path) -> None:
    issued = root.issue("whatever.example")
    with Peer(issued.server(tmp_path)) as peer:
        right = one(probe(root, HERE, routed(peer, level=Level.PIN, pins=(bytes(32), issued.pin))))
        wrong = one(probe(root, HERE, routed(peer, level=Level.PIN, pins=(bytes(32),))))
    assert (right.verdict, right.proof) == (Verdict.RIGHT, "pin")
    assert wrong.verdict is Verdict.FAILS and "not one of those agreed on" in wrong.words
    context = root.issue(MX).server(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Peer(context) as peer:
        asked = one(probe(root, HERE, routed(peer, minimum="1.3")))
    assert asked.verdict is Verdict.FAILS and "TLS 1.3" in asked.words


def test_every_mx_and_every_address_is_asked(root: Authority, tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(Peer(root.issue("a.p.example").server(tmp_path), address="127.0.3.1"))
        table = {
            ("p.example", "MX"): ["10 a.p.example.", "20 b.p.example.", "30 c.p.example."],
            ("a.p.example", "A"): ["127.0.3.1", "127.0.3.2"],
            ("a.p.example", "AAAA"): ["2001:db8::1"],
            ("b.p.example", "A"): ["127.0.3.3"],
        }
        found = probe(root, table, port=first.port)
    seen = {(one.host, one.address): (one.verdict, one.words) for one in found.asked}
    assert seen["a.p.example", "127.0.3.1"] == (Verdict.RIGHT, "")
    assert seen["a.p.example", "127.0.3.2"] == (Verdict.UNREACHED, "it refuses connections")
    assert seen["a.p.example", "2001:db8::1"][0] is Verdict.UNREACHED
    assert seen["b.p.example", "127.0.3.3"] == (Verdict.UNREACHED, "it refuses connections")
    assert found.unnamed == ("c.p.example",)
    assert found.verdict is Verdict.RIGHT


def test_nobody_reached_is_no_verdict(root: Authority) -> None:
    free = Peer()
    free.__exit__()
    assert probe(root, HERE, routed(free)).verdict is Verdict.UNREACHED
    found = probe(root, {("p.example", "MX"): "FAIL"})
    assert found.verdict is Verdict.UNREACHED and found.problem is not None and "SERVFAIL" in found.problem.words
    assert probe(root, {}).verdict is Verdict.FAILS
    assert probe(root, {("p.example", "MX"): ["0 ."]}).verdict is Verdict.FAILS
    assert probe(root, {}, routed(free)).verdict is Verdict.UNREACHED


def test_dane_and_mta_sts_are_shown_and_judged(root: Authority, tmp_path: Path) -> None:
    issued = root.issue(MX)
    table: dict[tuple[str, str], Any] = {("p.example", "MX"): [f"10 {MX}."], **HERE}
    policy = StsFinding(StsPolicy(Mode.ENFORCE, ("mx.elsewhere.example",), 1000))
    with Peer(issued.server(tmp_path)) as peer:
        table[f"_{peer.port}._tcp.{MX}", "TLSA"] = [tlsa(issued.spki)]
        dane = probe(root, table, port=peer.port, secure=["p.example"])
        table[f"_{peer.port}._tcp.{MX}", "TLSA"] = ["3 1 1 " + "00" * 32]
        stale = probe(root, table, port=peer.port, secure=["p.example"])
        unsigned = probe(root, table, port=peer.port)
        sts = probe(root, table, port=peer.port, sts=policy)
        only = probe(root, table, PartnerRecord("p.example", level=Level.DANE_ONLY), port=peer.port)
    assert (one(dane).proof, one(dane).tlsa) == ("DANE 3 1 1", "3 1 1")
    assert one(stale).verdict is Verdict.FAILS and "no TLSA record" in one(stale).words
    assert (one(unsigned).verdict, one(unsigned).tlsa) == (Verdict.RIGHT, "none")
    assert sts.sts == "mode enforce, for mx.elsewhere.example"
    assert one(sts).verdict is Verdict.FAILS and "does not name it" in one(sts).words
    assert one(sts).shown is not None
    assert one(only).verdict is Verdict.FAILS and "TLSA" in one(only).words


# The command.


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    running_reactor()
    with DnsNetwork(tmp_path, {"p.example": "mx A 127.0.0.1"}) as network:
        yield make_line(tmp_path, tables=f'[resolver]\naddresses = ["{network.resolver}"]\n')


def test_the_command(line: Line, root: Authority, tmp_path: Path) -> None:
    ca = root.write_pem(tmp_path)
    with Peer(root.issue(MX).server(tmp_path)) as peer:
        line.run(
            *("partner", "add", "p.example", "--ca", str(ca), "--route", f"{MX}:{peer.port}", "--name", MX),
            *("--from", "2099-01-01"),
        )
        said = line.run("partner", "test", "p.example").stdout
        assert "right" in said and "certmaild partner trial p.example" in said and "MTA-STS: none" in said
        found = line.json("partner", "test", "p.example")
        assert found["verdict"] == "right" and found["servers"][0]["tls"]["names"] == [MX]
        assert found["servers"][0]["offers"]["pipelining"] is True
        line.run("partner", "set", "p.example", "--name", "mx.other.example")
        said = line.run("partner", "test", "p.example", status=1).stdout
        assert f"{MX} [127.0.0.1]: its certificate is for {MX}" in said and "Not right" in said
        assert line.json("partner", "test", "p.example", status=1)["servers"][0]["verdict"] == "fails"
    assert "refuses connections" in line.run("partner", "test", "p.example", status=75).stdout
    assert peer.messages == [] and "MAIL" not in peer.verbs()
