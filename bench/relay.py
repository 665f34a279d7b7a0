"""How fast a full queue empties into one Postfix, and what queued mail costs: `relay.py [--messages N] [--queued N]`.

Members submit messages of 4 KiB for a partner's domain while his server is away. Then it comes, `certmaild queue retry`
is given, and the time runs until Postfix's log has all of them (it throws them away). Each connection proves his
certificate (`level = "secure"`). Before, with few and with many messages queued: how long the daemon takes to serve
after a start, and its memory then.
"""

import smtplib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from daemon import Daemon
from figures import make_message, print_figure, wish
from server import Account
from sink import DOMAIN, Sink
from usage import Lap

OCTETS = 4096
SENDERS = 4
FEW = 1000
PATIENCE_S = 600
SETTLED_S = 3.0
"""After a start, until memory is read."""


def submit(daemon: Daemon, account: Account, first: int, count: int) -> None:
    """Submit messages ``first`` to ``first + count - 1``, each to one address of the sink's."""

    def share(at: int) -> None:
        with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context()) as client:
            client.login(account.address, account.password)
            for number in range(first + at, first + count, SENDERS):
                content = make_message(number, OCTETS, to=f"b{number}@{DOMAIN}")
                content = content[content.index(b"\r\n") + 2 :]
                whole = f"X-Number: {number}\r\nFrom: {account.address}\r\n".encode() + content
                client.sendmail(account.address, [f"b{number}@{DOMAIN}"], whole)

    with ThreadPoolExecutor(SENDERS) as threads:
        list(threads.map(share, range(SENDERS)))


def started(daemon: Daemon, queued: int) -> None:
    """Start anew over the queue, and say what that took."""
    daemon.stop()
    begun = time.perf_counter()
    daemon.start()
    start_s = time.perf_counter() - begun
    time.sleep(SETTLED_S)
    print_figure("relay-queued", queued=queued, start_s=start_s, anonymous_kib=daemon.anonymous_kib())


def drain(daemon: Daemon, sink: Sink, count: int) -> None:
    """Start the sink and wait until it has everything."""
    sink.start()
    before = sink.delivered()
    with Lap(daemon) as lap:
        daemon.command("queue", "retry", "--all")
        deadline = time.monotonic() + PATIENCE_S
        while (done := sink.delivered() - before) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{done} of {count} messages came: {daemon.log.read_text()[-3000:]}")
            time.sleep(0.05)
    if done != count:
        raise RuntimeError(f"{done} messages came, {count} were queued")
    print_figure("relay", **lap.each(count), octets_each=OCTETS, anonymous_kib=daemon.anonymous_kib())


def main() -> None:
    """Fill, look, empty."""
    count, queued = wish("messages", 2000), wish("queued", 0)
    # A short name: Postfix's sockets lie below.
    with tempfile.TemporaryDirectory(prefix="relay", dir="/tmp") as folder:
        sink = Sink(Path(folder) / "sink", keeps=False).set_up()
        daemon = Daemon(Path(folder) / "daemon", tables=sink.partner()).set_up().start()
        try:
            account = daemon.add_users(["ann"])[0]
            submit(daemon, account, 0, FEW)
            started(daemon, FEW)
            if queued > FEW:
                submit(daemon, account, FEW, queued - FEW)
                started(daemon, queued)
            if max(queued, FEW) < count:
                submit(daemon, account, max(queued, FEW), count - max(queued, FEW))
            try:
                drain(daemon, sink, max(queued, FEW, count))
            finally:
                sink.stop()
        finally:
            daemon.stop()


if __name__ == "__main__":
    main()
