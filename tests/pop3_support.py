"""A POP3 house for tests: the real server over a mailbox in plain lists, a clock, no sockets."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.mime import Scanner
from certmaild.mailbox.values import NO_FINAL_CRLF, Entry
from certmaild.protocols.interfaces import Login, LogInRefused, LogInUnavailable, Service, TooManySessions
from certmaild.protocols.limits import Limits
from certmaild.protocols.pop3.server import Pop3Factory, Pop3Server

ADDRESS, PASSWORD = "joe@example.com", "secret"
MAIL = b"From: ann@example.org\r\nTo: joe@example.com\r\nSubject: hello\r\n\r\nbody\r\n"
LOG_IN = b"USER %b\r\nPASS %b\r\n" % (ADDRESS.encode(), PASSWORD.encode())


class Octets:
    """The content of one message, with a trace prefix of no octets."""

    prefix = 0

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    async def read(self, offset: int, length: int) -> bytes:
        return self._octets[offset : offset + min(length, 256 * 1024)]


class ListMailbox:
    """What POP3 uses of `OpenMailbox`."""

    def __init__(self) -> None:
        self.messages: dict[int, bytes] = {}
        self.deleted: set[int] = set()
        self.next = 1
        self.watchers: list[Callable[[Change], None]] = []
        self.open = 0

    async def absorb(self, *, at_most_s: float | None = None) -> int:
        assert at_most_s == 2
        return 0

    async def folders(self) -> Any:
        return SimpleNamespace(by_name={"INBOX": SimpleNamespace(box_id=b"b" * 16)}.get)

    async def entries(self, box_id: bytes, uids: list[range]) -> AsyncIterator[list[Entry]]:
        found = []
        for uid, octets in self.messages.items():
            if any(uid in run for run in uids):
                flags = 0 if octets.endswith(b"\r\n") else NO_FINAL_CRLF
                found.append(Entry(uid, uid.to_bytes(16, "big"), b"", flags, 0, 1, 0, len(octets), 0))
        if found:
            yield found

    async def card(self, entry: Entry) -> Any:
        octets = self.messages.get(entry.uid)
        if octets is None:
            return None
        scanner = Scanner()
        scanner.feed(octets)
        return SimpleNamespace(octets=octets, header_octets=scanner.finish().header_octets)

    def content(self, card: Any) -> Octets:
        return Octets(card.octets)

    async def store_flags(self, box_id: bytes, uids: list[range], op: object, flags: object) -> None:
        self.deleted |= {uid for uid in self.messages if any(uid in run for run in uids)}

    async def expunge(self, box_id: bytes, uids: list[range]) -> None:
        for uid in self.deleted:
            self.messages.pop(uid, None)

    def watch(self, callback: Callable[[Change], None]) -> Any:
        self.watchers.append(callback)
        return SimpleNamespace(stop=lambda: self.watchers.remove(callback))

    def close(self) -> None:
        self.open -= 1


class Gate:
    """A gatekeeper with one user and switches for what goes wrong."""

    def __init__(self, mailbox: ListMailbox) -> None:
        self.mailbox = mailbox
        self.valid = True
        self.read_only = self.unavailable = self.full = False
        self.sessions = 0

    async def log_in(self, username: bytes, password: bytes, *, service: Service, peer: str) -> Login:
        assert (service, peer) == (Service.POP3, "192.0.2.1")
        if self.unavailable:
            raise LogInUnavailable("later")
        if self.full:
            raise TooManySessions
        if (username, password) != (ADDRESS.encode(), PASSWORD.encode()):
            raise LogInRefused
        self.sessions += 1
        keys: Any = None
        return Login(UserId(b"u" * 16), ADDRESS, 1, self.read_only, keys)  # type: ignore[arg-type]

    async def is_valid(self, login: Login) -> bool:
        return self.valid

    def log_out(self, login: Login) -> None:
        self.sessions -= 1

    async def open_mailbox(self, login: Login) -> Any:
        self.mailbox.open += 1
        return self.mailbox


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


class Line:
    """A transport that keeps what is written, and closes at once."""

    def __init__(self, server: Pop3Server) -> None:
        self.server = server
        self.written = bytearray()
        self.closed = self.aborted = self.reading_paused = False
        self.slow = False
        """Whether the client reads nothing by itself."""
        self.producer: Any = None
        server.makeConnection(self)

    def getPeer(self) -> Any:
        return SimpleNamespace(host="192.0.2.1", port=1995)

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


class PopHouse:
    """Everything behind the listener."""

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008
        self.clock = Clock()
        self.mailbox = ListMailbox()
        self.gate = Gate(self.mailbox)
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
        for content in contents:
            self.mailbox.messages[self.mailbox.next] = content
            self.mailbox.next += 1

    def uids(self) -> list[int]:
        return list(self.mailbox.messages)

    def expunge_all(self) -> None:
        self.mailbox.messages.clear()

    def announce(self, kind: ChangeKind) -> None:
        for watcher in list(self.mailbox.watchers):
            watcher(Change(kind, UserId(b"u" * 16)))
