"""Partners at port 25 of the real daemon: client certificates in TLS 1.2 and 1.3, networks, and what others notice."""

import base64
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import tls_support
from clients_support import make_mail, read_all
from daemon import Account, Daemon
from postfix_support import running_postfix


@dataclass
class Gated:
    """A daemon with partners, and what they show."""

    daemon: Daemon
    account: Account
    folder: Path
    shown: dict[str, tuple[Path, Path]]

    def connect(self, shown: str | None, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> smtplib.SMTP:
        context = self.daemon.tls_context()
        context.maximum_version = version
        if shown is not None:
            context.load_cert_chain(*self.shown[shown])
        smtp = smtplib.SMTP("localhost", self.daemon.ports["smtp"], timeout=60)
        smtp.starttls(context=context)
        smtp.ehlo()
        return smtp

    def send(self, smtp: smtplib.SMTP, sender: str, *, author: str | None = None, to: str | None = None) -> str:
        """``taken``, or the refusal."""
        content = make_mail("hello", to=self.account.address).replace(
            b"bob@partner.example", (author or sender).encode()
        )
        try:
            smtp.sendmail(sender, [to or self.account.address], content)
        except smtplib.SMTPRecipientsRefused as refused:
            code, text = next(iter(refused.recipients.values()))
            return f"{code} {text.decode()}"
        except smtplib.SMTPDataError as refused:
            return f"{refused.smtp_code} {refused.smtp_error.decode()}"
        return "taken"


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    folder = tmp_path_factory.mktemp("gated")
    root, client = tls_support.authority("a root"), (tls_support.CLIENT,)
    root.write_pem(folder, "root")
    middle = root.issue(is_authority=True, common_name="between", sends_authority=False)
    old = {"start": timedelta(days=-30), "end": timedelta(days=-3)}
    pinned = tls_support.self_signed("mail.pinned.example", purposes=(tls_support.SERVER,), **old)
    certificates: dict[str, tls_support.Certified] = {
        "pinned": pinned,
        "issued": middle.issue("mail.issued.example", purposes=client),
        "stranger": tls_support.authority("another root").issue("mail.issued.example", purposes=client),
    }
    shown = {name: one.write(folder, name) for name, one in certificates.items()}
    tables = (
        f'[[partner]]\ndomain = "pinned.example"\npins = ["{base64.b64encode(pinned.pin).decode()}"]\n'
        f'[[partner]]\ndomain = "issued.example"\nca = "{folder}/root.pem"\nsubdomains = true\n'
        '[[partner]]\ndomain = "far.example"\nnetworks = ["192.0.2.0/24"]\n'
        f'[[partner]]\ndomain = "later.example"\nca = "{folder}/root.pem"\nfrom = 2999-01-01\n'
    )
    with Daemon(folder / "daemon", tables=tables) as daemon:
        yield Gated(daemon, daemon.add_user("ann"), folder, shown)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("shown", "sender", "answer"),
    [
        ("pinned", "bob@pinned.example", "taken"),
        ("issued", "bob@issued.example", "taken"),
        ("issued", "bob@sub.issued.example", "taken"),
        (None, "bob@later.example", "taken"),
        (None, "bob@stranger.example", "taken"),
        ("stranger", "bob@stranger.example", "taken"),
        (None, "", "taken"),
        ("issued", "bob@pinned.example", "550 5.7.1 Mail from pinned.example needs its client certificate: the key"),
        (None, "bob@pinned.example", "550 5.7.1 Mail from pinned.example needs its client certificate: none was shown"),
        ("stranger", "bob@issued.example", "550 5.7.1 Mail from issued.example needs its client certificate: the one"),
        (None, "bob@far.example", "550 5.7.1 Mail from far.example is not taken from 127.0.0.1"),
    ],
)
def test_who_may_write_for_a_partner(
    gated: Gated, version: ssl.TLSVersion, shown: str | None, sender: str, answer: str
) -> None:
    with gated.connect(shown, version=version) as smtp:
        author = sender or "bounces@stranger.example"
        assert gated.send(smtp, sender, author=author).startswith(answer)


def test_a_partner_in_clear_reaches_the_postmaster_alone(gated: Gated) -> None:
    with smtplib.SMTP("localhost", gated.daemon.ports["smtp"], timeout=60) as smtp:
        assert gated.send(smtp, "bob@pinned.example").startswith("530 5.7.0 ")
        assert gated.send(smtp, "bob@pinned.example", to="postmaster@example.com") == "taken"


def test_a_partners_name_in_from_is_not_to_be_had_either(gated: Gated) -> None:
    with gated.connect(None) as smtp:
        answer = gated.send(smtp, "thief@stranger.example", author="boss@pinned.example")
        assert answer.startswith("550 5.7.1 From: Mail from pinned.example needs its client certificate")
    with gated.connect(None) as smtp:
        assert gated.send(smtp, "bob@later.example") == "taken"
    with gated.connect("pinned") as smtp:
        assert gated.send(smtp, "lists@stranger.example", author="boss@pinned.example") == "taken"
    log = gated.daemon.log.read_text()
    assert "mail in the name of partner pinned.example is refused" in log
    assert "mail in the name of partner later.example would be refused from 2999-01-01: 550" in log
    assert "thief@" not in log
    assert "boss@" not in log


def test_known_servers_may_send_the_largest_messages(gated: Gated) -> None:
    for shown, size in ((None, 150 << 20), ("stranger", 150 << 20), ("pinned", 3 << 30), ("issued", 3 << 30)):
        with gated.connect(shown) as smtp:
            assert smtp.esmtp_features["size"] == str(size)


def test_a_network_is_enough_where_nothing_else_is_set(tmp_path: Path) -> None:
    table = '[[partner]]\ndomain = "near.example"\nnetworks = ["127.0.0.0/8"]\n'
    with Daemon(tmp_path / "near", tables=table) as daemon:
        near = Gated(daemon, daemon.add_user("ann"), tmp_path, {})
        with near.connect(None) as smtp:
            assert smtp.esmtp_features["size"] == str(3 << 30)
            assert near.send(smtp, "bob@near.example") == "taken"


def test_openssl_is_asked_for_a_certificate_only_by_who_needs_one(gated: Gated, program: Callable[[str], str]) -> None:
    def asked(port: str) -> bool:
        words = (
            program("openssl"),
            "s_client",
            "-connect",
            f"127.0.0.1:{gated.daemon.ports[port]}",
            "-starttls",
            "smtp",
        )
        done = subprocess.run(words, input=b"QUIT\r\n", capture_output=True, timeout=60, check=False)
        assert b"CONNECTED" in done.stdout
        return b"Requested Signature Algorithms" in done.stdout

    assert asked("smtp")
    assert not asked("submission")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(("port", "is_resumed"), [("submission", True), ("smtp", False)])
def test_a_session_is_not_resumed_where_a_chain_must_be_seen(
    gated: Gated, program: Callable[[str], str], tmp_path: Path, version: str, port: str, is_resumed: bool
) -> None:
    chain, key = gated.shown["issued"]
    session = tmp_path / "session"
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{gated.daemon.ports[port]}", "-starttls", "smtp"]
    command += [version, "-cert", str(chain), "-cert_chain", str(chain), "-key", str(key)]

    def connect(*words: str) -> bytes:
        given = b"EHLO x\r\nQUIT\r\n"
        return subprocess.run([*command, *words], input=given, capture_output=True, timeout=60, check=False).stdout

    assert b"New, TLSv1" in connect("-ign_eof", "-sess_out", str(session))
    again = session.exists() and b"Reused, TLSv1" in connect("-ign_eof", "-sess_in", str(session))
    assert again == is_resumed


def test_postfix_shows_its_certificate(gated: Gated, tmp_path: Path) -> None:
    chain, key = gated.shown["issued"]
    copies = tmp_path / "chain.pem", tmp_path / "key.pem"
    for copy, file in zip(copies, (chain, key), strict=True):
        copy.write_bytes(file.read_bytes())
    settings = (f"smtp_tls_cert_file = {copies[0]}", f"smtp_tls_key_file = {copies[1]}")
    with running_postfix(gated.daemon, *settings) as postfix:
        content = make_mail("by Postfix, with a certificate", to=gated.account.address)
        postfix.send("bob@issued.example", content, gated.account.address)
        postfix.await_log("status=sent")
    assert any(b"by Postfix, with a certificate" in one for one in read_all(gated.daemon, gated.account))
