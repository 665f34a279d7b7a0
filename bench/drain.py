"""What a POP3 client that empties its mailbox costs: `bench/drain.py [--messages N] [--octets N]`.

The messages are delivered by SMTP; that they are made part of the mailbox at the log-in is part of the cost.
"""

import hashlib
import tempfile
import time
from pathlib import Path

from clients import pop3
from daemon import Daemon
from figures import make_message, percentiles_ms, print_figure, wish
from ingest import ingest
from server import Account, Server
from usage import Lap

BEGINNING = b"From: Bob Example "
"""Of each message of the corpus; trace fields come before it."""


def read_and_delete(server: Server, account: Account, times: list[float]) -> list[bytes]:
    """RETR each, DELE each, QUIT; the SHA-256 of each without its trace fields.

    No line of the corpus begins with a dot.
    """
    lines = pop3(server, account)
    lines.send(b"STAT\r\n")
    count = int(lines.line().split()[1])
    digests = []
    for number in range(1, count + 1):
        begun = time.perf_counter()
        lines.send(b"RETR %d\r\n" % number)
        size = int(lines.line().split()[1])
        content = b"".join(lines.octets(size))
        digests.append(hashlib.sha256(content[content.index(BEGINNING) :]).digest())
        if lines.line() != b".\r\n":
            raise RuntimeError("a message is longer than POP3 said")
        times.append(time.perf_counter() - begun)
    for number in range(1, count + 1):
        lines.send(b"DELE %d\r\n" % number)
        lines.line()
    lines.send(b"QUIT\r\n")
    lines.line()
    lines.close()
    return digests


def drain(server: Server, account: Account, count: int, octets: int) -> dict[str, float | int]:
    """What emptying INBOX of the first ``count`` messages of the corpus costs, the log-in included.

    Raises `RuntimeError` unless each comes out once, whole, and is gone afterwards.
    """
    times: list[float] = []
    with Lap(server) as lap:
        found = read_and_delete(server, account, times)
    again = read_and_delete(server, account, [])
    expected = {hashlib.sha256(make_message(number, octets)).digest() for number in range(count)}
    if len(found) != count or set(found) != expected or again:
        raise RuntimeError(f"{len(found)} messages of {count} came out, then {len(again)}")
    return lap.each(count) | percentiles_ms(times)


def main() -> None:
    """Deliver, then RETR and DELE each message, then QUIT; checks that the second poll finds nothing."""
    count, octets = wish("messages", 1000), wish("octets", 10240)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        account = daemon.add_users(["ann"])[0]
        ingest(daemon, account, [make_message(number, octets) for number in range(count)], 8)
        print_figure("drain", **drain(daemon, account, count, octets), peak_rss_kib=daemon.peak_kib())


if __name__ == "__main__":
    main()
