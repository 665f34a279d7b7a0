"""How fast mail comes in: `bench/ingest.py [--messages N] [--octets N] [--connections N]`.

Delivers over kept STARTTLS connections to port 25; a message is readable when its 250 is sent, so the rate is that
of the replies. Prints the rate, the latency from the end of content to the 250, the daemon's CPU and its peak size,
and then checks by IMAP that every message is there once.
"""

import tempfile
import threading
import time
from pathlib import Path

from clients import Imap, Smtp
from daemon import Account, Daemon
from figures import make_message, percentiles_ms, print_figure, wish


def deliver(daemon: Daemon, account: Account, corpus: list[bytes], connections: int) -> list[float]:
    """Send the corpus over ``connections`` connections; each message's latency in seconds."""
    context = daemon.tls_context()
    times: list[list[float]] = [[] for _ in range(connections)]
    clients = [Smtp(daemon.ports["smtp"], context) for _ in range(connections)]

    def work(at: int) -> None:
        for content in corpus[at::connections]:
            begun = time.perf_counter()
            clients[at].deliver(account.address.encode(), content)
            times[at].append(time.perf_counter() - begun)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for some in times for one in some]


def main() -> None:
    """Run it once in a fresh folder."""
    count, octets, connections = wish("messages", 5000), wish("octets", 10240), wish("connections", 16)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        account = daemon.add_user("ann")
        corpus = [make_message(number, octets) for number in range(count)]
        deliver(daemon, account, [make_message(number, octets) for number in range(count, count + 200)], connections)
        cpu, own, begun = daemon.cpu_s(), time.process_time(), time.perf_counter()
        times = deliver(daemon, account, corpus, connections)
        wall, cpu, own = time.perf_counter() - begun, daemon.cpu_s() - cpu, time.process_time() - own
        print_figure(
            "ingest",
            messages=len(times),
            octets=octets,
            connections=connections,
            per_s=len(times) / wall,
            **percentiles_ms(times),
            server_cpu_s_per_1000=cpu / count * 1000,
            generator_cpu_s_per_1000=own / count * 1000,
            peak_rss_kib=daemon.peak_kib(),
            anonymous_kib=daemon.anonymous_kib(),
        )
        cpu, begun = daemon.cpu_s(), time.perf_counter()
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        while True:
            exists = [line for line in imap.ask(b"SELECT INBOX") if line.endswith(b"EXISTS\r\n")]
            if int(exists[0].split()[1]) >= count + 200:
                break
            time.sleep(0.05)
        wall = time.perf_counter() - begun
        print_figure(
            "absorb", messages=count + 200, wall_s=wall, server_cpu_us_each=(daemon.cpu_s() - cpu) / (count + 200) * 1e6
        )
        if int(exists[0].split()[1]) != count + 200:
            raise SystemExit(f"{exists[0]!r} is not {count + 200}")


if __name__ == "__main__":
    main()
