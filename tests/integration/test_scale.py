"""Large messages and large folders against the real daemon: memory stays flat, others go on."""

import hashlib
import json
import re
from pathlib import Path

import opening
import pytest
from clients import Imap, Smtp, fill
from clients_support import SENDER, deliver, log_in, make_mail
from daemon import Daemon

MIB = 1 << 20


@pytest.fixture
def own(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A daemon of the test's own, so that its memory is that of this test."""
    with Daemon(tmp_path) as running:
        yield running


def lines_of(octets: int) -> bytes:
    """Text of so many octets, in lines that differ."""
    line = b"%066d\r\n"
    return b"".join(line % number for number in range(octets // 68))


def deliver_large(daemon: Daemon, to: str, octets: int) -> tuple[str, int]:
    """Deliver one message piece by piece; SHA-256 and octets of its content."""
    client = Smtp(daemon.ports["smtp"], daemon.tls_context())
    client.lines.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{to}>\r\nDATA\r\n".encode())
    for _ in range(3):
        client.reply()
    piece = lines_of(MIB)
    header = b"From: bob@partner.example\r\nSubject: large\r\n\r\n"
    digest, size = hashlib.sha256(header), len(header)
    client.lines.send(header)
    while size < octets:
        client.lines.send(piece)
        digest.update(piece)
        size += len(piece)
    client.lines.send(b".\r\n")
    client.reply()
    return digest.hexdigest(), size


def read_large(daemon: Daemon, imap: Imap, size: int) -> str:
    """SHA-256 of the last ``size`` octets of message 1, fetched whole."""
    imap.lines.send(b"Z9Z FETCH 1 BODY.PEEK[]\r\n")
    found = re.search(rb"\{(\d+)\}\r\n", imap.lines.line())
    assert found is not None
    left = int(found[1])
    prefix = left - size
    assert 0 <= prefix < 2000
    digest = hashlib.sha256()
    skip = prefix
    while left:
        piece = bytes(imap.lines.buffer[:left])
        del imap.lines.buffer[:left]
        left -= len(piece)
        digest.update(piece[skip:])
        skip -= min(skip, len(piece))
        if left:
            imap.lines._more()
    assert imap.lines.line().endswith(b")\r\n")
    assert imap.lines.line().startswith(b"Z9Z OK")
    return digest.hexdigest()


def large_message(daemon: Daemon, octets: int, allowed_kib: int) -> None:
    account = daemon.add_user("ann")
    digest, size = deliver_large(daemon, account.address, octets)
    imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
    imap.command(b"SELECT INBOX")
    assert read_large(daemon, imap, size) == digest
    assert daemon.anonymous_kib() < allowed_kib, "memory grew with the message"
    # A piece from the middle, at the very origin asked for.
    (first,) = [line for line in imap.ask(b"FETCH 1 BODY.PEEK[]<%d.68>" % (octets // 2)) if b"BODY[]<" in line]
    assert b"BODY[]<%d> {68}" % (octets // 2) in first


LARGE = '[limits]\nmessage_size_port_25 = "3GiB"\nunfinished_per_address = "3GiB"'


def test_300_mib_comes_in_and_goes_out_in_flat_memory(tmp_path: Path) -> None:
    with Daemon(tmp_path, tables=LARGE) as own:
        large_message(own, 300 * MIB, 120 * 1024)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_2_gib_comes_in_and_goes_out_in_flat_memory(tmp_path: Path) -> None:
    with Daemon(tmp_path, tables=LARGE) as own:
        large_message(own, 2048 * MIB, 120 * 1024)


def test_an_upload_cut_off_leaves_nothing_behind(own: Daemon) -> None:
    account = own.add_user("ann")
    client = Smtp(own.ports["smtp"], own.tls_context())
    client.lines.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{account.address}>\r\nDATA\r\n".encode())
    for _ in range(3):
        client.reply()
    client.lines.send(lines_of(20 * MIB))
    client.lines.close()
    deliver(own, account.address, make_mail("after", to=account.address))
    with log_in(own, account) as imap:
        assert imap.select("INBOX")[1] == [b"1"]


def large_folder(daemon: Daemon, count: int) -> None:
    account = daemon.add_user("ann")
    imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
    fill(imap, count, 1024)
    assert b"* %d EXISTS\r\n" % count in imap.ask(b"SELECT INBOX")
    assert len(imap.ask(b"FETCH 1:* (UID FLAGS)")) == count
    assert len(imap.ask(b"FETCH 1:* ENVELOPE")) == count
    stored = imap.ask(b"STORE 1:* +FLAGS (\\Flagged)")
    assert sum(b"\\Flagged" in line for line in stored) == count
    half = count // 2
    imap.command(b"CREATE Elsewhere")
    imap.command(b"MOVE 1:%d Elsewhere" % half)
    assert b"* %d EXISTS\r\n" % (count - half) in imap.ask(b"SELECT INBOX")
    imap.command(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
    assert len(imap.ask(b"EXPUNGE")) == count - half
    assert b"* %d EXISTS\r\n" % half in imap.ask(b"SELECT Elsewhere")


def test_10_000_messages(own: Daemon) -> None:
    large_folder(own, 10_000)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_100_000_messages(own: Daemon) -> None:
    large_folder(own, 100_000)


def test_check_goes_through_the_running_listeners(own: Daemon) -> None:
    assert own.command("check", "--json")
    steps = json.loads(own.command("check", "--json"))
    assert steps


def first_opening(daemon: Daemon, count: int, first_s: float) -> dict[str, float | int]:
    """Log in after so many deliveries: the first messages can be read before the last ones are taken in."""
    found = opening.run(daemon, count, 1024)
    assert found["first_seen"] >= 50
    assert found["first_50_s"] < first_s
    assert found["slowest_noop_and_fetch_s"] < 2 * first_s
    return found


def test_first_opening_after_2_000_deliveries(own: Daemon) -> None:
    first_opening(own, 2000, 10)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_first_opening_after_100_000_deliveries(own: Daemon) -> None:
    found = first_opening(own, 100_000, 1.0)
    assert found["exists_grew"] > 3
    assert found["others_read_p99_ms"] < 100
