"""Several processes behind one set of sockets: who serves, who replaces whom, and how it ends."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients_support import check_found, load, log_in
from daemon import Daemon


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with two workers that the test may stop."""
    with Daemon(tmp_path, settings="workers = 2") as running:
        await_workers(running, 2)
        yield running


def await_workers(daemon: Daemon, times: int, *, within_s: float = 30) -> float:
    """Wait until the log has said so often that a worker serves; for how long."""
    return wait_for(lambda: daemon.log.read_text().count(" serves, process ") >= times, within_s)


def wait_for(done: Callable[[], bool], within_s: float = 30) -> float:
    """Wait for what only looking can tell; for how long."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < within_s
        time.sleep(0.005)
    return time.monotonic() - began


def workers_of(daemon: Daemon) -> dict[int, int]:
    """The process of each worker, by its number."""
    return {slot: int(one["pid"]) for slot, one in status_of(daemon).items()}


def status_of(daemon: Daemon) -> dict[int, dict[str, int]]:
    """What `certmaild status` says of each worker, by its number."""
    processes = json.loads(daemon.command("status", "--json"))["processes"]
    return {one["worker"]: one for one in processes if one["worker"]}


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


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


def test_sigterm_says_bye_and_ends_all(own: Daemon) -> None:
    account = own.add_user("ann")
    sessions = [log_in(own, account) for _ in range(6)]
    pids = workers_of(own).values()
    assert own.stop() in (0, -signal.SIGTERM)
    assert all(imap.readline().startswith(b"* BYE") for imap in sessions)
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
