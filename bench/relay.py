"""How fast a full queue empties into one Postfix, and what queued mail costs: `relay.py [--messages N] [--queued N]`.

Members submit messages of 4 KiB for a partner's domain while his server is away. Then it comes, `certmaild queue retry`
is given, and the time runs until Postfix's log has all of them (it throws them away). Each connection proves his
certificate (`level = "secure"`). With ``--queued`` nothing is sent: it prints how long the daemon takes to serve after
a start, and its memory then, with 1,000 and with N messages queued.
"""

import base64
import socket
import tempfile
import time
from pathlib import Path

from clients import Lines, in_parallel
from daemon import Daemon
from figures import make_message, print_figure, wish
from server import Account
from sink import DOMAIN, Sink
from usage import Lap

OCTETS = 4096
SENDERS = 8
FEW = 1000
PATIENCE_S = 600
SETTLED_S = 3.0
"""After a start, until memory is read."""


def submit(daemon: Daemon, account: Account, numbers: range) -> None:
    """Submit messages, each to one address of the sink's."""
    in_parallel([lambda at=at: submit_share(daemon, account, numbers[at::SENDERS]) for at in range(SENDERS)])


def submit_share(daemon: Daemon, account: Account, numbers: range) -> None:
    """On one connection, with MAIL, RCPT and DATA pipelined."""
    address = account.address
    bare = socket.create_connection(("localhost", daemon.ports["submissions"]), timeout=60)
    lines = Lines(daemon.tls_context().wrap_socket(bare, server_hostname="localhost"))
    ask(lines, b"", b"220")
    ask(lines, b"EHLO bench.example\r\n", b"250")
    words = base64.b64encode(f"\0{address}\0{account.password}".encode())
    ask(lines, b"AUTH PLAIN " + words + b"\r\n", b"235")
    for number in numbers:
        to = f"b{number}@{DOMAIN}"
        content = make_message(number, OCTETS, to=to)
        content = content[content.index(b"\r\n") + 2 :]
        lines.send(f"MAIL FROM:<{address}>\r\nRCPT TO:<{to}>\r\nDATA\r\n".encode())
        for code in (b"250", b"250", b"354"):
            ask(lines, b"", code)
        # No line of the corpus begins with a dot.
        ask(lines, f"X-Number: {number}\r\nFrom: {address}\r\n".encode() + content + b".\r\n", b"250")
    lines.close()


def ask(lines: Lines, words: bytes, code: bytes) -> None:
    """Say something, and read the reply, which must begin with ``code``."""
    if words:
        lines.send(words)
    line = b"    "
    while line[3:4] != b" " or line == b"    ":
        line = lines.line()
        if not line.startswith(code):
            raise RuntimeError(f"{code.decode()} was expected: {line!r}")


def started(daemon: Daemon, queued: int) -> None:
    """Start anew over the queue, and say what that took."""
    daemon.stop()
    begun = time.perf_counter()
    daemon.start()
    start_s = time.perf_counter() - begun
    time.sleep(SETTLED_S)
    print_figure("relay-queued", queued=queued, start_s=start_s, anonymous_kib=daemon.anonymous_kib())


def await_delivered(sink: Sink, count: int) -> None:
    """Return when so many have come."""
    deadline = time.monotonic() + PATIENCE_S
    while sink.delivered() < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{sink.delivered()} of {count} messages came")
        time.sleep(0.05)


def drain(daemon: Daemon, sink: Sink, count: int) -> None:
    """Start the sink; what it costs from its first message to its last."""
    sink.start()
    daemon.command("queue", "retry", "--all")
    await_delivered(sink, 1)
    first = sink.delivered()
    with Lap(daemon) as lap:
        await_delivered(sink, count)
    if sink.delivered() != count:
        raise RuntimeError(f"{sink.delivered()} messages came, {count} were queued")
    count -= first
    print_figure("relay", **lap.each(count), octets_each=OCTETS, anonymous_kib=daemon.anonymous_kib())


def main() -> None:
    """Fill and look; empty, unless it is about what is queued."""
    count, queued = wish("messages", 2000), wish("queued", 0)
    # A short name: Postfix's sockets lie below.
    with tempfile.TemporaryDirectory(prefix="relay", dir="/tmp") as folder:
        sink = Sink(Path(folder) / "sink", keeps=False).set_up()
        daemon = Daemon(Path(folder) / "daemon", tables=sink.partner()).set_up().start()
        try:
            account = daemon.add_users(["ann"])[0]
            if queued:
                submit(daemon, account, range(FEW))
                started(daemon, FEW)
                submit(daemon, account, range(FEW, queued))
                started(daemon, queued)
                return
            submit(daemon, account, range(count))
            try:
                drain(daemon, sink, count)
            finally:
                sink.stop()
        finally:
            daemon.stop()


if __name__ == "__main__":
    main()
