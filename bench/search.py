"""What SEARCH costs: `bench/search.py [--messages N] [--octets N]`.

Fills a mailbox by IMAP APPEND (MULTIAPPEND by 100), then measures the first search by text, which builds the encrypted
text column, and then each criterion, each over real TLS; wall time, the daemon's CPU, and how many messages it found.
"""

import tempfile
import time
from pathlib import Path
from threading import Event, Thread

from clients import Imap, fill
from daemon import Daemon
from figures import percentiles_ms, print_figure, wish

CRITERIA = (
    ("text, in none", b"TEXT zebra"),
    ("text, in many", b"TEXT laboratory"),
    ("text, other script", "CHARSET UTF-8 TEXT {8+}\r\nпись".encode()),
    ("body", b'BODY "invoice account zebra"'),
    ("subject", b'SUBJECT "department"'),
    ("from", b"FROM bob7@sender.example"),
    ("to, in all", b"TO ann@"),
    ("header", b'HEADER Message-ID "<bench.7@"'),
    ("two texts", b"OR TEXT zebra NOT BODY laboratory"),
    ("flags", b"UNSEEN FLAGGED"),
)


def measure(daemon: Daemon, imap: Imap, name: str, count: int, criterion: bytes) -> None:
    """Print wall time and the daemon's CPU for one search."""
    cpu, begun = daemon.cpu_s(), time.perf_counter()
    lines = imap.ask(b"UID SEARCH " + criterion)
    (answer,) = [line for line in lines if line.startswith(b"* SEARCH")]
    wall, cpu = time.perf_counter() - begun, daemon.cpu_s() - cpu
    hits = len(answer.split()) - 2
    print_figure(
        "search",
        key=name,
        messages=count,
        found=hits,
        wall_ms=wall * 1000,
        server_cpu_ms=cpu * 1000,
        us_each=cpu / count * 1e6,
        in_progress=sum(b"[INPROGRESS" in line for line in lines),
    )


def measure_others(name: str, imap: Imap, other: Imap, searches: int) -> None:
    """How long another client's NOOP takes while searches run, one after the other."""
    done = Event()

    def search() -> None:
        for _ in range(searches):
            imap.ask(b"UID SEARCH " + CRITERIA[0][1])
        done.set()

    thread = Thread(target=search)
    thread.start()
    times = []
    while not done.is_set():
        begun = time.perf_counter()
        other.command(b"NOOP")
        times.append(time.perf_counter() - begun)
        time.sleep(0.005)
    thread.join()
    print_figure(name, noops=len(times), **percentiles_ms(times), worst_ms=max(times) * 1000)


def expunge_one(daemon: Daemon, imap: Imap) -> None:
    """What one EXPUNGE costs with the frame that is made anew."""
    cpu = daemon.cpu_s()
    for uid in range(1, 101, 5):
        imap.command(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % uid)
        imap.command(b"UID EXPUNGE %d" % uid)
    time.sleep(1)
    print_figure("store-and-expunge-one", server_cpu_ms_each=(daemon.cpu_s() - cpu) * 1000 / 20)


def main() -> None:
    """Run it once in a fresh folder."""
    count, octets = wish("messages", 10000), wish("octets", 10240)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        account = daemon.add_user("ann")
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        fill(imap, count, octets)
        imap.command(b"SELECT INBOX")
        idle = daemon.anonymous_kib()
        measure(daemon, imap, "first (column built)", count, CRITERIA[0][1])
        for _ in range(3):
            measure(daemon, imap, "again", count, CRITERIA[0][1])
        daemon.stop()
        daemon.start()
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        imap.command(b"SELECT INBOX")
        measure(daemon, imap, "again, after a restart", count, CRITERIA[0][1])
        for name, criterion in CRITERIA:
            measure(daemon, imap, name, count, criterion)
        other = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        measure_others("noop-beside-search", imap, other, 20)
        imap.command(b"COPY 1:%d Archive" % count)
        imap.command(b"SELECT Archive")
        measure_others("noop-beside-first-search", imap, other, 1)
        imap.command(b"SELECT INBOX")
        expunge_one(daemon, imap)
        imap.command(b"STORE 1:%d +FLAGS.SILENT (\\Deleted)" % (count // 2))
        cpu, begun = daemon.cpu_s(), time.perf_counter()
        imap.command(b"EXPUNGE")
        wall = time.perf_counter() - begun
        while daemon.cpu_s() - cpu > 0 and time.perf_counter() - begun < wall + 5:
            time.sleep(0.5)
        print_figure(
            "expunge-half", messages=count // 2, wall_ms=wall * 1000, cpu_with_cleaning_ms=(daemon.cpu_s() - cpu) * 1000
        )
        measure(daemon, imap, "text, after expunge", count - count // 2, CRITERIA[0][1])
        print_figure("size", before_kib=idle, anonymous_kib=daemon.anonymous_kib(), peak_rss_kib=daemon.peak_kib())


if __name__ == "__main__":
    main()
