"""Parameters of MAIL and RCPT: each as its RFC writes it, at its limits, refused where it is not offered."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import NULL_PATH, Path
from certmaild.protocols.smtp.parameters import (
    MAX_ENVID,
    MAX_ORCPT,
    BodyKind,
    DeliverBy,
    Extension,
    MailArguments,
    Notify,
    parse_mail,
    parse_rcpt,
)
from certmaild.protocols.smtp.xtext import decode_unicode, decode_xtext, encode_xtext

ALL = frozenset(Extension)
ANN = Path("ann", "example.com")


def refused(line: bytes, offered: frozenset[Extension] = ALL) -> str:
    with pytest.raises(Refusal) as caught:
        parse_rcpt(line, offered, utf8=False) if line.startswith(b"TO") else parse_mail(line, offered)
    return str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        (b"SIZE=5 BODY=8bitmime SMTPUTF8", {"size": 5, "body": BodyKind.EIGHT_BIT, "utf8": True}),
        (b"body=7BIT AUTH=<>", {"body": BodyKind.SEVEN_BIT}),
        (b"REQUIRETLS", {"require_tls": True}),
        (b"RET=full ENVID=QQ+2B1+3D", {"returns_full": True, "envid": b"QQ+2B1+3D"}),
        (b"RET=HDRS", {}),
        (b"MT-PRIORITY=-9", {"priority": -9}),
        (b"MT-PRIORITY=0", {}),
        (b"MT-PRIORITY=9", {"priority": 9}),
        (b"BY=120;R", {"deliver_by": DeliverBy(120, returns=True)}),
        (b"BY=+120;nt", {"deliver_by": DeliverBy(120, returns=False, traces=True)}),
        (b"BY=-5;N", {"deliver_by": DeliverBy(-5, returns=False)}),
        (b"HOLDFOR=86400", {"hold_for_s": 86400}),
        (b"HOLDUNTIL=2026-11-23T18:00:00Z", {"hold_until_s": 1795456800}),
        (b"HOLDUNTIL=2026-11-23t19:00:00.25+01:00", {"hold_until_s": 1795456800}),
    ],
)
def test_mail(parameters: bytes, fields: dict[str, Any]) -> None:
    assert parse_mail(b"FROM:<ann@example.com> " + parameters, ALL) == MailArguments(ANN, **fields)


@pytest.mark.parametrize(
    "parameter",
    [
        b"RET=SOME",
        b"ENVID=a+2",
        b"ENVID=+00",
        b"ENVID=" + b"e" * (MAX_ENVID + 1),
        b"MT-PRIORITY=10",
        b"MT-PRIORITY=-0",
        b"MT-PRIORITY=+1",
        b"BY=5",
        b"BY=0;R",
        b"BY=-1;RT",
        b"BY=1234567890;N",
        b"HOLDFOR=1234567890",
        b"HOLDFOR=-1",
        b"HOLDUNTIL=tomorrow",
        b"HOLDUNTIL=2026-13-01T00:00:00Z",
        b"HOLDUNTIL=2026-11-23T18:00:00",
        b"HOLDFOR=1 HOLDUNTIL=2026-11-23T18:00:00Z",
        b"HOLDFOR=1 HOLDFOR=2",
    ],
)
def test_mail_with_a_bad_value(parameter: bytes) -> None:
    assert refused(b"FROM:<ann@example.com> " + parameter).startswith("501 5.5.4")


@pytest.mark.parametrize(
    "parameter", [b"X=1", b"BODY=BINARYMIME", b"SMTPUTF8=1", b"REQUIRETLS=1", b"RET", b"AUTH", b"NOTIFY=NEVER"]
)
def test_what_is_unknown_is_555(parameter: bytes) -> None:
    assert refused(b"FROM:<ann@example.com> " + parameter) == "555 5.5.4 Parameter not recognised or not supported"


@pytest.mark.parametrize(
    ("line", "extension"),
    [
        (b"FROM:<> RET=HDRS", Extension.DSN),
        (b"FROM:<> ENVID=1", Extension.DSN),
        (b"TO:<ann@example.com> NOTIFY=NEVER", Extension.DSN),
        (b"TO:<ann@example.com> ORCPT=rfc822;ann@example.com", Extension.DSN),
        (b"FROM:<> REQUIRETLS", Extension.REQUIRETLS),
        (b"FROM:<> MT-PRIORITY=3", Extension.MT_PRIORITY),
        (b"FROM:<> BY=60;N", Extension.DELIVERBY),
        (b"FROM:<> HOLDFOR=60", Extension.FUTURERELEASE),
        (b"FROM:<> HOLDUNTIL=2026-11-23T18:00:00Z", Extension.FUTURERELEASE),
    ],
)
def test_what_is_not_offered_is_555(line: bytes, extension: Extension) -> None:
    assert refused(line, ALL - {extension}).startswith("555 5.5.4")
    if line.startswith(b"TO"):
        parse_rcpt(line, [extension], utf8=False)
    else:
        assert parse_mail(line, [extension]).reverse_path == NULL_PATH


def test_rcpt() -> None:
    plain = parse_rcpt(b"TO:<ann@example.com>", utf8=False)
    assert (plain.forward_path, plain.notify, plain.orcpt) == (ANN, {Notify.FAILURE, Notify.DELAY}, None)
    asked = parse_rcpt(b"TO:<ann@example.com> NOTIFY=success,Delay ORCPT=rfc822;a+2Bb@example.com", ALL, utf8=False)
    assert (asked.notify, asked.orcpt) == ({Notify.SUCCESS, Notify.DELAY}, b"rfc822;a+2Bb@example.com")
    assert parse_rcpt(b"TO:<ann@example.com> NOTIFY=NEVER", ALL, utf8=False).notify == {Notify.NEVER}


@pytest.mark.parametrize(
    "parameter",
    [
        b"NOTIFY=NEVER,DELAY",
        b"NOTIFY=,",
        b"NOTIFY=ALWAYS",
        b"ORCPT=ann@example.com",
        b"ORCPT=rfc822;a+zz",
        b"ORCPT=rfc822;" + b"a" * (MAX_ORCPT - 6),
        "ORCPT=utf-8;ä@example.com".encode(),
        b"ORCPT=utf-8;\xff",
    ],
)
def test_rcpt_with_a_bad_value(parameter: bytes) -> None:
    assert refused(b"TO:<ann@example.com> " + parameter).startswith("501 5.5.4")


def test_values_at_their_limits() -> None:
    envid = b"e" * MAX_ENVID
    assert parse_mail(b"FROM:<> ENVID=" + envid, ALL).envid == envid
    orcpt = b"rfc822;" + b"a" * (MAX_ORCPT - 7)
    assert parse_rcpt(b"TO:<ann@example.com> ORCPT=" + orcpt, ALL, utf8=False).orcpt == orcpt
    utf8 = "utf-8;ä@example.com".encode()
    assert parse_rcpt(b"TO:<ann@example.com> ORCPT=" + utf8, ALL, utf8=True).orcpt == utf8


@given(st.binary(max_size=60))
def test_xtext_is_read_as_written(octets: bytes) -> None:
    text = encode_xtext(octets)
    assert all(32 < octet < 127 for octet in text) and b"=" not in text
    assert decode_xtext(text) == octets


@pytest.mark.parametrize("text", [b"a b", b"+2", b"+2b", b"=", b"\xe4"])
def test_what_is_no_xtext(text: bytes) -> None:
    with pytest.raises(ValueError, match="xtext"):
        decode_xtext(text)


def test_embedded_characters() -> None:
    assert decode_unicode(r"j\x{F6}rg\x{5C}@x.example") == "jörg\\@x.example"
    assert decode_unicode(r"\x{D800}\x{110000}\x{g}") == r"\x{D800}\x{110000}\x{g}"


@given(st.binary(max_size=80))
def test_garbage_gives_refusals_only(text: bytes) -> None:
    with contextlib.suppress(Refusal):
        parse_mail(b"FROM:<> " + text, ALL)
    with contextlib.suppress(Refusal):
        parse_rcpt(b"TO:<ann@example.com> " + text, ALL, utf8=True)
    for name in (b"ENVID=", b"BY=", b"HOLDUNTIL=", b"MT-PRIORITY="):
        with contextlib.suppress(Refusal):
            parse_mail(b"FROM:<> " + name + text, ALL)
    for name in (b"ORCPT=", b"NOTIFY="):
        with contextlib.suppress(Refusal):
            parse_rcpt(b"TO:<ann@example.com> " + name + text, ALL, utf8=True)
