"""TLSA records count where DNSSEC vouches for the whole way, and only there (RFC 7672)."""

from collections.abc import Iterable
from typing import Any

import pytest
from dns_support import ScriptedLookup
from support import run

from certmaild.keystore.tls_values import Tlsa
from certmaild.outbound.dane import NOTHING, DaneFinding, best_digests, find_tlsa, is_usable
from certmaild.outbound.destinations import Destinations, Found

SHA256, SHA512 = "ab" * 32, "cd" * 64
TABLE = {
    ("example.org", "MX"): ["10 mx.example.org."],
    ("mx.example.org", "A"): ["192.0.2.1"],
    ("_25._tcp.mx.example.org", "TLSA"): [f"3 1 1 {SHA256}"],
}
ALIAS = {
    ("example.org", "MX"): ["10 mx.example.org."],
    ("mx.example.org", "CNAME"): ["host.example.net."],
    ("host.example.net", "A"): ["192.0.2.1"],
    ("_25._tcp.host.example.net", "TLSA"): [f"3 1 1 {SHA256}"],
    ("_25._tcp.mx.example.org", "TLSA"): [f"2 0 2 {SHA512}"],
}
ONE = Tlsa(3, 1, 1, bytes.fromhex(SHA256))
ANCHOR = Tlsa(2, 0, 2, bytes.fromhex(SHA512))


def dane(table: dict[tuple[str, str], Any], secure: Iterable[str]) -> tuple[DaneFinding, list[str]]:
    lookup = ScriptedLookup(table, secure=secure)
    found = run(Destinations(lookup).find("example.org"))
    assert isinstance(found, Found), found
    finding = run(find_tlsa(lookup, found.hosts[0], 25))
    return finding, [name for name, kind in lookup.asked if kind == "TLSA"]


def test_secure_all_the_way() -> None:
    assert dane(TABLE, ["example.org"])[0] == DaneFinding("mx.example.org", (ONE,))


@pytest.mark.parametrize("secure", [[], ["mx.example.org", "_25._tcp.mx.example.org"], ["_25._tcp.mx.example.org"]])
def test_an_insecure_mx_or_address_leaves_dane_out_unasked(secure: list[str]) -> None:
    assert dane(TABLE, secure) == (NOTHING, [])


def test_insecure_addresses_leave_dane_out_unasked() -> None:
    table = {**TABLE, ("example.org", "MX"): ["10 mx.example.net."], ("mx.example.net", "A"): ["192.0.2.1"]}
    assert dane(table, ["example.org"]) == (NOTHING, [])


def test_insecure_tlsa_counts_for_nothing() -> None:
    class Insecure(ScriptedLookup):
        def _is_secure(self, name: str) -> bool:
            return not name.startswith("_25")

    lookup = Insecure(TABLE)
    found = run(Destinations(lookup).find("example.org"))
    assert isinstance(found, Found)
    assert run(find_tlsa(lookup, found.hosts[0], 25)) == NOTHING


@pytest.mark.parametrize(("given", "bogus"), [("FAIL", False), ("BOGUS", True)])
def test_records_that_cannot_be_had_forbid_the_host(given: str, bogus: bool) -> None:
    finding, _ = dane({**TABLE, ("_25._tcp.mx.example.org", "TLSA"): given}, ["example.org"])
    assert finding.failure
    assert finding.bogus == bogus
    assert not finding.records


def test_the_end_of_a_secure_alias_comes_first() -> None:
    finding, asked = dane(ALIAS, ["example.org", "example.net"])
    assert finding == DaneFinding("host.example.net", (ONE,))
    assert asked == ["_25._tcp.host.example.net"]
    without = {key: value for key, value in ALIAS.items() if key[0] != "_25._tcp.host.example.net"}
    assert dane(without, ["example.org", "example.net"])[0] == DaneFinding("mx.example.org", (ANCHOR,))


def test_a_secure_alias_into_an_insecure_zone_counts_itself() -> None:
    finding, asked = dane(ALIAS, ["example.org"])
    assert finding == DaneFinding("mx.example.org", (ANCHOR,))
    assert asked == ["_25._tcp.mx.example.org"]


def test_an_alias_that_cannot_be_asked_forbids_the_host() -> None:
    class Broken(ScriptedLookup):
        async def ask(self, name: str, kind: Any) -> Any:
            if kind.name == "CNAME":
                self.table = {(name, "CNAME"): "FAIL"}
            return await super().ask(name, kind)

    lookup = Broken(ALIAS, secure=["example.org"])
    found = run(Destinations(lookup).find("example.org"))
    assert isinstance(found, Found)
    assert run(find_tlsa(lookup, found.hosts[0], 25)).failure


def test_records_for_other_uses_are_unusable() -> None:
    table = {**TABLE, ("_25._tcp.mx.example.org", "TLSA"): [f"1 1 1 {SHA256}", f"0 0 1 {SHA256}"]}
    assert dane(table, ["example.org"])[0] == DaneFinding("mx.example.org", unusable=True)


@pytest.mark.parametrize(
    ("record", "usable"),
    [
        (Tlsa(3, 1, 1, bytes(32)), True),
        (Tlsa(2, 0, 2, bytes(64)), True),
        (Tlsa(3, 0, 0, b"der"), True),
        (Tlsa(3, 1, 1, bytes(31)), False),
        (Tlsa(3, 1, 2, bytes(32)), False),
        (Tlsa(3, 0, 0, b""), False),
        (Tlsa(3, 2, 1, bytes(32)), False),
        (Tlsa(3, 1, 3, bytes(32)), False),
        (Tlsa(0, 1, 1, bytes(32)), False),
        (Tlsa(1, 1, 1, bytes(32)), False),
    ],
)
def test_usable(record: Tlsa, usable: bool) -> None:
    assert is_usable(record) == usable


def test_the_strongest_digest_counts_alone() -> None:
    weak, strong, other = Tlsa(3, 1, 1, bytes(32)), Tlsa(3, 1, 2, bytes(64)), Tlsa(2, 1, 1, bytes(32))
    full = Tlsa(3, 1, 0, b"der")
    assert best_digests((weak, strong, other, full)) == (strong, other, full)
    assert best_digests((weak, other)) == (weak, other)
