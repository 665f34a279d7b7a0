"""MX, implicit MX, null MX, loops, literals: which servers take mail for a domain."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from dns_support import ScriptedLookup
from support import run

from certmaild.outbound.destinations import Destinations, Found, may_be_reached
from certmaild.outbound.values import Problem

ADDRESS = ["192.0.2.1"]


def find(table: dict[tuple[str, str], Any], domain: str = "example.org", **settings: Any) -> Found | Problem:
    secure = settings.pop("secure", ())
    settings.setdefault("shuffle", lambda hosts: hosts.sort(key=lambda host: host.name))
    return run(Destinations(ScriptedLookup(table, secure=secure), **settings).find(domain))


def names(found: Found | Problem) -> list[str]:
    assert isinstance(found, Found), found
    return [host.name for host in found.hosts]


def problem(found: Found | Problem) -> tuple[bool, int, str]:
    assert isinstance(found, Problem), found
    assert found.words.endswith(".")
    return found.permanent, found.code, found.enhanced


THREE = {
    ("example.org", "MX"): ["20 b.example.org.", "10 c.example.org.", "20 a.example.org."],
    ("a.example.org", "A"): ADDRESS,
    ("b.example.org", "A"): ["192.0.2.2"],
    ("c.example.org", "A"): ["192.0.2.3"],
}


def test_by_preference_and_at_random_among_equals() -> None:
    assert names(find(THREE)) == ["c.example.org", "a.example.org", "b.example.org"]
    seen = {tuple(names(find(THREE, shuffle=random.shuffle))) for _ in range(200)}
    assert seen == {
        ("c.example.org", "a.example.org", "b.example.org"),
        ("c.example.org", "b.example.org", "a.example.org"),
    }


def test_both_ip_versions_in_turn() -> None:
    found = find(
        {
            ("example.org", "MX"): ["10 mx.example.org."],
            ("mx.example.org", "A"): ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
            ("mx.example.org", "AAAA"): ["2001:db8::1"],
        }
    )
    assert isinstance(found, Found)
    assert found.hosts[0].addresses == ("2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3")


def test_a_domain_without_mx_is_its_own_server() -> None:
    found = find({("example.org", "A"): ADDRESS}, secure=["example.org"])
    assert names(found) == ["example.org"]
    assert isinstance(found, Found)
    assert found.vouched
    assert found.hosts[0].name_vouched
    assert found.hosts[0].addresses_secure


def test_an_insecure_mx_vouches_for_nothing() -> None:
    found = find(THREE, secure=["c.example.org"])
    assert isinstance(found, Found)
    assert not found.vouched
    assert [host.name_vouched for host in found.hosts] == [False] * 3
    assert [host.addresses_secure for host in found.hosts] == [True, False, False]


def test_addresses_are_secure_only_if_all_are() -> None:
    class Half(ScriptedLookup):
        async def ask(self, name: str, kind: Any) -> Any:
            self.secure = {"example.org"} if kind.name != "AAAA" else set()
            return await super().ask(name, kind)

    table = {("example.org", "A"): ADDRESS, ("example.org", "AAAA"): ["2001:db8::1"]}
    found = run(Destinations(Half(table)).find("example.org"))
    assert isinstance(found, Found)
    assert not found.hosts[0].addresses_secure


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, (True, 550, "5.1.2")),
        ({("example.org", "TXT"): ["x"]}, (True, 550, "5.1.2")),
        ({("example.org", "MX"): ["0 ."]}, (True, 556, "5.1.10")),
        ({("example.org", "MX"): "FAIL"}, (False, 451, "4.4.3")),
        ({("example.org", "A"): "FAIL"}, (False, 451, "4.4.3")),
        ({("example.org", "MX"): ["10 mx.example.org."]}, (True, 550, "5.4.4")),
        ({("example.org", "MX"): ["10 mx.example.org."], ("mx.example.org", "AAAA"): "FAIL"}, (False, 451, "4.4.3")),
        ({("example.org", "MX"): ["10 192.0.2.1."]}, (True, 550, "5.4.4")),
        ({("example.org", "MX"): [r"10 a\032b.example.org."]}, (True, 550, "5.4.4")),
    ],
)
def test_problems(table: dict[tuple[str, str], Any], expected: tuple[bool, int, str]) -> None:
    assert problem(find(table)) == expected


def test_broken_signatures_concern_tls() -> None:
    found = find({("example.org", "MX"): "BOGUS"})
    assert problem(found) == (False, 451, "4.4.3")
    assert isinstance(found, Problem)
    assert found.concerns_tls


def test_a_host_that_cannot_be_found_leaves_the_others() -> None:
    assert names(find({**THREE, ("c.example.org", "A"): "FAIL"})) == ["a.example.org", "b.example.org"]
    assert names(find({key: value for key, value in THREE.items() if key[0] != "c.example.org"}))[0] == "a.example.org"
    assert names(find({**THREE, ("example.org", "MX"): ["0 .", "10 c.example.org."]})) == ["c.example.org"]


def test_an_alias_keeps_both_names() -> None:
    table = {
        ("example.org", "CNAME"): ["example.net."],
        ("example.net", "MX"): ["10 mx.example.org."],
        ("mx.example.org", "CNAME"): ["mx.example.net."],
        ("mx.example.net", "A"): ADDRESS,
    }
    found = find(table, secure=["example.net", "example.org"])
    assert isinstance(found, Found)
    assert (found.domain, found.expanded) == ("example.org", "example.net")
    assert (found.hosts[0].name, found.hosts[0].canonical) == ("mx.example.org", "mx.example.net")


def own(name: str, addresses: Sequence[str]) -> bool:
    return name == "b.example.org" or "192.0.2.2" in addresses


def test_we_and_those_behind_us_are_left_out() -> None:
    assert names(find(THREE, is_own=own)) == ["c.example.org"]
    table = {**THREE, ("example.org", "MX"): ["10 b.example.org.", "20 c.example.org."]}
    assert problem(find(table, is_own=own)) == (True, 554, "5.4.6")
    assert problem(find({("example.org", "A"): ["192.0.2.2"]}, is_own=own)) == (True, 554, "5.4.6")


def test_a_host_before_us_that_fails_is_waited_for() -> None:
    table = {**THREE, ("c.example.org", "A"): "FAIL"}
    assert problem(find(table, is_own=own)) == (False, 451, "4.4.3")


@pytest.mark.parametrize(
    ("literal", "address"),
    [("[192.0.2.1]", "192.0.2.1"), ("[ipv6:2001:DB8::1]", "2001:db8::1")],
)
def test_literals(literal: str, address: str) -> None:
    found = find({}, literal)
    assert isinstance(found, Found)
    assert (found.hosts[0].name, found.hosts[0].addresses, found.hosts[0].is_literal) == (address, (address,), True)


@pytest.mark.parametrize("literal", ["[x]", "[192.0.2.256]", "[127.0.0.1]", "[ipv6:::1]"])
def test_literals_that_lead_nowhere(literal: str) -> None:
    assert problem(find({}, literal)) == (True, 550, "5.1.2")


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("192.0.2.1", True),
        ("10.1.2.3", True),
        ("fd00::1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("169.254.169.254", False),
        ("fe80::1", False),
        ("255.255.255.255", False),
    ],
)
def test_strangers_cannot_lead_us_to_this_machine(address: str, reached: bool) -> None:
    assert may_be_reached(address) == reached
    record = "AAAA" if ":" in address else "A"
    found = find({("example.org", record): [address]})
    assert isinstance(found, Found) == reached


def test_loopback_may_be_allowed() -> None:
    assert may_be_reached("127.0.3.1", loopback=True)
    assert not may_be_reached("0.0.0.0", loopback=True)


def test_a_flood_of_hosts_is_bounded() -> None:
    table: dict[tuple[str, str], Any] = {("example.org", "MX"): [f"10 mx{n}.example.org." for n in range(500)]}
    table |= {(f"mx{n}.example.org", "A"): [f"192.0.2.{k}" for k in range(200)] for n in range(500)}
    lookup = ScriptedLookup(table)
    found = run(Destinations(lookup).find("example.org"))
    assert isinstance(found, Found)
    assert len(found.hosts) == 16
    assert {len(host.addresses) for host in found.hosts} == {8}
    assert len(lookup.asked) == 1 + 32


def test_a_host_that_the_operator_names_may_be_anywhere() -> None:
    host = run(Destinations(ScriptedLookup({("relay.example", "A"): ["127.0.0.1"]})).resolve("relay.example"))
    assert (host.addresses, host.name_vouched) == (("127.0.0.1",), True)
    assert run(Destinations(ScriptedLookup({})).resolve("127.0.0.1")).addresses == ("127.0.0.1",)
