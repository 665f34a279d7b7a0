"""A POP3 house for tests: the real server and mailbox on the memory engine, a clock, no sockets."""

from pathlib import Path
from typing import Any

from line_support import PASSWORD, Door, Gate, Line
from mailbox_support import ADDRESS, ALL, make_house
from support import WorkingClock, run

from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag
from certmaild.protocols.interfaces import Service
from certmaild.protocols.limits import Limits
from certmaild.protocols.pop3.server import Pop3Factory

MAIL = b"From: ann@example.org\r\nTo: joe@example.com\r\nSubject: hello\r\n\r\nbody\r\n"
LOG_IN = b"USER %b\r\nPASS %b\r\n" % (ADDRESS.encode(), PASSWORD.encode())


class PopHouse:
    """Everything behind the listener."""

    def __init__(self, directory: Path, limits: Limits = Limits()) -> None:  # noqa: B008
        self.clock = WorkingClock()
        self.store = make_house(directory)
        self.gate = Gate(Service.POP3, lambda: self.store.pool, self.store.keys)
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
