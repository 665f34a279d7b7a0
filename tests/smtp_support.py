"""Drives an SMTP session without I/O, with a reception and a log-in of fixed rules."""

from dataclasses import dataclass, field

from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp import events
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.session import Session
from certmaild.protocols.smtp.states import State
from certmaild.protocols.smtp.terms import Terms

REFUSED = {
    "unknown": Refusal(550, "5.1.1", "No such mailbox"),
    "full": Refusal(452, "4.2.2", "Mailbox is full"),
    "broken": Refusal(451, "4.3.0", "Internal error, please try again later"),
}


@dataclass
class Wire:
    """Both ends of one connection: what the server said, what was taken, whether it is closed."""

    terms: Terms
    session: Session = field(init=False)
    messages: list[bytes] = field(default_factory=list)
    aborted: int = 0
    closed: bool = False
    log_ins: list[tuple[bytes, bytes]] = field(default_factory=list)
    _content: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = Session(self.terms)
        self.session.greet()

    def send(self, data: bytes) -> bytes:
        """What the server answers to this input."""
        self.session.receive_data(data)
        output = b""
        while (event := self.session.next_event()) is events.YIELD or not isinstance(event, events.Signal):
            output += b"" if isinstance(event, events.Signal) else self._do(event)
        assert event is events.NEED_DATA
        return output + self.session.take_output()

    def _do(self, event: events.Event) -> bytes:
        session = self.session
        match event:
            case events.Content():
                self._content.append(event.octets)
                if b"POISON" in event.octets:
                    session.refuse_content(Refusal(554, "5.6.0", "Poison"))
                    self._content.clear()
            case events.ContentEnd():
                assert session.next_event() is events.PAUSED
                self.messages.append(b"".join(self._content))
                self._content.clear()
                session.answer(None, "Message taken as q1")
            case events.Mail():
                session.answer(REFUSED.get(event.arguments.reverse_path.local))
            case events.Rcpt():
                session.answer(REFUSED.get(event.arguments.forward_path.local))
            case events.LogIn():
                credentials = event.credentials
                self.log_ins.append((credentials.username, credentials.password))
                session.answer(
                    None if credentials.password == b"secret" else Refusal(535, "5.7.8", "Authentication failed")
                )
            case events.Aborted():
                self.aborted += 1
                self._content.clear()
            case events.Closed():
                self.closed = True
            case events.StartTls():
                output = session.take_output()
                assert session.state is State.STARTING_TLS
                self.terms = self.terms._replace(in_tls=True)
                self.session = Session(self.terms)
                return output
        return b""


def inbound(limits: Limits | None = None, *, in_tls: bool = True, require_tls: bool = True) -> Wire:
    """A greeted connection to port 25."""
    wire = Wire(Terms("mx.example.com", limits or Limits(), False, in_tls, True, require_tls))
    assert wire.send(b"") == b"220 mx.example.com ESMTP\r\n"
    return wire


def submission(limits: Limits | None = None, *, in_tls: bool = True, log_in: bool = False) -> Wire:
    """A greeted connection to 587 or 465, after log-in if wanted."""
    wire = Wire(Terms("mx.example.com", limits or Limits(), True, in_tls))
    assert wire.send(b"") == b"220 mx.example.com ESMTP\r\n"
    if log_in:
        wire.send(b"EHLO c\r\n")
        assert wire.send(b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n").startswith(b"235 ")
    return wire
