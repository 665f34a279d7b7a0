"""What a log-in costs: `bench/login.py [--logins N] [--concurrency N] [--pop3] [--accounts N] [--tls12] [--resume]`.

Each log-in is a new TCP and TLS connection (a full handshake unless ``--resume``), LOGIN or USER and PASS with a device
password, and the close. Prints the rate, the CPU of the daemon and of the generator for each, and the latency from
connect to OK. The clients are in this process and say nothing else.
"""

import socket
import ssl
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

from clients import Lines
from daemon import Daemon
from figures import percentiles_ms, print_figure, wish
from server import Account, Server


def connect_from(
    address: str, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """A TLS connection to the daemon from an address of 127.0.0.0/8."""
    raw = socket.socket()
    raw.bind((address, 0))
    raw.settimeout(60)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.connect(("127.0.0.1", port))
    return context.wrap_socket(raw, server_hostname="localhost", session=session)


def context_for(daemon: Server) -> ssl.SSLContext:
    """A client context as asked for on the command line."""
    context = daemon.tls_context()
    if "--tls12" in sys.argv:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class LogIns:
    """Log-ins one after the other, with the TLS session of the one before if resumption is asked for."""

    def __init__(self, daemon: Server, accounts: list[Account], *, pop3: bool, resume: bool) -> None:
        self._port = daemon.ports["pop3s" if pop3 else "imaps"]
        self._context = context_for(daemon)
        self._accounts = accounts
        self._pop3 = pop3
        self._resume = resume
        self._session: ssl.SSLSession | None = None
        self.resumed = 0

    def once(self, number: int) -> None:
        """Connect, log in, close. Raises `RuntimeError` when it is refused."""
        account = self._accounts[number % len(self._accounts)]
        tls = connect_from(f"127.0.1.{number % 200 + 1}", self._port, self._context, self._session)
        self.resumed += bool(tls.session_reused)
        lines = Lines(tls)
        lines.line()
        if self._pop3:
            lines.send(f"USER {account.address}\r\nPASS {account.password}\r\n".encode())
            lines.line()
            good = lines.line().startswith(b"+OK")
        else:
            lines.send(f'a LOGIN "{account.address}" "{account.password}"\r\n'.encode())
            good = lines.line().startswith(b"a OK")
        if not good:
            raise RuntimeError("the log-in was refused")
        if self._resume:
            self._session = tls.session
        lines.close()


def run(clients: list[LogIns], total: int) -> list[float]:
    """So many log-ins, shared among the clients, each in a thread; seconds each."""
    numbers = count()
    times: list[float] = []

    def work(client: LogIns) -> None:
        while (number := next(numbers)) < total:
            begun = time.perf_counter()
            client.once(number)
            times.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(times) != total:
        raise SystemExit(f"only {len(times)} of {total} log-ins succeeded")
    return times


def main() -> None:
    """Run it once in a fresh folder."""
    total, concurrency, accounts = wish("logins", 2000), wish("concurrency", 4), wish("accounts", 100)
    pop3, resume = "--pop3" in sys.argv, "--resume" in sys.argv
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        made = daemon.add_users([f"user{number}" for number in range(accounts)])
        clients = [LogIns(daemon, made, pop3=pop3, resume=resume) for _ in range(concurrency)]
        run(clients, 2 * accounts)
        cpu, own, begun = daemon.cpu_s(), time.process_time(), time.perf_counter()
        times = run(clients, total)
        wall, cpu, own = time.perf_counter() - begun, daemon.cpu_s() - cpu, time.process_time() - own
        print_figure(
            "login",
            protocol="pop3" if pop3 else "imap",
            logins=total,
            concurrency=concurrency,
            tls="1.2" if "--tls12" in sys.argv else "1.3",
            resumed=sum(client.resumed for client in clients),
            per_s=total / wall,
            server_cpu_ms_each=cpu / total * 1000,
            per_s_a_core=total / cpu,
            generator_cpu_ms_each=own / total * 1000,
            **percentiles_ms(times),
        )


if __name__ == "__main__":
    main()
