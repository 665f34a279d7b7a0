"""What a POP3 client that empties its mailbox costs: `bench/drain.py [--messages N] [--octets N]`."""

import tempfile
import time
from pathlib import Path

from clients import connect
from daemon import Daemon
from figures import make_message, percentiles_ms, print_figure, wish
from ingest import deliver


def main() -> None:
    """Deliver, then RETR and DELE each message, then QUIT; checks that the second poll finds nothing."""
    count, octets = wish("messages", 1000), wish("octets", 10240)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        account = daemon.add_user("ann")
        deliver(daemon, account, [make_message(number, octets) for number in range(count)], 8)
        cpu, begun = daemon.cpu_s(), time.perf_counter()
        times = []
        found = drain(daemon, account.address, account.password, times)
        wall, cpu = time.perf_counter() - begun, daemon.cpu_s() - cpu
        print_figure(
            "drain",
            messages=found,
            per_s=found / wall,
            **percentiles_ms(times),
            server_cpu_ms_each=cpu / count * 1000,
            peak_rss_kib=daemon.peak_kib(),
        )
        again = drain(daemon, account.address, account.password, [])
        if found != count or again:
            raise SystemExit(f"found {found} of {count}, then {again}")


def drain(daemon: Daemon, user: str, password: str, times: list[float]) -> int:
    """How many messages were read and deleted."""
    lines = connect(daemon.ports["pop3s"], daemon.tls_context())
    lines.line()
    lines.send(f"USER {user}\r\nPASS {password}\r\nSTAT\r\n".encode())
    answers = [lines.line() for _ in range(3)]
    if not answers[1].startswith(b"+OK"):
        raise RuntimeError(answers[1].decode().strip())
    count = int(answers[2].split()[1])
    for number in range(1, count + 1):
        begun = time.perf_counter()
        lines.send(b"RETR %d\r\n" % number)
        lines.line()
        lines.until(b"\r\n.\r\n")
        times.append(time.perf_counter() - begun)
    for number in range(1, count + 1):
        lines.send(b"DELE %d\r\n" % number)
        lines.line()
    lines.send(b"QUIT\r\n")
    lines.line()
    lines.close()
    return count


if __name__ == "__main__":
    main()
