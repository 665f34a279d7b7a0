"""Admission to slow hashing: refused before any work is done."""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from certmaild.kdf_pool import KdfPool
from certmaild.protocols.interfaces import LogInUnavailable


class HeldThreads:
    """Keeps work until the test lets it go."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.waiting.append((answer, work))
        return answer

    def let_go(self) -> None:
        for answer, work in self.waiting:
            answer.callback(work())
        self.waiting.clear()


def start(pool: KdfPool, peer: str) -> "Deferred[int]":
    return Deferred.fromCoroutine(pool.run(peer, lambda: 7))


def refused(job: "Deferred[int]") -> bool:
    failures: list[Any] = []
    job.addErrback(failures.append)
    return bool(failures) and bool(failures[0].check(LogInUnavailable))


def test_an_address_has_a_share() -> None:
    threads = HeldThreads()
    pool = KdfPool(threads, places=4, places_per_network=2)
    first = [start(pool, "192.0.2.1") for _ in range(2)]
    assert refused(start(pool, "192.0.2.1"))
    assert len(threads.waiting) == 2
    other = start(pool, "192.0.2.2")
    threads.let_go()
    assert [job.result for job in (*first, other)] == [7, 7, 7]
    assert pool.busy == 0
    again = start(pool, "192.0.2.1")
    threads.let_go()
    assert again.result == 7


def test_the_queue_is_bounded() -> None:
    threads = HeldThreads()
    pool = KdfPool(threads, places=4, places_per_network=2)
    for n in range(4):
        start(pool, f"192.0.2.{n}")
    assert refused(start(pool, "192.0.2.9"))
    assert len(threads.waiting) == 4


def test_a_failing_job_gives_its_place_back() -> None:
    threads = HeldThreads()
    pool = KdfPool(threads, places=1, places_per_network=1)

    def fail() -> int:
        raise ZeroDivisionError

    job = Deferred.fromCoroutine(pool.run("192.0.2.1", fail))
    threads.waiting.pop()[0].errback(ZeroDivisionError())
    failures: list[Any] = []
    job.addErrback(failures.append)
    assert failures
    assert pool.busy == 0
    with pytest.raises(ZeroDivisionError):
        failures[0].raiseException()
