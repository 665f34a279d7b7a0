"""What is done once for a store, however many processes serve it: removal of what is left over, our own certificate."""

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from certmaild.client_setup.names import served_names
from certmaild.config_values import Config
from certmaild.keystore.certificates import PrivateFiles, is_due, renew_leaf
from certmaild.keystore.errors import KeystoreError
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import count_most_rounds
from certmaild.mailbox.collect import Collector
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.removal import remove_orphans

log = Logger()
DAY_S = 86_400


class Chores:
    """The jobs of the supervisor, or of the only process. ``renewed`` is told of a new certificate."""

    def __init__(
        self, config: Config, engine: LmdbEngine, secrets: ServerSecrets, reactor: Any, renewed: Callable[[], None]
    ) -> None:
        self.config = config
        self._engine = engine
        self._secrets = secrets
        self._reactor = reactor
        self._renewed = renewed
        self.collector = Collector(engine, reactor.seconds)
        self._daily = LoopingCall(self.renew_certificate)
        self._daily.clock = reactor

    async def start(self) -> None:
        """Remove what is left over, and go on looking: for dead blobs each ten minutes, for the certificate daily.

        How much work a refused log-in takes is found out anew.
        """
        await self._engine.write(count_most_rounds)
        self.collector.start(self._reactor)
        self._daily.start(DAY_S)
        await remove_orphans(self._engine, self._secrets, lambda: int(self._reactor.seconds()))

    def take_over(self, new: Config) -> None:
        """Go by another configuration, and renew our own certificate if it lacks a name now."""
        self.config = new
        self.renew_certificate()

    def renew_certificate(self) -> None:
        """Renew a certificate of our own authority before it runs out, or when it lacks one of the server's names."""
        config = self.config
        try:
            if config.tls.private and is_due(PrivateFiles(config.data), names := served_names(config)):
                renew_leaf(config.data, names)
                self._renewed()
        except (KeystoreError, OSError):
            log.failure("renewing the certificate failed; the former one is kept")

    def stop(self) -> None:
        """Begin nothing further."""
        self.collector.stop()
        if self._daily.running:
            self._daily.stop()
