"""Partner records made by command: they count at once in every process of the real daemon, and after a restart."""

import smtplib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon

SOON_S = 20
SENDER = "bob@p.example"


@pytest.fixture(params=[0, 2], ids=["alone", "workers"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, workers=request.param) as running:
        yield running


def answer(own: Daemon, to: str) -> int:
    """What mail in the partner's name gets at RCPT, over TLS from this machine."""
    context = ssl.create_default_context(cafile=str(own.ca_file))
    with smtplib.SMTP("localhost", own.ports["smtp"]) as client:
        client.starttls(context=context)
        client.ehlo()
        client.mail(SENDER)
        return client.rcpt(to)[0]


def await_everywhere(own: Daemon, to: str, code: int) -> float:
    """Seconds until whoever answers says so; several times over, for there may be several."""
    begun = time.monotonic()
    right = 0
    while right < 8:
        right = right + 1 if answer(own, to) == code else 0
        assert time.monotonic() < begun + SOON_S
    return time.monotonic() - begun


def test_records_count_at_once_everywhere_and_after_a_restart(own: Daemon) -> None:
    to = own.add_user("ann").address
    assert answer(own, to) == 250
    own.command("partner", "add", "p.example", "--network", "192.0.2.0/24")
    await_everywhere(own, to, 550)
    own.stop()
    own.start()
    assert answer(own, to) == 550
    own.command("partner", "set", "p.example", "--network", "127.0.0.0/8", "--network", "::1/128")
    await_everywhere(own, to, 250)
    own.command("partner", "set", "p.example", "--network", "192.0.2.0/24", "--from", "2099-01-01")
    await_everywhere(own, to, 250)
    own.command("partner", "set", "p.example", "--from", "none")
    await_everywhere(own, to, 550)
    own.command("partner", "remove", "p.example")
    await_everywhere(own, to, 250)
    history = own.command("partner", "list", "--history")
    assert [
        word for line in history.splitlines() for word in line.split() if word in ("added", "changed", "removed")
    ] == [
        "added",
        "changed",
        "changed",
        "changed",
        "removed",
    ]
