"""What the first log-in after many deliveries is like: `bench/opening.py [--messages N] [--octets N]`.

Delivers N messages (20,000) to somebody who is not logged in, then logs in, selects INBOX, fetches the first 50, and
watches EXISTS grow until all are there, while another client reads and mail is delivered to him.
"""

import tempfile
import time
from pathlib import Path

from bystanders import Bystanders
from clients import Imap
from daemon import Daemon
from figures import make_message, print_figure, wish
from ingest import deliver

CONNECTIONS = 16
DISTINCT = 500
FIRST = 50


def exists(lines: list[bytes]) -> int:
    """The last EXISTS among untagged lines; 0 without one."""
    found = [int(line.split()[1]) for line in lines if line.endswith(b"EXISTS\r\n")]
    return found[-1] if found else 0


def run(daemon: Daemon, count: int, octets: int) -> dict[str, float | int]:
    """How long it took to see the first messages and all of them, how often EXISTS grew, and how others fared."""
    account = daemon.add_user("ann", quota="64GiB")
    distinct = [make_message(number, octets) for number in range(min(count, DISTINCT))]
    deliver(daemon, account, [distinct[number % len(distinct)] for number in range(count)], CONNECTIONS)
    others = Bystanders(daemon, daemon.add_user("other"))
    try:
        time.sleep(1)
        others.lap()
        cpu, begun = daemon.cpu_s(), time.perf_counter()
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        first = there = exists(imap.ask(b"SELECT INBOX"))
        selected_s = time.perf_counter() - begun
        usable = min(FIRST, count)
        fetched = len(imap.ask(b"FETCH 1:%d (UID FLAGS ENVELOPE)" % usable))
        usable_s = time.perf_counter() - begun
        grew, slowest_s = 0, 0.0
        while there < count:
            asked = time.perf_counter()
            now = exists(imap.ask(b"NOOP")) or there
            imap.ask(b"FETCH %d ENVELOPE" % now)
            slowest_s = max(slowest_s, time.perf_counter() - asked)
            grew += now > there
            there = now
        wall, cpu = time.perf_counter() - begun, daemon.cpu_s() - cpu
        lap = others.lap()
    finally:
        others.stop()
    if there != count or fetched < usable:
        raise SystemExit(f"{there} of {count} messages are there, {fetched} of {usable} were fetched")
    found: dict[str, float | int] = {
        "messages": count,
        "select_s": selected_s,
        "first_seen": first,
        "first_50_s": usable_s,
        "all_s": wall,
        "exists_grew": grew,
        "slowest_noop_and_fetch_s": slowest_s,
        "server_cpu_us_each": cpu / count * 1e6,
        **lap,
    }
    print_figure("opening", **found)
    return found


def main() -> None:
    """Run it once in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        run(daemon, wish("messages", 20000), wish("octets", 2048))


if __name__ == "__main__":
    main()
