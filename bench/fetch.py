"""What reading costs: `bench/fetch.py [--messages N] [--octets N] [--large-mib N]`.

Whole bodies one folder long, then one large message whole and in pieces of 1 MiB.
"""

import tempfile
import time
from pathlib import Path

from clients import Imap, fill
from daemon import Daemon
from figures import make_message, print_figure, wish


def report(daemon: Daemon, name: str, count: int, cpu: float, begun: float, octets: int) -> None:
    """Print what one fetch cost."""
    wall, cpu = time.perf_counter() - begun, daemon.cpu_s() - cpu
    print_figure(
        name,
        messages=count,
        octets=octets,
        wall_s=wall,
        server_cpu_ms_each=cpu / count * 1000,
        mb_per_s=octets / wall / 1e6,
    )


def main() -> None:
    """Run it once in a fresh folder."""
    count, octets, large = wish("messages", 2000), wish("octets", 10240), wish("large-mib", 100) << 20
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        account = daemon.add_user("ann")
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        fill(imap, count, octets)
        imap.command(b"SELECT INBOX")
        cpu, begun = daemon.cpu_s(), time.perf_counter()
        size = imap.command(b"FETCH 1:* BODY.PEEK[]")
        report(daemon, "fetch-bodies", count, cpu, begun, size)
        content = make_message(7, large)
        cpu, begun = daemon.cpu_s(), time.perf_counter()
        imap.command(b"APPEND INBOX {%d+}\r\n" % len(content) + content)
        report(daemon, "append-large", 1, cpu, begun, len(content))
        cpu, begun = daemon.cpu_s(), time.perf_counter()
        size = imap.command(b"FETCH * BODY.PEEK[]")
        report(daemon, "fetch-large", 1, cpu, begun, size)
        cpu, begun = daemon.cpu_s(), time.perf_counter()
        size = sum(imap.command(b"FETCH * BODY.PEEK[]<%d.1048576>" % at) for at in range(0, len(content), 1 << 20))
        report(daemon, "fetch-large-by-mib", 1, cpu, begun, size)
        print_figure("size", peak_rss_kib=daemon.peak_kib(), anonymous_kib=daemon.anonymous_kib())


if __name__ == "__main__":
    main()
