"""The SMTP listeners over real sockets and verified TLS: smtplib and swaks against `smtp_daemon.py`."""

import json
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MESSAGE = b"From: Bob <bob@partner.example>\r\nTo: ann@example.com\r\nSubject: hi\r\n\r\nHello.\r\n"
OWN = MESSAGE.replace(b"bob@partner.example", b"bob@example.com")


@dataclass
class Live:
    process: "subprocess.Popen[str]"
    ports: dict[str, int]
    ca: str
    folder: Path

    def count(self, name: str) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(json.loads(self.process.stdout.readline())[name])

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    def inbound(self, *, starttls: bool = True) -> smtplib.SMTP:
        smtp = smtplib.SMTP("localhost", self.ports["smtp"], timeout=30)
        if starttls:
            smtp.starttls(context=self.context())
        return smtp


@pytest.fixture(scope="module", params=["memory", "lmdb"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("smtp")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "smtp_daemon.py"), str(folder), request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        cwd=folder,
    )
    assert process.stdout is not None
    known = json.loads(process.stdout.readline())
    yield Live(process, known["ports"], known["ca"], folder)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_starttls_delivery(live: Live) -> None:
    before = live.count("ann")
    with live.inbound() as smtp:
        for _ in range(3):
            smtp.sendmail("bob@partner.example", ["ann@example.com", "bob@example.com"], MESSAGE)
        assert smtp.esmtp_features["size"] == str(150 << 20)
    assert live.count("ann") == before + 3
    log = (live.folder / "log").read_text()
    assert "accepted" in log
    assert "bob@" not in log
    assert "ann@" not in log


def test_mail_in_clear_is_refused_but_for_the_postmaster(live: Live) -> None:
    with live.inbound(starttls=False) as smtp:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            smtp.sendmail("bob@partner.example", ["ann@example.com"], MESSAGE)
        assert caught.value.recipients["ann@example.com"][0] == 530
        smtp.sendmail("bob@partner.example", ["postmaster@example.com"], MESSAGE)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_submission(live: Live, listener: str, mechanism: str) -> None:
    before = live.count("ann")
    if listener == "submissions":
        smtp = smtplib.SMTP_SSL("localhost", live.ports[listener], context=live.context(), timeout=30)
    else:
        smtp = smtplib.SMTP("localhost", live.ports[listener], timeout=30)
        smtp.starttls(context=live.context())
    with smtp:
        smtp.ehlo()
        smtp.user, smtp.password = "bob@example.com", "secret"
        code, _ = smtp.auth(mechanism, getattr(smtp, f"auth_{mechanism.lower()}"))
        assert code == 235
        smtp.sendmail("bob@example.com", ["ann@example.com"], OWN)
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="other domains"):
            smtp.sendmail("bob@example.com", ["x@elsewhere.example"], OWN)
        with pytest.raises(smtplib.SMTPDataError, match="not your address"):
            smtp.sendmail("bob@example.com", ["ann@example.com"], MESSAGE)
        with pytest.raises(smtplib.SMTPSenderRefused):
            smtp.sendmail("ann@example.com", ["ann@example.com"], OWN)
    assert live.count("ann") == before + 1


def test_a_wrong_password_is_refused(live: Live) -> None:
    with smtplib.SMTP_SSL("localhost", live.ports["submissions"], context=live.context(), timeout=30) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            smtp.login("bob@example.com", "wrong")
        assert caught.value.smtp_code in (535, 421)


def test_commands_injected_behind_starttls_close_the_connection(live: Live) -> None:
    with socket.create_connection(("localhost", live.ports["smtp"]), timeout=30) as raw:
        assert raw.recv(1000).startswith(b"220")
        raw.sendall(b"STARTTLS\r\nRCPT TO:<ann@example.com>\r\n")
        assert raw.recv(1000) == b""


def test_clear_text_instead_of_a_handshake_closes_the_connection(live: Live) -> None:
    with socket.create_connection(("localhost", live.ports["smtp"]), timeout=30) as raw:
        assert raw.recv(1000).startswith(b"220")
        raw.sendall(b"STARTTLS\r\n")
        assert raw.recv(1000).startswith(b"220")
        raw.sendall(b"EHLO injected\r\nMAIL FROM:<x@y.example>\r\n")
        said = b""
        while piece := raw.recv(1000):
            said += piece
        assert b"250" not in said


def test_a_message_of_20_mib_streams(live: Live) -> None:
    before = live.count("ann")
    with live.inbound() as smtp:
        smtp.sendmail("bob@partner.example", ["ann@example.com"], MESSAGE + (b"x" * 76 + b"\r\n") * 270_000)
    assert live.count("ann") == before + 1


def test_disconnect_within_data_leaves_nothing(live: Live) -> None:
    before = live.count("ann")
    smtp = live.inbound()
    smtp.ehlo()
    smtp.mail("bob@partner.example")
    smtp.rcpt("ann@example.com")
    assert smtp.docmd("DATA")[0] == 354
    smtp.send(MESSAGE * 1000)
    smtp.close()
    with live.inbound() as other:
        assert other.noop()[0] == 250
    assert live.count("ann") == before


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize(
    "words",
    [
        ["--port", "smtp", "--tls"],
        ["--port", "smtp", "--tls", "--pipeline"],
        ["--port", "submission", "--tls", "--auth", "PLAIN", "--from", "bob@example.com"],
        ["--port", "submissions", "--tls-on-connect", "--auth", "LOGIN", "--from", "bob@example.com"],
    ],
)
def test_swaks(live: Live, words: list[str], tmp_path: Path) -> None:
    before = live.count("ann")
    words = [str(live.ports.get(word, word)) for word in words]
    words += ["--auth-user", "bob@example.com", "--auth-password", "secret"] if "--auth" in words else []
    words += [] if "--from" in words else ["--from", "bob@partner.example"]
    done = subprocess.run(
        [
            "swaks",
            "--server",
            "localhost",
            "--to",
            "ann@example.com",
            *words,
            "--tls-verify",
            "--tls-ca-path",
            live.ca,
            "--body",
            "café",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert live.count("ann") == before + 1
