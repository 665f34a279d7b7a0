"""A real Postfix as the partner's server: delivers to port 25 with `smtp_tls_security_level = secure`."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients_support import make_mail, read_all, run
from daemon import Account, Daemon
from postfix_support import Find, running_postfix

DELIVERY_TIME_S = 60


@pytest.fixture
def postfix(daemon: Daemon, program: Find, tmp_path: Path) -> Iterator[Path]:
    """The configuration folder of a running Postfix that relays everything to the daemon's port 25."""
    with running_postfix(daemon, program, tmp_path) as config:
        yield config


def test_postfix_delivers_over_verified_tls(
    daemon: Daemon, account: Account, postfix: Path, program: Find, tmp_path: Path
) -> None:
    contents = [make_mail(f"from Postfix {number}", to=account.address) for number in range(20)]
    for content in contents:
        run(
            *(program("sendmail"), "-C", str(postfix), "-f", "bob@partner.example", "-i", account.address),
            home=tmp_path,
            stdin=content.replace(b"\r\n", b"\n"),
        )
    deadline = time.monotonic() + DELIVERY_TIME_S
    while len(found := read_all(daemon, account)) < len(contents):
        log = postfix.parent / "queue" / "maillog"
        assert time.monotonic() < deadline, log.read_text()[-3000:] if log.exists() else "no maillog"
        time.sleep(0.2)  # Postfix gives no event to wait on
    assert {one[one.index(b"Subject: ") :].split(b"\r\n")[0] for one in found} == {
        b"Subject: from Postfix %d" % number for number in range(20)
    }
    assert b"Verified TLS connection" in (postfix.parent / "queue" / "maillog").read_bytes()
