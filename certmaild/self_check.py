"""The running daemon tried from outside, as a client would use it: the steps behind `certmaild check`.

Standard-library clients over verified TLS, so that a mistake in our own code cannot hide one in the server.
"""

import imaplib
import poplib
import secrets
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from typing import Any

TIMEOUT_S = 30
ARRIVAL_S = 15
"""How long a message that got its 250 may take until IMAP shows it."""
BODY_OCTETS = 20_000


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where the daemon listens; a port of None is off. ``hostname`` is what its certificate must say."""

    address: str
    hostname: str
    tls: ssl.SSLContext
    imaps: int | None = None
    pop3s: int | None = None
    smtp: int | None = None
    submission: int | None = None
    submissions: int | None = None
    https: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing tried. ``problem`` is empty when it worked."""

    name: str
    seconds: float
    problem: str = ""


class CheckFailed(Exception):
    """A step gave another result than it must."""


class _Smtp(smtplib.SMTP):
    """Connects to an address, verifies another name."""

    def __init__(self, address: str, port: int, hostname: str) -> None:
        super().__init__(timeout=TIMEOUT_S)
        self._host = hostname
        self.connect(address, port)


class _SmtpTls(smtplib.SMTP_SSL):
    def __init__(self, address: str, port: int, hostname: str, context: ssl.SSLContext) -> None:
        super().__init__(timeout=TIMEOUT_S, context=context)
        self._host = hostname
        self.connect(address, port)


class _Imap(imaplib.IMAP4_SSL):
    def __init__(self, at: Listeners, port: int) -> None:
        self._at = at
        super().__init__(at.address, port, ssl_context=at.tls, timeout=TIMEOUT_S)

    def _create_socket(self, timeout: float | None) -> ssl.SSLSocket:
        sock = socket.create_connection((self._at.address, self.port), timeout)
        return self._at.tls.wrap_socket(sock, server_hostname=self._at.hostname)


class _Pop(poplib.POP3_SSL):
    def __init__(self, at: Listeners, port: int) -> None:
        self._at = at
        super().__init__(at.address, port, timeout=TIMEOUT_S, context=at.tls)

    def _create_socket(self, timeout: float) -> socket.socket:
        sock = socket.create_connection((self._at.address, self.port), timeout)
        return self._at.tls.wrap_socket(sock, server_hostname=self._at.hostname)


def make_message(sender: str, recipient: str) -> bytes:
    """A complete message with a body that no other has; CRLF line ends, ASCII only."""
    message = EmailMessage(SMTP)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = "certmaild check"
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = f"<{secrets.token_hex(16)}@check.invalid>"
    message.set_content(secrets.token_hex(BODY_OCTETS // 2), cte="base64")
    return message.as_bytes()


def run_check(at: Listeners, address: str, password: str) -> Iterator[Step]:
    """Try every listener that is on with this account, one `Step` after the other; after a problem, no further.

    ``address`` should be an account made for this: its INBOX is emptied.
    """
    sent: list[bytes] = []
    for name, work in _plan(at, address, password, sent):
        begun = time.perf_counter()
        try:
            work()
        except ConnectionRefusedError:
            yield Step(name, time.perf_counter() - begun, "nobody listens there; start the daemon, or read its log")
            return
        except (OSError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto, CheckFailed) as problem:
            yield Step(name, time.perf_counter() - begun, words_of(problem))
            return
        yield Step(name, time.perf_counter() - begun)


def words_of(problem: Exception) -> str:
    """What a server answered, or what else went wrong."""
    code: int
    text: bytes | str
    if isinstance(problem, smtplib.SMTPRecipientsRefused):
        code, text = next(iter(problem.recipients.values()))
    elif isinstance(problem, smtplib.SMTPResponseException):
        code, text = problem.smtp_code, problem.smtp_error
    else:
        return str(problem) or type(problem).__name__
    return f"it answers {code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"


def _plan(at: Listeners, address: str, password: str, sent: list[bytes]) -> Iterator[tuple[str, Callable[[], None]]]:
    """The steps, those of listeners that are off left out."""
    for name, port, implicit in (
        ("submission: STARTTLS, AUTH, submit", at.submission, False),
        ("submissions: TLS, AUTH, submit", at.submissions, True),
    ):
        if port is not None:
            yield name, lambda port=port, implicit=implicit: _submit(at, port, implicit, address, password, sent)  # type: ignore[misc]
    if at.smtp is not None:
        smtp = at.smtp
        yield "smtp: STARTTLS, deliver", lambda: _deliver(at, smtp, address, sent)
    if at.pop3s is not None:
        pop3s = at.pop3s
        yield "pop3s: log in, read, compare", lambda: _read_by_pop(at, pop3s, address, password, sent)
    if at.imaps is not None:
        imaps = at.imaps
        yield "imaps: log in, read, compare", lambda: _read_by_imap(at, imaps, address, password, sent)
        yield "imaps: delete, expunge", lambda: _delete(at, imaps, address, password)
    if at.https is not None:
        https = at.https
        yield "https: fetch Autoconfig", lambda: _fetch(at, https, address.rpartition("@")[2])


def _submit(at: Listeners, port: int, implicit: bool, address: str, password: str, sent: list[bytes]) -> None:
    with _SmtpTls(at.address, port, at.hostname, at.tls) if implicit else _Smtp(at.address, port, at.hostname) as smtp:
        if not implicit:
            smtp.starttls(context=at.tls)
        smtp.login(address, password)
        content = make_message(address, address)
        smtp.sendmail(address, [address], content)
    sent.append(content)


def _deliver(at: Listeners, port: int, address: str, sent: list[bytes]) -> None:
    with _Smtp(at.address, port, at.hostname) as smtp:
        smtp.starttls(context=at.tls)
        content = make_message("check@check.invalid", address)
        smtp.sendmail("", [address], content)
    sent.append(content)


def _compare(found: list[bytes], sent: list[bytes]) -> None:
    """Each message sent is found once, unchanged below the trace fields that the server puts on top."""
    missing = [content for content in sent if sum(one.endswith(content) for one in found) != 1]
    if missing or len(found) != len(sent):
        raise CheckFailed(f"{len(sent)} sent, {len(found)} found, {len(missing)} of them not found unchanged")


def _read_by_pop(at: Listeners, port: int, address: str, password: str, sent: list[bytes]) -> None:
    pop = _Pop(at, port)
    try:
        pop.user(address)
        pop.pass_(password)
        count = pop.stat()[0]
        found = [b"".join(line + b"\r\n" for line in pop.retr(n)[1]) for n in range(1, count + 1)]
    finally:
        with suppress(OSError, poplib.error_proto):
            pop.quit()
    _compare(found, sent)


def _read_by_imap(at: Listeners, port: int, address: str, password: str, sent: list[bytes]) -> None:
    with _Imap(at, port) as imap:
        imap.login(address, password)
        count = int(_ok(imap.select("INBOX", readonly=True))[0])
        give_up = time.monotonic() + ARRIVAL_S
        while count < len(sent) and time.monotonic() < give_up:
            time.sleep(0.05)
            _ok(imap.noop())
            count = max([count, *(int(one) for one in imap.response("EXISTS")[1] if one)])
        parts = _ok(imap.fetch("1:*", "(BODY.PEEK[])")) if count else []
        _compare([part[1] for part in parts if isinstance(part, tuple)], sent)


def _delete(at: Listeners, port: int, address: str, password: str) -> None:
    with _Imap(at, port) as imap:
        imap.login(address, password)
        if int(_ok(imap.select("INBOX"))[0]):
            _ok(imap.store("1:*", "+FLAGS.SILENT", "(\\Deleted)"))
            _ok(imap.expunge())
        if int(_ok(imap.select("INBOX"))[0]):
            raise CheckFailed("messages are left after EXPUNGE")


def _fetch(at: Listeners, port: int, domain: str) -> None:
    """As Thunderbird does: the certificate must be for the name that it fetches from."""
    host = f"autoconfig.{domain}"
    request = f"GET /mail/config-v1.1.xml HTTP/1.1\r\nHost: {host}\r\n\r\n"
    named = host if "." in domain else at.hostname
    with (
        socket.create_connection((at.address, port), TIMEOUT_S) as raw,
        at.tls.wrap_socket(raw, server_hostname=named) as line,
    ):
        line.sendall(request.encode("ascii"))
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    if not answer.startswith(b"HTTP/1.1 200 ") or f"<hostname>{at.hostname}<".encode("ascii") not in answer:
        first = answer.split(b"\r", 1)[0].decode("ascii", "replace")
        raise CheckFailed(f"it answers {first or 'nothing'}")


def _ok(answer: tuple[str, Any]) -> list[Any]:
    status, found = answer
    if status != "OK":
        raise CheckFailed(f"the server answered {status}")
    return list(found)
