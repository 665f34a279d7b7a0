"""The workloads that `bench/compare.py` runs on every server: what is measured, over how much, how often.

Each is a function of a server, the counts and the round; it gives figures by name. Accounts are new in every round, so
that nothing is found made ready by the one before, but for what takes longest to fill: `Server.kept`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import drain
import fetch
import idle
import ingest
import large
import login
import open as listing
import store
from clients import fill, in_parallel, log_in
from figures import make_message, percentiles_ms
from report import CLEAR, CRYPT, HIBERNATED, OURS
from server import Account, Server
from usage import Lap

Values = dict[str, float | int]
Figures = Iterator[tuple[str, Values]]

READ_OCTETS = 21_700
"""Of a message in the mailbox that is listed, read and searched: 10,000 have 217 MB."""
HUGE_OCTETS = 700
"""Of a message in the folder of 100,000."""
SAMPLED = 8
"""One piece in so many of a large message is fetched: a peer reads from the beginning for each, minutes for all."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much each workload does."""

    delivered: int = 2000
    """Messages of 10 KiB and of 1 KiB."""
    delivered_each: int = 700
    """Messages over one connection each."""
    delivered_100k: int = 500
    delivered_1m: int = 100
    read: int = 10_000
    drained: int = 1000
    stored: int = 2000
    huge: int = 100_000
    large_mib: int = 1024
    idle: int = 500
    watched: int = 200
    """Deliveries to different ones of the idle clients."""
    logins: int = 200

    def quick(self) -> "Counts":
        """A twentieth of everything: to see it work, not to state a figure."""
        return replace(self, **{one.name: max(20, getattr(self, one.name) // 20) for one in fields(self)})


@dataclass(frozen=True, slots=True)
class Workload:
    """One of them; ``rounds`` where fewer than the three of the rest are enough."""

    name: str
    run: Callable[[Server, Counts, int], Figures]
    rounds: int = 3
    servers: tuple[str, ...] = (OURS, CLEAR, CRYPT)


def new_account(server: Server, name: str, turn: int) -> Account:
    """An empty mailbox for one round."""
    return server.add_users([f"{name}{turn}"])[0]


def deliver(server: Server, counts: Counts, turn: int) -> Figures:
    """Every size, over kept connections and one connection each."""
    ways = (
        ("deliver-10k", 10240, counts.delivered, 16, {}),
        ("deliver-10k-each", 10240, counts.delivered_each, 8, {"each": True}),
        ("deliver-10k-bdat", 10240, counts.delivered, 16, {"bdat": True}),
        ("deliver-1k", 1024, counts.delivered, 16, {}),
        ("deliver-100k", 102400, counts.delivered_100k, 8, {}),
        ("deliver-1m", 1 << 20, counts.delivered_1m, 4, {}),
    )
    warm, *accounts = server.add_users([f"warm{turn}", *(f"{name}{turn}" for name, *_ in ways)])
    ingest.deliver(server, warm, [make_message(number, 10240) for number in range(100)], 16)
    for account, (name, octets, count, connections, way) in zip(accounts, ways, strict=True):
        corpus = [make_message(number, octets) for number in range(count)]
        yield name, ingest.ingest(server, account, corpus, connections, **way)
        if name == "deliver-10k" and server.readable_at_250:
            yield "absorb", ingest.absorb(server, account, count)
        ingest.check(server, account, range(count))


def read(server: Server, counts: Counts, turn: int) -> Figures:
    """List, search and read a folder filled by MULTIAPPEND."""
    account = new_account(server, "read", turn)
    imap = log_in(server, account)
    fill(imap, counts.read, READ_OCTETS)
    imap.close()
    imap = log_in(server, account)
    imap.command(b"SELECT INBOX")
    yield from listing.listings(server, imap, counts.read)
    yield from listing.search(server, imap, counts.read, READ_OCTETS)
    yield "bodies", fetch.bodies(server, imap, counts.read, READ_OCTETS)
    imap.close()


def pop3(server: Server, counts: Counts, turn: int) -> Figures:
    """Empty a mailbox of delivered messages."""
    account = new_account(server, "pop", turn)
    ingest.ingest(server, account, [make_message(number, 10240) for number in range(counts.drained)], 16)
    yield "drain", drain.drain(server, account, counts.drained, 10240)


def keep(server: Server, counts: Counts, turn: int) -> Figures:
    """APPEND, MULTIAPPEND, COPY, MOVE."""
    yield from store.store(server, new_account(server, "store", turn), counts.stored, 10240)


def huge(server: Server, counts: Counts, turn: int) -> Figures:
    """Open a folder of very many messages, of a server just started."""
    if "huge" not in server.kept:
        server.kept["huge"] = new_account(server, "huge", turn)
        half = counts.huge // 2
        # By two connections: with mail_crypt one core is busy for minutes.
        halves = [(log_in(server, server.kept["huge"]), first) for first in (0, half)]
        in_parallel([lambda a=imap, b=first: fill(a, half, HUGE_OCTETS, first=b) for imap, first in halves])
        for imap, _ in halves:
            imap.close()
    server.stop()
    server.start()
    yield from listing.select(server, server.kept["huge"], counts.huge)


def one_large(server: Server, counts: Counts, turn: int) -> Figures:
    """One message of a gibibyte: in, out whole, by POP3, and in pieces."""
    message = large.LargeMessage(counts.large_mib * large.MIB * 57 // 78)  # base64, and CRLF every 76
    trial = large.Trial(server, new_account(server, "large", turn), message, None)
    watcher = None if server.readable_at_250 else log_in(server, trial.account)
    with Lap(server) as lap:
        trial.send_data()
        if watcher is not None:
            ingest.await_messages(watcher, 1)
    if watcher is not None:
        watcher.close()
    yield "large-in", lap.each(1, message.size)
    imap = trial.imap()
    for name, way in (("large-out", lambda: trial.fetch_whole(imap)), ("large-pop3", trial.retrieve)):
        with Lap(server) as lap:
            way()
        yield name, lap.each(1, message.size)
    size = trial.delivered_size(imap)
    starts = range(large.MIB, size - large.MIB, SAMPLED * large.MIB)
    with Lap(server) as lap:
        found = trial.fetch_sample(imap, starts)
    trial.require_sample(starts, size, found)
    yield "large-pieces", lap.each(len(starts), len(starts) * large.MIB)
    imap.command(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
    imap.command(b"EXPUNGE")
    imap.close()


def idling(server: Server, counts: Counts, turn: int) -> Figures:
    """Memory of idle clients, one for each account, and how soon they hear of mail."""
    if "idle0" not in server.kept:
        names = [f"idle{number}" for number in range(counts.idle)]
        server.kept |= dict(zip(names, server.add_users(names), strict=True))
        server.stop()
        server.start()
    accounts = [server.kept[f"idle{number}"] for number in range(counts.idle)]
    before, before_pss = server.anonymous_kib(), server.proportional_kib()
    with idle.idling(server, accounts, counts.idle, compress=False) as generators:
        time.sleep(3)  # so that what hibernates does so
        memory = {
            "anonymous_kib_each": (server.anonymous_kib() - before) / counts.idle,
            "proportional_kib_each": (server.proportional_kib() - before_pss) / counts.idle,
        }
        yield "idle-memory", memory | {"messages": counts.idle}
        own = generators.cpu_s()
        with Lap(server) as lap:
            times = idle.watch_many(server, generators, accounts, counts.watched)
        lap.generator_cpu_s += generators.cpu_s() - own
        yield "idle-latency", lap.each(len(times)) | percentiles_ms(times)


def log_ins(server: Server, counts: Counts, turn: int) -> Figures:
    """New TLS connections that log in."""
    accounts = server.add_users([f"login{turn}x{number}" for number in range(10)])
    clients = [login.LogIns(server, accounts, pop3=False, resume=False) for _ in range(4)]
    login.run(clients, 2 * len(accounts))
    with Lap(server) as lap:
        times = login.run(clients, counts.logins)
    yield "login", lap.each(counts.logins) | percentiles_ms(times)


WORKLOADS = {
    one.name: one
    for one in (
        Workload("deliver", deliver),
        Workload("read", read),
        Workload("pop3", pop3),
        Workload("store", keep),
        Workload("huge", huge),
        Workload("large", one_large),
        Workload("login", log_ins),
        Workload("idle", idling, rounds=1, servers=(OURS, CLEAR, CRYPT, HIBERNATED)),
    )
}
