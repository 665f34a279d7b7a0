"""Marked mail, then every file the server wrote is searched for the mark (KEYS section 17)."""

import imaplib
import os
import smtplib
import tempfile
from pathlib import Path

from clients_support import deliver, log_in
from daemon import Daemon

from certmaild.mailbox.environment import Environment
from certmaild.mailbox.layout import Table
from certmaild.mailbox.searching import WORTH_BUILDING

MARK = "Zyxomorph"


def files_with_mark(*folders: Path) -> list[str]:
    """Files below the folders that hold the mark in any letter case, as UTF-8, UTF-16 or base64-free text."""
    needles = [MARK.lower().encode(), MARK.lower().encode("utf-16-le")]
    hits = []
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = Path(place) / name
                if not path.is_file():
                    continue
                text = path.read_bytes().lower()
                if any(needle in text for needle in needles):
                    hits.append(str(path))
    return hits


def text_rows(daemon: Daemon) -> int:
    """Rows of the text column, once the server is down."""
    environment = Environment(daemon.data / "store")
    try:
        return environment.read(lambda txn: sum(1 for _ in txn.scan(Table.TEXT, b"")))
    finally:
        environment.close()


def test_no_file_holds_the_mark(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with Daemon(tmp_path / "server") as daemon:
        account = daemon.add_user("ann")
        large = "\r\n".join([f"{MARK} line {number}" for number in range(200_000)])
        for body in ("small", large):
            content = (
                f"From: {MARK} <{MARK}@sender.example>\r\nTo: {account.address}\r\nSubject: {MARK} subject\r\n"
                f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b{MARK}"\r\n\r\n--b{MARK}\r\n\r\n'
                f'{MARK} {body}\r\n--b{MARK}\r\nContent-Type: text/plain; name="{MARK}.txt"\r\n'
                f'Content-Disposition: attachment; filename="{MARK}.txt"\r\n\r\n{MARK}\r\n--b{MARK}--\r\n'
            ).encode()
            deliver(daemon, account.address, content)
        with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context()) as smtp:
            smtp.login(account.address, account.password)
            smtp.sendmail(
                account.address, [account.address], f"From: {account.address}\r\nSubject: {MARK}\r\n\r\n{MARK}\r\n"
            )
        with log_in(daemon, account) as imap:
            assert imap.select("INBOX")[1] == [b"3"]
            imap.create(f'"{MARK} folder"')
            imap.store("1:*", "+FLAGS", f"({MARK}keyword)")
            imap.copy("1", f'"{MARK} folder"')
            imap.append("Drafts", "", imaplib.Time2Internaldate(0), f"Subject: {MARK}\r\n\r\n{MARK}\r\n".encode())
            assert imap.search(None, "TEXT", MARK)[1] == [b"1 2 3"]
            for number in range(WORTH_BUILDING):
                imap.append("Archive", "", "", f"Subject: {MARK} {number}\r\n\r\n{MARK}\r\n".encode())
            imap.select("Archive")
            assert len(imap.search(None, "BODY", MARK)[1][0].split()) == WORTH_BUILDING
            imap.select("INBOX")
            assert imap.search(None, "KEYWORD", f"{MARK}keyword")[1] == [b"1 2 3"]
        daemon.command("device", "add", account.address, "--name", f"{MARK}phone", stdin=account.password + "\n")
        assert files_with_mark(daemon.folder, temporary) == []
        daemon.stop()
        assert text_rows(daemon) == 3
        assert files_with_mark(daemon.folder, temporary) == []
        # The search itself finds what is there.
        (temporary / "control").write_text(f"x{MARK.upper()}x")
        assert files_with_mark(temporary) == [str(temporary / "control")]
        assert tempfile.gettempdir()
