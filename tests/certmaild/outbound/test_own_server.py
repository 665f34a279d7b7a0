"""Whether DNS leads mail back to us."""

import socket

import pytest

from certmaild.config_values import Listen
from certmaild.outbound.own_server import OwnServer


@pytest.mark.parametrize(
    ("listen", "name", "addresses", "own"),
    [
        (Listen(("192.0.2.1",), smtp=25), "mx.example.com", (), True),
        (Listen(("192.0.2.1",), smtp=25), "other.example", ("192.0.2.9", "192.0.2.1"), True),
        (Listen(("192.0.2.1",), smtp="systemd:smtp"), "other.example", ("192.0.2.1",), True),
        (Listen(("2001:db8:0::1",), smtp=25), "other.example", ("2001:db8::1",), True),
        (Listen(("192.0.2.1",), smtp=25), "other.example", ("192.0.2.2",), False),
        (Listen(("192.0.2.1",), smtp=1025), "other.example", ("192.0.2.1",), False),
        (Listen(("192.0.2.1",)), "other.example", ("192.0.2.1",), False),
        (Listen(("0.0.0.0",), smtp=25), "other.example", ("127.0.0.1",), True),
        (Listen(("0.0.0.0",), smtp=25), "other.example", ("192.0.2.1",), False),
        (Listen(("0.0.0.0",), smtp=25), "other.example", ("::1",), False),
    ],
)
def test_by_name_and_by_address(listen: Listen, name: str, addresses: tuple[str, ...], own: bool) -> None:
    assert OwnServer("mx.example.com", listen)(name, addresses) == own


def test_every_address_of_this_machine_is_own_where_all_are_listened_to() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no route: the machine has no address to ask about")
        address = probe.getsockname()[0]
    assert OwnServer("mx.example.com", Listen(("0.0.0.0",), smtp=25))("other.example", (address,))
