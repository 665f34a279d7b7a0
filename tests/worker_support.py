"""What the tests of several workers share: which worker serves whom, and waiting for what only looking can tell."""

import imaplib
import json
import time
from collections.abc import Callable
from pathlib import Path

from clients_support import log_in
from daemon import Account, Daemon


def wait_for(done: Callable[[], bool], within_s: float = 30) -> float:
    """Wait for what only looking can tell; for how long."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < within_s
        time.sleep(0.005)
    return time.monotonic() - began


def await_workers(daemon: Daemon, times: int, *, within_s: float = 30) -> float:
    """Wait until the log has said so often that a worker serves; for how long."""
    return wait_for(lambda: daemon.log.read_text().count(" serves, process ") >= times, within_s)


def status_of(daemon: Daemon) -> dict[int, dict[str, int]]:
    """What `certmaild status` says of each worker, by its number."""
    processes = json.loads(daemon.command("status", "--json"))["processes"]
    return {one["worker"]: one for one in processes if one["worker"]}


def workers_of(daemon: Daemon) -> dict[int, int]:
    """The process of each worker, by its number."""
    return {slot: one["pid"] for slot, one in status_of(daemon).items()}


def sessions_of(daemon: Daemon) -> dict[int, int]:
    """How many are logged in at each worker."""
    return {slot: one["sessions"] for slot, one in status_of(daemon).items()}


def lives(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def log_in_at_each(daemon: Daemon, account: Account) -> dict[int, imaplib.IMAP4_SSL]:
    """One session at each of two workers, as `certmaild status` proves."""
    found: dict[int, imaplib.IMAP4_SSL] = {}
    while len(found) < 2:
        before = sessions_of(daemon)
        imap = log_in(daemon, account)
        after = sessions_of(daemon)
        (slot,) = (slot for slot in after if after[slot] > before[slot])
        if slot not in found:
            found[slot] = imap
        else:
            imap.logout()
            wait_for(lambda: sessions_of(daemon) == before)  # noqa: B023  # called at once
    return found
