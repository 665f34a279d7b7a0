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
        now, self.waiting = self.waiting, []
        for answer, work in now:
            answer.callback(work())


def start(pool: KdfPool, peer: str) -> "Deferred[int]":
    return Deferred.fromCoroutine(pool.run(peer, lambda: 7))


def refused(job: "Deferred[int]") -> bool:
    failures: list[Any] = []
    job.addErrback(failures.append)
    return bool(failures) and bool(failures[0].check(LogInUnavailable))


def test_an_address_has_a_share() -> None:
    threads = HeldThreads()
    pool = KdfPool(threads, places=4, places_per_network=2, at_once=4)
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
    pool = KdfPool(threads, places=4, places_per_network=2, at_once=4)
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


def begun(pool: KdfPool, peer: str, order: list[str]) -> None:
    """A job that notes whose turn it was."""
    Deferred.fromCoroutine(pool.run(peer, lambda: order.append(peer)))


def test_one_address_leaves_a_thread_to_others() -> None:
    threads = HeldThreads()
    pool = KdfPool(threads, at_once=3)
    for _ in range(10):
        start(pool, "192.0.2.1")
    assert len(threads.waiting) == 2
    start(pool, "192.0.2.2")
    assert len(threads.waiting) == 3


def test_addresses_take_turns_whoever_came_first() -> None:
    threads = HeldThreads()
    pool = KdfPool(threads, at_once=1)
    order: list[str] = []
    for peer in ("A", "A", "A", "A", "B", "B", "C"):
        begun(pool, peer, order)
    while threads.waiting:
        assert len(threads.waiting) == 1
        threads.let_go()
    assert order == ["A", "A", "B", "C", "A", "B", "A"]
    assert pool.busy == 0
