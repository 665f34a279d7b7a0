"""What becomes of a message from another server, and what its Authentication-Results say."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import dkim
import pytest
from dns_support import ScriptedLookup
from support import run
from twisted.internet.task import Clock

from certmaild.dkim.body_hash import BodyHash
from certmaild.dkim.key_files import KeyPair, SigningKey, txt_strings
from certmaild.inbound.checks import Tools
from certmaild.inbound.inspection import NOT_LOOKED_AT, InspectionSettings, Inspector, Verdict
from certmaild.inbound.partner_gate import PartnerGate
from certmaild.keystore.mail_signatures import KeyKind, MailSigningKey
from certmaild.outbound.dkim_sign import Signer
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import PartnerRecord
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.interfaces import Hop, Listener, TlsFacts
from certmaild.protocols.smtp.parameters import parse_mail

NOW = 1_795_450_000.0
KEY = SigningKey("sel", MailSigningKey.make(KeyKind.ED25519))
RECORDS = {
    "_dmarc.strict.example": "v=DMARC1; p=reject",
    "_dmarc.soft.example": "v=DMARC1; p=quarantine",
    "_dmarc.test.example": "v=DMARC1; p=reject; t=y",
    "strict.example": "v=spf1 ip4:192.0.2.1 -all",
    "list.example": "v=spf1 ip4:203.0.113.0/24 -all",
} | {
    f"sel._domainkey.{domain}": KeyPair("k", True, (KEY,)).records(domain)[0][1]
    for domain in ("strict.example", "partner.example")
}
SETTINGS = InspectionSettings("mx.example.com")
TLS = TlsFacts("TLSv1.3", "c")


async def at_once(work: Callable[[], Any]) -> Any:
    return work()


def take(
    message: bytes,
    *,
    sender: str = "x@list.example",
    peer: str = "203.0.113.1",
    settings: InspectionSettings = SETTINGS,
    partners: tuple[PartnerRecord, ...] = (),
    tls: TlsFacts | None = TLS,
    to: str = "ann",
) -> Verdict | Refusal:
    """The end of one message, given in two pieces."""
    clock = Clock()
    clock.advance(NOW)
    lookup = ScriptedLookup({(name, "TXT"): [txt_strings(text)] for name, text in RECORDS.items()})
    gate = PartnerGate(PartnerBook(partners), lambda: NOW)
    inspector = Inspector(gate, lambda address: "hash", settings, Tools(lookup, at_once, clock))
    hop = Hop("s", Listener.INBOUND, peer, "helo.example", True, tls, None)
    inspection = inspector.begin(hop, parse_mail(f"FROM:<{sender}>".encode()))
    if inspection is None:
        return NOT_LOOKED_AT
    header, _, body = message.partition(b"\r\n\r\n")
    header += b"\r\n"
    try:
        inspection.check_recipient(Path(to, "example.com"))
        inspection.take_header(header)
        inspection.take_body(body[:3])
        inspection.take_body(body[3:])
        froms = [line[5:] + b"\r\n" for line in header.split(b"\r\n") if line.lower().startswith(b"from:")]
        return run(inspection.finish(froms))
    except Refusal as refusal:
        return refusal


def mail(domain: str, *, signed: bool = False, extra: bytes = b"") -> bytes:
    header, body = f"From: Bob <bob@{domain}>\r\nSubject: x\r\n".encode() + extra, b"hello\r\n"
    hashed = BodyHash(relaxed=True)
    hashed.feed(body)
    hashed.finish()
    prefix = Signer((domain,), lambda now_s: [KEY]).sign(header, hashed, domain=domain, now_s=NOW) if signed else b""
    return prefix + header + b"\r\n" + body


def test_the_field_says_what_was_found() -> None:
    found = take(mail("strict.example", signed=True), sender="bob@strict.example", peer="192.0.2.1")
    assert isinstance(found, Verdict)
    start, _, rest = found.results.partition(b" header.b=")
    assert start == (
        b"Authentication-Results: mx.example.com;\r\n\tspf=pass smtp.mailfrom=strict.example;\r\n\t"
        b"dkim=pass header.d=strict.example header.s=sel"
    )
    assert rest.replace(b'"', b"")[8:] == b";\r\n\tdmarc=pass (p=reject) header.from=strict.example\r\n"
    assert not found.is_junk


@pytest.mark.parametrize(
    ("domain", "outcome"),
    [("strict.example", "refused"), ("soft.example", "junk"), ("test.example", "taken"), ("other.example", "taken")],
)
@pytest.mark.parametrize("honours", [True, False])
def test_what_a_domain_asks_for_is_done_where_it_is_honoured(domain: str, outcome: str, honours: bool) -> None:
    found = take(mail(domain), settings=replace(SETTINGS, honours_dmarc=honours))
    if outcome == "refused" and honours:
        assert isinstance(found, Refusal)
        assert (found.code, found.enhanced) == (550, "5.7.1")
        assert "strict.example asks (by DMARC)" in found.text
        return
    assert isinstance(found, Verdict)
    assert found.is_junk == (outcome == "junk" and honours)
    expected = b"dmarc=none" if domain == "other.example" else b"dmarc=fail"
    assert expected in found.results


def test_a_trusted_server_may_vouch_for_what_it_passed_on() -> None:
    rsa_key = MailSigningKey.make(KeyKind.RSA)
    RECORDS["s._domainkey.list.example"] = KeyPair("k", True, (SigningKey("s", rsa_key),)).records("list.example")[0][1]
    pem = subprocess.run(["openssl", "rsa", "-traditional"], input=rsa_key.pem, capture_output=True, check=True).stdout
    for found_there, trusted, outcome in (
        (b"dmarc=pass", frozenset({"list.example"}), "taken"),
        (b"dmarc=fail", frozenset({"list.example"}), "refused"),
        (b"dmarc=pass", frozenset({"other.example"}), "refused"),
        (b"dmarc=pass", frozenset(), "refused"),
    ):
        message = b"Authentication-Results: list.example; %s; arc=none\r\n" % found_there + mail("strict.example")
        fields = dkim.arc_sign(
            message, b"s", b"list.example", pem, b"list.example", include_headers=[b"from", b"subject"]
        )
        found = take(b"".join(fields) + message, settings=replace(SETTINGS, arc_sealers=trusted))
        assert isinstance(found, Verdict) == (outcome == "taken"), found
        if isinstance(found, Verdict):
            assert b"arc=pass (sealed by list.example)" in found.results
            assert b"dmarc=fail (p=reject) header.from=strict.example policy.override=arc" in found.results


def test_every_domain_of_from_counts() -> None:
    assert isinstance(take(b"From: a@other.example, b@strict.example\r\n\r\nx\r\n"), Refusal)
    assert isinstance(take(b"From: a@other.example\r\nFrom: b@strict.example\r\n\r\nx\r\n"), Refusal)


def test_a_from_that_two_readers_read_differently_is_junk() -> None:
    for value in (b"bob@third.example <bob@other.example> x <", b'"a" <b@c', b"<a@b>\\ <c@d>"):
        found = take(b"From: " + value + b"\r\n\r\nx\r\n")
        assert isinstance(found, Verdict)
        assert found.is_junk
        assert b"dmarc=permerror (From cannot be read)" in found.results


def test_no_domain_hides_behind_others_in_from_and_nobody_is_nobody() -> None:
    crowd = b", ".join(b"x@d%d.example" % number for number in range(4)) + b", boss@strict.example"
    for header in (b"From: " + crowd, b"From: nobody:;", b"Sender: boss@strict.example"):
        found = take(header + b"\r\nSubject: x\r\n\r\nx\r\n")
        assert isinstance(found, Verdict)
        assert found.is_junk
        assert b"dmarc=permerror" in found.results


def test_a_signature_does_not_vouch_for_a_field_that_was_added() -> None:
    key = MailSigningKey.make(KeyKind.RSA)
    RECORDS["s._domainkey.strict.example"] = KeyPair("k", True, (SigningKey("s", key),)).records("strict.example")[0][1]
    pem = subprocess.run(["openssl", "rsa", "-traditional"], input=key.pem, capture_output=True, check=True).stdout
    message = mail("strict.example", extra=b"Content-Type: text/plain\r\n")
    names = [b"from", b"subject", b"content-type"]
    signed = dkim.sign(message, b"s", b"strict.example", pem, include_headers=names) + message
    assert isinstance(take(signed), Verdict)
    assert isinstance(take(b"X-Seen: yes\r\n" + signed), Verdict)
    for added in (b"From: Boss <boss@strict.example>", b"Subject: pay at once", b"Content-Type: text/html"):
        refused = take(added + b"\r\n" + signed)
        assert isinstance(refused, Refusal), added
        assert "neither its SPF nor its DKIM" in refused.text


def test_who_may_be_answered_under_the_address_of_mail_from() -> None:
    def proven(sender: str, peer: str, **more: Any) -> bool:
        found = take(mail("other.example"), sender=sender, peer=peer, **more)
        assert isinstance(found, Verdict)
        return found.sender_is_proven

    assert proven("x@list.example", "203.0.113.1")
    assert not proven("x@list.example", "192.0.2.1")
    assert not proven("x@other.example", "203.0.113.1")
    assert not proven("x@list.example", "203.0.113.1", settings=replace(SETTINGS, checks=False))
    known = PartnerRecord("other.example", networks=(ip_network("203.0.113.0/24"),))
    assert proven("x@other.example", "203.0.113.1", partners=(known,))
    assert not proven("x@other.example", "203.0.113.1", partners=(replace(known, networks=()),))


def test_whose_mail_is_not_looked_at() -> None:
    near = replace(SETTINGS, unchecked_networks=(ip_network("203.0.113.0/24"),))
    for settings in (near, replace(SETTINGS, checks=False)):
        assert take(mail("strict.example"), settings=settings) == Verdict()
    assert isinstance(take(mail("strict.example"), settings=near, peer="203.0.112.1"), Refusal)


def test_what_strangers_write_stays_out_of_the_field() -> None:
    evil = b'DKIM-Signature: v=1; d=a.example (x) dmarc=pass; s=x"y; b=zz;\r\n\th=from; bh=aa; a=rsa-sha256\r\n'
    found = take(evil + mail("other.example"), sender='"a b; dmarc=pass"@list.example')
    assert isinstance(found, Verdict)
    assert b"dmarc=pass" not in found.results
    assert found.results.count(b"\r\n") == found.results.count(b"\r\n\t") + 1


KNOWN = PartnerRecord("partner.example", networks=(ip_network("192.0.2.0/24"),))


def test_a_partner_in_from_needs_his_connection_or_his_signature() -> None:
    refused = take(mail("partner.example"), partners=(KNOWN,))
    assert isinstance(refused, Refusal)
    assert refused.text.startswith("From: Mail from partner.example is not taken from 203.0.113.1")
    listed = take(mail("partner.example", signed=True), partners=(KNOWN,))
    assert isinstance(listed, Verdict)
    assert b"x-partner" not in listed.results
    assert isinstance(take(mail("partner.example"), partners=(KNOWN,), to="postmaster"), Verdict)
    no_checks = replace(SETTINGS, checks=False)
    assert isinstance(take(mail("partner.example", signed=True), partners=(KNOWN,), settings=no_checks), Refusal)


@pytest.mark.parametrize(
    "address", ["b@PARTNER.example.", "b..c@partner.example", "b" * 300 + "@partner.example", ".@Partner.Example"]
)
def test_no_spelling_of_an_address_gets_past_a_partners_record(address: str) -> None:
    for settings in (SETTINGS, replace(SETTINGS, checks=False)):
        for found in (
            take(mail("other.example"), sender=address, partners=(KNOWN,), settings=settings),
            take(f"From: {address}\r\n\r\nx\r\n".encode(), partners=(KNOWN,), settings=settings),
        ):
            assert isinstance(found, Refusal)
            assert "Mail from partner.example is not taken from 203.0.113.1" in found.text


@pytest.mark.parametrize(
    "value",
    [b"b@partner.example (x", b"b@partner.example <", b"<@a.example:b@partner.example>", b"x <<b@partner.example.>>"],
)
def test_a_from_that_somebody_may_read_as_a_partners_is_his(value: bytes) -> None:
    for settings in (SETTINGS, replace(SETTINGS, checks=False)):
        assert isinstance(take(b"From: " + value + b"\r\n\r\nx\r\n", partners=(KNOWN,), settings=settings), Refusal)


def test_what_tls_proved_of_a_partner_is_said() -> None:
    found = take(mail("partner.example"), sender="bob@partner.example", peer="192.0.2.9", partners=(KNOWN,))
    assert isinstance(found, Verdict)
    assert b"x-partner=pass (TLS from his network) policy.partner=partner.example" in found.results


def test_a_known_partner_need_not_pass_dmarc() -> None:
    strict = replace(KNOWN, domain="strict.example")
    found = take(mail("strict.example"), sender="bob@strict.example", peer="192.0.2.9", partners=(strict,))
    assert isinstance(found, Verdict)
    assert b"dmarc=fail (p=reject) header.from=strict.example policy.override=partner" in found.results
    only_tls = replace(strict, networks=())
    assert isinstance(take(mail("strict.example"), sender="x@strict.example", partners=(only_tls,)), Refusal)
