"""What becomes of a member's mail to a real Postfix: proven and delivered, refused, put off, held back, dropped.

And what he and the operator read of it.
"""

import json
import shutil
import smtplib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clients_support import read_all
from daemon import Account, Daemon
from postfix import why_not
from sink import DOMAIN, Sink

PATIENCE_S = 60
QUICK = '[outbound]\nretry = "1s"\nlongest_retry = "2s"\nwarn_after = "2s"\ndelay_after = "5s"\n'
WRONG = "wrong.example"
RULES = (
    "smtpd_recipient_restrictions = check_recipient_access inline:{ "
    f"{{nobody@{DOMAIN} = 550 5.1.1 no such user}}, {{busy@{DOMAIN} = 450 4.2.1 busy}} }}, reject_unauth_destination"
)


@pytest.fixture(scope="module")
def postfix() -> Iterator[Sink]:
    if reason := why_not():
        pytest.skip(reason)
    # Short: Postfix's sockets lie below.
    folder = Path(tempfile.mkdtemp(prefix="fates", dir="/tmp"))
    with Sink(folder, settings=(RULES,)) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def sending(postfix: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that knows the way to Postfix, and one to it under a name that its certificate has not."""
    wrong = postfix.partner().replace(DOMAIN, WRONG).replace('names = ["localhost"]', f'names = ["mx.{WRONG}"]')
    folder = tmp_path_factory.mktemp("sending")
    with Daemon(folder, tables=QUICK + postfix.partner() + wrong) as running:
        yield running


@pytest.fixture
def member(sending: Daemon, request: pytest.FixtureRequest) -> Account:
    return sending.add_user(request.node.name.replace("test_", "")[:20])


def send(daemon: Daemon, account: Account, *to: str) -> str:
    """Submit a message; its id in the queue."""
    content = f"From: {account.address}\r\nTo: you\r\nSubject: hello\r\nX-Number: 7\r\n\r\nhi\r\n".encode()
    with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context()) as client:
        client.login(account.address, account.password)
        client.mail(account.address)
        for one in to:
            assert client.rcpt(one)[0] == 250
        code, words = client.data(content)
    assert code == 250
    return words.decode().split()[-1].rstrip(".")


def show(daemon: Daemon, queue_id: str) -> list[dict[str, Any]]:
    shown = json.loads(daemon.command("queue", "show", queue_id, "--json"))
    return list(shown["recipients"])


def wait_for(holds: Callable[[], object], daemon: Daemon) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, daemon.log.read_text()[-4000:]
        time.sleep(0.2)  # another process gives no event to wait on


def test_delivered_refused_and_put_off(sending: Daemon, member: Account, postfix: Sink) -> None:
    to = [f"{name}@{DOMAIN}" for name in ("bob", "nobody", "busy")]
    queue_id = send(sending, member, *to)
    wait_for(lambda: "ready" not in [one["state"] for one in show(sending, queue_id)], sending)
    bob, nobody, busy = show(sending, queue_id)
    assert (bob["state"], nobody["state"]) == ("delivered", "failed")
    proof = bob["delivered"]["proof"]
    assert (proof["version"], proof["verified"], proof["how"]) == ("TLSv1.3", True, "certificate for localhost")
    assert (nobody["problem"]["enhanced"], busy["problem"]["enhanced"]) == ("5.1.1", "4.2.1")
    wait_for(lambda: len(read_all(sending, member)) == 2, sending)
    failed, delayed = read_all(sending, member)
    assert b"Action: failed" in failed and b"Status: 5.1.1" in failed and b"nobody@" in failed
    assert b"Action: delayed" in delayed and b"busy@" in delayed
    assert "busy" in sending.command("queue", "list", "--to", to[2])
    sending.command("queue", "drop", queue_id, "--reason", "a test", "--silent")
    assert [one["state"] for one in show(sending, queue_id)] == ["delivered", "failed", "dropped"]


def test_what_proves_nothing_gets_nothing_and_the_sender_hears_of_it(
    sending: Daemon, member: Account, postfix: Sink
) -> None:
    before = postfix.log.count("RCPT from") + len(postfix.numbers())
    queue_id = send(sending, member, f"x@{WRONG}")
    wait_for(lambda: read_all(sending, member), sending)
    (warning,) = read_all(sending, member)[:1]
    assert b"certificate is for localhost" in warning.replace(b"\r\n  ", b" ")
    assert b"Status: 4.7.5" in warning
    assert postfix.log.count("RCPT from") + len(postfix.numbers()) == before
    (one,) = show(sending, queue_id)
    assert one["problem"]["concerns_tls"]
    sending.command("queue", "drop", queue_id, "--reason", "the way is not safe")
    wait_for(lambda: show(sending, queue_id)[0]["state"] == "failed", sending)
    wait_for(lambda: b"the way is not safe" in b"".join(read_all(sending, member)).replace(b"\r\n  ", b" "), sending)


def test_held_and_released(sending: Daemon, member: Account, postfix: Sink) -> None:
    postfix.stop()
    try:
        queue_id = send(sending, member, f"held@{DOMAIN}")
        sending.command("queue", "hold", queue_id)
    finally:
        postfix.start()
    assert [one["state"] for one in show(sending, queue_id)] == ["held"]
    sending.command("queue", "release", queue_id)
    wait_for(lambda: show(sending, queue_id)[0]["state"] == "delivered", sending)
