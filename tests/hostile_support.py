"""Clients that behave badly towards the real daemon, over real TLS."""

import socket
import ssl
import time
from collections.abc import Callable

from daemon import Account, Daemon

TLS_AT_ONCE = ("imaps", "pop3s", "submissions")
PATIENCE_S = 60
"""For what happens within seconds on a machine with nothing else to do."""


def dial(daemon: Daemon, listener: str, source: str = "127.0.0.1") -> socket.socket:
    """TCP only."""
    return socket.create_connection(("127.0.0.1", daemon.ports[listener]), PATIENCE_S, (source, 0))


def connect(daemon: Daemon, listener: str = "imaps", source: str = "127.0.0.1") -> ssl.SSLSocket:
    """A listener that speaks TLS at once."""
    return daemon.tls_context().wrap_socket(dial(daemon, listener, source), server_hostname="localhost")


def read_until(client: socket.socket, mark: bytes) -> bytes:
    """What comes, up to ``mark`` or the end."""
    answer = b""
    while mark not in answer and (piece := client.recv(65536)):
        answer += piece
    return answer


def read_all(client: socket.socket) -> bytes:
    """What comes until the server closes, however it does."""
    answer = b""
    try:
        while piece := client.recv(65536):
            answer += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return answer


def log_in(daemon: Daemon, account: Account) -> ssl.SSLSocket:
    """An IMAP session."""
    client = connect(daemon)
    client.sendall(f"in LOGIN {account.address} {account.password}\r\n".encode())
    assert b"in OK" in read_until(client, b"Logged in.\r\n")
    return client


def cpu_of_a_noop(daemon: Daemon, patient: socket.socket, count: int = 20) -> float:
    """What the server works, for whomever, while another client's NOOP waits: CPU seconds, whatever the load is."""
    begun = daemon.cpu_s()
    for _ in range(count):
        patient.sendall(b"n NOOP\r\n")
        assert b"n OK" in read_until(patient, b"n OK Completed.\r\n")
    return (daemon.cpu_s() - begun) / count


def eventually(is_so: Callable[[], bool]) -> bool:
    """Whether it comes to be so, in time."""
    end = time.monotonic() + PATIENCE_S
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()
