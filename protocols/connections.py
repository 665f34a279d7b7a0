"""The connections of one listener, so that all can be ended together."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred


class Connection(Protocol):
    """What ends with its listener."""

    def shut_down(self) -> None:
        """Tell the client, once the command in flight is done, and close."""

    def cut_off(self) -> None:
        """Close now, whatever is under way."""


C = TypeVar("C", bound=Connection)


class Connections(Generic[C]):
    """Those that are there: from `add`, when they are made, to `remove`, when they are lost."""

    def __init__(self) -> None:
        self._there: set[C] = set()
        self._gone: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._there)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._there))

    def add(self, connection: C) -> None:
        """One more."""
        self._there.add(connection)

    def remove(self, connection: C) -> None:
        """One is gone, whether it was added or not."""
        self._there.discard(connection)
        self._look_whether_gone()

    def shut_down(self) -> "Deferred[None]":
        """Shut each down; fires when all are gone. Asked again, it gives the same Deferred."""
        if self._gone is None:
            self._gone = Deferred()
            for connection in self:
                connection.shut_down()
            self._look_whether_gone()
        return self._gone

    def cut_off(self) -> None:
        """Drop those that are still there, when `shut_down` has taken long enough."""
        for connection in self:
            connection.cut_off()

    def _look_whether_gone(self) -> None:
        if self._gone is not None and not self._there and not self._gone.called:
            self._gone.callback(None)
