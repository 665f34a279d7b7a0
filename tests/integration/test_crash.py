"""kill -9 at random moments under delivery load: what got its 250 is there exactly once (DESIGN section 7)."""

import random
import threading
from pathlib import Path

import pytest
from clients_support import check_found, load
from daemon import Account, Daemon


def kill_rounds(daemon: Daemon, account: Account, rounds: int) -> dict[str, int]:
    """Kill and restart ``rounds`` times; check after all of them; what was answered and what was not."""
    dice = random.Random(20261123)
    done: list[str] = []
    tried: list[str] = []
    for number in range(rounds):
        stop = threading.Event()
        threads = [
            threading.Thread(target=load, args=(daemon, account.address, f"{number}-{lane}", done, tried, stop))
            for lane in range(4)
        ]
        for thread in threads:
            thread.start()
        stop.wait(dice.uniform(0.15, 1.0))  # the moment of the kill is the point
        daemon.kill()
        stop.set()
        for thread in threads:
            thread.join()
        daemon.start()
    found = check_found(daemon, account, done, tried)
    return {
        "rounds": rounds,
        "answered": len(done),
        "unanswered": len(tried) - len(done),
        "of them there": len(found) - len(done),
    }


def run_rounds(folder: Path, rounds: int, workers: int = 0) -> None:
    with Daemon(folder, workers=workers) as daemon:
        account = daemon.add_user("ann")
        print(kill_rounds(daemon, account, rounds))
        assert '"damaged"' not in daemon.command("status", "--json")


@pytest.mark.parametrize("workers", [0, 2])
def test_five_kills_lose_and_double_nothing(tmp_path: Path, workers: int) -> None:
    run_rounds(tmp_path, 5, workers)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    run_rounds(tmp_path, 50)
