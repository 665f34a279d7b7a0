"""TLS sessions are resumed by tickets: a client that comes back pays no handshake with certificates again.

Tickets open only what the same process gave out, so this is about one process: with several a client is lucky or not.
"""

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator

import pytest
from daemon import Account, Daemon


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of one process."""
    with Daemon(tmp_path_factory.mktemp("single")) as running:
        yield running


@pytest.fixture(scope="module")
def owner(single: Daemon) -> Account:
    """Somebody who logs in."""
    return single.add_user("owner")


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def log_in(single: Daemon, context: ssl.SSLContext, account: Account, session: ssl.SSLSession | None) -> ssl.SSLSocket:
    """A new connection, logged in; in TLS 1.3 the tickets have come by then."""
    raw = socket.create_connection(("127.0.0.1", single.ports["imaps"]), timeout=30)
    tls = context.wrap_socket(raw, server_hostname="localhost", session=session)
    octets = b""
    tls.sendall(f'a LOGIN "{account.address}" "{account.password}"\r\n'.encode())
    while b"\r\na OK" not in octets:
        octets += tls.recv(65536)
    return tls


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_python_resumes_a_session_more_than_once(single: Daemon, owner: Account, version: ssl.TLSVersion) -> None:
    context = single.tls_context()
    context.minimum_version = context.maximum_version = version
    session = None
    for number in range(4):
        with log_in(single, context, owner, session) as tls:
            assert tls.session_reused is (number > 0)
            assert tls.version() == ("TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
            session = tls.session


@pytest.mark.parametrize("listener", ["imaps", "pop3s", "submissions"])
def test_openssl_reconnects(single: Daemon, program: Callable[[str], str], listener: str) -> None:
    words = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{single.ports[listener]}", "-CAfile"]
    words += [str(single.ca_file), "-servername", "localhost", "-tls1_2", "-reconnect"]
    done = subprocess.run(words, input="", capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count("\nNew, TLSv1.2") == 1
    assert done.stdout.count("\nReused, TLSv1.2") == 5


def test_a_session_of_one_listener_opens_no_other(single: Daemon, owner: Account) -> None:
    context = single.tls_context()
    with log_in(single, context, owner, None) as tls:
        session = tls.session
    raw = socket.create_connection(("127.0.0.1", single.ports["pop3s"]), timeout=30)
    with context.wrap_socket(raw, server_hostname="localhost", session=session) as tls:
        assert tls.recv(3) == b"+OK"
        assert not tls.session_reused
