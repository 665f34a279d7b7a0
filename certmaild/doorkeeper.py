"""Connection limits before log-in: a share for each address and port, a total, and who gives way when it is full."""

from collections import OrderedDict
from collections.abc import Callable, Collection

from certmaild.protocols.interfaces import Evictable
from certmaild.protocols.limits import Limits
from certmaild.tally import LocalTally, Tally
from certmaild.throttle import network_of

CONNECTIONS = b"connections"
WAITING = b"waiting"
"""Names of counts: all connections, and those that may have to give way."""


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
    """A `Doorkeeper` whose counts stand in ``tally``: those of this process, or of all the workers.

    When all places are taken, the connection that has waited longest for its log-in gives way; those of
    ``relay_ports`` (25), where nobody logs in, only when no other waits; those logged in never. If none waits in this
    process, ``make_room_elsewhere`` may ask another, and says whether it did.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        relay_ports: Collection[int] = (),
        tally: Tally | None = None,
        make_room_elsewhere: Callable[[], bool] = lambda: False,
    ) -> None:
        self.limits = limits
        self._relay_ports = frozenset(relay_ports)
        self._tally = LocalTally() if tally is None else tally
        self._make_room_elsewhere = make_room_elsewhere
        self._waiting: OrderedDict[Place, None] = OrderedDict()
        self._relaying: OrderedDict[Place, None] = OrderedDict()
        self._total = 0

    def admit(self, peer: str, port: int, give_way: Evictable) -> Place | None:
        """A place, or None when the address has too many that are not logged in, or nobody can give way."""
        source = (network_of(peer), port)
        wanted = ((_name(source), self.limits.connections_per_address), (WAITING, None))
        full = self._tally.count_in(*wanted, (CONNECTIONS, self.limits.connections))
        if full == CONNECTIONS:
            if not self.make_room() and not self._make_room_elsewhere():
                return None
            # It may be one too many until the one that gives way is gone.
            full = self._tally.count_in(*wanted, (CONNECTIONS, None))
        if full is not None:
            return None
        place = Place(self, source, give_way)
        self._queue(place)[place] = None
        self._total += 1
        return place

    def _queue(self, place: Place) -> "OrderedDict[Place, None]":
        return self._relaying if place.source[1] in self._relay_ports else self._waiting

    def make_room(self) -> bool:
        """Have the connection that has waited longest give way, if one waits."""
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
        self._tally.count_out(_name(place.source), WAITING)

    def remove(self, place: Place) -> None:
        """`Place.leave`."""
        self.stop_waiting(place)
        self._tally.count_out(CONNECTIONS)
        self._total -= 1

    def __len__(self) -> int:
        return self._total


def _name(source: tuple[str, int]) -> bytes:
    return f"from {source[0]} to {source[1]}".encode()
