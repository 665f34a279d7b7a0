"""A POP3 conversation without I/O (RFC 1939, 2449, 5034, 3206, 6856)."""

from collections.abc import Callable, Iterator
from typing import Final

from certmaild.protocols.limits import Limits
from certmaild.protocols.pop3 import grammar
from certmaild.protocols.pop3.errors import BadCommand, Refusal
from certmaild.protocols.pop3.events import Closed, Event, LogIn, Retrieve, Send, Signal, Update
from certmaild.protocols.pop3.grammar import Command, Credentials
from certmaild.protocols.pop3.maildrop import Maildrop
from certmaild.protocols.pop3.states import TRANSITIONS, Move, State
from certmaild.protocols.web_clients import is_http

MECHANISMS: Final = (b"PLAIN", b"LOGIN")
CAPABILITIES: Final = (
    b"TOP",
    b"UIDL",
    b"USER",
    b"SASL " + b" ".join(MECHANISMS),
    b"RESP-CODES",
    b"AUTH-RESP-CODE",
    b"PIPELINING",
    b"EXPIRE NEVER",
    b"LOGIN-DELAY 0",
    b"UTF8 USER",
    b"LANG",
    b"IMPLEMENTATION certmaild",
)
BUFFERED: Final = 64 * 1024
"""Octets that may wait for the command in flight before the client has to wait."""
LINES_IN_A_ROW: Final = 64
"""Lines answered before other connections get their turn."""


class Session:
    """Octets in by `receive_data`, events out by `next_event`, answers out by `take_output`."""

    def __init__(self, limits: Limits, hostname: str) -> None:
        self._limits = limits
        self._in = bytearray()
        self._out: list[bytes] = []
        self._event: Event | None = None
        self._waiting: Event | None = None
        self._bad = 0
        self._mechanism = b""
        self._username: bytes | None = None
        self.state = State.AUTHORIZATION
        self.maildrop = Maildrop()
        self._ok(f"{hostname} POP3 server ready")

    @property
    def before_login(self) -> bool:
        """Whether nobody is logged in yet."""
        return self.state not in (State.TRANSACTION, State.UPDATE)

    @property
    def wants_pause(self) -> bool:
        """The client sent much more than was answered: stop reading for now."""
        return len(self._in) > BUFFERED

    def receive_data(self, data: bytes) -> None:
        """Octets from the client."""
        if self.state is not State.CLOSED:
            self._in += data

    def take_output(self) -> bytes:
        """What is to be sent now."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def next_event(self) -> Event | Signal:
        """What the server is to do next; small answers need no event."""
        if self._waiting is not None:
            return Signal.PAUSED
        for _ in range(LINES_IN_A_ROW):
            if self.state is State.CLOSED:
                return Closed()
            line = self._next_line()
            if line is None:
                return Signal.NEED_DATA
            self._take(line)
            event, self._event = self._event, None
            if event is not None:
                self._waiting = event
                return event
        return Signal.MORE

    # Answers to events

    def accept(self, maildrop: Maildrop) -> None:
        """Log-in succeeded; these are the messages."""
        self._waiting = None
        self._move(Move.ACCEPTED)
        self.maildrop = maildrop
        self._bad = 0
        self._ok("Logged in")

    def done(self) -> None:
        """The event's work is done; its content was sent."""
        event, self._waiting = self._waiting, None
        if isinstance(event, Update):
            self._ok("Bye")
            self._move(Move.CLOSE)

    def refuse(self, refusal: Refusal) -> None:
        """The event's work cannot be done."""
        event, self._waiting = self._waiting, None
        self._error(refusal)
        if isinstance(event, LogIn):
            self._move(Move.REFUSED)
        elif isinstance(event, Update):
            self._move(Move.CLOSE)

    def end(self, refusal: Refusal) -> None:
        """Say why, and close."""
        if self.state is not State.CLOSED:
            self._waiting = None
            self._error(refusal)
            self._move(Move.CLOSE)

    # Lines

    def _next_line(self) -> bytes | None:
        """The next line with its LF, or None; a line beyond the limit ends the session."""
        limits = self._limits
        if self.state is State.EXCHANGE or self._in[:5].upper() == b"AUTH ":
            limit = limits.auth_line
        else:
            limit = limits.command_line_before_login if self.before_login else limits.command_line
        end = self._in.find(b"\n", 0, limit) + 1
        if end:
            line = bytes(self._in[:end])
            del self._in[:end]
            return line
        if len(self._in) >= limit:
            self.end(Refusal("Line too long"))
            return b""
        return None

    def _take(self, line: bytes) -> None:
        if self.state is State.CLOSED:
            return
        if self.before_login and is_http(line):
            self._move(Move.CLOSE)
            return
        try:
            line = grammar.parse_line(line)
            if self.state is State.EXCHANGE:
                self._exchange(line)
            else:
                self._run(grammar.parse_command(line))
        except Refusal as refusal:
            if self.state is State.EXCHANGE:
                self._move(Move.REFUSED)
            self._error(refusal)
            if isinstance(refusal, BadCommand):
                self._count_bad()

    def _count_bad(self) -> None:
        self._bad += 1
        if self._bad >= (self._limits.bad_commands_before_login if self.before_login else self._limits.bad_commands):
            self.end(Refusal("Too many bad commands"))

    def _run(self, command: Command) -> None:
        table = _TRANSACTION if self.state is State.TRANSACTION else _AUTHORIZATION
        method = table.get(command.keyword)
        if method is None:
            other = _AUTHORIZATION if table is _TRANSACTION else _TRANSACTION
            raise BadCommand("Not now" if command.keyword in other else "Unknown command")
        method(self, command.argument)

    def _move(self, move: Move) -> None:
        self.state = TRANSITIONS[self.state, move]
        if self.state is State.CLOSED:
            self._in.clear()

    def _ok(self, text: str) -> None:
        self._out.append(f"+OK {text}\r\n".encode())

    def _error(self, refusal: Refusal) -> None:
        code = f"[{refusal.code}] " if refusal.code else ""
        self._out.append(f"-ERR {code}{refusal.text}\r\n".encode())

    # Any state

    def _capa(self, argument: bytes | None) -> None:
        _no_argument(argument)
        self._out.append(
            b"+OK Capability list follows\r\n" + b"".join([b"%b\r\n" % c for c in CAPABILITIES]) + b".\r\n"
        )

    def _lang(self, argument: bytes | None) -> None:
        """RFC 6856 section 3: English is what there is."""
        if argument is None:
            self._out.append(b"+OK Language listing follows:\r\nen English\r\n.\r\n")
        elif argument.lower() in (b"en", b"*", b"en-us", b"en-gb"):
            self._ok("en Texts are in English")
        else:
            raise Refusal("No such language")

    def _noop(self, argument: bytes | None) -> None:
        _no_argument(argument)
        self._ok("Nothing done")

    # Before log-in

    def _utf8(self, argument: bytes | None) -> None:
        """RFC 6856 section 2: messages go out as they are in any case."""
        _no_argument(argument)
        self._ok("UTF-8 is spoken")

    def _user(self, argument: bytes | None) -> None:
        if not argument:
            raise BadCommand("A name is expected")
        self._username = argument
        self._move(Move.USER)
        self._ok("Send the password")

    def _pass(self, argument: bytes | None) -> None:
        if self.state is not State.NAMED or self._username is None:
            raise BadCommand("USER comes first")
        if not argument:
            raise BadCommand("A password is expected")
        self._log_in(Credentials(self._username, argument))

    def _auth(self, argument: bytes | None) -> None:
        """RFC 5034; without a mechanism, the list of them (RFC 1734 clients)."""
        if argument is None:
            self._out.append(b"+OK Mechanisms follow\r\n" + b"".join([m + b"\r\n" for m in MECHANISMS]) + b".\r\n")
            return
        mechanism, _, initial = argument.partition(b" ")
        self._mechanism = mechanism.upper()
        if self._mechanism not in MECHANISMS:
            raise BadCommand("No such mechanism")
        self._username = None
        self._move(Move.AUTH)
        if initial:
            self._exchange(initial)
        else:
            self._challenge()

    def _challenge(self) -> None:
        if self._mechanism == b"PLAIN":
            self._out.append(b"+ \r\n")
        else:
            self._out.append(b"+ VXNlcm5hbWU6\r\n" if self._username is None else b"+ UGFzc3dvcmQ6\r\n")

    def _exchange(self, line: bytes) -> None:
        if line == b"*":
            raise Refusal("Authentication cancelled")
        response = grammar.parse_base64(line)
        if self._mechanism == b"PLAIN":
            self._log_in(grammar.parse_plain(response))
        elif self._username is not None:
            self._log_in(Credentials(self._username, response))
        elif not response:
            raise BadCommand("A name is expected")
        else:
            self._username = response
            self._challenge()

    def _log_in(self, credentials: Credentials) -> None:
        self._username = None
        self._move(Move.CREDENTIALS)
        self._event = LogIn(credentials)

    def _leave(self, argument: bytes | None) -> None:
        _no_argument(argument)
        self._ok("Bye")
        self._move(Move.CLOSE)

    # After log-in

    def _index(self, number: int) -> int:
        if not 1 <= number <= len(self.maildrop) or number - 1 in self.maildrop.deleted:
            raise Refusal("No such message")
        return number - 1

    def _stat(self, argument: bytes | None) -> None:
        _no_argument(argument)
        self._ok("{} {}".format(*self.maildrop.total()))

    def _listing(self, argument: bytes | None, *, unique_ids: bool) -> None:
        drop = self.maildrop
        if argument is None:
            self._ok(f"{drop.total()[0]} messages")
            self._event = Send(_with_dot(drop.lines(unique_ids=unique_ids)))
            return
        index = self._index(grammar.parse_numbers(argument, 1)[0])
        line = drop.unique_id_line(index) if unique_ids else drop.scan_line(index)
        self._ok(line.decode("ascii"))

    def _list(self, argument: bytes | None) -> None:
        self._listing(argument, unique_ids=False)

    def _uidl(self, argument: bytes | None) -> None:
        self._listing(argument, unique_ids=True)

    def _retr(self, argument: bytes | None) -> None:
        self._event = Retrieve(self._index(grammar.parse_numbers(argument, 1)[0]))

    def _top(self, argument: bytes | None) -> None:
        number, lines = grammar.parse_numbers(argument, 2)
        self._event = Retrieve(self._index(number), lines)

    def _dele(self, argument: bytes | None) -> None:
        index = self._index(grammar.parse_numbers(argument, 1)[0])
        if self.maildrop.read_only:
            raise Refusal("This password may only read")
        self.maildrop.deleted.add(index)
        self._ok("Marked, to be removed at QUIT")

    def _rset(self, argument: bytes | None) -> None:
        _no_argument(argument)
        self.maildrop.deleted.clear()
        self._ok("No message is marked")

    def _quit(self, argument: bytes | None) -> None:
        _no_argument(argument)
        self._move(Move.COMMIT)
        self._event = Update(tuple(sorted(self.maildrop.deleted)))


def _no_argument(argument: bytes | None) -> None:
    if argument:
        raise BadCommand("No argument is expected")


def _with_dot(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield b".\r\n"


_Method = Callable[[Session, bytes | None], None]
_AUTHORIZATION: Final[dict[bytes, _Method]] = {
    b"CAPA": Session._capa,
    b"LANG": Session._lang,
    b"UTF8": Session._utf8,
    b"USER": Session._user,
    b"PASS": Session._pass,
    b"AUTH": Session._auth,
    b"QUIT": Session._leave,
}
_TRANSACTION: Final[dict[bytes, _Method]] = {
    b"CAPA": Session._capa,
    b"LANG": Session._lang,
    b"NOOP": Session._noop,
    b"STAT": Session._stat,
    b"LIST": Session._list,
    b"UIDL": Session._uidl,
    b"RETR": Session._retr,
    b"TOP": Session._top,
    b"DELE": Session._dele,
    b"RSET": Session._rset,
    b"QUIT": Session._quit,
}
"""Commands by state; STLS is offered nowhere (RFC 8314: port 995 only)."""
