"""The workloads that `bench/compare.py` runs on every server: what is measured, over how much, how often.

Each is a function of a server, the counts and the round; it gives figures by name. Accounts are new in every round, so
that nothing is found made ready by the one before, but for the folder that takes longest to fill.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import ingest
from figures import make_message
from report import CLEAR, CRYPT, OURS
from server import Account, Server

Values = dict[str, float | int]
Figures = Iterator[tuple[str, Values]]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much each workload does."""

    delivered: int = 3000
    """Messages of 10 KiB and of 1 KiB."""
    delivered_each: int = 1000
    """Messages over one connection each."""
    delivered_100k: int = 500
    delivered_1m: int = 100

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
    for name, octets, count, connections, way in (
        ("deliver-10k", 10240, counts.delivered, 16, {}),
        ("deliver-10k-each", 10240, counts.delivered_each, 8, {"each": True}),
        ("deliver-10k-bdat", 10240, counts.delivered, 16, {"bdat": True}),
        ("deliver-1k", 1024, counts.delivered, 16, {}),
        ("deliver-100k", 102400, counts.delivered_100k, 8, {}),
        ("deliver-1m", 1 << 20, counts.delivered_1m, 4, {}),
    ):
        account = new_account(server, name, turn)
        corpus = [make_message(number, octets) for number in range(count)]
        yield name, ingest.ingest(server, account, corpus, connections, **way)
        if name == "deliver-10k" and server.readable_at_250:
            yield "absorb", ingest.absorb(server, account, count)
        ingest.check(server, account, range(count))


WORKLOADS = {one.name: one for one in (Workload("deliver", deliver),)}
