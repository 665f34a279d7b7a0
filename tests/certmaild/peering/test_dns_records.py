"""The records that a domain should publish: what they say, and whether `certmaild dns` sees them as they stand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.zone
import pytest
from command_support import Line, make_line
from dns_support import DnsNetwork, ScriptedLookup
from reactor_support import running_reactor
from support import run

from certmaild import config as configuration
from certmaild.client_setup.names import served_names
from certmaild.keystore.certificates import (
    ALWAYS,
    PrivateFiles,
    is_due,
    key_pin,
    private_key_pin,
    read_certificates,
    renew_leaf,
)
from certmaild.own_facts import gather
from certmaild.peering.dns_records import State, check_records, sts_id, sts_policy, wanted_records

HOST = "mail.example.com"


@pytest.fixture
def line(tmp_path: Path) -> Line:
    ports = "imaps = 993\nsubmission = 587\nsmtp = 25"
    return make_line(tmp_path, tables='[outbound]\nsource = ["192.0.2.7", "2001:db8::7"]\n', hostname=HOST, ports=ports)


def states(line: Line, table: dict[tuple[str, str], Any], *, secure: bool = True) -> dict[str, tuple[State, str]]:
    """How each record stands over a table of DNS, with its note."""
    config = configuration.load(line.config)
    lookup = ScriptedLookup(table, secure=["example.com"] if secure else [])
    checked = run(check_records(lookup, wanted_records(config, gather(config))))
    return {f"{one.wanted.name} {one.wanted.kind.name}": (one.state, one.note) for one in checked}


@pytest.mark.parametrize(
    ("name", "kind", "found", "state", "note"),
    [
        ("example.com", "MX", ["10 mail.example.com."], State.RIGHT, ""),
        ("example.com", "MX", ["5 MAIL.example.com."], State.RIGHT, ""),
        ("example.com", "MX", ["10 mail.example.com.", "20 b.example.net."], State.DIFFERS, "other servers"),
        ("example.com", "MX", ["10 b.example.net."], State.DIFFERS, "another server"),
        ("example.com", "MX", "FAIL", State.UNKNOWN, "SERVFAIL"),
        ("example.com", "TXT", ['"v=spf1 mx -all"', '"other"'], State.RIGHT, ""),
        ("example.com", "TXT", ['"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ~all"'], State.RIGHT, ""),
        ("example.com", "TXT", ['"v=spf1 ip4:192.0.2.0/24 -all"'], State.DIFFERS, "this server is not in it"),
        ("example.com", "TXT", ['"v=spf1 mx ?all"'], State.DIFFERS, "-all"),
        ("example.com", "TXT", ['"v=spf1 mx -all"', '"v=spf1 -all"'], State.DIFFERS, "more than one"),
        ("example.com", "TXT", ['"other"'], State.MISSING, ""),
        ("_dmarc.example.com", "TXT", ['"v=DMARC1; p=quarantine"'], State.RIGHT, ""),
        ("_dmarc.example.com", "TXT", ['"v=DMARC1; p=none"'], State.DIFFERS, "reports"),
        ("_smtp._tls.example.com", "TXT", ['"v=TLSRPTv1; rua=mailto:a@b.example"'], State.RIGHT, ""),
        ("_smtp._tls.example.com", "TXT", [], State.MISSING, ""),
        ("mail.example.com", "A", ["192.0.2.7"], State.RIGHT, ""),
        ("mail.example.com", "A", ["192.0.2.8"], State.DIFFERS, ""),
        ("7.2.0.192.in-addr.arpa", "PTR", ["mail.example.com."], State.RIGHT, ""),
        ("7.2.0.192.in-addr.arpa", "PTR", ["host7.example.net."], State.DIFFERS, ""),
        ("_imaps._tcp.example.com", "SRV", ["0 1 993 mail.example.com."], State.RIGHT, ""),
        ("_submission._tcp.example.com", "SRV", ["0 1 465 mail.example.com."], State.DIFFERS, ""),
    ],
)
def test_how_a_record_stands(line: Line, name: str, kind: str, found: Any, state: State, note: str) -> None:
    said = states(line, {(name, kind): found})[f"{name} {kind}"]
    assert said[0] is state
    assert note in said[1] and bool(note) == bool(said[1])


def test_tlsa_counts_only_under_dnssec_and_strangers_are_named(line: Line, tmp_path: Path) -> None:
    files = PrivateFiles(tmp_path / "data")
    name = f"_25._tcp.{HOST}"
    key = f"3 1 1 {key_pin(read_certificates(files.chain)[0]).hex()}"
    table: dict[tuple[str, str], Any] = {(name, "TLSA"): [key, "3 1 1 " + "ab" * 32]}
    assert states(line, table, secure=False)[f"{name} TLSA"][1].startswith("the zone is not signed")
    state, note = states(line, table)[f"{name} TLSA"]
    assert state is State.RIGHT and "ab" * 32 in note
    table[name, "TLSA"] = ["3 1 1 " + "ab" * 32]
    assert states(line, table)[f"{name} TLSA"][0] is State.DIFFERS


def test_a_smart_host_sends_for_the_domain(line: Line) -> None:
    line.config.write_text(line.config.read_text() + 'smart_host = "smtp.example.net:587"\n')
    shown = line.run("dns", "--zone").stdout
    assert '"v=spf1 mx ip4:192.0.2.7 ip6:2001:db8::7 a:smtp.example.net -all"' in shown
    table = {("example.com", "TXT"): ['"v=spf1 mx -all"']}
    assert states(line, table)["example.com TXT"][1] == "the smart host is not in it"
    table = {("example.com", "TXT"): ['"v=spf1 include:spf.example.net -all"']}
    assert states(line, table)["example.com TXT"][0] is State.RIGHT


def test_with_a_certificate_of_others_there_is_an_mta_sts_policy(line: Line, tmp_path: Path) -> None:
    files, folder = PrivateFiles(tmp_path / "data"), tmp_path
    for path in (files.chain, files.key):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "next.pem").write_bytes(files.authority_key.read_bytes())
    line.config.write_text(
        line.config.read_text() + '[tls]\ncertificate = "chain.pem"\nkey = "key.pem"\nnext_key = "next.pem"\n'
    )
    facts = gather(configuration.load(line.config))
    assert facts.next_pin == private_key_pin(files.authority_key)
    assert sts_policy(facts) == "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmax_age: 604800\r\n"
    shown = line.run("dns", "--zone").stdout
    assert f'_mta-sts.example.com. 3600 IN TXT "v=STSv1; id={sts_id(facts)}"' in shown
    assert "https://mta-sts.example.com/.well-known/mta-sts.txt" in shown
    name = ("_mta-sts.example.com", "TXT")
    assert states(line, {name: [f'"v=STSv1; id={sts_id(facts)};"']})[" ".join(name)][0] is State.RIGHT
    assert states(line, {name: ['"v=STSv1; id=1"']})[" ".join(name)][0] is State.DIFFERS
    line.config.write_text(line.config.read_text().replace("imaps = 993", "imaps = 993\nhttps = 443"))
    served = line.run("dns", "--zone").stdout
    assert "mta-sts.example.com. 3600 IN CNAME mail.example.com." in served and "web server" not in served
    assert "next.pem" not in shown and facts.next_pin.hex() in shown
    assert "place yourself" in line.run("cert", "roll", status=1).stderr


GUESSED = ("imap", "pop", "pop3", "smtp", "mail")


def test_names_that_mail_programs_guess(line: Line) -> None:
    said = states(line, {("imap.example.com", "CNAME"): ["mail.example.com."]})
    assert {name for name in said if name.endswith("CNAME")} == {
        f"{one}.example.com CNAME" for one in GUESSED if one != "mail"
    }
    assert said["imap.example.com CNAME"][0] is State.RIGHT
    assert said["smtp.example.com CNAME"][0] is State.MISSING


@pytest.mark.parametrize(
    ("addresses", "state"),
    [
        ({"A": ["192.0.2.7"], "AAAA": ["2001:db8::7"]}, State.RIGHT),
        ({"A": ["192.0.2.7"]}, State.DIFFERS),
        ({"A": ["192.0.2.8"], "AAAA": ["2001:db8::7"]}, State.DIFFERS),
        ({}, State.MISSING),
    ],
)
def test_addresses_do_as_well_as_an_alias(line: Line, addresses: dict[str, list[str]], state: State) -> None:
    table: dict[tuple[str, str], Any] = {("imap.example.com", kind): found for kind, found in addresses.items()}
    table |= {(HOST, "A"): ["192.0.2.7"], (HOST, "AAAA"): ["2001:db8::7"]}
    assert states(line, table)["imap.example.com CNAME"][0] is state


def test_the_guests_domain_and_the_responder(line: Line) -> None:
    assert "autoconfig" not in line.run("dns", "--zone").stdout
    text = line.config.read_text().replace("imaps = 993", "imaps = 993\nhttps = 443")
    line.config.write_text(text + '[invite]\ndomain = "guest.example.com"\n')
    zone = line.run("dns", "--zone").stdout.splitlines()
    for label in (*GUESSED, "autoconfig", "autodiscover"):
        assert f"{label}.guest.example.com. 3600 IN CNAME mail.example.com." in zone
    assert "autoconfig.example.com. 3600 IN CNAME mail.example.com." in zone
    assert "guest.example.com. 3600 IN MX 10 mail.example.com." in zone
    assert "_imaps._tcp.guest.example.com. 3600 IN SRV 0 1 993 mail.example.com." in zone
    assert any(one.startswith('guest.example.com. 3600 IN TXT "v=spf1 mx') for one in zone)
    (dmarc,) = [one for one in zone if one.startswith("_dmarc.guest.")]
    assert dmarc.endswith('rua=mailto:postmaster@example.com"')
    assert not any("mta-sts" in one for one in zone), "our own authority's certificate does not do for it"


def test_the_certificate_has_the_names_that_mail_programs_guess(line: Line) -> None:
    names = line.json("cert", "show")["names"]
    assert names == [HOST, *(f"{one}.example.com" for one in GUESSED if one != "mail"), *ALWAYS]
    line.config.write_text(line.config.read_text() + '[invite]\ndomain = "guest.example.com"\n')
    before = line.json("cert", "show")["pin"]
    line.run("cert", "renew")
    assert line.json("cert", "show")["pin"] == before
    assert {f"{one}.guest.example.com" for one in GUESSED} < set(line.json("cert", "show")["names"])


# The command, over real DNS servers.


@pytest.fixture
def network(line: Line, tmp_path: Path) -> Iterator[DnsNetwork]:
    running_reactor()
    zones = {"example.com": "", "2.0.192.in-addr.arpa": "7 PTR mail.example.com.", "8.b.d.0.1.0.0.2.ip6.arpa": ""}
    with DnsNetwork(tmp_path, zones, signed={"example.com"}) as found:
        line.config.write_text(line.config.read_text() + f'[resolver]\naddresses = ["{found.resolver}"]\n')
        yield found


def zone_of(line: Line, origin: str) -> str:
    """What `certmaild dns --zone` prints, of one zone."""
    lines = line.run("dns", "--zone").stdout.splitlines()
    return "\n".join(one for one in lines if not one.startswith(";") and one.split()[0].endswith(origin))


def test_what_it_prints_is_right_once_it_is_published(line: Line, network: DnsNetwork) -> None:
    assert line.json("dkim", "make") == line.json("dkim", "show")
    before = line.run("dns", status=1)
    assert "missing" in before.stdout
    zone = zone_of(line, "example.com.")
    dns.zone.from_text("@ 3600 IN SOA a b 1 1 1 1 1\n@ 3600 IN NS a\n" + zone, origin="example.com")
    network.change("example.com", zone)
    reverse = next(one for one in line.run("dns", "--zone").stdout.splitlines() if "ip6.arpa" in one)
    network.change("8.b.d.0.1.0.0.2.ip6.arpa", reverse.removeprefix("; "))
    after = line.run("dns")
    assert "missing" not in after.stdout and "differs" not in after.stdout
    assert max(map(len, after.stdout.splitlines())) < 200, "a key of DKIM has several lines"
    assert all(one == one.rstrip() for one in after.stdout.splitlines())
    records = line.json("dns")["records"]
    assert {one["state"] for one in records} == {"right"}
    assert {one["type"] for one in records} == {"A", "AAAA", "CNAME", "PTR", "TLSA", "MX", "TXT", "SRV"}
    assert sum("_domainkey" in one["name"] for one in records) == 2


def test_a_key_is_changed_only_in_good_order(line: Line, network: DnsNetwork, tmp_path: Path) -> None:
    files = PrivateFiles(tmp_path / "data")
    names = served_names(configuration.load(line.config))
    network.change("example.com", zone_of(line, "example.com."))
    assert "no next key" in line.run("cert", "roll", status=1).stderr
    before = line.json("cert", "show")
    assert "Wait two days" in line.run("cert", "next").stdout
    shown = line.json("cert", "show")
    assert shown["pin"] == before["pin"] and shown["next_tlsa"] in line.run("dns", "--zone").stdout
    assert "already" in line.run("cert", "next").stdout
    assert line.json("cert", "show") == line.json("cert", "next") == shown
    assert files.next_key.stat().st_mode & 0o777 == 0o600
    assert "publish it first" in line.run("cert", "roll", status=1).stderr
    network.change("example.com", zone_of(line, "example.com."))
    line.run("cert", "roll")
    after = line.json("cert", "show")
    assert after["pin"] == shown["next_pin"] and after["next_pin"] is None
    assert not is_due(files, names)
    note = next(one["note"] for one in line.json("dns", status=1)["records"] if one["type"] == "TLSA")
    assert shown["tlsa"] in note and "remove it" in note
    # A crash after the key was changed and before the certificate was.
    line.run("cert", "next")
    files.next_key.rename(files.key)
    assert is_due(files, names)
    renew_leaf(files.data, names)
    assert not is_due(files, names)


def test_dns_that_does_not_answer_is_no_verdict(line: Line) -> None:
    running_reactor()
    line.config.write_text(line.config.read_text() + '[resolver]\naddresses = ["127.0.0.1#1"]\n')
    line.run("cert", "next")
    assert "try again later" in line.run("cert", "roll", status=1).stderr
    line.run("cert", "roll", "--force")
    shown = line.run("dns", status=75).stdout
    assert shown.count("does not") == 1 and "/etc/resolv.conf" in shown
