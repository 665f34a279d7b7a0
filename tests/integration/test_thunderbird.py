"""Thunderbird itself (Debian's package under Xvfb): fetches by IMAP and by POP3, and sends."""

from collections.abc import Callable
from pathlib import Path

import pytest
from clients_support import deliver, make_mail, read_all
from daemon import Account, Daemon
from thunderbird_support import GET_MESSAGES, SEND, SHOW, running_thunderbird


@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_thunderbird_reads_and_sends(
    daemon: Daemon, account: Account, program: Callable[[str], str], tmp_path: Path, kind: str
) -> None:
    program("thunderbird")
    program("Xvfb")
    deliver(
        daemon,
        account.address,
        make_mail("Laboratory results", "Your results are normal.\r\n", to=account.address),
        make_mail("Follow-up", "Please call for an appointment.\r\n", to=account.address),
    )
    with running_thunderbird(tmp_path) as thunderbird:
        made = thunderbird.set_up(daemon, account, kind)
        found = thunderbird.run(GET_MESSAGES, made["server"], 2)
        assert sorted(found["subjects"]) == ["Follow-up", "Laboratory results"]
        shown = thunderbird.run(SHOW, made["server"])
        thunderbird.screenshot(tmp_path / f"thunderbird-{kind}.png")
        assert "results are normal" in str(shown["body"]) or "appointment" in str(shown["body"])
        sent = thunderbird.run(SEND, made["identity"], made["account"], account.address, "An answer", "Thank you.")
        assert sent["failed"] == ""
    assert any(b"Subject: An answer" in one for one in read_all(daemon, account))
