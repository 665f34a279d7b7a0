"""Whether destinations prove themselves, asked for a message that waits: not twice within minutes, not for long."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.python.failure import Failure

from certmaild.outbound.values import Problem, SelfProof
from certmaild.shared_work import SharedWork

REMEMBERED_S = 300.0
REMEMBERED = 10_000
AT_ONCE = 20
"""Domains asked about at a time for one message."""


class Asked(Protocol):
    """Knows how destinations prove themselves; `certmaild.outbound.planner.DnsPlanner` is one."""

    async def proves_itself(self, domain: str) -> SelfProof | Problem:
        """By DNS and MTA-STS."""
        ...


class Proofs:
    """Remembers answers for five minutes; ``clock`` is the reactor. What could not be found out is asked again."""

    def __init__(self, asked: Callable[[], Asked], clock: Any) -> None:
        self._asked = asked
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, SelfProof]] = OrderedDict()
        self._under_way: SharedWork[str, SelfProof | Problem] = SharedWork()

    def forget(self) -> None:
        """Ask again: the configuration changed."""
        self._known.clear()

    async def of(self, domains: Iterable[str], within_s: float) -> dict[str, SelfProof | Problem]:
        """How each domain proves itself; for one that takes longer than ``within_s``, a `Problem` for now."""
        ends_s = self._clock.seconds() + within_s
        wanted = list(dict.fromkeys(domains))
        found: dict[str, SelfProof | Problem] = {}
        for at in range(0, len(wanted), AT_ONCE):
            some = wanted[at : at + AT_ONCE]
            left_s = max(ends_s - self._clock.seconds(), 0.0)
            asking = [Deferred.fromCoroutine(self._one(domain, left_s)) for domain in some]
            found |= zip(some, await gatherResults(asking, consumeErrors=True), strict=True)
        return found

    async def _one(self, domain: str, left_s: float) -> SelfProof | Problem:
        known = self._known.get(domain)
        if known is not None and known[0] > self._clock.seconds():
            return known[1]
        if left_s <= 0:
            return _too_long(domain)
        # Whoever waits for it may give up; the question itself goes on, and is answered to the next who asks.
        answer: Deferred[SelfProof | Problem] = Deferred()
        Deferred.fromCoroutine(self._ask(domain)).addCallbacks(
            lambda found: None if answer.called else answer.callback(found),
            lambda failure: None if answer.called else answer.errback(failure),
        )
        answer.addTimeout(left_s, self._clock)
        answer.addErrback(_as_problem, domain)
        return await answer

    async def _ask(self, domain: str) -> SelfProof | Problem:
        found = await self._under_way.result(
            domain, lambda: Deferred.fromCoroutine(self._asked().proves_itself(domain))
        )
        if isinstance(found, SelfProof):
            if len(self._known) >= REMEMBERED:
                self._known.popitem(last=False)
            self._known[domain] = (self._clock.seconds() + REMEMBERED_S, found)
        return found


def _as_problem(failure: Failure, domain: str) -> Problem:
    if not isinstance(failure.value, TimedOut):
        failure.raiseException()
    return _too_long(domain)


def _too_long(domain: str) -> Problem:
    return Problem(False, 451, "4.4.3", f"DNS takes too long to say how {domain} proves itself.")
