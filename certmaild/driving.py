"""Running a coroutine to its end: for the command line, which does one thing and exits.

`Driver` needs no reactor, and is enough for the store; `run_with_reactor` is for commands that use the network.
"""

import queue
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

T = TypeVar("T")


class Driver:
    """Stands for the reactor towards an engine: what threads hand over runs in `run`; nothing is called later."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Run something on the thread that is in `run`."""
        self._calls.put(lambda: callable(*args, **kwargs))

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        """Not for a program that does one thing."""
        return _refuse()

    def seconds(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises."""
        outcome: list[T | Failure] = []
        Deferred.fromCoroutine(work).addBoth(outcome.append)
        while not outcome:
            self._calls.get()()
        result = outcome[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result


def run_with_reactor(work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """What the coroutine returns or raises that ``work`` makes of the reactor. Once in a process; Ctrl-C ends it.

    Where the reactor runs already, in another thread, it is used from there.
    """
    from twisted.internet import reactor as ready

    reactor: Any = ready
    if reactor.running:
        begin_there: Callable[[], Any] = lambda: Deferred.fromCoroutine(work(reactor))  # noqa: E731
        return cast("T", blockingCallFromThread(reactor, begin_there))
    outcome: list[T | Failure] = []

    def begin() -> None:
        Deferred.fromCoroutine(work(reactor)).addBoth(outcome.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not outcome:
        raise KeyboardInterrupt
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result


def _refuse() -> NoReturn:
    raise NotImplementedError("nothing is called later")
