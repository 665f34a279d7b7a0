"""Mail on its way to a real Postfix while the daemon is killed, again and again.

Nothing is lost, and what may arrive twice is counted (RFC 1047).
"""

import os
import random
import re
import shutil
import signal
import smtplib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from daemon import Account, Daemon
from postfix import why_not
from sink import DOMAIN, Sink

PATIENCE_S = 120
MESSAGES = 25
"""Submitted in each round, or as many as the daemon lives to take."""
QUICK = '[outbound]\nretry = "1s"\nlongest_retry = "2s"\n'
LEADS = re.compile(r"\[worker (\d) certmaild\.outbound\.leader#info\] this process works the outgoing queue")


class Sender(Thread):
    """Submits numbered messages until the daemon dies; knows which were accepted, and which of them nobody answered."""

    def __init__(self, daemon: Daemon, account: Account, numbers: range) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._account = account
        self._numbers = numbers
        self.accepted: set[int] = set()
        self.unanswered: set[int] = set()

    def run(self) -> None:
        with suppress(OSError, smtplib.SMTPException):
            port = self._daemon.ports["submissions"]
            with smtplib.SMTP_SSL("localhost", port, context=self._daemon.tls_context(), timeout=30) as client:
                client.login(self._account.address, self._account.password)
                for number in self._numbers:
                    self.unanswered.add(number)
                    client.sendmail(self._account.address, [f"b@{DOMAIN}"], self._message(number))
                    self.unanswered.discard(number)
                    self.accepted.add(number)

    def _message(self, number: int) -> bytes:
        body = b"line of text\r\n" * (1 << random.Random(number).randrange(13))
        return b"X-Number: %d\r\nFrom: %s\r\n\r\n%s" % (number, self._account.address.encode(), body)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: Postfix's sockets lie below."""
    if reason := why_not():
        pytest.skip(reason)
    made = Path(tempfile.mkdtemp(prefix="queue", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def sink(folder: Path) -> Iterator[Sink]:
    with Sink(folder / "sink") as running:
        yield running


def wait_until(holds: Callable[[], bool], daemon: Daemon) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, daemon.log.read_text()[-4000:]
        time.sleep(0.1)  # another program's file gives no event to wait on


def start_again(daemon: Daemon) -> None:
    """On other ports, if another program has taken one meanwhile."""
    try:
        daemon.start()
    except RuntimeError as problem:
        if "is taken" not in str(problem):
            raise
        daemon.configure()
        daemon.start()


def queue_is_empty(daemon: Daemon) -> bool:
    return daemon.command("queue", "list") == "The queue is empty.\n"


def check(daemon: Daemon, sink: Sink, accepted: set[int], unanswered: set[int]) -> None:
    """Each accepted message came once, but for those that the log has counted."""
    wait_until(lambda: queue_is_empty(daemon), daemon)
    wait_until(lambda: accepted <= set(sink.numbers()), daemon)
    came = Counter(sink.numbers())
    assert set(came) <= accepted | unanswered
    doubled = sum(count - 1 for count in came.values())
    counted = sum(map(int, re.findall(r"sent again after a crash: (\d+) may be doubled", daemon.log.read_text())))
    print(f"{len(accepted)} accepted, {len(unanswered)} unanswered, {doubled} doubled, {counted} counted")
    assert doubled <= counted
    assert counted <= len(accepted) // 2


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_nothing_is_lost_or_doubled_uncounted_when_the_daemon_is_killed(folder: Path, sink: Sink, rounds: int) -> None:
    daemon = Daemon(folder / "daemon", tables=QUICK + sink.partner()).set_up().start()
    try:
        account = daemon.add_user("ann")
        accepted: set[int] = set()
        unanswered: set[int] = set()
        for round_number in range(rounds):
            first = round_number * MESSAGES
            sender = Sender(daemon, account, range(first, first + MESSAGES))
            sender.start()
            # Any moment will do: from the log-in until after the last message has gone.
            sender.join(random.Random(round_number).uniform(0.1, 1.5))
            daemon.kill()
            sender.join(60)
            accepted |= sender.accepted
            unanswered |= sender.unanswered
            start_again(daemon)
        assert len(accepted) > 3 * rounds
        check(daemon, sink, accepted, unanswered)
    finally:
        daemon.stop()


def test_another_worker_goes_on_when_the_one_that_sends_dies(folder: Path, sink: Sink) -> None:
    daemon = Daemon(folder / "daemon", tables=QUICK + sink.partner(), workers=2).set_up().start()
    try:
        account = daemon.add_user("ann")
        accepted: set[int] = set()
        unanswered: set[int] = set()
        for round_number in range(3):
            wait_until(lambda count=round_number: len(leaders(daemon)) > count, daemon)
            sender = Sender(daemon, account, range(round_number * MESSAGES, (round_number + 1) * MESSAGES))
            sender.start()
            sender.join(0.5)
            worker = leaders(daemon)[-1]
            os.kill(worker_pid(daemon, worker), signal.SIGKILL)
            died = time.monotonic()
            wait_until(lambda count=round_number: len(leaders(daemon)) > count + 1, daemon)
            assert time.monotonic() - died < 10
            sender.join(60)
            accepted |= sender.accepted
            unanswered |= sender.unanswered
        assert accepted
        check(daemon, sink, accepted, unanswered)
    finally:
        daemon.stop()


def leaders(daemon: Daemon) -> list[int]:
    """Which workers took the queue, in the order in which they did."""
    return [int(number) for number in LEADS.findall(daemon.log.read_text())]


def worker_pid(daemon: Daemon, worker: int) -> int:
    found = re.findall(rf"worker {worker} serves, process (\d+)", daemon.log.read_text())
    return int(found[-1])


def test_a_stop_sends_what_is_under_way_and_leaves_the_rest_for_the_next_start(folder: Path, sink: Sink) -> None:
    daemon = Daemon(folder / "daemon", tables=QUICK + sink.partner()).set_up().start()
    try:
        account = daemon.add_user("ann")
        sink.stop()
        sender = Sender(daemon, account, range(MESSAGES))
        sender.start()
        sender.join(60)
        assert len(sender.accepted) == MESSAGES
        daemon.stop()
        sink.start()
        daemon.start()
        check(daemon, sink, sender.accepted, set())
        assert "may be doubled" not in daemon.log.read_text()
        assert sorted(sink.numbers()) == list(range(MESSAGES))
    finally:
        daemon.stop()
