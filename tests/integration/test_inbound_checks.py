"""SPF, DKIM and DMARC at port 25 of the real daemon, with a real resolver and real zones."""

import base64
import re
import smtplib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dkim
import pytest
from clients_support import read_all
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from daemon import Account, Daemon
from dns_support import DnsNetwork

KEY = rsa.generate_private_key(65537, 2048)
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
PRIVATE = KEY.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)).decode()
RECORD = f'"v=DKIM1; k=rsa; p={PUBLIC[:200]}" "{PUBLIC[200:]}"'
ZONES = {
    "strict.example": f'@ TXT "v=spf1 mx -all"\n@ MX 10 mx\nmx A 127.0.0.1\n_dmarc TXT "v=DMARC1; p=reject"\n'
    f"sel._domainkey TXT {RECORD}",
    "soft.example": '_dmarc TXT "v=DMARC1; p=quarantine"',
    "other.example": '@ TXT "v=spf1 ip4:192.0.2.1 -all"',
}


@dataclass
class Checked:
    daemon: Daemon
    account: Account

    def send(self, sender: str, message: bytes) -> str:
        with smtplib.SMTP("localhost", self.daemon.ports["smtp"], timeout=120) as smtp:
            smtp.starttls(context=self.daemon.tls_context())
            try:
                smtp.sendmail(sender, [self.account.address], message)
            except smtplib.SMTPDataError as refused:
                return f"{refused.smtp_code} {refused.smtp_error.decode()}"
        return "taken"

    def find(self, subject: str, folder: str = "INBOX") -> bytes:
        return next(
            one for one in read_all(self.daemon, self.account, folder) if b"Subject: " + subject.encode() in one
        )


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    folder = tmp_path_factory.mktemp("checked")
    with DnsNetwork(folder, ZONES, dead={"dead.example"}) as dns:
        resolver = f'[resolver]\naddresses = ["{dns.resolver}"]\n'
        tables = f'[inbound]\nunchecked_networks = []\n{resolver}[limits]\ncheck_time = "3s"\n'
        with Daemon(folder / "daemon", tables=tables) as daemon:
            yield Checked(daemon, daemon.add_user("ann"))


def mail(author: str, subject: str, body: bytes = b"hello\r\n") -> bytes:
    return f"From: Bob <{author}>\r\nTo: ann@example.com\r\nSubject: {subject}\r\n\r\n".encode() + body


def signed(message: bytes) -> bytes:
    return dkim.sign(message, b"sel", b"strict.example", PRIVATE, canonicalize=(b"relaxed", b"relaxed")) + message


def test_what_is_found_stands_above_the_message(checked: Checked) -> None:
    forged = b"Authentication-Results: localhost; dmarc=pass header.from=evil.example\r\n"
    assert checked.send("bob@strict.example", forged + signed(mail("bob@strict.example", "all pass"))) == "taken"
    stored = checked.find("all pass")
    names = re.findall(rb"^([A-Za-z-]+):", stored.partition(b"\r\n\r\n")[0], re.MULTILINE)
    assert names[:4] == [b"Return-Path", b"Delivered-To", b"Authentication-Results", b"Received"]
    assert names.count(b"Authentication-Results") == 1
    found = re.search(rb"Authentication-Results: (.*\r\n(?:\t.*\r\n)*)", stored)
    assert found is not None
    said = b" ".join(found[1].split())
    assert said.startswith(
        b"localhost; spf=pass smtp.mailfrom=strict.example; dkim=pass header.d=strict.example header.s=sel"
    )
    assert said.endswith(b"dmarc=pass (p=reject) header.from=strict.example")


def test_who_is_not_vouched_for_is_refused_or_junk(checked: Checked) -> None:
    refused = checked.send("x@other.example", mail("bob@strict.example", "forged"))
    assert refused.startswith("550 5.7.1 strict.example asks (by DMARC) that mail be refused")
    assert checked.send("x@other.example", mail("bob@soft.example", "doubtful")) == "taken"
    junk = checked.find("doubtful", "Junk")
    assert b"spf=fail smtp.mailfrom=other.example" in junk
    assert b"dmarc=fail (p=quarantine) header.from=soft.example" in junk
    assert not any(b"Subject: doubtful" in one for one in read_all(checked.daemon, checked.account))


def test_a_signed_message_may_come_from_elsewhere_but_unchanged(checked: Checked) -> None:
    message = signed(mail("bob@strict.example", "by a list"))
    assert checked.send("list@other.example", message) == "taken"
    assert checked.send("list@other.example", message + b"-- \r\nfooter\r\n").startswith("550 5.7.1")


def test_a_dead_dns_server_holds_nobody_longer_than_the_limit(checked: Checked) -> None:
    begun = time.monotonic()
    assert checked.send("x@dead.example", mail("bob@dead.example", "from the dead")) == "taken"
    assert time.monotonic() - begun < 3 + 5 + 10  # the limit, DMARC's five seconds, and a slow machine
    assert b"spf=temperror" in checked.find("from the dead")


@pytest.mark.parametrize("mebioctets", [pytest.param(10, id="10MiB"), pytest.param(140, marks=pytest.mark.long)])
def test_a_large_signed_body_is_hashed_as_it_streams(checked: Checked, mebioctets: int, tmp_path: Path) -> None:
    line = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n"
    message = signed(mail("bob@strict.example", f"large {mebioctets}", line * (mebioctets * 2**20 // len(line))))
    assert checked.send("list@other.example", message) == "taken"
    assert b"dkim=pass header.d=strict.example" in checked.find(f"large {mebioctets}")
