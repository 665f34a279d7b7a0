"""Running coroutines to their end without a reactor: for the command line, which does one thing and exits."""

import queue
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
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


def _refuse() -> NoReturn:
    raise NotImplementedError("nothing is called later")
