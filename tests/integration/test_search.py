"""SEARCH by text on the real daemon: two workers, kill -9 while the column is built, a client that goes meanwhile."""

import random
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from clients import Imap, Smtp, append
from daemon import Account, Daemon
from figures import make_message

from certmaild.mailbox.environment import Environment
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_text import Kind

MESSAGES = 1500


def log_in(daemon: Daemon, account: Account) -> Imap:
    imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
    imap.command(b"SELECT INBOX")
    return imap


def fill(daemon: Daemon, account: Account) -> None:
    """Message n says ``number<n>end`` in a QP part, ``Über <n>`` in its subject, and 10 KiB of other words."""
    imap = log_in(daemon, account)
    for first in range(1, MESSAGES + 1, 100):
        pieces = []
        for number in range(first, first + 100):
            words = " ".join(random.Random(number).choices(["alpha", "beta", "gamma", "delta", "omega"], k=1700))
            message = (
                f"Subject: =?iso-8859-1?q?=DCber_{number}?=\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
                f"Content-Transfer-Encoding: quoted-printable\r\n\r\nnum=\r\nber{number}end M=FCnchen {words}\r\n"
            ).encode()
            pieces.append(b" {%d+}\r\n%s" % (len(message), message))
        imap.command(b"APPEND INBOX" + b"".join(pieces))
    imap.lines.close()


def search(imap: Imap, text: str, key: str = "TEXT") -> list[int]:
    octets = text.encode()
    (line,) = imap.ask(b"UID SEARCH CHARSET UTF-8 %b {%d+}\r\n%b" % (key.encode(), len(octets), octets))
    return [int(word) for word in line.split()[2:]]


def column(daemon: Daemon) -> tuple[int, int]:
    """Frames and marks in the store; the daemon is down."""
    environment = Environment(daemon.data / "store")

    def count(txn) -> tuple[int, int]:  # type: ignore[no-untyped-def]
        keys = [key for key, _ in txn.scan(Table.TEXT, b"")]
        marks = sum(len(key) == 52 for key in keys)
        return sum(len(key) == 37 and key[32] == Kind.DIRECTORY for key in keys), marks

    try:
        return environment.read(count)
    finally:
        environment.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_answers_are_exact_through_kills_and_expunges(tmp_path: Path, workers: int) -> None:
    dice = random.Random(workers)
    with Daemon(tmp_path, workers=workers) as daemon:
        account = daemon.add_user("ann")
        fill(daemon, account)
        for _ in range(3):
            clients = [log_in(daemon, account) for _ in range(3)]

            def lost_in_the_middle(imap: Imap) -> None:
                with pytest.raises((OSError, ConnectionError)):
                    while search(imap, "number77end") == [77]:
                        pass
                    raise AssertionError("a wrong answer")

            threads = [threading.Thread(target=lost_in_the_middle, args=(imap,)) for imap in clients]
            for thread in threads:
                thread.start()
            time.sleep(dice.uniform(0.02, 0.3))  # the moment of the kill is the point
            daemon.kill()
            for thread in threads:
                thread.join()
            daemon.start()
        here, there = log_in(daemon, account), log_in(daemon, account)
        every = list(range(1, MESSAGES + 1))
        assert search(here, "MÜNCHEN", "BODY") == every == search(there, "münchen")
        assert search(here, "über 12", "SUBJECT") == [n for n in every if str(n).startswith("12")]
        gone = dice.sample(every, 300)
        for at in range(0, 300, 30):
            for uid in gone[at : at + 30]:
                here.command(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % uid)
            here.command(b"EXPUNGE")
            there.command(b"NOOP")
            left = [n for n in every if n not in gone[: at + 30]]
            assert search(there, "münchen") == left
            assert search(here, f"number{gone[at]}end") == []
            assert search(here, f"number{left[7]}end") == [left[7]]
        for imap in (here, there):
            imap.command(b"LOGOUT")
        daemon.stop()
        frames, marks = column(daemon)
        assert frames > 20 and marks == 0
        daemon.start()
        assert search(log_in(daemon, account), "münchen") == [n for n in every if n not in gone]


DIRECTORY_OCTETS = 10 + 12 + 37 + 16
"""A directory without messages: header, nonce, what it begins with, tag. A message takes 16 more."""


def named(daemon: Daemon) -> int:
    """How many messages the columns name; the daemon may run."""
    environment = Environment(daemon.data / "store")

    def count(txn) -> int:  # type: ignore[no-untyped-def]
        rows = [(key, len(value)) for key, value in txn.scan(Table.TEXT, b"")]
        return sum((octets - DIRECTORY_OCTETS) // 16 for key, octets in rows if len(key) == 37 and key[32] == 0)

    try:
        return environment.read(count)
    finally:
        environment.close()


@pytest.mark.parametrize(("workers", "ahead"), [(0, False), (2, False), (2, True)])
def test_what_comes_is_prepared_for_the_next_search(tmp_path: Path, workers: int, ahead: bool) -> None:
    """By SMTP, by APPEND and by COPY, into a folder that was searched; with `ahead` into any folder."""
    tables = "[search]\nahead = true" if ahead else ""
    with Daemon(tmp_path, workers=workers, tables=tables) as daemon:
        account = daemon.add_user("ann")
        imap, other = log_in(daemon, account), log_in(daemon, account)
        messages = [make_message(number, 2000) for number in range(70)]
        append(imap, messages)
        if not ahead:
            assert search(imap, "nowhere") == []
        expected = 70

        def come(count: int) -> None:
            nonlocal expected
            expected += count
            deadline = time.monotonic() + 30
            while named(daemon) != expected:
                assert time.monotonic() < deadline, (named(daemon), expected)
                time.sleep(0.1)

        come(0)
        append(other, messages[:2])
        come(2)
        smtp = Smtp(daemon.ports["smtp"], daemon.tls_context())
        smtp.deliver(account.address.encode(), b"Subject: newcomer\r\n\r\nshibboleth\r\n")
        come(1)
        other.command(b"COPY 1:5 Archive")
        other.command(b"COPY 1:5 INBOX")
        come(10 if ahead else 5)
        imap.command(b"NOOP")
        assert search(imap, "shibboleth") == [73]
        for one in (imap, other):
            one.close()


def test_a_search_ends_with_its_client(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        account = daemon.add_user("ann")
        fill(daemon, account)
        imap = log_in(daemon, account)
        other = log_in(daemon, account)
        imap.lines.send(b"A UID SEARCH TEXT nowhere\r\n")
        # A reset: who only ends his own stream still gets his answer.
        imap.lines.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        imap.lines.close()
        other.command(b"NOOP")
        daemon.stop()
        assert "Traceback" not in daemon.log.read_text()
        # Some of the column was built, and then no more.
        assert column(daemon)[0] < MESSAGES * 10_000 // (256 * 1024) // 2
