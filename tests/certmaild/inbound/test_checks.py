"""Signatures of other servers: the RFCs' own, dkimpy's in every form, and everything that may be wrong with one."""

import base64
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from dns_support import ScriptedLookup
from hypothesis import given, settings
from hypothesis import strategies as st
from support import run
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from certmaild.dkim.fields import Field
from certmaild.inbound.checks import Checks, Found, Tools
from certmaild.inbound.verdicts import Result

VECTORS = Path(__file__).parents[2] / "vectors"
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
RSA_8463 = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3"
    "FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)
RSA_6376 = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq63"
    "1uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)
KEYS = {
    "brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "test._domainkey.football.example.com": f"v=DKIM1; k=rsa; p={RSA_8463}",
    "brisbane._domainkey.example.com": f"v=DKIM1; p={RSA_6376}",
}
NOW = 1_795_450_000.0


def vector(name: str) -> bytes:
    return (VECTORS / name).read_bytes().replace(b"\n", b"\r\n")


def txt(text: str) -> str:
    return " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))


def lookup(records: dict[str, str]) -> ScriptedLookup:
    return ScriptedLookup({(name, "TXT"): [txt(text)] if text != "FAIL" else "FAIL" for name, text in records.items()})


async def at_once(work: Callable[[], Any]) -> Any:
    return work()


def check(message: bytes, records: dict[str, str], cuts: tuple[int, ...] = (), *, signatures: int = 8) -> Found:
    """What is found in a message whose body comes in pieces."""
    clock = Clock()
    clock.advance(NOW)
    checks = Checks(Tools(lookup(records), at_once, clock, signatures=signatures), "192.0.2.1", "", "unknown")
    header, _, body = message.partition(b"\r\n\r\n")
    checks.take_header(header + b"\r\n")
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    for start, end in pairwise(places):
        checks.take_body(body[start:end])
    return run(checks.finish([]))


def results(message: bytes, records: dict[str, str] = KEYS) -> list[str]:
    return [f"{one.result.value} {one.reason}".strip() for one in check(message, records).dkim]


@pytest.mark.parametrize(("name", "count"), [("rfc6376.eml", 1), ("rfc8463.eml", 2)])
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 60), max_size=8))
def test_the_signatures_of_the_rfcs_hold_however_the_body_comes(name: str, count: int, cuts: list[int]) -> None:
    found = check(vector(name), KEYS, tuple(cuts))
    assert [one.result for one in found.dkim] == [Result.PASS] * count
    assert found.dkim[0].selector == "brisbane"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Joe.\r\n", b"Joe!\r\n", "fail the body was changed"),
        (b"dinner ready", b"supper ready", "fail the signature does not fit the header"),
        (b"To: Suzie", b"From: Boss <boss@football.example.com>\r\nTo: Suzie", "fail the signature does not fit"),
    ],
)
def test_what_was_changed_is_found(old: bytes, new: bytes, reason: str) -> None:
    assert all(one.startswith(reason) for one in results(vector("rfc8463.eml").replace(old, new)))


@pytest.fixture(scope="module")
def keys() -> dict[str, tuple[bytes, str]]:
    """By algorithm: a private key as dkimpy takes it, and the record."""

    def made_rsa(bits: int) -> tuple[bytes, str]:
        key = rsa.generate_private_key(65537, bits)
        private = key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        public = key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return private, f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"

    edwards = ed25519.Ed25519PrivateKey.generate()
    return {
        "rsa-sha256": made_rsa(2048),
        "rsa-sha1": made_rsa(1024),
        "weak": made_rsa(1024),
        "ed25519-sha256": (
            base64.b64encode(edwards.private_bytes_raw()),
            f"v=DKIM1; k=ed25519; p={base64.b64encode(edwards.public_key().public_bytes_raw()).decode()}",
        ),
    }


PLAIN = b"From: a@s.example\r\nTo:  b@x.example \r\nSubject: hi\r\n\tthere\r\n\r\nSome  words \r\n\r\n \t\r\n\r\n"
NAME = "sel._domainkey.s.example"


def sign(keys: dict[str, tuple[bytes, str]], algorithm: str = "rsa-sha256", **more: Any) -> bytes:
    if algorithm.startswith("ed"):
        pytest.importorskip("nacl")
    private = keys[algorithm][0]
    return dkim.sign(PLAIN, b"sel", b"s.example", private, signature_algorithm=algorithm.encode(), **more) + PLAIN


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
@pytest.mark.parametrize("header", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body", [b"simple", b"relaxed"])
def test_what_dkimpy_signs_holds(
    keys: dict[str, tuple[bytes, str]], algorithm: str, header: bytes, body: bytes
) -> None:
    message = sign(keys, algorithm, canonicalize=(header, body))
    assert results(message, {NAME: keys[algorithm][1]}) == ["pass"]
    assert results(message.replace(b"words", b"word"), {NAME: keys[algorithm][1]}) == ["fail the body was changed"]


def change_record(change: str) -> Callable[[str], str]:
    def made(record: str) -> str:
        tags = dict(tag.split("=", 1) for tag in record.split("; "))
        tags |= dict(tag.split("=", 1) for tag in change.split("; "))
        return "; ".join(f"{name}={value}" for name, value in tags.items())

    return made


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ("p=", "permerror the key is revoked"),
        ("v=DKIM2", "permerror there is no key"),
        ("k=ed25519", "permerror the key is of another kind"),
        ("h=sha1", "permerror the key is not for SHA-256"),
        ("h=sha1:sha256", "pass"),
        ("s=tlsrpt", "permerror the key is not for mail"),
        ("s=email:other", "pass"),
        ("t=y", "pass"),
        ("p=AAAA", "permerror the public key cannot be read"),
        ("p=!", "permerror the public key is not base64"),
    ],
)
def test_key_records(keys: dict[str, tuple[bytes, str]], change: str, result: str) -> None:
    assert results(sign(keys), {NAME: change_record(change)(keys["rsa-sha256"][1])}) == [result]


def test_keys_that_are_not_there(keys: dict[str, tuple[bytes, str]]) -> None:
    assert results(sign(keys), {}) == ["permerror there is no key"]
    assert results(sign(keys), {NAME: "FAIL"}) == ["temperror DNS does not give the key now"]


def test_subdomains_may_be_kept_out(keys: dict[str, tuple[bytes, str]]) -> None:
    message = sign(keys, identity=b"x@sub.s.example")
    record = keys["rsa-sha256"][1]
    assert results(message, {NAME: record}) == ["pass"]
    assert results(message, {NAME: change_record("t=s")(record)}) == ["permerror the key is not for subdomains"]


def test_what_is_weak_does_not_count(keys: dict[str, tuple[bytes, str]]) -> None:
    assert results(sign(keys, "rsa-sha1"), {NAME: keys["rsa-sha1"][1]}) == ["permerror SHA-1 does not count"]
    small = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    short = rsa.RSAPublicNumbers(small.e, small.n >> 300 | 1).public_key()
    octets = short.public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = f"v=DKIM1; p={base64.b64encode(octets).decode()}"
    assert results(sign(keys), {NAME: record}) == ["permerror RSA keys of 724 bits do not count"]


def test_a_body_of_which_part_is_signed_does_not_count(keys: dict[str, tuple[bytes, str]]) -> None:
    message = sign(keys, length=True)
    record = {NAME: keys["rsa-sha256"][1]}
    assert results(message, record) == ["pass"]
    assert results(message + b"advertisement\r\n", record) == ["policy the signature leaves part of the body out (l=)"]


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        (b"v=1;", b"v=2;", "permerror the signature's version is unknown"),
        (b"v=1;", b"", "permerror the signature's version is unknown"),
        (b"v=1;", b"v=1; v=1;", "permerror the signature is not a list of tags"),
        (b"a=rsa-sha256", b"a=rsa-sha512", "permerror the algorithm is unknown"),
        (b"d=s.example", b"d=s example", "permerror d= is missing or no host name"),
        (b"d=s.example", "d=ü.example".encode(), "permerror d= is not in A-labels"),
        (b"s=sel;", b"s=;", "permerror s= is missing or no host name"),
        (b"i=@s.example", b"i=@t.example", "permerror i= is not below d="),
        (b"c=relaxed/simple", b"c=nowsp", "permerror the canonicalisation is unknown"),
        (b"q=dns/txt", b"q=http", "permerror the way to the key is unknown"),
        (b"from : ", b"", "permerror From is not signed"),
        (b"from : ", b"fr\xfc : ", "permerror h= is missing or no list of fields"),
        (b"bh=", b"bh=!", "permerror bh= is missing or not base64"),
        (b"v=1;", b"v=1; x=1000;", "fail the signature has expired"),
        (b"v=1;", b"v=1; x=soon;", "permerror x= is no time"),
        (b"v=1;", b"v=1; l=x;", "permerror l= is no number"),
        (b"v=1;", b"v=1; l=999999;", "fail the signature does not fit the header"),
        (b"v=1;", b"v=1; z=" + b"x" * 17_000 + b";", "permerror the signature is too long"),
    ],
)
def test_signatures_that_are_none(keys: dict[str, tuple[bytes, str]], old: bytes, new: bytes, result: str) -> None:
    message = sign(keys, include_headers=[b"from", b"to"])
    assert old in message
    assert results(message.replace(old, new, 1), {NAME: keys["rsa-sha256"][1]}) == [result]


def test_no_more_signatures_are_looked_at_than_the_limit() -> None:
    message = b"DKIM-Signature: v=1\r\n" * 20 + PLAIN
    assert len(check(message, {}, signatures=8).dkim) == 8
    assert len(check(b"DKIM-Signature: v=1\r\n" * 8 + PLAIN, {}, signatures=8).dkim) == 8
    assert len(check(b"DKIM-Signature: v=1\r\n" * 9 + PLAIN, {}, signatures=8).dkim) == 8


def test_a_header_full_of_signatures_is_not_taken_apart_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []

    class Counting(Field):
        def __new__(cls, name: bytes, value: bytes) -> "Counting":
            taken.append(name)
            return super().__new__(cls, name, value)

    monkeypatch.setattr("certmaild.inbound.checks.Field", Counting)
    check(b"ARC-Seal: i=1\r\n" * 60_000 + PLAIN, {})
    assert len(taken) == 500


class SilentLookup:
    """DNS that never answers."""

    async def ask(self, name: str, kind: object) -> Any:
        return await Deferred()


@pytest.mark.parametrize("limit", [15.0, 3.0])
def test_dns_that_is_silent_is_waited_for_no_longer_than_the_limit(limit: float) -> None:
    clock = Clock()
    checks = Checks(Tools(SilentLookup(), at_once, clock, limit), "192.0.2.1", "a@s.example", "h.example")
    header, _, body = vector("rfc8463.eml").partition(b"\r\n\r\n")
    checks.take_header(header + b"\r\n")
    checks.take_body(body)
    ended: list[Found] = []
    Deferred.fromCoroutine(checks.finish(["football.example.com"])).addCallback(ended.append)
    clock.advance(limit - 0.1)
    assert not ended
    clock.advance(0.1)
    assert not ended  # DMARC may still ask for a little while
    clock.advance(5.0)
    (found,) = ended
    assert found.spf.result is Result.TEMPERROR
    assert [one.result for one in found.dkim] == [Result.TEMPERROR] * 2
    assert [one.result for one in found.dmarc] == [Result.TEMPERROR]
    assert not clock.getDelayedCalls()


def test_a_message_that_is_dropped_asks_no_further() -> None:
    clock = Clock()
    checks = Checks(Tools(SilentLookup(), at_once, clock), "192.0.2.1", "a@s.example", "h.example")
    checks.take_header(vector("rfc8463.eml"))
    checks.cancel()
    assert not clock.getDelayedCalls()


# ARC


def chained(keys: dict[str, tuple[bytes, str]], count: int) -> bytes:
    """A message that ``count`` servers sealed, each at its own domain."""
    message = PLAIN
    for number in range(1, count + 1):
        status = b"arc=none" if number == 1 else b"arc=pass"
        message = b"Authentication-Results: h%d.example; dmarc=pass; %s\r\n" % (number, status) + message
        fields = dkim.arc_sign(
            message,
            b"sel",
            b"h%d.example" % number,
            keys["rsa-sha256"][0],
            b"h%d.example" % number,
            include_headers=[b"from", b"to", b"subject"],
        )
        assert fields
        message = b"".join(fields) + message
    return message


def seal_keys(keys: dict[str, tuple[bytes, str]]) -> dict[str, str]:
    return {f"sel._domainkey.h{number}.example": keys["rsa-sha256"][1] for number in range(1, 5)}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_chains_that_dkimpy_seals_hold(keys: dict[str, tuple[bytes, str]], count: int) -> None:
    found = check(chained(keys, count), seal_keys(keys)).arc
    assert (found.result, found.sealer) == (Result.PASS, f"h{count}.example"), found.reason
    assert b"dmarc=pass" in found.sealed_results


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Some", b"Any", "the body was changed"),
        (b"Subject: hi", b"Subject: ho", "the signature does not fit the header"),
        (b"i=1; h1.example;", b"i=1; h9.example;", "the seal of h1.example does not fit"),
        (b"cv=none", b"cv=pass", "a seal does not say how it found the chain"),
        (b"cv=pass", b"cv=fail", "a server found the chain broken"),
        (b"i=2; h2", b"i=3; h2", "the instances have gaps"),
        (b"i=2; h2", b"i=1; h2", "instance 1 is there twice"),
        (b"i=2; h2", b"i=51; h2", "an instance has no number from 1 to 50"),
        (b"ARC-Seal: i=2", b"X-Seal: i=2", "the instances have gaps"),
    ],
)
def test_broken_chains(keys: dict[str, tuple[bytes, str]], old: bytes, new: bytes, reason: str) -> None:
    message = chained(keys, 2)
    assert old in message
    found = check(message.replace(old, new), seal_keys(keys)).arc
    assert (found.result, found.reason) == (Result.FAIL, reason)


def test_a_chain_whose_keys_dns_does_not_give(keys: dict[str, tuple[bytes, str]]) -> None:
    records = seal_keys(keys) | {"sel._domainkey.h1.example": "FAIL"}
    assert check(chained(keys, 2), records).arc.result is Result.TEMPERROR
    assert check(PLAIN, {}).arc.result is Result.NONE
