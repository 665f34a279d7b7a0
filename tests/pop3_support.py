"""A POP3 house for tests: the real server and mailbox on the memory engine, a clock, no sockets."""

from pathlib import Path
from typing import Any

from line_support import Door, Line
from mailbox_support import ADDRESS, ALL, House, make_house
from support import WorkingClock, run

from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.identifiers import CredentialId
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag
from certmaild.protocols.interfaces import Login, LogInRefused, LogInUnavailable, Service, TooManySessions
from certmaild.protocols.limits import Limits
from certmaild.protocols.pop3.server import Pop3Factory

PASSWORD = "secret"
MAIL = b"From: ann@example.org\r\nTo: joe@example.com\r\nSubject: hello\r\n\r\nbody\r\n"
LOG_IN = b"USER %b\r\nPASS %b\r\n" % (ADDRESS.encode(), PASSWORD.encode())


class Gate:
    """A gatekeeper with one user and switches for what goes wrong."""

    def __init__(self, store: House) -> None:
        self.store = store
        self.valid = True
        self.read_only = self.unavailable = self.full = False
        self.sessions = 0

    async def log_in(self, username: bytes, password: bytes, *, service: Service, peer: str) -> Login:
        assert service is Service.POP3
        assert peer in ("192.0.2.1", "127.0.0.1")
        if self.unavailable:
            raise LogInUnavailable("later")
        if self.full:
            raise TooManySessions
        if (username, password) != (ADDRESS.encode(), PASSWORD.encode()):
            raise LogInRefused
        self.sessions += 1
        return Login(self.store.user_id, ADDRESS, CredentialId(1), self.read_only, self.store.keys)

    async def is_valid(self, login: Login) -> bool:
        return self.valid

    def log_out(self, login: Login) -> None:
        self.sessions -= 1

    async def open_mailbox(self, login: Login) -> OpenMailbox:
        return self.store.pool.open(login.user_id, login.address, login.keys)


class PopHouse:
    """Everything behind the listener."""

    def __init__(self, directory: Path, limits: Limits = Limits()) -> None:  # noqa: B008
        self.clock = WorkingClock()
        self.store = make_house(directory)
        self.gate = Gate(self.store)
        self.door = Door()
        gate: Any = self.gate
        door: Any = self.door
        self.factory = Pop3Factory(gate, door, limits, self.clock, "mail.example.com")

    def connect(self) -> Line:
        return Line(self.factory.buildProtocol(None))

    def log_in(self) -> Line:
        line = self.connect()
        assert line.take() == b"+OK mail.example.com POP3 server ready\r\n"
        answer = line.send(LOG_IN)
        assert answer.endswith(b"+OK Logged in\r\n"), answer
        return line

    def deliver(self, *contents: bytes) -> None:
        """Put messages into INBOX, as somebody else would; no trace fields."""
        self.store.append(*contents)

    def uids(self) -> list[int]:
        return [entry.uid for entry in self.store.entries()]

    def expunge_all(self) -> None:
        mailbox, box = self.store.mailbox, self.store.box()
        run(mailbox.store_flags(box, ALL, FlagOp.ADD, Flags(SystemFlag.DELETED)))
        run(mailbox.expunge(box, ALL))

    def announce(self, kind: ChangeKind) -> None:
        self.store.engine.hub.deliver([Change(kind, self.store.user_id)])
