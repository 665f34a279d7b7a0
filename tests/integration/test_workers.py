"""Several processes behind one set of sockets: who serves, who replaces whom, and how it ends."""

import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients_support import check_found, load, log_in
from daemon import BIN, Daemon
from worker_support import await_workers, lives, log_in_at_each, sessions_of, wait_for, workers_of


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with two workers that the test may stop."""
    with Daemon(tmp_path, workers=2) as running:
        await_workers(running, 2)
        yield running


def test_a_killed_worker_is_replaced_and_nothing_is_lost(own: Daemon) -> None:
    account = own.add_user("ann")
    stop = threading.Event()
    done: list[str] = []
    tried: list[str] = []
    replaced = []
    for number in range(4):
        # Clients go with their worker: each round has new ones.
        threads = [
            threading.Thread(target=load, args=(own, account.address, f"{number}-{lane}", done, tried, stop))
            for lane in range(4)
        ]
        for thread in threads:
            thread.start()
        before = len(done)
        wait_for(lambda before=before: len(done) >= before + 10)  # type: ignore[misc]
        os.kill(workers_of(own)[1 + number % 2], signal.SIGKILL)
        replaced.append(await_workers(own, 3 + number))
    stop.set()
    for thread in threads:
        thread.join()
    check_found(own, account, done, tried)
    print("replaced after", [f"{seconds:.2f} s" for seconds in replaced])
    assert min(replaced) < 1
    assert all(lives(pid) for pid in workers_of(own).values())


@pytest.mark.parametrize("told", ["supervisor", "everyone"])
def test_sigterm_says_bye_and_ends_all(own: Daemon, told: str) -> None:
    account = own.add_user("ann")
    sessions = [log_in(own, account) for _ in range(6)]
    pids = workers_of(own).values()
    assert own.process is not None
    # systemd tells every process of the service.
    (os.kill if told == "supervisor" else os.killpg)(own.process.pid, signal.SIGTERM)
    for imap in sessions:
        assert imap.readline().startswith(b"* BYE")
        imap.shutdown()
    assert own.process.wait(10) in (0, -signal.SIGTERM)
    own.process = None
    assert not any(lives(pid) for pid in pids)


def test_the_death_of_the_supervisor_ends_the_workers(own: Daemon) -> None:
    account = own.add_user("ann")
    imap = log_in(own, account)
    pids = workers_of(own).values()
    own.kill()
    assert imap.readline().startswith(b"* BYE")
    imap.shutdown()
    wait_for(lambda: not any(lives(pid) for pid in pids), 10)
    own.start()
    assert log_in(own, account).noop()[0] == "OK"


def test_a_second_sigterm_does_not_wait_for_clients(own: Daemon) -> None:
    context = own.tls_context()
    with (
        socket.create_connection(("127.0.0.1", own.ports["imaps"]), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        assert tls.recv(1000).startswith(b"* OK")
        pids = workers_of(own).values()
        assert own.process is not None
        own.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Received SIGTERM" in own.log.read_text())
        # This client never answers the server's close.
        own.process.send_signal(signal.SIGTERM)
        own.process.wait(5)
        own.process = None
        assert not any(lives(pid) for pid in pids)


def test_a_worker_told_to_stop_is_polite_and_replaced(own: Daemon) -> None:
    account = own.add_user("ann")
    sessions = log_in_at_each(own, account)
    os.kill(workers_of(own)[1], signal.SIGTERM)
    assert sessions[1].readline().startswith(b"* BYE")
    sessions[1].shutdown()
    await_workers(own, 3)
    assert sessions[2].noop()[0] == "OK"
    assert sessions_of(own) == {1: 0, 2: 1}


def test_workers_that_cannot_start_end_the_daemon_in_words(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, workers=2).set_up()
    for secret in (daemon.data / "secrets").iterdir():
        secret.unlink()
    words = [str(BIN / "twistd"), "-n", "--pidfile=", "certmaild", "--config", str(daemon.config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot start" in done.stdout
    assert "Traceback" not in done.stdout


def test_resumption_works_within_a_worker(own: Daemon) -> None:
    context = own.tls_context()

    def connect(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", own.ports["imaps"]), timeout=30) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as tls,
        ):
            tls.recv(1000)
            return bool(tls.session_reused), tls.session

    _, session = connect(None)
    resumed = 0
    for _ in range(30):
        reused, fresh = connect(session)
        resumed += reused
        session = fresh
    assert resumed > 0
