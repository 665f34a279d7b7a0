"""Connection limits before log-in."""

from certmaild.doorkeeper import InProcessDoorkeeper, Place
from certmaild.protocols.limits import Limits


class Connection:
    """Remembers that it was asked to go."""

    def __init__(self) -> None:
        self.evicted = False

    def evict(self) -> None:
        self.evicted = True


def make(per_address: int = 2, total: int = 4) -> InProcessDoorkeeper:
    limits = Limits(connections_per_address=per_address, connections=total)
    return InProcessDoorkeeper(limits, relay_ports=(25,))


def admit(doorkeeper: InProcessDoorkeeper, peer: str, port: int = 993) -> tuple[Connection, Place | None]:
    connection = Connection()
    return connection, doorkeeper.admit(peer, port, connection)


def test_an_address_has_so_many_on_each_port() -> None:
    doorkeeper = make()
    places = [admit(doorkeeper, "192.0.2.1")[1] for _ in range(3)]
    assert places[1] is not None
    assert places[2] is None
    assert admit(doorkeeper, "192.0.2.1", 995)[1] is not None
    assert admit(doorkeeper, "192.0.2.2")[1] is not None


def test_logging_in_and_leaving_free_the_share_once() -> None:
    doorkeeper = make(per_address=1)
    place = admit(doorkeeper, "192.0.2.1")[1]
    assert place is not None
    place.authenticated()
    place.authenticated()
    second = admit(doorkeeper, "192.0.2.1")[1]
    assert second is not None
    assert admit(doorkeeper, "192.0.2.1")[1] is None
    second.leave()
    second.leave()
    place.leave()
    place.authenticated()
    assert len(doorkeeper) == 0
    assert admit(doorkeeper, "192.0.2.1")[1] is not None


def test_the_oldest_waiting_one_gives_way() -> None:
    doorkeeper = make(total=3)
    relay, _ = admit(doorkeeper, "192.0.2.1", 25)
    logged_in, place = admit(doorkeeper, "192.0.2.2")
    assert place is not None
    place.authenticated()
    silent, _ = admit(doorkeeper, "192.0.2.3")
    newest, place = admit(doorkeeper, "192.0.2.4")
    assert place is not None
    assert (relay.evicted, logged_in.evicted, silent.evicted) == (False, False, True)
    place.authenticated()
    last, place = admit(doorkeeper, "192.0.2.5")
    assert relay.evicted
    assert place is not None
    place.authenticated()
    assert admit(doorkeeper, "192.0.2.6")[1] is None
    assert not (newest.evicted or last.evicted)
    assert len(doorkeeper) == 3
