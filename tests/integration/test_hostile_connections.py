"""Connections that send little, nothing, or nonsense: the times hold, places come free, nobody else is harmed."""

import contextlib
import os
import resource
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from daemon import LISTENERS, Daemon
from hostile_support import PATIENCE_S, TLS_AT_ONCE, connect, dial, eventually, log_in, read_all, read_until
from OpenSSL import SSL

LOG_IN_S = 3
PLACES = 40
LIMITS = f"""
[limits]
time_to_log_in = {LOG_IN_S}
smtp_command_time = {LOG_IN_S}
smtp_content_time = {LOG_IN_S}
connections = {PLACES}
"""
HELLO = bytes.fromhex("160301020001 0001fc0303".replace(" ", "")) + bytes(40)
"""The beginning of a ClientHello that does not go on."""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that waits for nobody longer than three seconds."""
    with Daemon(tmp_path_factory.mktemp("strict"), tables=LIMITS) as running:
        yield running
        assert b"Traceback" not in running.log.read_bytes()


def drip(client: socket.socket, octet: bytes) -> float:
    """Send an octet again and again; after how many seconds the server has closed."""
    client.settimeout(0.1)
    began = time.monotonic()
    while (took := time.monotonic() - began) < PATIENCE_S:
        try:
            client.sendall(octet)
            while client.recv(65536):
                pass
            return took
        except TimeoutError:
            continue
        except OSError:
            return took
    return took


@pytest.mark.parametrize("listener", LISTENERS)
def test_octet_by_octet_nobody_stays_longer(strict: Daemon, listener: str) -> None:
    with connect(strict, listener) if listener in TLS_AT_ONCE else dial(strict, listener) as client:
        assert LOG_IN_S - 1 < drip(client, b"N") < PATIENCE_S / 2


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_handshake_that_stops_is_not_waited_for(strict: Daemon, listener: str) -> None:
    with dial(strict, listener) as client:
        if listener not in TLS_AT_ONCE:
            read_until(client, b"220 ")
            client.sendall(b"EHLO x\r\nSTARTTLS\r\n")
            read_until(client, b"220 2.0.0")
        client.sendall(HELLO)
        read_all(client)


def test_many_handshakes_that_stop_keep_nobody_out(strict: Daemon) -> None:
    account = strict.add_user("among-handshakes")
    with contextlib.ExitStack() as stack:
        for _ in range(PLACES - 5):
            stack.enter_context(dial(strict, "imaps")).sendall(HELLO)
        log_in(strict, account).close()


@pytest.mark.parametrize("listener", LISTENERS)
def test_noise_in_place_of_tls_ends_the_connection(strict: Daemon, listener: str) -> None:
    for noise in (os.urandom(5000), b"\x16\x03\x01\xff\xff" + os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n"):
        with dial(strict, listener) as client:
            if listener not in TLS_AT_ONCE:
                read_until(client, b"220 ")
                client.sendall(b"EHLO x\r\nSTARTTLS\r\n")
                read_until(client, b"220 2.0.0")
            with contextlib.suppress(ConnectionError):
                client.sendall(noise)
            read_all(client)


def test_nobody_negotiates_anew(strict: Daemon) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with dial(strict, "imaps") as plain:
        plain.settimeout(None)
        client = SSL.Connection(context, plain)
        client.set_connect_state()
        client.do_handshake()
        assert client.recv(4096).startswith(b"* OK")
        client.renegotiate()
        with pytest.raises(SSL.Error):
            client.do_handshake()


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_client_that_closes_its_half_is_let_go(strict: Daemon, listener: str) -> None:
    with connect(strict, listener) if listener in TLS_AT_ONCE else dial(strict, listener) as client:
        client.recv(4096)
        plain = socket.socket(fileno=os.dup(client.fileno()))
        plain.shutdown(socket.SHUT_WR)
        plain.close()
        began = time.monotonic()
        read_all(client)
        assert time.monotonic() - began < PATIENCE_S / 2


def test_when_all_places_are_taken_the_oldest_silent_one_gives_way(strict: Daemon) -> None:
    account = strict.add_user("has-a-place")
    with contextlib.ExitStack() as stack:
        member = stack.enter_context(log_in(strict, account))
        silent = [stack.enter_context(connect(strict)) for _ in range(PLACES - 1)]
        for one in silent:
            read_until(one, b"ready.\r\n")
        newest = stack.enter_context(connect(strict, "pop3s"))
        assert newest.recv(4096).startswith(b"+OK")
        assert b"* BYE [UNAVAILABLE]" in read_until(silent[0], b"* BYE")
        silent[-1].sendall(b"a NOOP\r\n")
        assert b"a OK" in read_until(silent[-1], b"a OK")
        member.sendall(b"a NOOP\r\n")
        assert b"a OK" in read_until(member, b"a OK")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_three_thousand_connections_that_say_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each from one of thirty addresses; what they cost, and that a member is served among them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4000:
        pytest.skip("the hard limit of open files is below 4,000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), hard))
    tables = "[limits]\ntime_to_log_in = 600\n"
    with Daemon(tmp_path_factory.mktemp("many"), tables=tables) as daemon, contextlib.ExitStack() as stack:
        account = daemon.add_user("among-thousands")
        before = daemon.anonymous_kib()
        silent = [stack.enter_context(connect(daemon, "imaps", f"127.0.0.{2 + number % 30}")) for number in range(3000)]
        each = (daemon.anonymous_kib() - before) / len(silent)
        print(f"{each:.0f} KiB a connection that is not logged in")
        assert each < 200
        with log_in(daemon, account) as member:
            member.sendall(b"a SELECT INBOX\r\n")
            assert b"a OK" in read_until(member, b"a OK")
        for one in silent:
            one.close()
        stack.pop_all()
        assert eventually(lambda: daemon.anonymous_kib() - before < 3000 * 200)


def test_a_close_in_the_middle_of_a_handshake_leaves_nothing_behind(strict: Daemon) -> None:
    for _ in range(20):
        client = dial(strict, "imaps")
        client.sendall(HELLO[:20])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    with contextlib.ExitStack() as stack:
        for _ in range(PLACES):
            with contextlib.suppress(ssl.SSLError):
                assert stack.enter_context(connect(strict)).recv(4096).startswith(b"* OK")
