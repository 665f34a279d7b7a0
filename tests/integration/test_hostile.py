"""Hostile clients against the real daemon: what they get, that memory stays flat, and that nobody else notices."""

import contextlib
import socket
import zlib
from collections.abc import Iterator

import pytest
from clients import Imap
from daemon import Account, Daemon
from hostile_support import connect, cpu_of_a_noop, eventually, log_in, read_all, read_until

EMPTY_LITERALS = b" {0+}\r\n"
SHARE_S = 0.05
"""CPU of the server while a client waits for one answer: ten turns of the reactor and more."""
MARK = b"xylophone-of-ann"


@pytest.fixture(autouse=True)
def no_fault(daemon: Daemon) -> Iterator[None]:
    """Whatever a client sends is not a fault of the server."""
    before = daemon.log.stat().st_size
    yield
    assert b"Traceback" not in daemon.log.read_bytes()[before:]


@pytest.fixture(scope="module")
def patient(daemon: Daemon) -> Iterator[socket.socket]:
    """Another client, who minds his own business."""
    with log_in(daemon, daemon.add_user("patient")) as client:
        yield client


def test_endless_empty_literals_before_log_in_are_too_long(daemon: Daemon) -> None:
    with connect(daemon) as client:
        client.sendall(b"a LOGIN" + EMPTY_LITERALS * 2500)
        assert b"* BYE [TOOBIG] Command line too long.\r\n" in read_until(client, b"* BYE") + read_until(
            client, b"\r\n"
        )


def test_a_command_of_ten_thousand_literals_is_refused_and_the_session_lives(daemon: Daemon, account: Account) -> None:
    with log_in(daemon, account) as client:
        client.sendall(b"a SEARCH" + EMPTY_LITERALS * 10_000 + b"\r\nb NOOP\r\n")
        answer = read_until(client, b"b OK")
        assert b"a BAD " in answer and b"b OK" in answer


def test_an_append_of_thousands_of_messages_holds_up_nobody(
    daemon: Daemon, account: Account, patient: socket.socket
) -> None:
    with log_in(daemon, account) as client:
        client.sendall(b"a APPEND INBOX" + b" {1+}\r\nx" * 10_000 + b"\r\n")
        assert cpu_of_a_noop(daemon, patient) < SHARE_S


def test_a_hundred_thousand_commands_before_log_in(daemon: Daemon, patient: socket.socket) -> None:
    """All are answered, in order, out of a buffer that does not grow."""
    before = daemon.anonymous_kib()
    with connect(daemon) as client:
        client.setblocking(False)
        unsent, answered = b"a NOOP\r\n" * 100_000, 0
        while answered < 100_000:
            with contextlib.suppress(BlockingIOError, OSError):
                unsent = unsent[client.send(unsent[:65536]) :] if unsent else unsent
            with contextlib.suppress(OSError):
                answered += client.recv(65536).count(b"a OK")
    assert cpu_of_a_noop(daemon, patient) < SHARE_S
    assert daemon.anonymous_kib() - before < 20_000


def test_clients_that_never_read_cost_a_bounded_buffer(
    daemon: Daemon, account: Account, patient: socket.socket
) -> None:
    """Twenty ask for 2 GB in all and take nothing of it."""
    filling = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
    content = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 60_000
    filling.command(b"APPEND INBOX {%d+}\r\n%s" % (len(content), content))
    before = daemon.anonymous_kib()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(log_in(daemon, account))
            client.sendall(b"a SELECT INBOX\r\n" + b"b FETCH 1 BODY.PEEK[]\r\n" * 100)
        idle = [daemon.cpu_s()]

        def is_quiet() -> bool:
            """Nothing more is read for those who take nothing; workers look at the store 50 times a second."""
            idle.append(daemon.cpu_s())
            return len(idle) > 20 and idle[-1] - idle[-20] <= 0.02 * (1 + daemon.workers)

        assert eventually(is_quiet)
        assert daemon.anonymous_kib() - before < 20 * 2048
        assert cpu_of_a_noop(daemon, patient) < SHARE_S
    filling.lines.close()


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(b"\0" * 200_000_000, id="zeros"),
        pytest.param(b"a NOOP\r\n" * 2_000_000, id="commands"),
        pytest.param(b"a APPEND INBOX {200000000+}\r\n" + b"x" * 200_000_000, id="message"),
    ],
)
def test_a_deflate_bomb_never_lies_in_memory(
    daemon: Daemon, account: Account, patient: socket.socket, bomb: bytes
) -> None:
    before = daemon.anonymous_kib()
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflater.compress(bomb) + deflater.flush(zlib.Z_FULL_FLUSH)
    with log_in(daemon, account) as client:
        client.sendall(b"c COMPRESS DEFLATE\r\n")
        read_until(client, b"c OK")
        client.settimeout(0.01)
        # Whoever does not read answers is paused, so some of it may stay with the client.
        with contextlib.suppress(OSError):
            client.sendall(packed)
        most = 0
        for _ in range(10):
            assert cpu_of_a_noop(daemon, patient, 5) < SHARE_S
            most = max(most, daemon.anonymous_kib() - before)
    assert most < 30_000


def test_nothing_of_another_user_is_found_by_guessing(daemon: Daemon, account: Account) -> None:
    """UIDs, message numbers, unique ids and folder names count within one's own mailbox and nowhere else."""
    ann = daemon.add_user("ann-guessed")
    own = Imap(daemon.ports["imaps"], daemon.tls_context(), ann.address, ann.password)
    own.command(b"CREATE Secret-" + MARK)
    for folder in (b"INBOX", b"Secret-" + MARK):
        content = b"Subject: " + MARK + b"\r\n\r\nbody " + MARK + b"\r\n"
        own.command(b"APPEND %s {%d+}\r\n%s" % (folder, len(content), content))
    other = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
    words = [b"SELECT INBOX", b"UID FETCH 1:100 (UID FLAGS BODY.PEEK[])", b"FETCH 1:* BODY.PEEK[]"]
    words += [b"UID COPY 1:* Trash", b"UID MOVE 1:* Trash", b"UID STORE 1:* +FLAGS \\Deleted", b"EXPUNGE"]
    guessed = [b"Secret-" + MARK, b"~" + ann.address.encode(), b"user/ann-guessed", b"#user/ann-guessed/INBOX"]
    guessed += [b"../ann-guessed/INBOX", b"Other Users/ann-guessed", b"INBOX@" + ann.address.encode()]
    for name in guessed:
        words += [b'SELECT "%s"' % name, b'STATUS "%s" (MESSAGES)' % name, b'LIST "" "%s*"' % name]
        words += [b'DELETE "%s"' % name, b'RENAME "%s" Mine' % name, b'GETQUOTAROOT "%s"' % name]
    for word in words:
        other.lines.send(b"g " + word + b"\r\n")
        while not (line := other.lines.line()).startswith(b"g "):
            assert MARK not in line, word
        assert b'"' not in word or word.startswith(b"LIST") or line.startswith(b"g NO"), (word, line)
    other.lines.close()
    assert own.ask(b"STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 1)\r\n']
    with connect(daemon, "pop3s") as client:
        client.sendall(f"USER {account.address}\r\nPASS {account.password}\r\n".encode())
        client.sendall(b"".join(b"RETR %d\r\nTOP %d 9\r\nUIDL %d\r\n" % (n, n, n) for n in range(1, 6)) + b"QUIT\r\n")
        assert MARK not in read_all(client)
    own.lines.close()
