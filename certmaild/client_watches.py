"""Who hears with what programs people come in: one `ClientWatch` for the protocols, which tells others."""

from certmaild.protocols.interfaces import ClientId, ClientWatch, Login, Service


class ClientWatches:
    """Tells each of ``watches`` in turn; the first that forbids the session ends it."""

    def __init__(self) -> None:
        self.watches: list[ClientWatch] = []

    async def entered(self, login: Login, service: Service, peer: str) -> None:
        """See `ClientWatch.entered`."""
        for one in self.watches:
            await one.entered(login, service, peer)

    async def told(self, login: Login, client_id: ClientId, peer: str) -> None:
        """See `ClientWatch.told`."""
        for one in self.watches:
            await one.told(login, client_id, peer)
