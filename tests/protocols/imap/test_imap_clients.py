"""imaplib and imapclient over real TLS, certificates verified, against the IMAP server in a process of its own."""

import imaplib
import threading
from collections.abc import Iterator
from pathlib import Path

import imapclient
import pytest
from imap_support import ADDRESS, MAIL, PASSWORD
from program_support import Program


class Daemon(Program):
    def command(self, line: str) -> int:
        """Do it; resident octets after it."""
        return int(self.ask(line))

    def imaplib(self) -> imaplib.IMAP4_SSL:
        client = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=self.context, timeout=30)
        client.login(ADDRESS, PASSWORD)
        return client


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon("imap_daemon.py", tmp_path) as daemon:
        yield daemon


def test_imaplib(daemon: Daemon) -> None:
    client = daemon.imaplib()
    assert client.enable("UTF8=ACCEPT")[0] == "OK"
    daemon.command("deliver 3")
    assert client.select("INBOX") == ("OK", [b"3"])
    assert client.fetch("1", "(BODY.PEEK[])")[1][0][1] == MAIL
    assert client.append("Sent", "\\Seen", None, MAIL)[0] == "OK"
    assert client.store("2", "+FLAGS", "\\Deleted")[0] == "OK"
    assert client.expunge()[1] == [b"2"]
    assert client.search(None, "ALL")[1] == [b"1 2"]
    assert client.close()[0] == "OK"
    assert client.logout()[0] == "BYE"


def test_imapclient_with_idle_and_many_sessions(daemon: Daemon) -> None:
    with imapclient.IMAPClient("localhost", daemon.port, ssl_context=daemon.context) as client:
        client.login(ADDRESS, PASSWORD)
        client.id_({"name": "test"})
        assert client.select_folder("INBOX")[b"EXISTS"] == 0
        client.idle()
        daemon.command("deliver 1")
        assert (1, b"EXISTS") in client.idle_check(timeout=20)
        client.idle_done()
        assert client.folder_status("INBOX", ["MESSAGES"]) == {b"MESSAGES": 1}
        assert {name for _, _, name in client.list_folders()} >= {"INBOX", "Sent", "Trash"}
        client.create_folder("Entwürfe/Neu")
        assert client.folder_exists("Entwürfe/Neu")
        assert client.namespace().personal == (("", "/"),)


def test_twenty_clients_at_once(daemon: Daemon) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            client = daemon.imaplib()
            client.select("INBOX")
            for _ in range(5):
                assert client.append("INBOX", "", None, MAIL)[0] == "OK"
                assert client.noop()[0] == "OK"
            client.logout()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert daemon.imaplib().select("INBOX") == ("OK", [b"100"])


def test_an_idle_connection_costs_little_memory(daemon: Daemon) -> None:
    def connect() -> imaplib.IMAP4_SSL:
        client = daemon.imaplib()
        client.select("INBOX")
        client.send(b"x IDLE\r\n")
        assert client.readline().startswith(b"+")
        return client

    warm = [connect() for _ in range(50)]
    before = daemon.command("memory")
    clients = [connect() for _ in range(100)]
    per_connection = (daemon.command("memory") - before) / len(clients)
    assert per_connection <= 90 * 1024, per_connection
    for client in warm + clients:
        client.shutdown()
