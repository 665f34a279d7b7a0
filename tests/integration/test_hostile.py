"""Hostile clients against the real daemon: what they got wrong once, and that nobody else notices."""

import socket
import ssl
import time

from daemon import Account, Daemon

EMPTY_LITERALS = b" {0+}\r\n"


def connect(daemon: Daemon) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", daemon.ports["imaps"]), timeout=30)
    return daemon.tls_context().wrap_socket(plain, server_hostname="localhost")


def read_until(client: ssl.SSLSocket, mark: bytes) -> bytes:
    """What comes, up to ``mark`` or the end."""
    answer = b""
    while mark not in answer and (piece := client.recv(65536)):
        answer += piece
    return answer


def log_in(daemon: Daemon, account: Account) -> ssl.SSLSocket:
    client = connect(daemon)
    client.sendall(f"in LOGIN {account.address} {account.password}\r\n".encode())
    assert b"in OK" in read_until(client, b"Logged in.\r\n")
    return client


def test_endless_empty_literals_before_log_in_are_too_long_and_no_fault(daemon: Daemon) -> None:
    before = daemon.log.stat().st_size
    with connect(daemon) as client:
        client.sendall(b"a LOGIN" + EMPTY_LITERALS * 2500)
        assert b"* BYE [TOOBIG] Command line too long.\r\n" in read_until(client, b"* BYE") + read_until(
            client, b"\r\n"
        )
    assert b"Traceback" not in daemon.log.read_bytes()[before:]


def test_a_command_of_ten_thousand_literals_is_refused_and_the_session_lives(daemon: Daemon, account: Account) -> None:
    before = daemon.log.stat().st_size
    with log_in(daemon, account) as client:
        client.sendall(b"a SEARCH" + EMPTY_LITERALS * 10_000 + b"\r\nb NOOP\r\n")
        answer = read_until(client, b"b OK")
        assert b"a BAD " in answer and b"b OK" in answer
    assert b"Traceback" not in daemon.log.read_bytes()[before:]


def test_an_append_of_thousands_of_messages_holds_up_nobody(daemon: Daemon, account: Account) -> None:
    other = daemon.add_user("patient")
    with log_in(daemon, account) as client, log_in(daemon, other) as waiting:
        client.sendall(b"a APPEND INBOX" + b" {1+}\r\nx" * 10_000 + b"\r\n")
        took = []
        for _ in range(20):
            began = time.monotonic()
            waiting.sendall(b"n NOOP\r\n")
            read_until(waiting, b"n OK Completed.\r\n")
            took.append(time.monotonic() - began)
    assert sorted(took)[-2] < 0.1
