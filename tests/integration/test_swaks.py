"""swaks: STARTTLS to port 25 and to submission, AUTH PLAIN and LOGIN, refusals before TLS."""

from collections.abc import Callable
from pathlib import Path

import pytest
from clients_support import read_all, run
from daemon import Account, Daemon

Find = Callable[[str], str]


def test_swaks_delivers_over_starttls(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    text = run(
        *(program("swaks"), "--server", "localhost", "--port", str(daemon.ports["smtp"]), "--tls", "--tls-verify"),
        *("--tls-ca-path", str(daemon.ca_file), "--from", "bob@partner.example", "--to", account.address),
        *("--header", "Subject: by swaks", "--body", "caf\u00e9"),
        home=tmp_path,
    )
    assert "250" in text
    (content,) = read_all(daemon, account)
    assert b"Subject: by swaks" in content


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_swaks_submits(
    daemon: Daemon, account: Account, program: Find, tmp_path: Path, mechanism: str, listener: str
) -> None:
    tls = "--tls" if listener == "submission" else "--tls-on-connect"
    run(
        *(program("swaks"), "--server", "localhost", "--port", str(daemon.ports[listener]), tls, "--tls-verify"),
        *("--tls-ca-path", str(daemon.ca_file), "--auth", mechanism, "--auth-user", account.address),
        *("--auth-password", account.password, "--from", account.address, "--to", account.address),
        home=tmp_path,
    )
    assert len(read_all(daemon, account)) == 1


def test_mail_before_tls_is_refused(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    text = run(
        *(program("swaks"), "--server", "localhost", "--port", str(daemon.ports["smtp"])),
        *("--from", "bob@partner.example", "--to", account.address),
        home=tmp_path,
        ok=tuple(range(1, 64)),
    )
    assert "530 5.7.0" in text
    assert read_all(daemon, account) == []
