"""Who may send in a partner's name: every way of proof, and every reason for a refusal."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from random import Random

import pytest
import tls_support
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from tls_support import Authority, Certified

from certmaild.inbound.partner_gate import PartnerGate, PartnerProof
from certmaild.keystore.tls_values import Pem
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import Direction, PartnerRecord
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.interfaces import TlsFacts

NOW = datetime.now(UTC).timestamp()
ROOT, OTHER = tls_support.authority("a root"), tls_support.authority("another root")
NO_CA = ROOT.issue("no ca", sends_authority=False)
MIDDLE = ROOT.issue(is_authority=True, common_name="between", sends_authority=False)
MIDDLE_OF_OTHER = OTHER.issue(is_authority=True, common_name="m", sends_authority=False)
OURS = PartnerRecord("partner.example")
BY_ROOT = replace(OURS, ca=Pem(ROOT.pem.decode()))


def issue(
    name: str,
    by: Authority | None = ROOT,
    days: tuple[int, int] = (-1, 90),
    usages: tuple[ObjectIdentifier, ...] = (tls_support.CLIENT,),
) -> Certified:
    """A client's certificate, which it shows with those above it but for the root."""
    start, end = (timedelta(days=one) for one in days)
    if by is None:
        return tls_support.self_signed(name, start=start, end=end, purposes=usages)
    return by.issue(name, start=start, end=end, purposes=usages, sends_authority=by not in (ROOT, OTHER))


GOOD = issue("mail.partner.example")


def tls(shown: Certified | None = None, *, version: str = "TLSv1.3") -> TlsFacts:
    return TlsFacts(version, "cipher", peer_chain=() if shown is None else shown.chain)


def judge(
    record: PartnerRecord, facts: TlsFacts | None, *, domain: str = "partner.example", peer: str = "192.0.2.1"
) -> PartnerProof | Refusal | None:
    gate = PartnerGate(PartnerBook([record]), lambda: NOW)
    return gate.judge(domain, peer, facts, session="s", sender=lambda: "h")


@pytest.mark.parametrize(
    ("record", "facts", "how"),
    [
        (OURS, tls(), "TLS"),
        (replace(OURS, networks=(ip_network("192.0.2.0/24"),)), tls(), "TLS from his network"),
        (BY_ROOT, tls(GOOD), "client certificate by his authority"),
        (BY_ROOT, tls(issue("x.example", MIDDLE)), "client certificate by his authority"),
        (BY_ROOT, tls(issue("x.example", usages=(tls_support.SERVER,))), "client certificate by his authority"),
        (BY_ROOT, tls(issue("x.example", usages=())), "client certificate by his authority"),
        (replace(BY_ROOT, names=("mail.partner.example",)), tls(GOOD), "client certificate by his authority"),
        (replace(BY_ROOT, names=(".example",)), tls(GOOD), "client certificate by his authority"),
        (replace(BY_ROOT, names=("*.partner.example",)), tls(GOOD), "client certificate by his authority"),
        (replace(OURS, pins=(GOOD.pin,)), tls(GOOD), "pinned client certificate"),
        (replace(BY_ROOT, certificate_in=False), tls(), "TLS"),
    ],
)
def test_what_proves_a_partner(record: PartnerRecord, facts: TlsFacts, how: str) -> None:
    found = judge(record, facts)
    assert isinstance(found, PartnerProof)
    assert (found.domain, found.how, found.knows_him) == ("partner.example", how, how != "TLS")


def test_of_a_pinned_key_nothing_else_is_asked() -> None:
    old = issue("elsewhere.example", None, days=(-90, -30), usages=(tls_support.SERVER,))
    other_name = replace(OURS, pins=(GOOD.pin, old.pin), names=("mail.partner.example",))
    assert isinstance(judge(other_name, tls(old)), PartnerProof)


@pytest.mark.parametrize(
    ("record", "facts", "code", "words"),
    [
        (OURS, None, "530 5.7.0", "only over TLS: issue STARTTLS first"),
        (replace(OURS, minimum="1.3"), tls(version="TLSv1.2"), "550 5.7.10", "only over TLS 1.3, this is TLSv1.2"),
        (replace(OURS, networks=(ip_network("2001:db8::/32"),)), tls(), "550 5.7.1", "is not taken from 192.0.2.1"),
        (BY_ROOT, tls(), "550 5.7.1", "needs its client certificate: none was shown"),
        (BY_ROOT, tls(issue("x.example", OTHER)), "550 5.7.1", "not by an authority that counts"),
        (BY_ROOT, tls(issue("x.example", None)), "550 5.7.1", "not by an authority that counts"),
        (
            BY_ROOT,
            tls(issue("x.example", MIDDLE_OF_OTHER)),
            "550 5.7.1",
            "not by an authority that counts",
        ),
        (BY_ROOT, tls(issue("x.example", NO_CA)), "550 5.7.1", "not by an authority that counts"),
        (BY_ROOT, tls(issue("x.example", days=(-90, -3))), "550 5.7.1", "the one that was shown is valid from"),
        (BY_ROOT, tls(issue("x.example", days=(3, 9))), "550 5.7.1", "the one that was shown is valid from"),
        (
            BY_ROOT,
            tls(issue("x.example", usages=(ExtendedKeyUsageOID.CODE_SIGNING,))),
            "550 5.7.1",
            "not by an authority that counts",
        ),
        (replace(BY_ROOT, names=("a.example",)), tls(GOOD), "550 5.7.1", "for none of the names agreed on"),
        (replace(OURS, pins=(OTHER.pin,)), tls(GOOD), "550 5.7.1", "the key of the one that was shown is not one of"),
        (BY_ROOT, TlsFacts("TLSv1.3", "c", peer_chain=(b"junk",)), "550 5.7.1", "none was shown, or one that cannot"),
        (replace(OURS, ca=Pem("nonsense")), tls(GOOD), "550 5.7.1", "this server cannot read the authorities"),
    ],
)
def test_why_mail_in_a_partners_name_is_refused(
    record: PartnerRecord, facts: TlsFacts | None, code: str, words: str
) -> None:
    found = judge(record, facts)
    assert isinstance(found, Refusal)
    assert f"{found.code} {found.enhanced}" == code
    assert words in found.text
    assert "partner.example" in found.text


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_octets_that_are_nearly_a_certificate_are_refused_and_nothing_else() -> None:
    random = Random(1)
    records = (BY_ROOT, replace(BY_ROOT, names=("mail.partner.example",)), replace(OURS, pins=(GOOD.pin,)))
    for _ in range(3000):
        octets = bytearray(GOOD.chain[0])
        for _ in range(random.randint(1, 3)):
            octets[random.randrange(len(octets))] = random.randrange(256)
        shown = TlsFacts("TLSv1.3", "cipher", peer_chain=(bytes(octets), *GOOD.chain[1:]))
        for record in records:
            assert isinstance(judge(record, shown), PartnerProof | Refusal)


def test_whose_record_does_not_count_here_is_a_stranger() -> None:
    assert judge(replace(BY_ROOT, direction=Direction.OUT), None) is None
    assert judge(BY_ROOT, None, domain="other.example") is None
    assert judge(BY_ROOT, None, domain="sub.partner.example") is None
    assert isinstance(judge(replace(BY_ROOT, subdomains=True), None, domain="sub.partner.example"), Refusal)
    assert judge(replace(BY_ROOT, start=date(2999, 1, 1)), None) is None


def test_certificates_are_asked_for_only_when_somebody_must_show_one() -> None:
    def asks(*records: PartnerRecord) -> bool:
        return PartnerGate(PartnerBook(records), lambda: NOW).asks_for_certificates()

    assert not asks()
    assert not asks(OURS, replace(BY_ROOT, domain="b.example", certificate_in=False))
    assert not asks(replace(BY_ROOT, direction=Direction.OUT))
    assert asks(OURS, replace(BY_ROOT, domain="b.example"))


def test_a_known_server_is_recognised_whoever_it_writes_for() -> None:
    near = replace(OURS, domain="near.example", networks=(ip_network("192.0.2.0/24"),))
    gate = PartnerGate(PartnerBook([OURS, replace(BY_ROOT, domain="b.example"), near]), lambda: NOW)
    assert gate.recognises("198.51.100.1", tls(GOOD))
    assert gate.recognises("192.0.2.1", tls())
    assert not gate.recognises("198.51.100.1", tls())
    assert not gate.recognises("198.51.100.1", tls(issue("x", OTHER)))
    assert not gate.recognises("192.0.2.1", None)


def test_an_authority_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(OTHER.pem.decode())
    record = replace(OURS, ca=file)
    assert isinstance(judge(record, tls(GOOD)), Refusal)
    file.write_text(ROOT.pem.decode())
    assert isinstance(judge(record, tls(GOOD)), PartnerProof)
    file.unlink()
    assert isinstance(judge(record, tls(GOOD)), Refusal)
