"""A real Postfix sends to the real daemon at each of its TLS levels, as nobody known and as partners: what comes of it.

Each case is a way out of one Postfix, with settings of its own; all are sent at once.
"""

import base64
import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import tls_support
from clients_support import make_mail, read_all
from daemon import Account
from dns_support import tlsa
from home_support import ADDRESS, HOST, Home, home
from postfix import Postfix, service, transport, why_not
from receiving_support import open_folder
from tls_support import NOW, Certified

NEAR, FAR, HERE = "192.0.2.50", "192.0.2.60", "192.0.2.70"
DAY = timedelta(days=1)
PARTNERS = """
[[partner]]
domain = "issued.example"
ca = "{folder}/partner.pem"
names = ["out.issued.example"]
[[partner]]
domain = "pinned.example"
pins = ["{pin}"]
[[partner]]
domain = "near.example"
networks = ["{near}"]
[[partner]]
domain = "both.example"
ca = "{folder}/partner.pem"
networks = ["{near}"]
[[partner]]
domain = "new.example"
minimum = "1.3"
[[partner]]
domain = "out.example"
ca = "{folder}/partner.pem"
networks = ["{near}"]
direction = "out"
[[partner]]
domain = "later.example"
ca = "{folder}/partner.pem"
from = 2999-01-01
"""
ON_1_2 = ("smtp_tls_mandatory_protocols=TLSv1.2",)
FROM_NEAR, FROM_FAR = (f"smtp_bind_address={NEAR}",), (f"smtp_bind_address={FAR}",)


@dataclass(frozen=True)
class Case:
    """A way out of Postfix, and what comes of it."""

    domain: str = "open.example"
    """Of MAIL FROM."""
    level: str = "encrypt"
    shows: str = ""
    """The client certificate that it has."""
    settings: tuple[str, ...] = ()
    to: str = HOST
    tls: str = "Trusted"
    """What Postfix says of the connection; empty: in clear, or none."""
    proves: str = ""
    """What Authentication-Results say of the partner."""
    refused: str = ""
    """The daemon's answer."""
    stays: str = ""
    """Why Postfix does not send it."""


UNVERIFIED = {"tls": "Untrusted", "stays": "Server certificate not verified"}
BARE = "550 5.7.1 Mail from {} needs its client certificate: none was shown, or one that cannot be read"
SHOWN = "550 5.7.1 Mail from {} needs its client certificate: the one that was shown is "
BY_AUTHORITY = "client certificate by his authority"
CASES = {
    # Whom certmaild does not know, at each level.
    "none": Case(level="none", tls="", refused="530 5.7.0 Must issue a STARTTLS command first"),
    "may": Case(level="may"),
    "encrypt": Case(),
    "verify": Case(level="verify", tls="Verified"),
    "secure": Case(level="secure", tls="Verified"),
    "fingerprint": Case(level="fingerprint", settings=("smtp_tls_fingerprint_cert_match=OURS",), tls="Verified"),
    "dane": Case(level="dane", tls="Verified"),
    "dane-only": Case(level="dane-only", tls="Verified"),
    "shown": Case(shows="right"),
    # What he wants proven is not what we show.
    "verify-other": Case(level="verify", settings=("smtp_tls_CAfile=STRANGER",), **UNVERIFIED),
    "secure-other": Case(level="secure", settings=("smtp_tls_secure_cert_match=mx.other.example",), **UNVERIFIED),
    "fingerprint-other": Case(
        level="fingerprint", settings=("smtp_tls_fingerprint_cert_match=" + ":".join(["00"] * 32),), **UNVERIFIED
    ),
    "dane-other": Case(level="dane", to="other.example.com", **UNVERIFIED),
    # Partners: by his authority, by pins, by networks, by version.
    "issued": Case("issued.example", shows="right", proves=BY_AUTHORITY),
    "issued-1-2": Case("issued.example", shows="right", settings=ON_1_2, proves=BY_AUTHORITY),
    "issued-dane": Case("issued.example", "dane", shows="right", tls="Verified", proves=BY_AUTHORITY),
    "issued-bare": Case("issued.example", refused=BARE),
    "issued-clear": Case("issued.example", "none", tls="", refused="530 5.7.0 Must issue a STARTTLS command first"),
    "issued-stranger": Case(
        "issued.example", shows="stranger", refused=SHOWN + "not by an authority that counts for this domain"
    ),
    "issued-expired": Case(
        "issued.example",
        shows="expired",
        refused=SHOWN + f"valid from {NOW - 9 * DAY:%Y-%m-%d} to {NOW - DAY:%Y-%m-%d}",
    ),
    "issued-misnamed": Case("issued.example", shows="misnamed", refused=SHOWN + "for none of the names agreed on"),
    "pinned": Case("pinned.example", shows="pinned", proves="pinned client certificate"),
    "pinned-other": Case(
        "pinned.example",
        shows="right",
        refused="550 5.7.1 Mail from {} needs its client certificate: the key of the one that was shown is not one of "
        "those agreed on",
    ),
    "near": Case("near.example", settings=FROM_NEAR, proves="TLS from his network"),
    "near-far": Case("near.example", settings=FROM_FAR, refused=f"550 5.7.1 Mail from {{}} is not taken from {FAR}"),
    "both": Case("both.example", shows="right", settings=FROM_NEAR, proves=f"{BY_AUTHORITY} from his network"),
    "both-far": Case(
        "both.example", shows="right", settings=FROM_FAR, refused=f"550 5.7.1 Mail from {{}} is not taken from {FAR}"
    ),
    "both-bare": Case("both.example", settings=FROM_NEAR, refused=BARE),
    "new": Case("new.example", proves="TLS"),
    "new-1-2": Case(
        "new.example",
        settings=ON_1_2,
        refused="550 5.7.10 Mail from {} is taken only over TLS 1.3, this is TLSv1.2",
    ),
    # Records that do not count, or not yet.
    "out": Case("out.example", settings=FROM_FAR),
    "later": Case("later.example"),
}


@dataclass
class Sent:
    """What came of all cases."""

    log: str
    messages: dict[str, Message]
    """What the member got, by case."""

    def end(self, case: str) -> tuple[str, str]:
        """As Postfix writes it, and why."""
        (found,) = re.findall(rf"postfix/to-{case}/smtp\[.*status=(\w+) \((.*)\)$", self.log, re.MULTILINE)
        return found  # type: ignore[no-any-return]

    def tls(self, case: str) -> str:
        found = re.findall(rf"postfix/to-{case}/smtp\[\d+\]: (\w+) TLS connection established", self.log)
        return found[0] if found else ""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    if reason := why_not():
        pytest.skip(reason)
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def shown(folder: Path) -> dict[str, Certified]:
    """What Postfix shows, each in a file."""
    partner, stranger = tls_support.authority("The partner"), tls_support.authority("A stranger")
    name, client = "out.issued.example", (tls_support.CLIENT,)
    made: dict[str, Certified] = {
        "right": partner.issue(name, purposes=client),
        "expired": partner.issue(name, purposes=client, start=-9 * DAY, end=-DAY),
        "misnamed": partner.issue("out.other.example", purposes=client),
        "stranger": stranger.issue(name, purposes=client),
        "pinned": tls_support.self_signed("out.pinned.example"),
    }
    for stem, one in made.items():
        (folder / f"{stem}.chain").write_bytes(one.key_pem + one.chain_pem)
    partner.write_pem(folder, "partner")
    stranger.write_pem(folder, "strangers")
    return made


@pytest.fixture(scope="module")
def house(folder: Path, shown: dict[str, Certified]) -> Iterator[Home]:
    pin = base64.b64encode(shown["pinned"].pin).decode()
    tables = PARTNERS.format(folder=folder, pin=pin, near=NEAR)
    other = f"other.example.com. A {ADDRESS}\n_25._tcp.other.example.com. TLSA {tlsa(b'another key')}\n"
    with home(folder, NEAR, FAR, HERE, tables=tables, own_zone=other) as running:
        yield running


@pytest.fixture(scope="module")
def postfix(house: Home, folder: Path) -> Iterator[Postfix]:
    """It takes mail at `HERE` and sends each case's its own way."""
    found = re.search(r"SHA-256: +([0-9A-F:]+)", house.daemon.command("cert", "show"))
    assert found is not None
    words = {"OURS": found[1], "STRANGER": f"{folder}/strangers.pem"}
    settings = (
        "myhostname = out.example",
        f"inet_interfaces = {HERE}",
        f"mynetworks = {HERE}",
        "smtp_dns_support_level = dnssec",
        "smtp_host_lookup = dns",
        f"smtp_tls_CAfile = {house.ca_file}",
        "smtp_tls_loglevel = 1",
        "smtp_tls_fingerprint_digest = sha256",
        "smtp_tls_secure_cert_match = hostname",
        f"sender_dependent_default_transport_maps = texthash:{folder}/ways",
        "default_transport = discard:",
    )
    services = [service(f"{HERE}:25")]
    for name, case in CASES.items():
        own = [f"smtp_tls_security_level={case.level}"]
        own += [f"smtp_tls_chain_files={folder}/{case.shows}.chain"] if case.shows else []
        own += [re.sub("OURS|STRANGER", lambda word: words[word[0]], one) for one in case.settings]
        services.append(transport(f"to-{name}", *own))
    ways = "".join(f"{name}@{case.domain} to-{name}:[{case.to}]:25\n" for name, case in CASES.items())
    (folder / "ways").write_text(ways)
    with Postfix(folder / "postfix", settings, services, house.wrapper) as running:
        yield running


@pytest.fixture(scope="module")
def member(house: Home) -> Account:
    return house.daemon.add_user("ann")


@pytest.fixture(scope="module")
def sent(house: Home, postfix: Postfix, member: Account) -> Sent:
    with smtplib.SMTP(HERE, 25, timeout=60, source_address=(HERE, 0)) as smtp:
        for name, case in CASES.items():
            sender = f"{name}@{case.domain}"
            content = make_mail(name, to=member.address).replace(b"bob@partner.example", sender.encode())
            smtp.sendmail(sender, [member.address], content)
    log = postfix.await_log(f"to=<{member.address}>", len(CASES))
    messages = [message_from_bytes(one) for one in read_all(house.daemon, member)]
    return Sent(log, {one["Subject"]: one for one in messages})


@pytest.mark.parametrize("case", CASES)
def test_what_comes_of_it(sent: Sent, house: Home, case: str) -> None:
    terms = CASES[case]
    end, said = sent.end(case)
    assert sent.tls(case) == terms.tls
    if terms.stays:
        assert (end, said) == ("deferred", terms.stays)
    elif terms.refused:
        answer = terms.refused.format(terms.domain)
        expected = f"host {HOST}[{ADDRESS}] said: {answer} (in reply to RCPT TO command)"
        assert (end, said) == ("bounced", expected)
    else:
        assert (end, said[:24]) == ("sent", "250 2.0.0 Message taken ")
    if terms.stays or terms.refused:
        assert case not in sent.messages
        return
    message = sent.messages[case]
    found = [" ".join(one.split()) for one in message["Authentication-Results"].split(";")]
    partner = [f"x-partner=pass ({terms.proves}) policy.partner={terms.domain}"] if terms.proves else []
    assert found == [
        HOST,
        f"spf=none smtp.mailfrom={terms.domain}",
        "dkim=none",
        *partner,
        f"dmarc=none header.from={terms.domain}",
    ]
    assert "TLSv1.2" in message["Received"] if terms.settings == ON_1_2 else "TLSv1.3" in message["Received"]


def test_what_would_be_refused_later_is_in_the_log(sent: Sent, house: Home) -> None:
    log = house.daemon.log.read_text()
    assert "later" in sent.messages
    assert (
        "mail in the name of partner later.example would be refused from 2999-01-01: 550 Mail from later.example needs"
        in log
    )
    assert "later@" not in log
