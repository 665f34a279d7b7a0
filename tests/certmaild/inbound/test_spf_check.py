"""SPF: results that RFC 7208 and the SPF test suite know, pyspf being asked again until it knows enough."""

from collections.abc import Callable
from typing import Any

import pytest
from dns_support import ScriptedLookup
from support import run

from certmaild.inbound.spf_check import check_spf
from certmaild.inbound.verdicts import Result

# RFC 7208 appendix A, and more.
TABLE: dict[tuple[str, str], list[str] | str] = {
    ("example.com", "A"): ["192.0.2.10", "192.0.2.11"],
    ("example.com", "MX"): ["10 mail-a.example.com.", "20 mail-b.example.com."],
    ("mail-a.example.com", "A"): ["192.0.2.129"],
    ("mail-b.example.com", "A"): ["192.0.2.130"],
    ("mail-a.example.com", "AAAA"): ["2001:db8::1"],
    ("amy.example.com", "A"): ["192.0.2.65"],
    ("10.2.0.192.in-addr.arpa", "PTR"): ["example.com."],
    ("65.2.0.192.in-addr.arpa", "PTR"): ["amy.example.com."],
    ("140.2.0.192.in-addr.arpa", "PTR"): ["mail-c.example.org."],
    ("alias.example.net", "CNAME"): ["spf.example.net."],
    ("spf.example.net", "TXT"): ['"v=spf1 ip4:192.0.2.0/24 -all"'],
    ("down.example", "TXT"): "FAIL",
    ("two.example", "TXT"): ['"v=spf1 -all"', '"v=spf1 +all"'],
    ("parts.example", "TXT"): ['"v=spf1 ip4:192.0" ".2.10 -all"'],
    ("helo.example", "TXT"): ['"v=spf1 ip4:192.0.2.10 -all"'],
    ("long.example", "TXT"): ['"v=spf1 ' + '" "'.join(f"ip4:10.0.0.{at % 256}" for at in range(400)) + ' +all"'],
    ("exists.bob.example.com", "A"): ["127.0.0.2"],
    ("xn--mnchen-3ya.example", "TXT"): ['"v=spf1 +all"'],
}


async def at_once(work: Callable[[], Any]) -> Any:
    return work()


def spf(
    record: str | None, *, peer: str = "192.0.2.10", sender: str = "bob@example.com", helo: str = "h.example"
) -> str:
    table = dict(TABLE)
    if record is not None:
        table["example.com", "TXT"] = [f'"{record}"', '"something else"']
    return run(check_spf(ScriptedLookup(table), peer, sender, helo, at_once)).result.value


@pytest.mark.parametrize(
    ("record", "peer", "result"),
    [
        (None, "192.0.2.10", "none"),
        ("v=spf1 +all", "192.0.2.99", "pass"),
        ("v=spf1 a -all", "192.0.2.10", "pass"),
        ("v=spf1 a -all", "192.0.2.12", "fail"),
        ("v=spf1 a:example.org -all", "192.0.2.10", "fail"),
        ("v=spf1 mx -all", "192.0.2.129", "pass"),
        ("v=spf1 mx -all", "192.0.2.130", "pass"),
        ("v=spf1 mx -all", "192.0.2.131", "fail"),
        ("v=spf1 mx -all", "2001:db8::1", "pass"),
        ("v=spf1 mx/30 -all", "192.0.2.131", "pass"),
        ("v=spf1 ptr -all", "192.0.2.10", "pass"),
        ("v=spf1 ptr -all", "192.0.2.65", "pass"),
        ("v=spf1 ptr -all", "192.0.2.140", "fail"),
        ("v=spf1 ip4:192.0.2.128/28 ~all", "192.0.2.65", "softfail"),
        ("v=spf1 ip6:2001:db8::/32 ?all", "2001:db8::7", "pass"),
        ("v=spf1 ?all", "192.0.2.10", "neutral"),
        ("v=spf1", "192.0.2.10", "neutral"),
        ("v=spf1 include:spf.example.net -all", "192.0.2.99", "pass"),
        ("v=spf1 include:alias.example.net -all", "192.0.2.99", "pass"),
        ("v=spf1 redirect=spf.example.net", "198.51.100.1", "fail"),
        ("v=spf1 exists:exists.%{l}.example.com -all", "192.0.2.99", "pass"),
        ("v=spf1 include:down.example -all", "192.0.2.10", "temperror"),
        ("v=spf1 include:two.example -all", "192.0.2.10", "permerror"),
        ("v=spf1 include:nothing.example -all", "192.0.2.10", "permerror"),
        ("v=spf1 nonsense", "192.0.2.10", "permerror"),
        ("v=spf1 ip4:1.2.3.999 -all", "192.0.2.10", "permerror"),
        ("v=spf1 a:x1.example a:x2.example a:x3.example -all", "192.0.2.10", "permerror"),
        ("v=spf1 a:x1.example a:x2.example -all", "192.0.2.12", "fail"),
        ("v=spf1 include:example.com -all", "192.0.2.10", "permerror"),
    ],
)
def test_known_results(record: str | None, peer: str, result: str) -> None:
    assert spf(record, peer=peer) == result


def test_ten_terms_may_look_up_and_no_more() -> None:
    ten = " ".join(["a:mail-a.example.com"] * 10)
    assert spf(f"v=spf1 {ten} -all") == "fail"
    assert spf(f"v=spf1 {ten} a:mail-b.example.com -all") == "permerror"


@pytest.mark.parametrize(
    ("sender", "helo", "result", "domain"),
    [
        ("", "helo.example", "pass", "helo.example"),
        ("", "unknown", "none", ""),
        ("", "[192.0.2.10]", "none", ""),
        ("bob@parts.example", "unknown", "pass", "parts.example"),
        ("bob@MÜNCHEN.example", "h", "pass", "xn--mnchen-3ya.example"),
        ("bob@[192.0.2.10]", "h.example", "none", ""),
        ("bob@down.example", "h.example", "temperror", "down.example"),
        ("bob@two.example", "h.example", "permerror", "two.example"),
        ("bob@long.example", "h.example", "none", "long.example"),
    ],
)
def test_whose_record_is_asked_for(sender: str, helo: str, result: str, domain: str) -> None:
    found = run(check_spf(ScriptedLookup(TABLE), "192.0.2.10", sender, helo, at_once))
    assert (found.result.value, found.domain, found.is_helo) == (result, domain, not sender and bool(domain))


def test_a_long_record_is_worked_on_in_a_thread() -> None:
    threads = 0

    async def counted(work: Callable[[], Any]) -> Any:
        nonlocal threads
        threads += 1
        return work()

    record = "v=spf1 " + '" "'.join(f"ip4:10.0.{at}.1 " for at in range(100)) + "+all"
    lookup = ScriptedLookup({("example.com", "TXT"): [f'"{record}"']})
    found = run(check_spf(lookup, "192.0.2.130", "bob@example.com", "h.example", counted))
    assert (found.result, threads) == (Result.PASS, 1)


def test_addresses_of_mx_hosts_are_asked_for_together() -> None:
    lookup = ScriptedLookup(TABLE | {("example.com", "TXT"): ['"v=spf1 mx -all"']})
    runs = 0

    async def counted(work: Callable[[], Any]) -> Any:
        nonlocal runs
        runs += 1
        return work()

    found = run(check_spf(lookup, "192.0.2.130", "bob@example.com", "h.example", counted))
    assert found.result is Result.PASS
    assert runs == 0  # so little is worked on where it is
    assert len(lookup.asked) == len(set(lookup.asked))
