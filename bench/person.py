"""Somebody with a mail program made of the standard library: submits, reads by IMAP and by POP3, and waits in IDLE."""

import email
import imaplib
import poplib
import re
import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP, default

from server import Account, Server

PATIENCE_S = 20
PICKUP_CODE = re.compile(r"\b(?:[0-9A-HJKMNP-TV-Z]{4}-){4}[0-9A-HJKMNP-TV-Z]\b")
"""Four groups of four letters and a check letter."""
DEVICE_PASSWORD = re.compile(r"\b(?:[0-9A-HJKMNP-TV-Z]{4}-){7}[0-9A-HJKMNP-TV-Z]{4}\b")
"""Eight groups of four letters; recovery codes look the same."""
Wanted = Callable[[EmailMessage], object]


class NotThere(AssertionError):
    """What was waited for did not come."""


def text_of(message: EmailMessage) -> str:
    """Its first text part, lines ended by line feeds."""
    part = message.get_body(("plain",))
    return "" if part is None else str(part.get_content()).replace("\r\n", "\n")


def reply_to(message: EmailMessage, subject: str = "") -> dict[str, str]:
    """The fields with which mail programs tie an answer to a message."""
    number = str(message["Message-ID"])
    return {"Subject": subject or f"Re: {message['Subject']}", "In-Reply-To": number, "References": number}


@dataclass(frozen=True)
class Person:
    """``account`` at ``server``, each call on a connection of its own."""

    server: Server
    account: Account

    @property
    def address(self) -> str:
        return self.account.address

    def with_password(self, password: str) -> "Person":
        """The same one, elsewhere."""
        return Person(self.server, Account(self.account.address, password))

    # Writing.

    def submit(self, *to: str, body: str = "Hello.\n", sender: str = "", **fields: str) -> None:
        """Write to them; ``fields`` with ``_`` for ``-``. Raises what smtplib raises."""
        self.submit_octets(self.letter(*to, body=body, sender=sender, **fields), *to)

    def letter(self, *to: str, body: str = "Hello.\n", sender: str = "", **fields: str) -> bytes:
        """What `submit` sends."""
        message = EmailMessage(SMTP)
        message["From"] = sender or self.address
        message["To"] = ", ".join(to)
        for name, value in fields.items():
            message[name.replace("_", "-")] = value
        message.set_content(body)
        return message.as_bytes()

    def submit_octets(self, content: bytes, *to: str) -> None:
        """A message as it stands. Raises what smtplib raises, and `SMTPRecipientsRefused` if one of them is refused."""
        with self.submission() as client:
            refused = client.sendmail(self.address, list(to), content)
            if refused:
                raise smtplib.SMTPRecipientsRefused(refused)

    @contextmanager
    def submission(self) -> Iterator[smtplib.SMTP_SSL]:
        """A session, logged in."""
        port, context = self.server.ports["submissions"], self.server.tls_context()
        with smtplib.SMTP_SSL("localhost", port, context=context, timeout=PATIENCE_S) as client:
            client.login(self.account.address, self.account.password)
            yield client

    # Reading.

    @contextmanager
    def imap(self, folder: str = "") -> Iterator[imaplib.IMAP4_SSL]:
        """A session, logged in, with ``folder`` selected if one is named. Raises `imaplib.IMAP4.error`."""
        client = self.imap_connection()
        with client:
            client.login(self.account.address, self.account.password)
            if folder:
                select(client, folder)
            yield client

    def imap_connection(self) -> imaplib.IMAP4_SSL:
        """A connection, not logged in."""
        port, context = self.server.ports["imaps"], self.server.tls_context()
        return imaplib.IMAP4_SSL("localhost", port, ssl_context=context, timeout=PATIENCE_S)

    @contextmanager
    def pop3(self) -> Iterator[poplib.POP3_SSL]:
        """A session, logged in. Raises `poplib.error_proto`."""
        client = poplib.POP3_SSL(
            "localhost", self.server.ports["pop3s"], context=self.server.tls_context(), timeout=PATIENCE_S
        )
        try:
            client.user(self.account.address)
            client.pass_(self.account.password)
            yield client
            client.quit()
        finally:
            client.close()

    def messages(self, folder: str = "INBOX") -> list[EmailMessage]:
        """All of a folder, without marking them."""
        with self.imap(folder) as client:
            return fetch_all(client)

    def messages_by_pop3(self) -> list[EmailMessage]:
        """All that POP3 shows."""
        with self.pop3() as client:
            count = len(client.list()[1])
            return [_parsed(b"\r\n".join(client.retr(number)[1])) for number in range(1, count + 1)]

    def folders(self) -> list[str]:
        """Names of all."""
        with self.imap() as client:
            lines = [line for line in client.list()[1] if isinstance(line, bytes)]
        return [line.rpartition(b' "/" ')[2].decode().strip('"') for line in lines]

    def wait_for(self, wanted: Wanted, folder: str = "INBOX", *, within_s: float = PATIENCE_S) -> EmailMessage:
        """The first message of a folder that is wanted; waits in IDLE until it comes. Raises `NotThere`."""
        give_up = time.monotonic() + within_s
        while folder not in self.folders():
            if time.monotonic() > give_up:
                raise NotThere(f"{self.address} has no folder {folder}")
            time.sleep(0.02)  # nobody is told of a new folder
        with self.imap(folder) as client:
            while True:
                for message in (messages := fetch_all(client)):
                    if wanted(message):
                        return message
                left = give_up - time.monotonic()
                if left <= 0 or not idle(client, left):
                    raise NotThere(f"{self.address} has in {folder}: {[str(one['Subject']) for one in messages]}")

    def remove(self, wanted: Wanted, folder: str) -> float:
        """Delete the one wanted message of a folder, as a mail program does; when EXPUNGE was said (monotonic)."""
        with self.imap() as client:
            select(client, folder, writable=True)
            numbers = [number for number, one in enumerate(fetch_all(client), 1) if wanted(one)]
            if len(numbers) != 1:
                raise NotThere(f"{len(numbers)} messages of {folder} are meant")
            client.store(str(numbers[0]), "+FLAGS", r"(\Deleted)")
            begun = time.monotonic()
            client.expunge()
        return begun


def select(client: imaplib.IMAP4_SSL, folder: str, *, writable: bool = False) -> None:
    """SELECT or EXAMINE. Raises `RuntimeError`."""
    status, answer = client.select(f'"{folder}"', readonly=not writable)
    if status != "OK":
        raise RuntimeError(f"SELECT {folder}: {answer!r}")


def fetch_all(client: imaplib.IMAP4_SSL) -> list[EmailMessage]:
    """Every message of the selected folder."""
    client.noop()
    _, found = client.fetch("1:*", "(BODY.PEEK[])") if client.search(None, "ALL")[1] != [b""] else ("", [])
    return [_parsed(one[1]) for one in found if isinstance(one, tuple)]


def idle(client: imaplib.IMAP4_SSL, within_s: float) -> bool:
    """Wait in IDLE (RFC 2177) until something is said; whether it was in time."""
    client.send(b"I9I IDLE\r\n")
    if not client.readline().startswith(b"+"):
        raise RuntimeError("no IDLE")
    client.sock.settimeout(within_s)
    try:
        line = client.readline()
    except TimeoutError:
        return False
    finally:
        client.sock.settimeout(PATIENCE_S)
    if not line:
        raise ConnectionError("the server closed the connection")
    client.send(b"DONE\r\n")
    while not line.startswith(b"I9I"):
        line = client.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
    return True


def _parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=default)
    assert isinstance(message, EmailMessage)
    return message
