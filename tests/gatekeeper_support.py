"""A gatekeeper over LMDB with two accounts, and what it costs to log in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import support
from support import run
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from certmaild.gatekeeper import InProcessGatekeeper
from certmaild.kdf_pool import KdfPool
from certmaild.keystore import primitives
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.accounts import Accounts, NewAccount
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.pool import MailboxPool
from certmaild.protocols.interfaces import Login, Service
from certmaild.protocols.limits import Limits

ALICE, BOB = canonical("alice@example.com"), canonical("bob@example.com")
PEER = "192.0.2.1"
NOW = 1_800_000_000.0


class Threads:
    """Runs at once and counts."""

    def __init__(self) -> None:
        self.jobs = 0

    def run(self, work: Callable[[], Any]) -> "Deferred[Any]":
        self.jobs += 1
        return succeed(work())


class House:
    """A gatekeeper over LMDB with two accounts: alice has a device password, bob a human one."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.secrets = ServerSecrets.create(directory / "secrets")
        self.engine: LmdbEngine = support.lmdb_engine(directory, sealer=self.secrets)
        self.accounts = Accounts(self.engine, self.secrets, self.clock.seconds)
        self.alice: NewAccount = run(self.accounts.create(ALICE))
        self.bob: NewAccount = run(self.accounts.create(BOB, password=b"correct horse", rounds=1))
        self.slow, self.quick = Threads(), Threads()
        self.limits = Limits(sessions_per_credential=2, sessions_per_mailbox=3)
        self.gatekeeper = self.make()

    def make(self, rounds: int = 1, domains: tuple[str, ...] = ("example.com",), **shared: Any) -> InProcessGatekeeper:
        mailboxes = MailboxPool(self.engine, self.secrets, self.engine.hub, self.clock.seconds)
        return InProcessGatekeeper(
            self.engine,
            self.secrets,
            mailboxes,
            self.clock,
            KdfPool(self.slow),
            KdfPool(self.quick),
            limits=self.limits,
            domains=domains,
            rounds=rounds,
            **shared,
        )

    def begin(self, name: str, password: bytes | str, service: Service = Service.IMAP, peer: str = PEER) -> Any:
        octets = password.encode() if isinstance(password, str) else password
        return Deferred.fromCoroutine(
            self.gatekeeper.log_in(name.encode(), octets, service=service, peer=peer)  # type: ignore[arg-type]
        )

    def log_in(self, name: str, password: bytes | str, service: Service = Service.IMAP, peer: str = PEER) -> Login:
        login: Login = run(self.begin(name, password, service, peer))
        return login

    @property
    def device_password(self) -> str:
        assert self.alice.device_password is not None
        return self.alice.device_password


class Work:
    """Counts rounds of hashing, apart from those that the cache takes of every password."""

    def __init__(self) -> None:
        self.rounds = 0

    def __call__(self, password: bytes, salt: bytes, rounds: int) -> bytes:
        self.rounds += rounds
        return primitives.password_kdf(password, salt, rounds)
