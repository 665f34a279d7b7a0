"""The real daemon in a world of right and wrong servers: what is sent, what is not, and what its people read of it."""

import base64
import json
import re
import smtplib
import time
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from clients_support import read_all
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from daemon import Account, Daemon
from network_support import private_network
from receiving_support import open_folder
from world_support import ADDRESSES, HEARD, World, needs_programs, world

OUTCOME_TIME_S = 90
TABLES = """
[outbound]
retry = "2s"
longest_retry = "4s"
warn_after = "3s"
[resolver]
addresses = ["{resolver}"]
[[partner]]
domain = "agreed.example"
level = "may"
[[partner]]
domain = "pinned.example"
level = "pin"
pins = ["{pin}"]
[[partner]]
domain = "wrongpin.example"
level = "pin"
pins = ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
[[partner]]
domain = "own.example"
level = "verify"
ca = "{private}"
[[partner]]
domain = "secure.example"
level = "secure"
"""

DELIVERED = {
    "right.example": ("certificate for mx.right.example", "default"),
    "dane.example": ("DANE 3 1 1", "DANE"),
    "sts.example": ("certificate for mx.sts.example", "MTA-STS"),
    "ststest.example": ("certificate for mx.ststest.example", "default"),
    "pinned.example": ("pin", "partner pinned.example"),
    "own.example": ("certificate for mx.own.example", "partner own.example"),
    "agreed.example": None,
}
"""How each proved itself, and by which policy; in clear text where a partner's record allows it."""
UNPROVEN = {
    "expired.example": ("4.7.5", "its certificate expired on "),
    "misnamed.example": ("4.7.5", "its certificate is for mx.elsewhere.example, not for mx.misnamed.example"),
    "unknown.example": ("4.7.5", "its certificate is issued by an authority that is not known here"),
    "clear.example": ("4.7.4", "it does not offer TLS (STARTTLS)"),
    "old.example": ("4.7.5", "it does not offer TLS 1.2 or later"),
    "midway.example": ("4.7.4", "it offers STARTTLS and then refuses it (454 4.7.0 TLS not available"),
    "stripped.example": ("4.7.4", "it does not offer TLS (STARTTLS)"),
    "forged.example": ("4.7.5", "it shows a certificate that no TLSA record (DANE) announces"),
    "stsbroken.example": ("4.7.5", "its certificate is for mx.elsewhere.example, not for mx.stsbroken.example"),
    "wrongpin.example": ("4.7.5", "it shows a certificate whose key is not one of those agreed on"),
    "secure.example": ("4.7.5", "its certificate is for mx.right.example, not for secure.example"),
}
"""Held back: code, and what is said of the server."""
FAILED = {
    "null.example": ("5.1.10", "says that it takes no mail"),
    "nowhere.example": ("5.1.2", "has no mail server"),
    "missing.invalid": ("5.1.2", "There is no domain missing.invalid"),
}
DEFERRED = {"dead.example": ("4.4.3", "the DNS server says SERVFAIL")}


@pytest.fixture(scope="module")
def the_world() -> Iterator[World]:
    needs_programs()
    with open_folder() as folder, private_network(ADDRESSES), world(folder) as running:
        yield running


@pytest.fixture(scope="module")
def sender(the_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    pin = base64.b64encode(the_world.certificates["unknown.example"].pin).decode()
    private = the_world.folder / "private.pem"
    tables = TABLES.format(resolver=the_world.dns.resolver, pin=pin, private=private)
    with Daemon(tmp_path_factory.mktemp("sender"), tables=tables) as running:
        yield running


@pytest.fixture(scope="module")
def member(sender: Daemon) -> Account:
    return sender.add_user("anna")


def submit(daemon: Daemon, account: Account, subject: str, *to: str, options: Sequence[str] = ()) -> str:
    """Send a message as a mail program does; its id in the queue."""
    message = EmailMessage()
    message["From"] = account.address
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message.set_content(f"The text of it: secret {subject}.\n")
    with smtplib.SMTP("localhost", daemon.ports["submission"], timeout=60) as smtp:
        smtp.starttls(context=daemon.tls_context())
        smtp.login(account.address, account.password)
        code, reply = smtp.mail(account.address, list(options))
        assert code == 250, reply
        for one in to:
            code, reply = smtp.rcpt(one)
            assert code == 250, reply
        code, reply = smtp.data(message.as_bytes())
        assert code == 250, reply
    found = re.search(rb"[0-9a-f]{12}", reply)
    assert found is not None, reply
    return found[0].decode()


def recipients(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """How each recipient stands, by ``id address``."""
    listed = json.loads(daemon.command("queue", "list", "--done", "--json"))
    return {f"{one['id']} {to['address']}": to for one in listed for to in one["recipients"]}


def await_outcome(daemon: Daemon, queue_id: str, address: str) -> dict[str, Any]:
    """How a recipient stands once something was found out."""
    give_up = time.monotonic() + OUTCOME_TIME_S
    while True:
        one = recipients(daemon)[f"{queue_id} {address}"]
        if one["problem"] or one["delivered"]:
            return one
        assert time.monotonic() < give_up, f"{one} {daemon.log.read_text()[-3000:]}"


def reports(daemon: Daemon, account: Account, about: str) -> list[Any]:
    """The reports in the sender's INBOX that speak of an address."""
    found = [message_from_bytes(one) for one in read_all(daemon, account)]
    return [one for one in found if about in (one["Subject"] or "")]


def await_report(daemon: Daemon, account: Account, about: str) -> Any:
    give_up = time.monotonic() + OUTCOME_TIME_S
    while not (found := reports(daemon, account, about)):
        assert time.monotonic() < give_up, daemon.log.read_text()[-3000:]
        time.sleep(0.2)
    assert len(found) == 1, [one["Subject"] for one in found]
    return found[0]


@pytest.fixture(scope="module")
def outcomes(sender: Daemon, member: Account) -> dict[str, dict[str, Any]]:
    """One message to each domain, and how it stands, by domain."""
    ids = {
        name: submit(sender, member, f"to {name}", f"bob@{name}")
        for name in (*DELIVERED, *UNPROVEN, *FAILED, *DEFERRED)
    }
    give_up = time.monotonic() + OUTCOME_TIME_S
    while True:
        found = recipients(sender)
        stand = {name: found[f"{queue_id} bob@{name}"] for name, queue_id in ids.items()}
        waiting = [name for name, one in stand.items() if not one["problem"] and not one["delivered"]]
        if not waiting:
            return stand
        assert time.monotonic() < give_up, f"{waiting}: {sender.log.read_text()[-3000:]}"


@pytest.mark.parametrize("domain", DELIVERED)
def test_a_server_that_proves_itself_gets_the_message(
    the_world: World, outcomes: dict[str, dict[str, Any]], domain: str
) -> None:
    one, expected = outcomes[domain], DELIVERED[domain]
    assert (one["state"], one["problem"]) == ("delivered", None)
    proof = one["delivered"]["proof"]
    message = the_world.await_received(f"to {domain}")
    if expected is None:
        assert proof is None
        assert "TLS" not in (message.get_all("Received") or [""])[0]
        return
    assert (proof["how"], proof["policy"], proof["verified"]) == (*expected, True)
    assert proof["version"] == "TLSv1.3"
    assert "using TLSv1.3" in (message.get_all("Received") or [""])[0]


@pytest.mark.parametrize("domain", UNPROVEN)
def test_a_server_that_does_not_gets_nothing(
    the_world: World, sender: Daemon, member: Account, outcomes: dict[str, dict[str, Any]], domain: str
) -> None:
    one, (enhanced, words) = outcomes[domain], UNPROVEN[domain]
    assert one["state"] in ("ready", "waiting")
    problem = one["problem"]
    assert (problem["permanent"], problem["enhanced"], problem["concerns_tls"]) == (False, enhanced, True)
    assert words in problem["words"]
    assert not the_world.received(f"to {domain}")
    report = await_report(sender, member, f"bob@{domain}")
    assert report["Subject"] == f"Held back: your message to bob@{domain}"
    said = report.get_payload()[0].get_payload()
    assert words.split(" (")[0] in " ".join(said.split())
    assert "Nothing was sent in clear" in " ".join(said.split())
    assert not re.search(r"https?:|www\.|mailto:", report.as_string())
    assert report.get_payload()[1].get_payload()[1]["Action"] == "delayed"


def test_nobody_in_between_hears_a_word(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["midway.example"]
    assert HEARD, "the impostors were never asked"
    assert {line.split()[0].upper() for line in HEARD if line.split()} <= {b"EHLO", b"STARTTLS", b"QUIT"}


@pytest.mark.parametrize("domain", FAILED)
def test_where_no_mail_goes_is_said_at_once(
    sender: Daemon, member: Account, outcomes: dict[str, dict[str, Any]], domain: str
) -> None:
    one, (enhanced, words) = outcomes[domain], FAILED[domain]
    assert (one["state"], one["problem"]["permanent"], one["problem"]["enhanced"]) == ("failed", True, enhanced)
    assert words in one["problem"]["words"]
    report = await_report(sender, member, f"bob@{domain}")
    assert report["Subject"].startswith("Not delivered: ")
    status = report.get_payload()[1].get_payload()[1]
    assert (status["Action"], status["Status"]) == ("failed", enhanced)


@pytest.mark.parametrize("domain", DEFERRED)
def test_a_fault_of_dns_is_a_deferral(outcomes: dict[str, dict[str, Any]], domain: str) -> None:
    one, (enhanced, words) = outcomes[domain], DEFERRED[domain]
    assert one["state"] in ("ready", "waiting")
    assert (one["problem"]["permanent"], one["problem"]["enhanced"]) == (False, enhanced)
    assert words in one["problem"]["words"]


def test_what_waits_is_read_in_no_file(sender: Daemon, outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes
    marks = [b"secret to expired.example", b"bob@expired.example", b"misnamed.example", b"anna@example.com"]
    for path in sender.data.rglob("*"):
        if path.is_file():
            octets = path.read_bytes()
            # An account's own address is what the directory is found by (docs/storage.md).
            assert not [one for one in marks[:3] if one in octets], path


def test_what_the_next_server_says_of_a_recipient(the_world: World, sender: Daemon, member: Account) -> None:
    to = ("bob@right.example", "gone@right.example", "full@right.example")
    queue_id = submit(sender, member, "three at once", *to)
    there, gone, full = (await_outcome(sender, queue_id, one) for one in to)
    assert there["state"] == "delivered"
    the_world.await_received("three at once")
    assert (gone["state"], gone["problem"]["enhanced"]) == ("failed", "5.1.1")
    assert (full["state"], full["problem"]["enhanced"]) == ("waiting", "4.2.2")
    report = await_report(sender, member, "gone@right.example")
    assert "No such person" in report.get_payload()[1].get_payload()[1]["Diagnostic-Code"]
    assert "full@right.example" not in report.as_string().split("text/rfc822-headers")[0]


def test_tls_demanded_on_the_whole_way(the_world: World, sender: Daemon, member: Account) -> None:
    """Postfix does not say REQUIRETLS: such a message goes back (RFC 8689 section 4.2.1)."""
    queue_id = submit(sender, member, "all the way", "bob@dane.example", options=["REQUIRETLS"])
    one = await_outcome(sender, queue_id, "bob@dane.example")
    assert (one["state"], one["problem"]["enhanced"]) == ("failed", "5.7.30")
    await_report(sender, member, "bob@dane.example")
    assert not the_world.received("all the way")


def test_two_of_us(the_world: World, sender: Daemon, member: Account, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A partner with this server too: REQUIRETLS is kept, both show certificates, and the answer comes back."""
    own = sender.data / "tls"
    # Each shows the other the certificate that its listeners have; by its key it is known.
    other_side = (
        f'[outbound]\nretry = "2s"\n[resolver]\naddresses = ["{the_world.dns.resolver}"]\n'
        f'[[partner]]\ndomain = "example.com"\nroute = ["localhost:{sender.ports["smtp"]}"]\nca = "{sender.ca_file}"\n'
        f'pins = ["{_pin(own / "chain.pem")}"]\n'
        'client_certificate = "data/tls/chain.pem"\nclient_key = "data/tls/key.pem"\n'
    )
    with Daemon(tmp_path_factory.mktemp("other"), domain="example.net", tables=other_side) as other:
        bert = other.add_user("bert")
        terms = ["--route", f"localhost:{other.ports['smtp']}", "--ca", str(other.ca_file)]
        terms += ["--pin-certificate", str(other.data / "tls" / "chain.pem")]
        terms += ["--client-certificate", str(own / "chain.pem"), "--client-key", str(own / "key.pem")]
        sender.command("partner", "add", "example.net", *terms)
        queue_id = submit(sender, member, "a question", bert.address, options=["REQUIRETLS"])
        there = await_outcome(sender, queue_id, bert.address)
        assert there["state"] == "delivered", json.dumps(there)
        assert there["delivered"]["proof"]["policy"] == "partner example.net"
        (question,) = (message_from_bytes(one) for one in read_all(other, bert))
        assert question["Subject"] == "a question"
        assert "pinned client certificate" in question["Authentication-Results"]
        answer = submit(other, bert, "an answer", member.address, options=["REQUIRETLS"])
        back = await_outcome(other, answer, member.address)
        assert back["state"] == "delivered", json.dumps(back)
    assert any(message_from_bytes(one)["Subject"] == "an answer" for one in read_all(sender, member))


def _pin(chain: Path) -> str:
    """The SHA-256 of the key of the first certificate in a file, in hexadecimal."""
    key = x509.load_pem_x509_certificate(chain.read_bytes()).public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
