"""A TCP connection to one address, from the address of ours that was set."""

from ipaddress import ip_address
from typing import Any, cast

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory

from certmaild.protocols.smtp.client.connection import ClientConnection


async def dial(
    reactor: Any, address: str, port: int, connection: ClientConnection, *, timeout_s: int, source: str | None = None
) -> None:
    """Connect. ``source`` is an address of ours, of the same IP version. Raises `ConnectError`."""
    endpoint = TCP4ClientEndpoint if ip_address(address).version == 4 else TCP6ClientEndpoint
    bind = None if source is None else (source, 0)
    made = endpoint(reactor, address, port, timeout=timeout_s, bindAddress=bind)
    await made.connect(cast(IProtocolFactory, _Only(connection)))


class _Only(Factory):
    """Gives one connection."""

    noisy = False

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> ClientConnection:
        """The one."""
        return self._connection
