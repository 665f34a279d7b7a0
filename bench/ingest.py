"""How fast mail comes in: `ingest.py [--messages N] [--octets N] [--connections N] [--workers N] [--each] [--bdat]
[--signed] [--checks] [--reuse-port]`.

Delivers over kept STARTTLS connections to port 25, or with ``--each`` over a new connection for each message, by DATA
or with ``--bdat`` by BDAT, pipelined; ``--signed`` by DKIM, and with ``--checks`` that, SPF and DMARC are checked. A
message is readable when its 250 is sent, so the rate is that of the replies. With ``--reuse-port`` each worker has a
listening socket of its own (`reuse_port.py`). Prints the rate, the latency from the end of content to the 250, the
daemon's CPU and its peak size, and then checks by IMAP that every message is there once.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from clients import Imap, Smtp, in_parallel, log_in
from daemon import Daemon
from figures import make_message, percentiles_ms, print_figure, wish
from sender_zone import SenderZone
from server import Account, Server
from usage import Lap

READABLE_S = 600
POLL_S = 0.05


def deliver(
    server: Server,
    account: Account,
    corpus: Sequence[bytes],
    connections: int,
    *,
    each: bool = False,
    bdat: bool = False,
) -> list[float]:
    """Send the corpus over ``connections`` connections, new ones if ``each``; every message's latency in seconds."""
    context, to = server.tls_context(), account.address.encode()
    times: list[float] = []

    def kept(client: Smtp, share: Sequence[bytes]) -> None:
        times.extend(client.deliver_chunks(to, share) if bdat else client.deliver_all(to, share))

    def one_each(share: Sequence[bytes]) -> None:
        for content in share:
            begun = time.perf_counter()
            client = Smtp(server.ports["smtp"], context)
            client.deliver(to, content)
            times.append(time.perf_counter() - begun)
            client.quit()

    shares = [corpus[at::connections] for at in range(connections)]
    if each:
        in_parallel([lambda share=share: one_each(share) for share in shares])
    else:
        clients = [Smtp(server.ports["smtp"], context) for _ in shares]
        in_parallel([lambda a=client, b=share: kept(a, b) for client, share in zip(clients, shares, strict=True)])
        for client in clients:
            client.quit()
    return times


def await_messages(imap: Imap, count: int) -> None:
    """Return when the selected INBOX, or else its STATUS, tells of so many messages."""
    deadline = time.monotonic() + READABLE_S
    while True:
        answer = b"".join(imap.ask(b"STATUS INBOX (MESSAGES)"))
        found = int(answer.rsplit(b"MESSAGES ", 1)[1].split(b")")[0].split()[0])
        if found >= count:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found} of {count} messages can be read after {READABLE_S} s")
        time.sleep(POLL_S)


def ingest(
    server: Server,
    account: Account,
    corpus: Sequence[bytes],
    connections: int,
    *,
    each: bool = False,
    bdat: bool = False,
) -> dict[str, float | int]:
    """What delivering the corpus to an empty INBOX costs until all of it can be read."""
    watcher = None if server.readable_at_250 else log_in(server, account)
    with Lap(server) as lap:
        times = deliver(server, account, corpus, connections, each=each, bdat=bdat)
        if watcher is not None:
            await_messages(watcher, len(corpus))
    if watcher is not None:
        watcher.close()
    about = {"octets_each": len(corpus[0]), "connections": connections}
    return lap.each(len(corpus)) | about | percentiles_ms(times)


def absorb(server: Server, account: Account, count: int) -> dict[str, float | int]:
    """What it costs from log-in until the selected INBOX shows all ``count`` arrivals."""
    with Lap(server) as lap:
        imap = log_in(server, account)
        imap.command(b"SELECT INBOX")
        await_messages(imap, count)
    imap.close()
    return lap.each(count)


def check(server: Server, account: Account, numbers: range) -> None:
    """Every message of the corpus is there exactly once, and nothing else."""
    imap = log_in(server, account)
    imap.command(b"SELECT INBOX")
    found = imap.ids()
    imap.close()
    if sorted(found) != list(numbers):
        lost, twice = len(set(numbers) - set(found)), len(found) - len(set(found))
        raise RuntimeError(f"{lost} messages lost, {twice} doubled of {len(numbers)}")


def main() -> None:
    """Run it once in a fresh folder."""
    count, octets, connections = wish("messages", 5000), wish("octets", 10240), wish("connections", 16)
    each, bdat = "--each" in sys.argv, "--bdat" in sys.argv
    workers = wish("workers", 0)
    apart = "--reuse-port" in sys.argv
    twistd = (sys.executable, "-P", str(Path(__file__).parent / "reuse_port.py")) if apart else Daemon.twistd
    zone = SenderZone() if {"--signed", "--checks"} & set(sys.argv) else None
    tables = zone.tables if zone is not None and "--checks" in sys.argv else ""
    with (
        tempfile.TemporaryDirectory() as folder,
        Daemon(Path(folder), workers=workers, twistd=twistd, tables=tables) as daemon,
    ):
        ann, warm = daemon.add_users(["ann", "warm"])
        corpus = [make_message(number, octets) for number in range(count)]
        if zone is not None:
            corpus = zone.signed(corpus)
        deliver(daemon, warm, corpus[:200], connections)
        values = ingest(daemon, ann, corpus, connections, each=each, bdat=bdat)
        sizes = {"peak_rss_kib": daemon.peak_kib(), "anonymous_kib": daemon.anonymous_kib()}
        print_figure("ingest", **values, workers=workers, reuse_port=int(apart), **sizes)
        print_figure("absorb", **absorb(daemon, ann, count))
        check(daemon, ann, range(count))


if __name__ == "__main__":
    main()
