"""A bit that flips in the store's file: what is derived is made anew, with an alarm, and every answer stays right."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import Imap, fill
from daemon import Daemon

from certmaild.mailbox.environment import Environment
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_text import Kind

MESSAGES = 300


def flip_a_bit(daemon: Daemon, table: Table, kind: int | None = None) -> None:
    """In the middle of the first value of a table; of the text column the first row of a kind. The daemon is down."""
    environment = Environment(daemon.data / "store")
    try:
        value = environment.read(
            lambda txn: next(
                bytes(value)
                for key, value in txn.scan(table, b"")
                if kind is None or (len(key) == 37 and key[32] == kind)
            )
        )
    finally:
        environment.close()
    with (daemon.data / "store" / "data.mdb").open("r+b") as file:
        content = file.read()
        at = content.find(value)
        assert at > 0 and content.find(value, at + 1) < 0
        at += len(value) // 2
        file.seek(at)
        file.write(bytes([content[at] ^ 0x10]))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as running:
        yield running


def answers(daemon: Daemon, ask: bytes, damage: tuple[Table, int | None]) -> list[list[bytes]]:
    """What is answered twice before and twice after a bit has flipped."""
    account = daemon.add_user("ann")
    imap = log_in(daemon, account)
    fill(imap, MESSAGES, 2000)
    imap.command(b"SELECT INBOX")
    told = [imap.ask(ask), imap.ask(ask)]
    imap.close()
    daemon.stop()
    flip_a_bit(daemon, *damage)
    daemon.start()
    imap = log_in(daemon, account)
    told += [imap.ask(ask), imap.ask(ask)]
    imap.close()
    return told


def log_in(daemon: Daemon, account: object) -> Imap:
    imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)  # type: ignore[attr-defined]
    imap.command(b"SELECT INBOX")
    return imap


@pytest.mark.parametrize("kind", [Kind.DIRECTORY, Kind.BODIES])
def test_search_texts(server: Daemon, kind: Kind) -> None:
    told = answers(server, b"UID SEARCH OR TEXT laboratory HEADER Message-ID bench.7@", (Table.TEXT, kind))
    assert all(one == told[0] for one in told) and len(told[0][0].split()) > 2
    assert server.log.read_text().count("ALARM: search texts") == 1


def test_ready_rows(server: Daemon) -> None:
    told = answers(server, b"FETCH 1:%d (UID ENVELOPE)" % MESSAGES, (Table.READY, None))
    assert all(one == told[0] for one in told) and len(told[0]) == MESSAGES
    assert server.log.read_text().count("ALARM: what was kept ready") == 1
