"""How others log in while one address floods: `bench/flood.py [--connections N] [--pipelined N] [--logins N]`.

A process of its own tries wrong passwords of one account from one address, over so many TLS connections at once, so
many LOGINs in one write. Meanwhile others log in from other addresses, one after the other: with a device password,
with a human password for the first time, and with the same one again. Prints the latency of each kind from connect to
OK, without and with the flood, and what the flood was answered.
"""

import json
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from clients import Lines
from daemon import Account, Daemon
from figures import percentiles_ms, print_figure, wish
from login import connect_from
from programs import start

HUMAN = "Correct horse battery %d"


class Flood(AbstractContextManager["Flood"]):
    """Wrong passwords for ``victim`` while the context lasts."""

    def __init__(self, daemon: Daemon, victim: str, *, connections: int, pipelined: int) -> None:
        port, ca_file = daemon.ports["imaps"], daemon.ca_file
        self._process = start("flood_clients.py", port, ca_file, victim, connections, pipelined)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.answers: dict[str, int] = {}
        """How many attempts were refused, put off or ended by a close; known at the end."""

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        said, _ = self._process.communicate(timeout=120)
        self.answers = json.loads(said)


def time_to_log_in(daemon: Daemon, address: str, account: Account) -> float:
    """Seconds from connect to OK, from a client at ``address``."""
    begun = time.perf_counter()
    lines = Lines(connect_from(address, daemon.ports["imaps"], daemon.tls_context()))
    lines.line()
    lines.send(f'a LOGIN "{account.address}" "{account.password}"\r\n'.encode())
    answer = lines.line()
    if not answer.startswith(b"a OK"):
        raise RuntimeError(answer.decode())
    taken = time.perf_counter() - begun
    lines.close()
    return taken


def measure(daemon: Daemon, device: Account, people: list[Account], logins: int) -> dict[str, list[float]]:
    """Seconds of log-ins by kind: ``device``, ``human`` (each person once), ``again`` (from the cache)."""
    times = {"device": [time_to_log_in(daemon, f"127.0.3.{n % 200 + 1}", device) for n in range(logins)]}
    times["human"] = [time_to_log_in(daemon, f"127.0.4.{n + 1}", one) for n, one in enumerate(people)]
    times["again"] = [time_to_log_in(daemon, f"127.0.4.{n + 1}", one) for n, one in enumerate(people)]
    return times


def prepare(daemon: Daemon, people: int) -> tuple[str, Account, list[Account]]:
    """A victim with a human password, somebody with a device password, and people with human ones."""
    victim = daemon.add_user("victim", password=HUMAN % 0)
    device = daemon.add_user("phone")
    return victim.address, device, [daemon.add_user(f"p{n}", password=HUMAN % n) for n in range(people)]


def main() -> None:
    """Run it once in a fresh folder."""
    connections, pipelined, logins = wish("connections", 50), wish("pipelined", 1), wish("logins", 200)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        victim, device, people = prepare(daemon, 20)
        quiet = measure(daemon, device, people[:10], logins)
        with Flood(daemon, victim, connections=connections, pipelined=pipelined) as flood:
            cpu, begun = daemon.cpu_s(), time.perf_counter()
            loud = measure(daemon, device, people[10:], logins)
            cpu, wall = daemon.cpu_s() - cpu, time.perf_counter() - begun
        for name, times in (("quiet", quiet), ("flooded", loud)):
            for kind, some in times.items():
                print_figure(f"login-{name}-{kind}", logins=len(some), **percentiles_ms(some))
        print_figure(
            "flood",
            connections=connections,
            pipelined=pipelined,
            seconds=wall,
            server_cpu_percent=cpu / wall * 100,
            **flood.answers,
        )


if __name__ == "__main__":
    main()
