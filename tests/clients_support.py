"""What the tests with real clients share: sending a message in, running a program, reading a mailbox by imaplib."""

import email.message
import email.policy
import imaplib
import os
import re
import smtplib
import subprocess
import threading
import time
from pathlib import Path

from daemon import Account, Daemon

SENDER = "bob@partner.example"
ABSORB_TIME_S = 60


def make_mail(subject: str, body: str = "Hello from a partner.\r\n", *, to: str) -> bytes:
    """A small complete message with CRLF line ends."""
    message = email.message.EmailMessage(email.policy.SMTP)
    message["From"] = SENDER
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = "Mon, 23 Nov 2026 12:00:00 +0000"
    message["Message-ID"] = f"<{abs(hash((subject, to)))}@partner.example>"
    message.set_content(body)
    return message.as_bytes()


def deliver(daemon: Daemon, to: str, *contents: bytes) -> None:
    """Deliver to port 25 over verified STARTTLS, as another server would."""
    with smtplib.SMTP("localhost", daemon.ports["smtp"], timeout=60) as smtp:
        smtp.starttls(context=daemon.tls_context())
        for content in contents:
            smtp.sendmail(SENDER, [to], content)


def log_in(daemon: Daemon, account: Account) -> imaplib.IMAP4_SSL:
    """An IMAP session of the standard library."""
    imap = imaplib.IMAP4_SSL("localhost", daemon.ports["imaps"], ssl_context=daemon.tls_context(), timeout=60)
    imap.login(account.address, account.password)
    return imap


def read_all(daemon: Daemon, account: Account, folder: str = "INBOX", *, at_least: int = 0) -> list[bytes]:
    """Every message of a folder, whole; of very many arrivals, once ``at_least`` so many are absorbed."""
    with log_in(daemon, account) as imap:
        status, answer = imap.select(folder, readonly=True)
        assert status == "OK", answer
        count = int(answer[0])
        deadline = time.monotonic() + ABSORB_TIME_S
        while count < at_least and time.monotonic() < deadline:
            imap.noop()
            # Waits at the server for what is being absorbed.
            count = max([count, *[int(number) for number in imap.response("EXISTS")[1] if number]])
        if not count:
            return []
        status, found = imap.fetch("1:*", "(BODY.PEEK[])")
        assert status == "OK", found
        return [item[1] for item in found if isinstance(item, tuple)]


def run(*words: str, home: Path, stdin: bytes = b"", timeout_s: float = 120, ok: tuple[int, ...] = (0,)) -> str:
    """A client's output, with ``home`` as its home folder; fails the test unless its exit status is in ``ok``."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"] + ":/usr/sbin", "TERM": "dumb", "LANG": "C.UTF-8"}
    done = subprocess.run(
        words, input=stdin, capture_output=True, timeout=timeout_s, env=environment, cwd=home, check=False
    )
    text = done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
    assert done.returncode in ok, f"{words[0]}: exit {done.returncode}: {text}"
    return text


def load(daemon: Daemon, to: str, prefix: str, done: list[str], tried: list[str], stop: threading.Event) -> None:
    """Deliver until told to stop or the daemon dies; a client that never re-sends."""
    try:
        with smtplib.SMTP("localhost", daemon.ports["smtp"], timeout=30) as smtp:
            smtp.starttls(context=daemon.tls_context())
            number = 0
            while not stop.is_set():
                name = f"{prefix}.{number}"
                number += 1
                tried.append(name)
                smtp.sendmail("bob@partner.example", [to], make_mail(f"k {name} k", "x" * 70 + "\r\n", to=to))
                done.append(name)
    except (smtplib.SMTPException, OSError):
        pass  # killed under it: the last of `tried` is unanswered


def check_found(daemon: Daemon, account: Account, done: list[str], tried: list[str]) -> list[str]:
    """The messages there: each that was answered, exactly once, and none that nobody sent."""
    contents = read_all(daemon, account, at_least=len(done))
    found = [re.search(rb"Subject: k (\S+) k", one).group(1).decode() for one in contents]  # type: ignore[union-attr]
    assert len(found) == len(set(found)), "a message is there twice"
    assert set(done) <= set(found), f"lost: {sorted(set(done) - set(found))}"
    assert set(found) <= set(tried)
    return found
