"""A client that closes its own half after its last command: it gets its answers, and then the session ends.

Three ways to say so: the end of the TCP stream (as Python's `socket.shutdown`), TLS's close_notify, and both.
"""

import base64
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product

import pytest
from clients_support import deliver, log_in, make_mail, read_all
from daemon import Account, Daemon
from OpenSSL import SSL

HOWS = ["fin", "notify", "both"]
PROMPTLY_S = 8
"""Below the 10 s after which a server cuts off who does not take its close."""


class Client:
    """A TLS connection whose halves close by themselves."""

    def __init__(self, daemon: Daemon, port: int, plain: socket.socket | None = None) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(str(daemon.ca_file))
        context.set_verify(SSL.VERIFY_PEER)
        self.socket = plain or socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.settimeout(None)
        self.tls = SSL.Connection(context, self.socket)
        self.tls.set_connect_state()
        self.tls.do_handshake()

    def end(self, how: str, said: bytes) -> bytes:
        """Say this and close our half; what is answered up to the server's own close_notify, which comes promptly."""
        self.tls.sendall(said)
        if how in ("notify", "both"):
            self.tls.shutdown()
        if how in ("fin", "both"):
            self.socket.shutdown(socket.SHUT_WR)
        begun, answer = time.monotonic(), b""
        try:
            while True:
                answer += self.tls.recv(65536)
        except SSL.ZeroReturnError:
            assert time.monotonic() - begun < PROMPTLY_S
            return answer
        finally:
            self.socket.close()


def lines(*texts: str) -> bytes:
    return "".join(text + "\r\n" for text in texts).encode()


def plain_log_in(account: Account) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{account.address}\0{account.password}".encode()).decode()


def test_imap(daemon: Daemon, account: Account) -> None:
    mails = [make_mail(f"n{number}", "x" * 100_000 + "\r\n", to=account.address) for number in range(5)]
    deliver(daemon, account.address, *mails)
    said = lines(
        f"a LOGIN {account.address} {account.password}", "b SELECT INBOX", "c FETCH 1:* (BODY.PEEK[])", "d LOGOU"
    )
    for how in HOWS:
        answer = Client(daemon, daemon.ports["imaps"]).end(how, said[:-2])
        assert answer.endswith(b"c OK Completed.\r\n")
        assert all(mail in answer for mail in mails)


def test_imap_ends_wherever_it_waits_for_the_client(daemon: Daemon, account: Account) -> None:
    for how, (last, answers) in product(
        HOWS,
        [
            ("c IDLE", b"+ "),
            ("c APPEND INBOX {10}\r\nhalf", b"+ "),
            ("c APPEND INBOX {10+}\r\nhalf", b"b OK"),
            ("c LOGOUT", b"c OK"),
            ("c NOOP", b"c OK"),
        ],
    ):
        said = lines(f"a LOGIN {account.address} {account.password}", "b SELECT INBOX", last)
        answer = Client(daemon, daemon.ports["imaps"]).end(how, said)
        assert answer.split(b"\r\n")[-2].startswith(answers), (how, last, answer)
    assert read_all(daemon, account) == []


def test_pop3_deletes_at_quit_and_only_there(daemon: Daemon, account: Account) -> None:
    said = lines(f"USER {account.address}", f"PASS {account.password}", "RETR 1", "DELE 1")
    for how in HOWS:
        deliver(daemon, account.address, make_mail("one", "x" * 100_000 + "\r\n", to=account.address))
        answer = Client(daemon, daemon.ports["pop3s"]).end(how, said)
        assert answer.endswith(b"\r\n.\r\n+OK Marked, to be removed at QUIT\r\n")
        assert len(read_all(daemon, account)) == 1
        assert Client(daemon, daemon.ports["pop3s"]).end(how, said + b"QUIT\r\n").count(b"+OK") == 6
        assert read_all(daemon, account) == []


def submission(account: Account) -> bytes:
    return lines(
        "EHLO me",
        plain_log_in(account),
        f"MAIL FROM:<{account.address}>",
        f"RCPT TO:<{account.address}>",
        "DATA",
        f"From: {account.address}",
        "",
        "body",
        ".",
    )


def start_tls(daemon: Daemon) -> Client:
    plain = socket.create_connection(("127.0.0.1", daemon.ports["submission"]), timeout=60)
    for said, wanted in ((b"", b"220 "), (b"EHLO me\r\n", b"250 "), (b"STARTTLS\r\n", b"220 ")):
        plain.sendall(said)
        answer = b""
        while not answer.endswith(b"\r\n") or not answer.split(b"\r\n")[-2].startswith(wanted):
            answer += plain.recv(4096)
    return Client(daemon, 0, plain)


@pytest.mark.parametrize(
    "connect", [lambda daemon: Client(daemon, daemon.ports["submissions"]), start_tls], ids=["465", "STARTTLS"]
)
def test_submission(daemon: Daemon, account: Account, connect: Callable[[Daemon], Client]) -> None:
    for count, how in enumerate(HOWS, 1):
        answer = connect(daemon).end(how, submission(account))
        assert b"\r\n250 2.0.0 Message taken as " in answer
        assert len(read_all(daemon, account)) == count
        # Content without its end is no message, and is not answered.
        answer = connect(daemon).end(how, submission(account).removesuffix(b".\r\n"))
        assert answer.endswith(b"\r\n354 End with <CRLF>.<CRLF>\r\n")
        assert len(read_all(daemon, account)) == count


def read_to_end(plain: socket.socket) -> bytes:
    answer = b""
    while piece := plain.recv(65536):
        answer += piece
    return answer


def test_port_25_in_clear(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.ports["smtp"]), timeout=PROMPTLY_S) as plain:
        plain.sendall(b"EHLO me\r\nNOOP\r\nVRFY x\r\n")
        plain.shutdown(socket.SHUT_WR)
        assert [line[:4] for line in read_to_end(plain).split(b"\r\n")[-3:-1]] == [b"250 ", b"252 "]


@pytest.mark.parametrize("listener", ["imaps", "pop3s", "submissions"])
def test_who_ends_without_a_handshake_is_not_waited_for(daemon: Daemon, listener: str) -> None:
    with socket.create_connection(("127.0.0.1", daemon.ports[listener]), timeout=PROMPTLY_S) as plain:
        plain.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            read_to_end(plain)


def test_a_client_that_answers_the_servers_close_is_not_waited_for(daemon: Daemon, account: Account) -> None:
    """Else a stop of the server would take the ten seconds that it gives to who does not answer."""
    client = Client(daemon, daemon.ports["imaps"])
    client.tls.sendall(lines(f"a LOGIN {account.address} {account.password}", "b LOGOUT"))
    with pytest.raises(SSL.ZeroReturnError):
        while True:
            client.tls.recv(65536)
    client.socket.shutdown(socket.SHUT_WR)
    client.socket.settimeout(PROMPTLY_S)
    assert client.socket.recv(1) == b""


def test_a_client_that_is_gone_leaves_nothing_behind(daemon: Daemon, account: Account) -> None:
    """Forty sessions that end without a word are above the limit of thirty, if any stayed."""
    for _ in range(40):
        imap = log_in(daemon, account)
        imap.select("INBOX")
        imap.sock.close()
        imap.file.close()
