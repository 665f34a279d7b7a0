"""MTA-STS as it is written (RFC 8461 sections 3.1, 3.2 and 4.1)."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certmaild.outbound.sts_policy import Mode, PolicyInvalid, StsPolicy, parse_announcement, parse_policy

GOOD = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net\r\nmax_age: 604800\r\n"


def test_the_policy_of_the_rfc() -> None:
    policy = parse_policy(GOOD)
    assert policy == StsPolicy(Mode.ENFORCE, ("mail.example.com", "*.example.net"), 604800)
    assert (
        policy == parse_policy(GOOD.replace("\r\n", "\n").rstrip()) == parse_policy(GOOD + "future: thing\nmode: none")
    )


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("mail.example.com", True),
        ("a.mail.example.com", False),
        ("example.net", False),
        ("mx.example.net", True),
        ("a.mx.example.net", False),
        ("example.com", False),
    ],
)
def test_which_hosts(host: str, covered: bool) -> None:
    assert parse_policy(GOOD).covers(host) == covered


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        GOOD.replace("STSv1", "STSv2"),
        GOOD.replace("enforce", "force"),
        GOOD.replace("604800", "-1"),
        GOOD.replace("604800", "99999999999"),
        GOOD.replace("max_age: 604800\r\n", ""),
        GOOD.replace("mx: mail.example.com\r\nmx: *.Example.net\r\n", ""),
        GOOD.replace("mail.example.com", "*.*.example.com"),
        GOOD.replace("mail.example.com", "<html>"),
        GOOD + "mx: a.example\n" * 100,
    ],
)
def test_no_policies(text: str) -> None:
    with pytest.raises(PolicyInvalid):
        parse_policy(text)


def test_mode_none_needs_no_mx_and_life_is_bounded() -> None:
    assert parse_policy("version: STSv1\nmode: none\nmax_age: 9999999999") == StsPolicy(Mode.NONE, (), 31_557_600)


@pytest.mark.parametrize(
    ("texts", "identifier"),
    [
        ((b"v=STSv1; id=20160831085700Z;",), "20160831085700Z"),
        ((b"v=STSv1;id=1",), "1"),
        ((b"v=spf1 -all", b"v=STSv1; x=y; id=1; id=2"), "1"),
        ((b"v=STSv1; id=1", b"v=STSv1; id=1"), None),
        ((b"v=STSv1; id=",), None),
        ((b"v=STSv1; id=a-b",), None),
        ((b"v=STSv1; id=" + b"a" * 33,), None),
        ((b"v=STSv10; id=1",), None),
        ((), None),
    ],
)
def test_announcements(texts: tuple[bytes, ...], identifier: str | None) -> None:
    assert parse_announcement(texts) == identifier


LINES = [*GOOD.split("\r\n"), "x", ":", "mx:"]


@settings(deadline=None)
@given(st.text(max_size=300) | st.lists(st.sampled_from(LINES), max_size=9).map("\n".join))
def test_garbage_is_refused_and_nothing_else(text: str) -> None:
    with suppress(PolicyInvalid):
        assert parse_policy(text).max_age_s >= 0
