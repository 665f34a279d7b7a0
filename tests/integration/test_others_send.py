"""Exim and OpenSMTPD, as Debian ships them, send to the real daemon over TLS that they verify."""

import smtplib
import time
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
import tls_support
from clients_support import SENDER, make_mail, read_all
from daemon import Account
from home_support import HOST, Home, home
from receiving_support import Place, open_folder, unpacked
from sending_support import NAME, sending_exim, sending_opensmtpd

PATIENCE_S = 20


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    unpacked("exim4-daemon-light", "exim4-base")  # they are fetched before this network is left for one of our own
    unpacked("opensmtpd")
    with open_folder() as folder, home(folder) as running:
        yield running


@pytest.fixture(scope="module")
def member(house: Home) -> Account:
    return house.daemon.add_user("ann")


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


def send(place: Place, account: Account, subject: str) -> None:
    with smtplib.SMTP(place.address, place.port, timeout=60) as smtp:
        smtp.sendmail(SENDER, [account.address], make_mail(subject, to=account.address))


def await_line(path: Path, *words: str) -> str:
    """The first line of a log with all these words."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        text = path.read_text("utf-8", "replace") if path.exists() else ""
        for line in text.splitlines():
            if all(word in line for word in words):
                return line
        assert time.monotonic() < give_up, text[-3000:]
        time.sleep(0.05)  # other people's servers give no event to wait on


def check_arrived(house: Home, account: Account, subject: str) -> None:
    """It is there once, and came over TLS."""
    messages = [message_from_bytes(one) for one in read_all(house.daemon, account)]
    (message,) = [one for one in messages if one["Subject"] == subject]
    assert message["Received"].startswith(f"from {NAME} ")
    assert "TLSv1.3" in message["Received"]
    assert "spf=none smtp.mailfrom=partner.example" in message["Authentication-Results"]


@pytest.mark.parametrize(("dane", "proven"), [(False, "CV=yes"), (True, "CV=dane")], ids=["authority", "dane"])
def test_exim(house: Home, member: Account, folder: Path, dane: bool, proven: str) -> None:
    subject = f"by Exim, {proven}"
    with sending_exim(folder, house, dane=dane) as place:
        send(place, member, subject)
        line = await_line(folder / "logs" / "mainlog", f"=> {member.address}")
    assert f"H={HOST} " in line and proven in line and 'C="250 2.0.0 Message taken' in line
    check_arrived(house, member, subject)


def test_opensmtpd(house: Home, member: Account, folder: Path) -> None:
    with sending_opensmtpd(folder, house, house.ca_file) as place:
        send(place, member, "by OpenSMTPD")
        await_line(folder / "log", "mta delivery", f"to=<{member.address}>", 'result="Ok"', "250 2.0.0 Message taken")
        await_line(folder / "log", "mta server-cert-check", 'result="success"')
    check_arrived(house, member, "by OpenSMTPD")


def test_opensmtpd_that_does_not_know_our_authority(house: Home, member: Account, folder: Path) -> None:
    other = tls_support.authority().write_pem(folder)
    with sending_opensmtpd(folder, house, other) as place:
        send(place, member, "unproven")
        await_line(folder / "log", "mta error reason=SSL certificate check failed")
    assert not any(b"Subject: unproven" in one for one in read_all(house.daemon, member))
