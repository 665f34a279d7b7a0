"""DMARC: whose record counts, what it asks for, and what is aligned."""

import pytest
from dns_support import ScriptedLookup
from support import run

from certmaild.inbound.dmarc import check_dmarc
from certmaild.inbound.verdicts import DkimResult, DmarcResult, Policy, Result, SpfResult


def check(
    records: dict[str, str], domain: str, *, spf: str = "", dkim: str = "", names: tuple[str, ...] = ()
) -> DmarcResult:
    """What holds for From at ``domain``, after SPF and DKIM passed for these."""
    table: dict[tuple[str, str], list[str] | str] = {
        (f"_dmarc.{name}", "TXT"): "FAIL" if text == "FAIL" else [f'"{one}"' for one in text.split("|")]
        for name, text in records.items()
    }
    table |= {(name, "A"): ["192.0.2.1"] for name in names}
    spf_result = SpfResult(Result.PASS, spf) if spf else SpfResult(Result.FAIL, "elsewhere.test")
    signed = [DkimResult(Result.PASS, "", dkim)] if dkim else [DkimResult(Result.FAIL, "", domain)]
    return run(check_dmarc(ScriptedLookup(table), domain, spf_result, signed))


REJECT = "v=DMARC1; p=reject"


@pytest.mark.parametrize(
    ("records", "domain", "spf", "dkim", "result"),
    [
        ({}, "a.example", "a.example", "", "none"),
        ({"a.example": REJECT}, "a.example", "a.example", "", "pass"),
        ({"a.example": REJECT}, "a.example", "", "a.example", "pass"),
        ({"a.example": REJECT}, "a.example", "", "", "fail"),
        ({"a.example": REJECT}, "a.example", "b.example", "b.example", "fail"),
        ({"a.example": REJECT}, "a.example", "bounces.a.example", "", "pass"),
        ({"a.example": REJECT + "; aspf=s"}, "a.example", "bounces.a.example", "", "fail"),
        ({"a.example": REJECT + "; aspf=s"}, "a.example", "", "sub.a.example", "pass"),
        ({"a.example": REJECT + "; adkim=s"}, "a.example", "", "sub.a.example", "fail"),
        ({"a.example": REJECT}, "deep.sub.a.example", "a.example", "", "pass"),
        ({"a.example": REJECT}, "a.example", "xa.example", "", "fail"),
        # A registry that says so is nobody's organisation; a division may be its own.
        ({"example": "v=DMARC1; p=reject; psd=y"}, "a.example", "b.example", "", "fail"),
        ({"example": "v=DMARC1; p=reject; psd=y"}, "a.example", "m.a.example", "", "pass"),
        ({"a.example": REJECT, "x.a.example": REJECT + "; psd=n"}, "x.a.example", "a.example", "", "fail"),
        ({"a.example": REJECT, "x.a.example": REJECT + "; psd=n"}, "a.example", "x.a.example", "", "fail"),
        # Two records are none, and one that is no record is none.
        ({"a.example": f"{REJECT}|{REJECT}"}, "a.example", "a.example", "", "none"),
        ({"a.example": f"{REJECT}|something else"}, "a.example", "", "", "fail"),
        ({"a.example": "v=DMARC10; p=reject"}, "a.example", "", "", "none"),
        ({"a.example": "FAIL"}, "a.example", "", "", "temperror"),
    ],
)
def test_alignment(records: dict[str, str], domain: str, spf: str, dkim: str, result: str) -> None:
    assert check(records, domain, spf=spf, dkim=dkim).result.value == result


@pytest.mark.parametrize(
    ("record", "domain", "names", "policy", "is_test"),
    [
        (REJECT, "a.example", (), Policy.REJECT, False),
        ("v=DMARC1;p=quarantine", "a.example", (), Policy.QUARANTINE, False),
        ("v=DMARC1; p=none; sp=reject", "a.example", (), Policy.NONE, False),
        ("v=DMARC1; p=none; sp=reject", "x.a.example", (), Policy.REJECT, False),
        (REJECT, "x.a.example", (), Policy.REJECT, False),
        ("v=DMARC1; p=none; sp=none; np=reject", "x.a.example", (), Policy.REJECT, False),
        ("v=DMARC1; p=none; sp=none; np=reject", "x.a.example", ("x.a.example",), Policy.NONE, False),
        ("v=DMARC1; p=reject; t=y", "a.example", (), Policy.REJECT, True),
        ("v=DMARC1; p=reject; pct=0", "a.example", (), Policy.REJECT, True),
        ("v=DMARC1; rua=mailto:x@a.example", "a.example", (), Policy.NONE, False),
        ("v=DMARC1; p=nonsense", "a.example", (), Policy.NONE, False),
    ],
)
def test_what_a_domain_asks_for(
    record: str, domain: str, names: tuple[str, ...], policy: Policy, is_test: bool
) -> None:
    found = check({"a.example": record}, domain, names=names)
    assert (found.result, found.policy, found.is_test) == (Result.FAIL, policy, is_test)


def test_a_long_name_costs_eight_questions() -> None:
    lookup = ScriptedLookup({})
    domain = ".".join("abcdefghijklmnop") + ".example"
    run(check_dmarc(lookup, domain, SpfResult(Result.NONE), []))
    assert len(lookup.asked) == 8
    assert lookup.asked[0] == (f"_dmarc.{domain}", "TXT")
    assert lookup.asked[1] == ("_dmarc.k.l.m.n.o.p.example", "TXT")
    assert lookup.asked[-1] == ("_dmarc.example", "TXT")


def test_what_dns_does_not_say_now_is_no_failure() -> None:
    table: dict[tuple[str, str], list[str] | str] = {("_dmarc.a.example", "TXT"): [f'"{REJECT}"']}
    for spf, dkim in (
        (SpfResult(Result.TEMPERROR, "a.example"), []),
        (SpfResult(Result.FAIL, "a.example"), [DkimResult(Result.TEMPERROR, "", "a.example")]),
    ):
        found = run(check_dmarc(ScriptedLookup(table), "a.example", spf, dkim))
        assert found.result is Result.TEMPERROR
