"""Whether a server that DNS names is this one: mail sent there would come back (RFC 5321 section 5.1)."""

import socket
from collections.abc import Sequence
from ipaddress import ip_address

from certmaild.config_values import Listen

_ANY = ("0.0.0.0", "::")  # noqa: S104  # compared with, not bound to


class OwnServer:
    """Knows this server by its name, and by the addresses where it takes mail at the port that others use."""

    def __init__(self, hostname: str, listen: Listen, port: int = 25) -> None:
        self._hostname = hostname
        # A socket of systemd's is expected to be the usual one.
        takes_mail = listen.smtp == port or isinstance(listen.smtp, str)
        given = listen.address if takes_mail else ()
        self._addresses = {str(ip_address(one)) for one in given}
        self._versions = {ip_address(one).version for one in given if one in _ANY}

    def __call__(self, name: str, addresses: Sequence[str]) -> bool:
        """Whether the host is this server."""
        return name == self._hostname or any(self._is_own(address) for address in addresses)

    def _is_own(self, address: str) -> bool:
        if address in self._addresses:
            return True
        return ip_address(address).version in self._versions and _is_of_this_machine(address)


def _is_of_this_machine(address: str) -> bool:
    """Only an address of this machine can be bound to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
