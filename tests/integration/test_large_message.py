"""One large message against the real daemon: flat memory, others not slowed, nothing left of half of one."""

import base64
import os
import socket
import struct
import time
from pathlib import Path

import lmdb
import pytest
from clients import Imap, Smtp
from clients_support import SENDER
from daemon import Account, Daemon
from large import LIMITS, MIB, run

ALLOWED_MIB = 120
"""Of anonymous memory, for the server, whatever goes through it."""
CONTENT = (b"blob", b"stage", b"dead")
PATIENCE_S = 30


def frame_rows(daemon: Daemon) -> dict[bytes, int]:
    """Rows of the tables that content lies in, read beside the daemon."""
    store = str(daemon.data / "store")
    with lmdb.open(store, readonly=True, max_dbs=60, map_size=1 << 40) as env, env.begin() as txn:
        return {name: txn.stat(env.open_db(name, txn, create=False))["entries"] for name in CONTENT}


def await_rows(daemon: Daemon, expected: dict[bytes, int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (found := frame_rows(daemon)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def half_of_one(daemon: Daemon, account: Account, way: str) -> socket.socket:
    """Send 24 MiB of a message, and wait until frames of it are in the store."""
    octets = b"Subject: half\r\n\r\n" + base64.encodebytes(os.urandom(18 * MIB)).replace(b"\n", b"\r\n")
    if way == "append":
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        lines = imap.lines
        lines.send(b"a APPEND INBOX {%d+}\r\n" % (64 * MIB))
    else:
        smtp = Smtp(daemon.ports["smtp"], daemon.tls_context())
        lines = smtp.lines
        lines.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{account.address}>\r\n".encode())
        smtp.reply()
        smtp.reply()
        lines.send(b"DATA\r\n" if way == "data" else b"BDAT %d LAST\r\n" % (64 * MIB))
    lines.send(octets)
    deadline = time.monotonic() + PATIENCE_S
    while not frame_rows(daemon)[b"stage"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return lines.sock


@pytest.mark.parametrize("way", ["data", "bdat", "append"])
@pytest.mark.parametrize("end", ["reset", "kill"])
def test_half_of_a_large_message_leaves_nothing(tmp_path: Path, way: str, end: str) -> None:
    with Daemon(tmp_path) as daemon:
        account = daemon.add_user("ann")
        before = frame_rows(daemon)
        sock = half_of_one(daemon, account, way)
        assert frame_rows(daemon)[b"blob"] > before[b"blob"]
        if end == "kill":
            daemon.kill()
            assert frame_rows(daemon)[b"stage"] == 1
            daemon.start()
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        await_rows(daemon, before)
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        (exists,) = [line for line in imap.ask(b"SELECT INBOX") if b"EXISTS" in line]
        assert exists == b"* 0 EXISTS\r\n"
        imap.close()  # else the daemon's end waits for it


def every_way(folder: Path, octets: int) -> list[dict[str, float | int]]:
    """In and out in every way, each compared by SHA-256 (`bench/large.py`); how the server and the others fared."""
    with Daemon(folder, tables=LIMITS) as daemon:
        laps = run(daemon, octets)
    assert max(lap["peak_rss_anon_mib"] for lap in laps) < ALLOWED_MIB
    assert all(lap["others_reads"] for lap in laps)
    return laps


def test_a_large_message_every_way(tmp_path: Path) -> None:
    every_way(tmp_path, 48 * MIB)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_2_gib_every_way_slows_nobody(tmp_path: Path) -> None:
    for lap in every_way(tmp_path, 2048 * MIB):
        assert lap["others_read_p99_ms"] < 100, lap
