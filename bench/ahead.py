"""What the text column costs as messages come: `bench/ahead.py [--messages N] [--octets N]`.

Three times, in fresh folders: nobody has searched by text; somebody has, so the folder has a column; `[search] ahead`.
N messages (5,000) are delivered to somebody who is away, then he logs in: the CPU until EXISTS has told of all, and
until the server is silent again. N more are delivered while he is connected. Then N more while he is away, and another
client's reading and delivering is timed while he logs in, and when all is absorbed.
"""

import tempfile
import time
from pathlib import Path

from bystanders import Bystanders
from clients import Imap, fill
from daemon import Account, Daemon
from figures import make_message, print_figure, wish
from ingest import deliver
from opening import exists

CONNECTIONS = 16
DISTINCT = 500
COLUMN_S = 0.0006
"""What a message at most takes to come into the column, while others are at work."""
SILENT_S = 2.5
"""Longer than what comes waits to be added to a column."""


def settle(daemon: Daemon) -> float:
    """Wait until the server has done nothing for a while; its CPU until now."""
    cpu, since = daemon.cpu_s(), time.perf_counter()
    while time.perf_counter() - since < SILENT_S:
        time.sleep(0.1)
        now = daemon.cpu_s()
        if now - cpu > 0.01:
            cpu, since = now, time.perf_counter()
    return daemon.cpu_s()


def log_in(daemon: Daemon, account: Account) -> Imap:
    return Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)


def store_octets(daemon: Daemon) -> int:
    """What the store's file takes on the disk."""
    return (daemon.data / "store" / "data.mdb").stat().st_blocks * 512


def take_in(imap: Imap, there: int) -> None:
    """Select INBOX, and wait until all messages are there."""
    seen = exists(imap.ask(b"SELECT INBOX"))
    while seen < there:
        time.sleep(0.05)
        seen = exists(imap.ask(b"NOOP")) or seen


def run(daemon: Daemon, name: str, contents: list[bytes], *, searched: bool) -> None:
    """Print the figures of one way."""
    account, count, there = daemon.add_user("ann", quota="64GiB"), len(contents), 0
    if searched:
        imap, there = log_in(daemon, account), 100
        fill(imap, there, len(contents[0]))
        imap.command(b"SELECT INBOX")
        imap.ask(b"UID SEARCH TEXT nowhere")
        imap.close()
    deliver(daemon, account, contents, CONNECTIONS)
    there += count
    before, disk = settle(daemon), store_octets(daemon)
    imap = log_in(daemon, account)
    take_in(imap, there)
    seen, after = daemon.cpu_s(), settle(daemon)
    print_figure(
        "absorb",
        column=name,
        messages=count,
        octets=len(contents[0]),
        until_seen_us_each=(seen - before) / count * 1e6,
        until_silent_us_each=(after - before) / count * 1e6,
        disk_octets_each=(store_octets(daemon) - disk) / count,
    )
    before, begun = after, time.perf_counter()
    deliver(daemon, account, contents, CONNECTIONS)
    there += count
    delivered_s = time.perf_counter() - begun
    take_in(imap, there)
    cpu_us = (settle(daemon) - before) / count * 1e6
    print_figure(
        "deliver-and-absorb", column=name, messages=count, a_second=count / delivered_s, until_silent_us_each=cpu_us
    )
    imap.close()
    deliver(daemon, account, contents, CONNECTIONS)
    there += count
    settle(daemon)
    others = Bystanders(daemon, daemon.add_user("other"))
    try:
        time.sleep(1)
        others.lap()
        take_in(log_in(daemon, account), there)
        print_figure("others-while-absorbing", column=name, **others.lap())
        time.sleep(count * COLUMN_S)
        print_figure("others-after", column=name, **others.lap())
    finally:
        others.stop()


def main() -> None:
    """Run all three."""
    count, octets = wish("messages", 5000), wish("octets", 10240)
    distinct = [make_message(number, octets) for number in range(min(count, DISTINCT))]
    contents = [distinct[number % len(distinct)] for number in range(count)]
    for name, tables, searched in (
        ("none, never searched", "", False),
        ("searched before", "", True),
        ("ahead", "[search]\nahead = true", False),
    ):
        with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder), tables=tables) as daemon:
            run(daemon, name, contents, searched=searched)


if __name__ == "__main__":
    main()
