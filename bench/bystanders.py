"""Who else uses the server while a benchmark loads it: a reader and a deliverer, timed, in a process of their own."""

import multiprocessing
import threading
import time
from multiprocessing.connection import Connection

from clients import Imap, Smtp, fill
from daemon import Account, Daemon
from figures import make_message, percentiles_ms

READ_PAUSE_S = 0.005
DELIVER_PAUSE_S = 0.05
SAMPLE_S = 0.01
FOLDER = 200
"""Messages in the reader's INBOX."""


class Bystanders:
    """Others at work from now on; `lap` says how they fared since the last one."""

    def __init__(self, daemon: Daemon, account: Account) -> None:
        # Forked, so that the benchmark's own threads and its waiting for sockets do not enter their latencies.
        fork = multiprocessing.get_context("fork")
        self._pipe, theirs = fork.Pipe()
        self._process = fork.Process(target=_work, args=(daemon, account, theirs), daemon=True)
        self._process.start()
        if self._pipe.recv() != "ready":
            raise RuntimeError("the other clients could not begin")

    def lap(self) -> dict[str, float | int]:
        """p50, p99 and maximum in milliseconds of the reader and of the deliverer, and the daemon's peak RssAnon."""
        self._pipe.send("lap")
        found: dict[str, float | int] = self._pipe.recv()
        return found

    def stop(self) -> None:
        """End them."""
        self._process.kill()
        self._process.join()


class _Watch:
    """What the threads have measured since the last lap."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.lock = threading.Lock()
        self.reads: list[float] = []
        self.deliveries: list[float] = []
        self.peak_kib = 0

    def lap(self) -> dict[str, float | int]:
        with self.lock:
            reads, self.reads = self.reads, []
            deliveries, self.deliveries = self.deliveries, []
            peak, self.peak_kib = self.peak_kib, 0
        others: dict[str, float | int] = {"others_reads": len(reads), "others_deliveries": len(deliveries)}
        for name, times in (("read", reads), ("deliver", deliveries)):
            cuts = percentiles_ms(times)
            others[f"others_{name}_p50_ms"] = cuts["p50_ms"]
            others[f"others_{name}_p99_ms"] = cuts["p99_ms"]
            others[f"others_{name}_max_ms"] = max(times, default=0.0) * 1000
        return {"peak_rss_anon_mib": max(peak, self.daemon.anonymous_kib()) / 1024, **others}


def _work(daemon: Daemon, account: Account, pipe: Connection) -> None:
    watch = _Watch(daemon)
    imap = Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)
    fill(imap, FOLDER, 2048)
    imap.command(b"SELECT INBOX")
    smtp = Smtp(daemon.ports["smtp"], daemon.tls_context())
    for target in (lambda: _read(watch, imap), lambda: _deliver(watch, smtp, account), lambda: _sample(watch)):
        threading.Thread(target=target, daemon=True).start()
    pipe.send("ready")
    while pipe.recv() == "lap":
        pipe.send(watch.lap())


def _read(watch: _Watch, imap: Imap) -> None:
    number = 0
    while True:
        number += 1
        for text in (b"NOOP", b"STATUS Sent (MESSAGES UNSEEN)", b"FETCH %d ENVELOPE" % (number % FOLDER + 1)):
            begun = time.perf_counter()
            imap.command(text)
            watch.reads.append(time.perf_counter() - begun)
            time.sleep(READ_PAUSE_S)


def _deliver(watch: _Watch, smtp: Smtp, account: Account) -> None:
    content = make_message(1, 10240)
    while True:
        begun = time.perf_counter()
        smtp.deliver(account.address.encode(), content)
        watch.deliveries.append(time.perf_counter() - begun)
        time.sleep(DELIVER_PAUSE_S)


def _sample(watch: _Watch) -> None:
    while True:
        watch.peak_kib = max(watch.peak_kib, watch.daemon.anonymous_kib())
        time.sleep(SAMPLE_S)
