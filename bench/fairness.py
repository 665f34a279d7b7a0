"""What one client feels while others flood the server: `bench/fairness.py [--floods N] [--seconds N]`.

A patient client asks one NOOP at a time over IMAP, on an account of its own, while N sessions of another account send
commands without ever waiting for an answer. Prints the patient's times, quiet and under each flood.
"""

import multiprocessing
import select
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

from clients import Imap
from daemon import Account, Daemon
from figures import percentiles_ms, print_figure, wish

LISTENER_OF = {"pop3": "pop3s", "smtp": "submissions"}
FLOODS = ("noop", "create", "fetch", "list", "pop3", "smtp")
PIECE = 200
"""Commands in one write."""


def commands(kind: str, number: int) -> Iterator[bytes]:
    """What one flooding session sends, without an end."""
    round_ = 0
    while True:
        round_ += 1
        if kind == "create":
            yield b"".join(b"x CREATE f%d.%d.%d\r\n" % (number, round_, n) for n in range(PIECE))
        elif kind == "fetch":
            yield b"x FETCH 1:* (UID FLAGS)\r\n" * PIECE
        elif kind == "list":
            yield b'x LIST "" *\r\n' * PIECE
        else:
            yield (b"NOOP\r\n" if kind in ("pop3", "smtp") else b"x NOOP\r\n") * PIECE


def log_in(kind: str, account: Account) -> bytes:
    """What a flooding session sends first."""
    if kind == "pop3":
        return f"USER {account.address}\r\nPASS {account.password}\r\n".encode()
    if kind == "smtp":
        return b"EHLO flood.example\r\n"
    return f"in LOGIN {account.address} {account.password}\r\nin SELECT INBOX\r\n".encode()


@dataclass
class Flood:
    """Sessions of one account in a process of their own, which send as fast as the server takes it."""

    kind: str
    port: int
    ca_file: str
    account: Account
    count: int
    ready: Event = field(default_factory=multiprocessing.Event)
    answered: "Synchronized[int]" = field(default_factory=lambda: multiprocessing.Value("q", 0))
    """Answers that came to all of them."""

    def run(self) -> None:
        """The process: send, and read all that comes, for ever."""
        context = ssl.create_default_context(cafile=self.ca_file)
        sessions = {self._session(context): commands(self.kind, number) for number in range(self.count)}
        unsent = dict.fromkeys(sessions, b"")
        self.ready.set()
        while True:
            for session, more in sessions.items():
                with suppress(ssl.SSLError):
                    while piece := session.recv(65536):
                        self.answered.value += piece.count(b"OK")
                with suppress(ssl.SSLError):
                    octets = unsent[session] or next(more)
                    unsent[session] = octets[session.send(octets) :]
            select.select(list(sessions), [], [], 0.01)

    def _session(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        session = context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=30), server_hostname="localhost"
        )
        session.sendall(log_in(self.kind, self.account))
        session.recv(65536)
        session.setblocking(False)
        return session


@contextmanager
def flooding(daemon: Daemon, kind: str, account: Account, count: int) -> Iterator[Flood]:
    """While ``count`` sessions of ``account`` flood their listener with commands of this kind."""
    flood = Flood(kind, daemon.ports[LISTENER_OF.get(kind, "imaps")], str(daemon.ca_file), account, count)
    process = multiprocessing.Process(target=flood.run, daemon=True)
    process.start()
    try:
        if not flood.ready.wait(60):
            raise RuntimeError("the flood did not begin")
        yield flood
    finally:
        process.kill()
        process.join()


def times_of(patient: Imap, seconds: float) -> list[float]:
    """How long each NOOP took."""
    times = []
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        patient.command(b"NOOP")
        times.append(time.perf_counter() - begun)
        time.sleep(0.005)
    return times


def main() -> None:
    """Each flood once."""
    count, seconds = wish("floods", 20), wish("seconds", 5)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        other, loud = daemon.add_user("patient"), daemon.add_user("loud")
        patient = Imap(daemon.ports["imaps"], daemon.tls_context(), other.address, other.password)
        patient.command(b"SELECT INBOX")
        print_figure("noop-quiet", **percentiles_ms(times_of(patient, seconds)))
        for kind in FLOODS:
            with flooding(daemon, kind, loud, count):
                time.sleep(1)
                times = times_of(patient, seconds)
            print_figure(f"noop-under-{kind}", floods=count, **percentiles_ms(times), largest_ms=max(times) * 1000)
            time.sleep(1)


if __name__ == "__main__":
    main()
