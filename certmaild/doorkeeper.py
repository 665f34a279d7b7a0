"""Connection limits before log-in: a share for each address and port, a total, and who gives way when it is full."""

from collections import Counter, OrderedDict
from collections.abc import Collection

from certmaild.protocols.interfaces import Evictable
from certmaild.protocols.limits import Limits
from certmaild.throttle import network_of


class Place:
    """One connection's place; see `certmaild.protocols.interfaces.Admission`."""

    __slots__ = ("_doorkeeper", "give_way", "source", "waiting")

    def __init__(self, doorkeeper: "InProcessDoorkeeper", source: tuple[str, int], give_way: Evictable) -> None:
        self._doorkeeper: InProcessDoorkeeper | None = doorkeeper
        self.source = source
        self.give_way = give_way
        self.waiting = True

    def authenticated(self) -> None:
        """It no longer counts as not logged in."""
        if self._doorkeeper is not None:
            self._doorkeeper.stop_waiting(self)

    def leave(self) -> None:
        """It is gone; may be called more than once."""
        doorkeeper, self._doorkeeper = self._doorkeeper, None
        if doorkeeper is not None:
            doorkeeper.remove(self)


class InProcessDoorkeeper:
    """A `Doorkeeper` that counts the connections of this process.

    When all places are taken, the connection that has waited longest for its log-in gives way; those of
    ``relay_ports`` (25), where nobody logs in, only when no other waits; those logged in never.
    """

    def __init__(self, limits: Limits, *, relay_ports: Collection[int] = ()) -> None:
        self._per_source = limits.connections_per_address
        self._places = limits.connections
        self._relay_ports = frozenset(relay_ports)
        self._sources: Counter[tuple[str, int]] = Counter()
        self._waiting: OrderedDict[Place, None] = OrderedDict()
        self._relaying: OrderedDict[Place, None] = OrderedDict()
        self._total = 0

    def admit(self, peer: str, port: int, give_way: Evictable) -> Place | None:
        """A place, or None when the address has too many that are not logged in, or nobody can give way."""
        source = (network_of(peer), port)
        if self._sources[source] >= self._per_source:
            return None
        if self._total >= self._places and not self._make_room():
            return None
        place = Place(self, source, give_way)
        self._queue(place)[place] = None
        self._sources[source] += 1
        self._total += 1
        return place

    def _queue(self, place: Place) -> "OrderedDict[Place, None]":
        return self._relaying if place.source[1] in self._relay_ports else self._waiting

    def _make_room(self) -> bool:
        queue = self._waiting or self._relaying
        if not queue:
            return False
        oldest = next(iter(queue))
        oldest.leave()
        oldest.give_way.evict()
        return True

    def stop_waiting(self, place: Place) -> None:
        """`Place.authenticated`."""
        if not place.waiting:
            return
        place.waiting = False
        del self._queue(place)[place]
        self._sources[place.source] -= 1
        if not self._sources[place.source]:
            del self._sources[place.source]

    def remove(self, place: Place) -> None:
        """`Place.leave`."""
        self.stop_waiting(place)
        self._total -= 1

    def __len__(self) -> int:
        return self._total
