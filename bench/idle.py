"""What idle clients cost: `bench/idle.py [--clients N] [--accounts N] [--messages N] [--compress] [--deliveries N]
[--silence SECONDS] [--still-here SECONDS] [--workers N] [--folder DIR]`.

Fills the INBOX of each account, starts the daemon anew, and lets clients log in, select INBOX and IDLE over real TLS,
spread over the accounts. Prints the daemon's memory for each, its CPU over a time of silence (120 s by default: as long
as it takes to tell everybody ``Still here`` once), and the time from the 250 of a delivery to EXISTS at each client of
that mailbox. The clients live in processes of their own (`idle_clients.py`) whose CPU is printed too. With ``--folder``
the filled store is kept there and used again.
"""

import json
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clients import Imap, Smtp
from daemon import Daemon
from figures import make_message, percentiles_ms, print_figure, wish
from programs import start
from server import Account, Server
from usage import read_cpu_s

CLIENTS_A_PROCESS = 5000
READY_S = 1800
STILL_HERE_S = 120
SETTLED_S = 0.01
SETTLE_S = 10
EXISTS_S = 60
DELIVER_PAUSE_S = 0.05


def prepare(
    folder: Path, accounts: int, messages: int, clients: int, *, workers: int = 0, still_here_s: int = STILL_HERE_S
) -> tuple[Daemon, list[Account]]:
    """A daemon, stopped, over accounts whose INBOX holds so many messages; what ``folder`` has already is used."""
    limits = f"[limits]\nconnections = {clients + 100}\nidle_still_here = {still_here_s}"
    daemon = Daemon(folder, workers=workers, tables=limits)
    known = folder / f"accounts-{accounts}-{messages}.json"
    if known.exists():
        daemon.configure()
        return daemon, [Account(*one) for one in json.loads(known.read_text())]
    daemon.set_up()
    made = daemon.add_users([f"idle{number}" for number in range(accounts)])
    once = [make_message(n, 2048) for n in range(min(messages, 100))]
    piece = b"".join(b" {%d+}\r\n%s" % (len(one), one) for one in once)
    daemon.start()
    for account in made if messages else []:
        imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
        for _ in range(messages // len(once)):
            imap.command(b"APPEND INBOX" + piece)
        imap.lines.close()
    daemon.stop()
    known.write_text(json.dumps([[one.address, one.password, one.recovery_code] for one in made]))
    return daemon, made


class Generators:
    """The processes with the clients in them, and what they were told."""

    def __init__(self, daemon: Server, accounts: list[Account], clients: int, *, compress: bool) -> None:
        self.heard: queue.SimpleQueue[dict[str, float]] = queue.SimpleQueue()
        self._processes = []
        shares = [min(CLIENTS_A_PROCESS, clients - at) for at in range(0, clients, CLIENTS_A_PROCESS)]
        for share in shares:
            process = start("idle_clients.py")
            assert process.stdin is not None
            wishes = {
                "port": daemon.ports["imaps"],
                "ca_file": str(daemon.ca_file),
                "accounts": [[one.address, one.password] for one in accounts],
                "clients": share,
                "compress": compress,
            }
            process.stdin.write(json.dumps(wishes).encode() + b"\n")
            process.stdin.flush()
            threading.Thread(target=self._listen, args=(process,), daemon=True).start()
            self._processes.append(process)
            self.heard_next(READY_S, "ready")

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.heard.put(json.loads(line))
        self.heard.put({"ended": process.wait()})

    def heard_next(self, timeout_s: float, word: str) -> dict[str, float]:
        """The next thing that a client was told, which must be this."""
        heard = self.heard.get(timeout=timeout_s)
        if word not in heard:
            raise RuntimeError(f"expected {word}, got {heard}")
        return heard

    def cpu_s(self) -> float:
        """CPU of all of them."""
        return sum(read_cpu_s(process.pid) for process in self._processes)

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


@contextmanager
def idling(daemon: Server, accounts: list[Account], clients: int, *, compress: bool) -> Iterator[Generators]:
    """So many clients in IDLE."""
    generators = Generators(daemon, accounts, clients, compress=compress)
    try:
        yield generators
    finally:
        generators.close()


def watch_deliveries(
    daemon: Daemon, generators: Generators, accounts: list[Account], clients: int, count: int
) -> list[float]:
    """Deliver to random mailboxes, one after the other; seconds from each 250 to each EXISTS it led to.

    Raises `RuntimeError` when a client is told of something else, and `queue.Empty` when one is not told at all.
    """
    dice = random.Random(clients)
    smtp = Smtp(daemon.ports["smtp"], daemon.tls_context())
    times = []
    for number in range(count):
        at = dice.randrange(min(len(accounts), clients))
        smtp.deliver(accounts[at].address.encode(), make_message(number, 2048))
        begun = time.monotonic()
        for _ in range(len(range(at, clients, len(accounts)))):
            heard = generators.heard_next(EXISTS_S, "exists")
            if heard["exists"] % len(accounts) != at:
                raise RuntimeError(f"client {heard['exists']} was told of mail for account {at}")
            times.append(heard["at"] - begun)
    return times


def watch_many(server: Server, generators: Generators, accounts: list[Account], count: int) -> list[float]:
    """Deliver to ``count`` of the accounts without waiting; seconds from each 250 to EXISTS. Each has one client."""
    smtp = Smtp(server.ports["smtp"], server.tls_context())
    answered: dict[int, float] = {}
    for at in random.Random(count).sample(range(len(accounts)), count):
        smtp.deliver(accounts[at].address.encode(), make_message(at, 2048))
        answered[at] = time.monotonic()
        time.sleep(DELIVER_PAUSE_S)
    smtp.quit()
    times = []
    while answered:
        heard = generators.heard_next(EXISTS_S, "exists")
        times.append(heard["at"] - answered.pop(int(heard["exists"])))
    return times


def settle(daemon: Server) -> None:
    """Return when a second has passed in which the daemon did nearly nothing: a spare worker may still be loading."""
    for _ in range(SETTLE_S):
        cpu = daemon.cpu_s()
        time.sleep(1)
        if daemon.cpu_s() - cpu < SETTLED_S:
            return


def main() -> None:
    """Run it once."""
    clients, deliveries, silence_s = wish("clients", 5000), wish("deliveries", 500), wish("silence", 120)
    count, messages = min(wish("accounts", 1000), clients), wish("messages", 100)
    compress = "--compress" in sys.argv
    with tempfile.TemporaryDirectory() as temporary:
        words = sys.argv[1:]
        folder = Path(words[words.index("--folder") + 1] if "--folder" in words else temporary)
        daemon, accounts = prepare(
            folder, count, messages, clients, workers=wish("workers", 0), still_here_s=wish("still-here", STILL_HERE_S)
        )
        with daemon.start():
            measure(daemon, accounts, clients, compress=compress, silence_s=silence_s, deliveries=deliveries)


def measure(
    daemon: Daemon, accounts: list[Account], clients: int, *, compress: bool, silence_s: int, deliveries: int
) -> None:
    """Memory, silence, latency; a figure each."""
    about = {"clients": clients, "accounts": len(accounts), "compress": int(compress), "workers": daemon.workers}
    before, cpu, begun = daemon.anonymous_kib(), daemon.cpu_s(), time.monotonic()
    with idling(daemon, accounts, clients, compress=compress) as generators:
        wall, cpu = time.monotonic() - begun, daemon.cpu_s() - cpu
        after = daemon.anonymous_kib()
        print_figure("idle-memory", **about, kib_each=(after - before) / clients, before_kib=before, after_kib=after)
        print_figure(
            "idle-arrival",
            **about,
            per_s=clients / wall,
            server_cpu_ms_each=cpu / clients * 1000,
            generator_cpu_ms_each=generators.cpu_s() / clients * 1000,
        )
        if silence_s:
            settle(daemon)
            cpu = daemon.cpu_s()
            time.sleep(silence_s)
            cpu = daemon.cpu_s() - cpu
            print_figure("idle-silence", **about, seconds=silence_s, server_cpu_percent=cpu / silence_s * 100)
        if deliveries:
            cpu, own = daemon.cpu_s(), generators.cpu_s()
            times = watch_deliveries(daemon, generators, accounts, clients, deliveries)
            cpu, own = daemon.cpu_s() - cpu, generators.cpu_s() - own
            print_figure(
                "idle-latency",
                **about,
                deliveries=deliveries,
                told=len(times),
                **percentiles_ms(times),
                max_ms=max(times) * 1000,
                server_cpu_ms_each=cpu / deliveries * 1000,
                generator_cpu_ms_each=own / deliveries * 1000,
            )
            print_figure("idle-memory-after", **about, kib_each=(daemon.anonymous_kib() - before) / clients)


if __name__ == "__main__":
    main()
