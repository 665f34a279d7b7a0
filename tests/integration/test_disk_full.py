"""A full disk: 452 4.3.1 for new mail, and service goes on when room returns."""

import os
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients_support import deliver, log_in, make_mail, read_all
from daemon import Daemon


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def answer(smtp: smtplib.SMTP, wanted: int) -> bytes:
    """The text of the answer to MAIL once it is ``wanted``: free room is asked of the disk four times a second."""
    deadline = time.monotonic() + 10
    while (found := smtp.mail("bob@partner.example"))[0] != wanted:
        assert time.monotonic() < deadline, found
        smtp.rset()
    return found[1]


def test_full_disk_defers_and_room_brings_service_back(small_disk: Path) -> None:
    with Daemon(small_disk, settings='free_disk = "16MiB"') as daemon:
        account = daemon.add_user("ann")
        deliver(daemon, account.address, make_mail("before", to=account.address))
        filler = small_disk / "filler"
        filler.write_bytes(b"x" * ((os.statvfs(small_disk).f_bavail - 2048) * os.statvfs(small_disk).f_bsize))
        with smtplib.SMTP("localhost", daemon.ports["smtp"], timeout=60) as smtp:
            smtp.starttls(context=daemon.tls_context())
            smtp.ehlo()
            assert (answer(smtp, 452))[:5] == b"4.3.1"
            filler.unlink()
            answer(smtp, 250)
        deliver(daemon, account.address, make_mail("after", to=account.address))
        assert len(read_all(daemon, account)) == 2


def test_disk_that_fills_to_the_last_page_damages_nothing(small_disk: Path) -> None:
    with Daemon(small_disk, settings="free_disk = 0") as daemon:
        account = daemon.add_user("ann")
        big = make_mail("big", "y" * 76 + "\r\n", to=account.address) + os.urandom(3_000_000).hex().encode() + b"\r\n"
        answered = 0
        with pytest.raises(
            (smtplib.SMTPDataError, smtplib.SMTPSenderRefused, smtplib.SMTPRecipientsRefused)
        ) as refused:
            for _ in range(40):
                deliver(daemon, account.address, big)
                answered += 1
        assert "452" in str(refused.value) or "451" in str(refused.value)
        with log_in(daemon, account) as imap:
            assert imap.select("INBOX")[0] == "OK"
        daemon.stop()
        daemon.start()
        with log_in(daemon, account) as imap:
            assert int(imap.select("INBOX")[1][0]) <= answered
