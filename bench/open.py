"""What opening and listing a large folder costs: `bench/open.py [--messages N] [--octets N]`.

Fills a mailbox by IMAP APPEND (MULTIAPPEND by 100), starts the daemon anew, then measures SELECT the first time and
again, `FETCH 1:* (UID FLAGS)`, and what clients ask of a new folder (ENVELOPE, Thunderbird's headers, BODYSTRUCTURE,
each of a third of the messages) the first time and again, `STORE 1:* +FLAGS` and SEARCH TEXT, each over real TLS.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from clients import THUNDERBIRD, Imap, fill, log_in
from daemon import Daemon
from figures import make_message, percentiles_ms, print_figure, wish
from server import Account, Server
from usage import Lap

Figures = Iterator[tuple[str, dict[str, float | int]]]

AGAIN = 20
"""Times that SELECT is repeated."""
LISTINGS = (("envelope", b"ENVELOPE"), ("thunderbird", THUNDERBIRD), ("bodystructure", b"BODYSTRUCTURE"))
SEARCHED = "bench.77@sender"


def select(server: Server, account: Account, count: int) -> Figures:
    """SELECT in a new session of a server just started, again, and the flags of all."""
    imap = log_in(server, account)
    with Lap(server) as lap:
        exists = [line for line in imap.ask(b"SELECT INBOX") if line.endswith(b" EXISTS\r\n")]
    if exists != [b"* %d EXISTS\r\n" % count]:
        raise RuntimeError(f"{exists} instead of {count} EXISTS")
    yield "select-first", lap.each(count) | {"wall_ms": lap.wall_s * 1000}
    times = []
    with Lap(server) as lap:
        for _ in range(AGAIN):
            begun = time.perf_counter()
            imap.command(b"SELECT INBOX")
            times.append(time.perf_counter() - begun)
    yield "select-again", lap.each(AGAIN) | {"wall_ms": statistics.median(times) * 1000} | percentiles_ms(times)
    for name in ("uid-flags-first", "uid-flags-again"):
        with Lap(server) as lap:
            answer = imap.answer(b"FETCH 1:* (UID FLAGS)")
        require(answer, count)
        yield name, lap.each(count) | {"wall_ms": lap.wall_s * 1000}
    imap.close()


def listings(server: Server, imap: Imap, count: int) -> Figures:
    """Each of `LISTINGS` over a third of the selected folder, where it was never asked, and again."""
    third = count // 3
    for at, (name, items) in enumerate(LISTINGS):
        command = b"FETCH %d:%d %s" % (at * third + 1, (at + 1) * third, items)
        for turn in ("first", "again"):
            with Lap(server) as lap:
                answer = imap.answer(command)
            require(answer, third)
            yield f"{name}-{turn}", lap.each(third, len(answer))


def search(server: Server, imap: Imap, count: int, octets: int) -> Figures:
    """A string that few messages of the corpus hold, sought in all of the selected folder, and once more."""
    expected = [n + 1 for n in range(count) if SEARCHED.encode() in make_message(n, octets)]
    for turn in ("first", "again"):
        with Lap(server) as lap:
            answer = imap.answer(f'SEARCH TEXT "{SEARCHED}"'.encode())
        # A peer that takes long says so in lines of its own.
        (line,) = [line for line in answer.split(b"\r\n") if line.startswith(b"* SEARCH")]
        found = [int(word) for word in line.removeprefix(b"* SEARCH").split()]
        if found != expected:
            raise RuntimeError(f"SEARCH found {found}, not {expected}")
        yield f"search-text-{turn}", lap.each(count) | {"wall_ms": lap.wall_s * 1000}


def require(answer: bytes, count: int) -> None:
    """As many FETCH responses as messages were asked for."""
    found = answer.count(b" FETCH (")
    if found != count:
        raise RuntimeError(f"{found} FETCH responses for {count} messages")


def main() -> None:
    """Run it once in a fresh folder."""
    count, octets = wish("messages", 10000), wish("octets", 2048)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        account = daemon.add_users(["ann"])[0]
        imap = log_in(daemon, account)
        with Lap(daemon) as lap:
            fill(imap, count, octets)
        print_figure("append-by-100", **lap.each(count))
        daemon.stop()
        daemon.start()
        for name, values in select(daemon, account, count):
            print_figure(name, **values)
        imap = log_in(daemon, account)
        imap.command(b"SELECT INBOX")
        for name, values in listings(daemon, imap, count):
            print_figure(name, **values)
        with Lap(daemon) as lap:
            imap.command(b"STORE 1:* +FLAGS (\\Flagged)")
        print_figure("store-one-flag", **lap.each(count))
        for name, values in search(daemon, imap, count, octets):
            print_figure(name, **values)
        print_figure("size", peak_rss_kib=daemon.peak_kib(), anonymous_kib=daemon.anonymous_kib())


if __name__ == "__main__":
    main()
