"""Writing to service addresses and reading what comes back, as somebody with a mail program does."""

import email
import email.policy
import re
import smtplib
from collections.abc import Callable
from email.message import EmailMessage

from clients_support import log_in
from daemon import Account, Daemon

Messages = dict[int, EmailMessage]
"""By UID."""


def ask(daemon: Daemon, account: Account, to: str, subject: str, text: str = "", *, header: str = "") -> None:
    """Submit a message to a service address."""
    content = f"From: {account.address}\r\nTo: {to}\r\n{header}Subject: {subject}\r\n\r\n{text}\r\n"
    with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context(), timeout=60) as smtp:
        smtp.login(account.address, account.password)
        smtp.sendmail(account.address, [to], content.encode())


class Reader:
    """An IMAP session that waits for what has to come, by IDLE."""

    def __init__(self, daemon: Daemon, account: Account) -> None:
        self.imap = log_in(daemon, account)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.imap.shutdown()

    def messages(self) -> Messages:
        """Of the selected folder."""
        status, found = self.imap.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[])")
        assert status == "OK", found
        return {
            int(re.search(rb"UID (\d+)", item[0])[1]): email.message_from_bytes(item[1], policy=email.policy.default)  # type: ignore[index,misc]
            for item in found
            if isinstance(item, tuple)
        }

    def wait_for(self, folder: str, fits: Callable[[Messages], object]) -> Messages:
        """The folder's messages once they are as wanted; INBOX is watched until the folder exists."""
        imap = self.imap
        imap.sock.settimeout(20)
        while imap.select(folder, readonly=True)[0] != "OK":
            imap.select("INBOX", readonly=True)
            imap.noop()
        self._told()
        while not fits(found := self.messages()):
            if self._told():
                continue
            self.idle()
            line = b""
            while not re.search(rb"EXISTS|EXPUNGE", line):
                line = imap.readline()
                assert line, "the session ended"
            self.done()
        return found

    def _told(self) -> bool:
        """Whether the server spoke of messages that came or went since this was last asked."""
        return any(self.imap.response(word)[1] != [None] for word in ("EXISTS", "EXPUNGE"))

    def idle(self) -> None:
        """Begin to wait."""
        self.imap.send(b"w IDLE\r\n")
        line = self.imap.readline()
        while not line.startswith(b"+"):
            line = self.imap.readline()
            assert line, "the session ended"

    def done(self) -> None:
        """Wait no more."""
        self.imap.send(b"DONE\r\n")
        while not self.imap.readline().startswith(b"w "):
            pass


def subjects(messages: Messages) -> list[str]:
    """Of a folder, in order."""
    return [message["Subject"] for message in messages.values()]


def uid_of(messages: Messages, subject: str) -> str:
    """Of the message with this subject."""
    return next(str(uid) for uid, message in messages.items() if message["Subject"] == subject)


def text_of(message: EmailMessage) -> str:
    """Its first text part."""
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def password_in(message: EmailMessage) -> str:
    """The device password that it shows."""
    found = re.search(r"\b(?:[0-9A-Z]{4}-){7}[0-9A-Z]{4}\b", text_of(message))
    assert found is not None
    return found[0]
