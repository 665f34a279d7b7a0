"""What the houses of IMAP and POP3 for tests share: doorkeeper, gatekeeper, and a transport that keeps all."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mailbox_support import ADDRESS
from twisted.internet.defer import Deferred

from certmaild.keystore.users import KeyRing
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.pool import MailboxPool
from certmaild.protocols.interfaces import (
    Login,
    LogInForbidden,
    LogInRefused,
    LogInUnavailable,
    Service,
    TooManySessions,
)

PASSWORD = "secret"


class Door:
    """A doorkeeper that lets all in, or none."""

    open = True
    inside = logged_in = 0

    def admit(self, peer: str, port: int, give_way: object) -> "Door | None":
        self.inside += self.open
        return self if self.open else None

    def authenticated(self) -> None:
        self.logged_in += 1

    def leave(self) -> None:
        self.inside -= 1


class Gate:
    """A gatekeeper with one user and switches for what goes wrong; ``pool`` gives the pool of the moment."""

    def __init__(self, service: Service, pool: Callable[[], MailboxPool], keys: KeyRing) -> None:
        self._service = service
        self._pool = pool
        self._keys = keys
        self.valid = True
        self.read_only = self.unavailable = self.full = self.forbids = False
        self.sessions = 0
        self.answer: Deferred[None] | None = None
        """Where there is one, log-ins wait for it."""

    async def log_in(self, username: bytes, password: bytes, *, service: Service, peer: str) -> Login:
        assert service is self._service
        assert peer in ("192.0.2.1", "127.0.0.1")
        if self.answer is not None:
            await self.answer
        if self.unavailable:
            raise LogInUnavailable("later")
        if self.full:
            raise TooManySessions
        if (username, password) != (ADDRESS.encode(), PASSWORD.encode()):
            raise LogInRefused
        if self.forbids:
            raise LogInForbidden("Use another program.")
        self.sessions += 1
        return Login(UserId(self._keys.user_id), ADDRESS, CredentialId(1), self.read_only, self._keys)

    async def is_valid(self, login: Login) -> bool:
        return self.valid

    def log_out(self, login: Login) -> None:
        self.sessions -= 1

    async def open_mailbox(self, login: Login) -> OpenMailbox:
        return self._pool().open(login.user_id, login.address, login.keys)


class Line:
    """A transport that keeps what is written, and closes at once."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.written = bytearray()
        self.closed = self.aborted = self.reading_paused = False
        self.slow = False
        """Whether the client reads nothing by itself."""
        self.producer: Any = None
        server.makeConnection(self)

    def getPeer(self) -> Any:
        return SimpleNamespace(host="192.0.2.1", port=1993)

    getHost = getPeer

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data
        if self.slow:
            self.producer.pauseProducing()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading_paused = True

    def resumeProducing(self) -> None:
        self.reading_paused = False

    def loseConnection(self) -> None:
        assert self.producer is None
        self.hang_up()

    def abortConnection(self) -> None:
        self.aborted = True
        self.hang_up()

    def hang_up(self) -> None:
        if not self.closed:
            self.closed = True
            self.server.connectionLost()

    def send(self, data: bytes) -> bytes:
        """Send octets; what came back."""
        if not self.closed:
            self.server.dataReceived(data)
        return self.take()

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self.written)
        self.written.clear()
        return taken
