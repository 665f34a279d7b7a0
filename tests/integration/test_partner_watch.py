"""The daily look at partners by the real daemon: one letter, whatever restarts."""

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import tls_support
from clients_support import read_all
from daemon import Daemon
from smtp_peer_support import Peer

LOOKING_EACH_SECOND = (
    "import certmaild.peering.watch as watch; watch.LOOK_S = 1; from twisted.scripts.twistd import run; run()"
)
SOON_S = 60


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that looks each second who was last looked at a day ago."""
    twistd = (sys.executable, "-c", LOOKING_EACH_SECOND)
    with Daemon(tmp_path / "daemon", twistd=twistd, settings='postmaster = "ann@example.com"') as running:
        yield running


def test_a_certificate_that_runs_out_is_told_of_once(own: Daemon, tmp_path: Path) -> None:
    ann, root = own.add_user("ann"), tls_support.authority()
    issued = root.issue("mx.p.example", end=timedelta(days=5))
    with Peer(issued.server(tmp_path)) as peer:
        terms = ("--route", f"127.0.0.1:{peer.port}", "--name", "mx.p.example", "--ca", str(root.write_pem(tmp_path)))
        own.command("partner", "add", "p.example", *terms)
        deadline = time.monotonic() + SOON_S
        while not (letters := read_all(own, ann)):
            assert time.monotonic() < deadline, own.log.read_text()[-2000:]
            time.sleep(0.2)
        (letter,) = letters
        assert b"Subject: Partner p.example: a certificate runs out" in letter
        assert b"The certificate of 127.0.0.1 runs out in 4 days" in letter
        calls = len(peer.callers)
        own.stop()
        own.start()
        # It looks for a partner whom it does not know yet, and finds nothing to say of the other.
        own.command("partner", "add", "q.example", "--route", f"127.0.0.1:{peer.port}", "--level", "encrypt")
        while not any(b"Partner q.example" in one for one in letters):
            assert time.monotonic() < deadline, own.log.read_text()[-2000:]
            time.sleep(0.2)
            letters = read_all(own, ann)
        assert sum(b"Partner p.example" in one for one in letters) == 1
        assert len(peer.callers) == calls + 1
        assert "MAIL" not in peer.verbs()
