"""The same work asked for several times at once is done once."""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SharedWork(Generic[K, T]):
    """Work under way, by what it is about."""

    def __init__(self) -> None:
        self._waiting: dict[K, list[Deferred[T]]] = {}

    async def result(self, key: K, begin: "Callable[[], Deferred[T]]") -> T:
        """What the work under way for this key gives or raises; ``begin`` begins it where there is none."""
        mine: Deferred[T] = Deferred()
        if key in self._waiting:
            self._waiting[key].append(mine)
        else:
            self._waiting[key] = [mine]

            def tell(outcome: Any) -> None:
                for one in self._waiting.pop(key):
                    one.callback(outcome)

            begin().addBoth(tell)
        return await mine
