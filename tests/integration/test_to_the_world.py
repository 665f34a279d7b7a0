"""Members write to another server, a real Postfix, and read in their INBOX what became of it."""

import email
import imaplib
import shutil
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from email.policy import default
from pathlib import Path

import pytest
from daemon import Account, Daemon
from postfix import why_not
from sink import DOMAIN, Sink

PATIENCE_S = 40
QUICK = '[outbound]\nretry = "1s"\nlongest_retry = "2s"\nwarn_after = "1s"\ndelay_after = "1h"\n'
ACCESS = f"gone@{DOMAIN} 550 5.1.1 No such user, see https://help.example/5.1.1\n"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short one: Postfix's sockets lie below."""
    if reason := why_not():
        pytest.skip(reason)
    made = Path(tempfile.mkdtemp(prefix="world", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def sink(folder: Path) -> Iterator[Sink]:
    (folder / "access").write_text(ACCESS)
    settings = (
        "smtpd_discard_ehlo_keywords = dsn",
        f"smtpd_recipient_restrictions = check_recipient_access texthash:{folder}/access, permit",
    )
    with Sink(folder / "sink", settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def house(folder: Path, sink: Sink) -> Iterator[Daemon]:
    # The same server under another name, which his certificate does not have; and one that asks for too much.
    other = sink.partner().replace(DOMAIN, "wrong.example").replace('["localhost"]', '["mail.wrong.example"]')
    with Daemon(folder / "daemon", tables=QUICK + sink.partner() + other) as running:
        yield running


@pytest.fixture
def ann(house: Daemon) -> Account:
    return house.add_user(f"ann{time.monotonic_ns()}")


@contextmanager
def submission(daemon: Daemon, account: Account) -> Iterator[smtplib.SMTP_SSL]:
    port = daemon.ports["submissions"]
    with smtplib.SMTP_SSL("localhost", port, context=daemon.tls_context(), timeout=60) as client:
        client.login(account.address, account.password)
        yield client


def inbox(daemon: Daemon, account: Account) -> list[Message]:
    with imaplib.IMAP4_SSL("localhost", daemon.ports["imaps"], ssl_context=daemon.tls_context(), timeout=60) as client:
        client.login(account.address, account.password)
        client.select("INBOX", readonly=True)
        (numbers,) = client.search(None, "ALL")[1]
        return [
            email.message_from_bytes(client.fetch(number, "(BODY.PEEK[])")[1][0][1], policy=default)
            for number in numbers.decode().split()
        ]


def until(holds: Callable[[], object], daemon: Daemon) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, daemon.log.read_text()[-3000:]
        time.sleep(0.1)  # another program's file gives no event to wait on


def came(sink: Sink, word: str) -> str:
    """The message with this word at the sink, or nothing yet."""
    path = sink.folder / "mail" / "all"
    box = path.read_text(errors="replace") if path.exists() else ""
    return next((one for one in box.split("\nFrom ") if word in one), "")


def content(sender: Account, word: str, *to: str) -> bytes:
    fields = {"From": sender.address, "To": ", ".join(to), "Bcc": f"hidden@{DOMAIN}", "Subject": word}
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode() + b"\r\nHello.\r\n"


def words_of(message: Message) -> str:
    return " ".join(message.get_payload(0).get_content().split())


def status_of(message: Message) -> dict[str, str]:
    return {name: str(value) for name, value in message.get_payload(1).get_payload(1).items()}


def test_one_submission_for_here_and_for_there(house: Daemon, sink: Sink, ann: Account) -> None:
    bob = house.add_user("bob")
    with submission(house, ann) as client:
        to = [bob.address, f"dan@{DOMAIN}", f"hidden@{DOMAIN}"]
        assert client.sendmail(ann.address, to, content(ann, "both", *to[:2])) == {}
    assert [message["Subject"] for message in inbox(house, bob)] == ["both"]
    until(lambda: came(sink, "Subject: both"), house)
    text = came(sink, "Subject: both")
    assert "hidden" not in text.replace("X-Original-To: hidden", "").replace("Delivered-To: hidden", "")
    assert (
        "with ESMTPSA" in text and "127.0.0.1]) by" not in text.partition("with ESMTPSA")[0].rpartition("Received")[2]
    )
    assert "Message-ID:" in text or "Message-Id:" in text
    until(lambda: house.command("queue", "list") == "The queue is empty.\n", house)
    assert inbox(house, ann) == []


def test_a_bounce_is_read_in_the_inbox(house: Daemon, ann: Account) -> None:
    with submission(house, ann) as client:
        client.ehlo()
        client.mail(ann.address, ["ENVID=Q+2B1"])
        client.rcpt(f"gone@{DOMAIN}", [f"ORCPT=rfc822;Gone@{DOMAIN}"])
        assert client.data(content(ann, "lost", f"gone@{DOMAIN}"))[0] == 250
    until(lambda: inbox(house, ann), house)
    (bounce,) = inbox(house, ann)
    assert bounce["Return-Path"] == "<>" and bounce["Auto-Submitted"] == "auto-replied"
    assert bounce["Subject"] == f"Not delivered: your message to gone@{DOMAIN}"
    words = words_of(bounce)
    assert "look for a typing mistake" in words and "Its subject is: lost" in words
    status = status_of(bounce)
    assert (status["Action"], status["Status"]) == ("failed", "5.1.1")
    assert status["Original-Recipient"] == f"rfc822; Gone@{DOMAIN}"
    assert "No such user, see [link left out]" in status["Diagnostic-Code"]
    assert "://" not in words + str(status)
    assert "hidden" not in bounce.as_string()


def test_success_is_reported_where_it_is_asked_for(house: Daemon, sink: Sink, ann: Account) -> None:
    bob = house.add_user("robert")
    with submission(house, ann) as client:
        client.ehlo()
        client.mail(ann.address)
        client.rcpt(f"dan@{DOMAIN}", ["NOTIFY=SUCCESS"])
        client.rcpt(bob.address, ["NOTIFY=SUCCESS,FAILURE"])
        assert client.data(content(ann, "told", f"dan@{DOMAIN}"))[0] == 250
    until(lambda: len(inbox(house, ann)) == 2, house)
    delivered, relayed = sorted(inbox(house, ann), key=lambda message: message["Subject"])
    assert delivered["Subject"] == f"Delivered: your message to {bob.address}"
    assert status_of(delivered)["Action"] == "delivered"
    assert status_of(relayed)["Action"] == "relayed"
    assert "encrypted by TLSv1.3, and the server proved who it is" in words_of(relayed)


def test_a_destination_that_proves_nothing_is_told_of_early(house: Daemon, sink: Sink, ann: Account) -> None:
    with submission(house, ann) as client:
        for _ in range(2):
            assert client.sendmail(ann.address, ["dan@wrong.example"], content(ann, "unproven")) == {}
    until(lambda: inbox(house, ann), house)
    (warning,) = inbox(house, ann)
    assert warning["Subject"] == "Held back: your message to dan@wrong.example"
    words = words_of(warning)
    assert "Nothing was sent in clear" in words
    status = status_of(warning)
    assert status["Action"] == "delayed" and status["Status"].startswith("4.7.")
    assert not came(sink, "Subject: unproven")
    for line in house.command("queue", "list", "--json").splitlines():
        assert "Hello" not in line


def test_a_server_without_requiretls_gets_nothing_that_demands_it(house: Daemon, sink: Sink, ann: Account) -> None:
    with submission(house, ann) as client:
        client.ehlo()
        assert client.mail(ann.address, ["REQUIRETLS"])[0] == 250
        assert client.rcpt(f"dan@{DOMAIN}")[0] == 250
        assert client.data(content(ann, "strict"))[0] == 250
    until(lambda: inbox(house, ann), house)
    (bounce,) = inbox(house, ann)
    assert status_of(bounce)["Status"] == "5.7.30"
    assert not came(sink, "Subject: strict")


def test_what_is_to_be_held_comes_to_all_when_its_time_has_come(house: Daemon, sink: Sink, ann: Account) -> None:
    bob = house.add_user("rob")
    with submission(house, ann) as client:
        client.ehlo()
        assert "futurerelease" in client.esmtp_features
        sent = time.time()
        assert client.mail(ann.address, ["HOLDFOR=3"])[0] == 250
        for to in (f"dan@{DOMAIN}", bob.address):
            assert client.rcpt(to, ["NOTIFY=SUCCESS"])[0] == 250
        assert client.data(content(ann, "later"))[0] == 250
    assert not came(sink, "Subject: later") and not inbox(house, bob)
    until(lambda: came(sink, "Subject: later") and inbox(house, bob), house)
    assert time.time() - sent >= 3
    (message,) = inbox(house, bob)
    assert message["Subject"] == "later" and message["Return-Path"] == f"<{ann.address}>"
    until(lambda: len(inbox(house, ann)) == 2, house)
    assert {status_of(report)["Action"] for report in inbox(house, ann)} == {"delivered", "relayed"}


def test_swaks_submits_a_large_message(
    house: Daemon, sink: Sink, ann: Account, program: Callable[[str], str], tmp_path: Path
) -> None:
    body = tmp_path / "body.eml"
    line = b"%064d\r\n"
    body.write_bytes(content(ann, "large") + b"".join(line % number for number in range(100_000)))
    done = subprocess.run(
        [
            program("swaks"), "--server", "localhost", "--port", str(house.ports["submission"]), "--tls",
            "--auth", "PLAIN", "--auth-user", ann.address, "--auth-password", ann.password,
            "--from", ann.address, "--to", f"dan@{DOMAIN}", "--data", f"@{body}",
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    until(lambda: came(sink, "Subject: large"), house)
    text = came(sink, "Subject: large")
    assert all(f"{number:064d}" in text for number in (0, 50_000, 99_999))
