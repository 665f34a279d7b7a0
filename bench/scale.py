"""How cost grows with the size of a folder: `bench/scale.py [--sizes 1000,10000,100000] [--octets N] [--out FILE]`.

For each size a fresh daemon, its INBOX filled by MULTIAPPEND (100 a command), restarted, then measured over TLS: what
a client asks of the whole folder, and what it asks of one message. A JSON line each, also to ``--out``;
`bench/scale_plot.py FILE` draws them. Of a million messages 100,000 are appended and then copied ten times.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from clients import THUNDERBIRD, Imap, fill
from daemon import Daemon
from figures import percentiles_ms, wish

APPENDED = 100_000
"""More messages than this are copies of so many: rows of their own in the folder, cards and content shared."""
SLICE = 10_000
"""What is asked for headers of, at most: the cost of a whole folder is that of its slices."""
ROUNDS = 50
"""Times that each operation on one message is timed."""


class Meter:
    """Measures commands of one client against one daemon."""

    def __init__(self, daemon: Daemon, imap: Imap, size: int, out: Path | None) -> None:
        self.daemon, self.imap, self.size, self.out = daemon, imap, size, out

    def print(self, name: str, **values: float | int) -> None:
        rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}
        line = json.dumps({"figure": name, "size": self.size, **rounded})
        print(line, flush=True)
        if self.out is not None:
            with self.out.open("a") as out:
                out.write(line + "\n")

    def whole(self, name: str, messages: int, work: Callable[[], object]) -> None:
        """One command over many messages."""
        cpu, begun = self.daemon.cpu_s(), time.perf_counter()
        work()
        wall, cpu = time.perf_counter() - begun, self.daemon.cpu_s() - cpu
        self.print(name, messages=messages, wall_ms=wall * 1000, server_cpu_ms=cpu * 1000, us_each=cpu / messages * 1e6)

    def one(self, name: str, command: Callable[[int], bytes]) -> None:
        """One message at a time, anywhere in the folder."""
        dice = random.Random(name)
        times = []
        cpu = self.daemon.cpu_s()
        for _ in range(ROUNDS):
            text = command(dice.randint(1, self.size - 2000 if self.size > 4000 else self.size // 2))
            begun = time.perf_counter()
            self.imap.command(text)
            times.append(time.perf_counter() - begun)
        cpu = self.daemon.cpu_s() - cpu
        self.print(
            name,
            messages=ROUNDS,
            median_ms=statistics.median(times) * 1000,
            p99_ms=percentiles_ms(times)["p99_ms"],
            server_cpu_ms=cpu / ROUNDS * 1000,
        )


def measure(daemon: Daemon, size: int, octets: int, out: Path | None) -> None:
    """Everything for one size."""
    account = daemon.add_user("ann", quota="64GiB")

    def log_in() -> Imap:
        return Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)

    meter = Meter(daemon, log_in(), size, out)
    for name in (b"Elsewhere", b"Copies", b"Source"):
        meter.imap.command(b"CREATE " + name)
    appended = min(size, APPENDED)
    meter.whole("fill-multiappend", appended, lambda: fill(meter.imap, appended, octets))
    if size > appended:
        meter.imap.command(b"SELECT INBOX")
        meter.imap.command(b"MOVE 1:* Source")
        meter.imap.command(b"SELECT Source")
        meter.whole("fill-copy", size, lambda: [meter.imap.command(b"COPY 1:* INBOX") for _ in range(size // appended)])
    daemon.stop()
    daemon.start()
    imap = meter.imap = log_in()
    idle = daemon.anonymous_kib()
    meter.whole("select-first", size, lambda: imap.command(b"SELECT INBOX"))
    meter.print("session-memory", kib=daemon.anonymous_kib() - idle)
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        imap.command(b"SELECT INBOX")
        times.append(time.perf_counter() - begun)
    meter.print("select-again", median_ms=statistics.median(times) * 1000, p99_ms=percentiles_ms(times)["p99_ms"])
    second = log_in()
    one = daemon.anonymous_kib()
    second.command(b"SELECT INBOX")
    meter.print("second-session-memory", kib=daemon.anonymous_kib() - one)
    second.command(b"LOGOUT")
    whole_folder(meter, size)
    one_message(meter, octets)
    changes(meter, size)
    meter.print("memory", anonymous_kib=daemon.anonymous_kib(), peak_rss_kib=daemon.peak_kib())


def whole_folder(meter: Meter, size: int) -> None:
    """What a client asks of all messages, or of the newest 10,000."""
    ask = meter.imap.command
    part = min(size, SLICE)
    newest = b"%d:*" % (size - part + 1)
    meter.whole("fetch-uid-flags", size, lambda: ask(b"FETCH 1:* (UID FLAGS)"))
    meter.whole("fetch-uid-flags-again", size, lambda: ask(b"FETCH 1:* (UID FLAGS)"))
    for name, items in (
        (b"envelope", b"ENVELOPE"),
        (b"thunderbird", THUNDERBIRD),
        (b"bodystructure", b"BODYSTRUCTURE"),
    ):
        for turn in ("first", "again"):
            text = b"FETCH %s %s" % (newest, items)
            meter.whole(f"fetch-{name.decode()}-{turn}", part, lambda text=text: ask(text))
    if size > part:
        meter.whole("fetch-envelope-all", size, lambda: ask(b"FETCH 1:* ENVELOPE"))
    meter.whole("store-all", size, lambda: ask(b"STORE 1:* +FLAGS (\\Flagged)"))
    meter.whole("store-all-silent", size, lambda: ask(b"STORE 1:* -FLAGS.SILENT (\\Flagged)"))


def one_message(meter: Meter, octets: int) -> None:
    """What a client asks of one message."""
    meter.one("noop", lambda at: b"NOOP")
    meter.one("one-fetch-flags", lambda at: b"FETCH %d FLAGS" % at)
    meter.one("one-fetch-envelope", lambda at: b"FETCH %d ENVELOPE" % at)
    meter.one("one-uid-fetch-body", lambda at: b"UID FETCH %d BODY.PEEK[]" % at)
    meter.one("one-store", lambda at: b"STORE %d +FLAGS (\\Seen)" % at)
    meter.one("one-copy", lambda at: b"COPY %d Elsewhere" % at)
    meter.one("one-append", lambda at: b"APPEND INBOX {%d+}\r\n%s" % (octets, b"a: b\r\n\r\n".ljust(octets, b"x")))
    meter.one("one-move", lambda at: b"MOVE %d Elsewhere" % at)
    meter.one("one-delete", lambda at: b"STORE %d +FLAGS.SILENT (\\Deleted)" % at)
    meter.one("one-expunge", lambda at: b"UID EXPUNGE 1:%d" % at)
    meter.one("status", lambda at: b"STATUS INBOX (MESSAGES UNSEEN SIZE)")


def changes(meter: Meter, size: int) -> None:
    """Copying, moving and expunging many."""
    ask = meter.imap.command
    part = min(size // 4, SLICE)
    meter.whole("copy", part, lambda: ask(b"COPY 1:%d Copies" % part))
    meter.whole("move", part, lambda: ask(b"MOVE 1:%d Elsewhere" % part))
    left = size // 2
    ask(b"STORE %d:%d +FLAGS.SILENT (\\Deleted)" % (1, left))
    meter.whole("expunge-half", left, lambda: ask(b"EXPUNGE"))


def main() -> None:
    """Run every size."""
    words = sys.argv[1:]
    sizes = words[words.index("--sizes") + 1] if "--sizes" in words else "1000,10000,100000"
    out = Path(words[words.index("--out") + 1]) if "--out" in words else None
    for size in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
            measure(daemon, size, wish("octets", 1024), out)


if __name__ == "__main__":
    main()
