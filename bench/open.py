"""What opening a large folder costs: `bench/open.py [--messages N]`.

Fills a mailbox by IMAP APPEND of small messages (MULTIAPPEND by 100), then measures SELECT, `FETCH 1:* (UID FLAGS)`,
ENVELOPE the first time and again, `STORE 1:* +FLAGS` and COPY and MOVE, each over real TLS.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from clients import Imap, fill
from daemon import Daemon
from figures import percentiles_ms, print_figure, wish


def measure(daemon: Daemon, name: str, count: int, work: Callable[[], object]) -> None:
    """Print wall time and the daemon's CPU for one command over ``count`` messages."""
    cpu, begun = daemon.cpu_s(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - begun, daemon.cpu_s() - cpu
    print_figure(name, messages=count, wall_ms=wall * 1000, server_cpu_ms=cpu * 1000, us_each=cpu / count * 1e6)


def main() -> None:
    """Run it once in a fresh folder."""
    count, octets = wish("messages", 10000), wish("octets", 2048)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        account = daemon.add_user("ann")
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        measure(daemon, "append-by-100", count, lambda: fill(imap, count, octets))
        imap.command(b"CREATE Elsewhere")
        daemon.stop()
        daemon.start()
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        measure(daemon, "select-first", count, lambda: imap.command(b"SELECT INBOX"))
        times = []
        for _ in range(20):
            begun = time.perf_counter()
            imap.command(b"SELECT INBOX")
            times.append(time.perf_counter() - begun)
        print_figure("select-again", messages=count, **percentiles_ms(times), median_ms=statistics.median(times) * 1000)
        measure(daemon, "fetch-uid-flags", count, lambda: imap.command(b"FETCH 1:* (UID FLAGS)"))
        measure(daemon, "fetch-envelope-first", count, lambda: imap.command(b"FETCH 1:* ENVELOPE"))
        measure(daemon, "fetch-envelope-again", count, lambda: imap.command(b"FETCH 1:* ENVELOPE"))
        measure(daemon, "fetch-bodystructure", count, lambda: imap.command(b"FETCH 1:* BODYSTRUCTURE"))
        some = min(1000, count)
        measure(daemon, "store-one-flag", count, lambda: imap.command(b"STORE 1:* +FLAGS (\\Flagged)"))
        measure(daemon, "copy", some, lambda: imap.command(b"COPY 1:%d Elsewhere" % some))
        measure(daemon, "move", some, lambda: imap.command(b"MOVE 1:%d Elsewhere" % some))
        measure(daemon, "search-text", count - some, lambda: imap.command(b"SEARCH TEXT zebra"))
        logins = []
        cpu = daemon.cpu_s()
        for _ in range(100):
            begun = time.perf_counter()
            Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password).lines.close()
            logins.append(time.perf_counter() - begun)
        print_figure("log-in", logins=100, **percentiles_ms(logins), server_cpu_ms_each=(daemon.cpu_s() - cpu) * 10)
        print_figure("size", peak_rss_kib=daemon.peak_kib(), anonymous_kib=daemon.anonymous_kib())


if __name__ == "__main__":
    main()
