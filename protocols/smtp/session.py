"""One SMTP connection without I/O: bytes in, events and replies out (RFC 5321, 3030, 3207, 4954, 2920).

`receive_data` takes what came; `next_event` gives the next thing that somebody else must do, `NEED_DATA`, `PAUSED`
while an event waits for its `answer`, or `YIELD` after a long turn. Replies collect until `take_output`, so a
pipelined group is answered at once. A new session object starts after the STARTTLS handshake: nothing said before
it counts.
"""

from collections.abc import Callable
from typing import Final

from certmaild.protocols.smtp import grammar, parameters
from certmaild.protocols.smtp.errors import Refusal, too_large
from certmaild.protocols.smtp.events import (
    NEED_DATA,
    PAUSED,
    YIELD,
    Aborted,
    Closed,
    ContentEnd,
    Event,
    LogIn,
    Mail,
    Rcpt,
    Signal,
    StartTls,
)
from certmaild.protocols.smtp.grammar import Verb
from certmaild.protocols.smtp.mail_data import ByBdat, ByData, MailData
from certmaild.protocols.smtp.parameters import MailArguments
from certmaild.protocols.smtp.sasl import Exchange
from certmaild.protocols.smtp.states import TRANSITIONS, Move, State
from certmaild.protocols.smtp.terms import Terms
from certmaild.protocols.web_clients import is_http

STEPS_OF_A_TURN = 64
"""Lines or pieces of content worked on before others get their turn: a pipelined flood must not hold the reactor."""
_ANSWERED = (LogIn, Mail, Rcpt, ContentEnd)
_CODES_NOT_COUNTED = frozenset({502})
_SENDER_OK = grammar.format_reply(250, "2.1.0", "Sender OK")
_RECIPIENT_OK = grammar.format_reply(250, "2.1.5", "Recipient OK")
_GO_AHEAD = grammar.format_reply(354, "", "End with <CRLF>.<CRLF>")


class Session:
    """The state of one connection, from greeting or handshake to close."""

    def __init__(self, terms: Terms) -> None:
        self.state = State.CONNECTED
        self.helo = ""
        self.esmtp = False
        self._terms = terms
        self._limits = terms.limits
        self._size_limit = terms.size_limit
        self._offered = terms.extensions
        self._logged_in = False
        self._buffer = b""
        self._output: list[bytes] = []
        self._events: list[Event] = []
        self._waiting: Event | None = None
        self._bad = 0
        self._steps = 0
        self._mail: MailArguments | None = None
        self._recipients = 0
        self._by_data: ByData | None = None
        self._by_bdat: ByBdat | None = None
        self._mail_data = MailData(self._size_limit, self._events.append)
        """The last message's, also when its transaction is over."""
        self._swallow = 0
        self._swallow_reply = b""
        self._exchange: Exchange | None = None

    def greet(self) -> None:
        """Say hello; not after STARTTLS."""
        self._output.append(grammar.format_reply(220, "", f"{self._terms.hostname} ESMTP"))

    @property
    def in_content(self) -> bool:
        """Whether message octets are expected, for the choice of timeout."""
        return self.state in (State.DATA, State.CHUNK, State.LAST_CHUNK)

    @property
    def octets(self) -> int:
        """Octets of the last message's content so far."""
        return self._mail_data.octets

    @property
    def buffered(self) -> int:
        """Octets received and not yet worked on."""
        return len(self._buffer)

    def receive_data(self, octets: bytes) -> None:
        """Take what came."""
        self._buffer = self._buffer + octets if self._buffer else octets

    def take_output(self) -> bytes:
        """The replies since last time."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def next_event(self) -> Event | Signal:
        """Go on as far as possible."""
        while True:
            if self._events:
                event = self._events.pop(0)
                if isinstance(event, _ANSWERED):
                    self._waiting = event
                return event
            if self._waiting is not None:
                return PAUSED
            if self._steps >= STEPS_OF_A_TURN:
                self._steps = 0
                return YIELD
            if self.state is State.CLOSED or self.state is State.STARTING_TLS or not self._go_on():
                self._steps = 0
                return NEED_DATA
            self._steps += 1

    def answer(self, refusal: Refusal | None, text: str = "") -> None:
        """Answer the event that waits: a refusal, or acceptance (``text`` after 250 for a message)."""
        event, self._waiting = self._waiting, None
        if self.state is State.CLOSED:
            return
        if isinstance(event, Mail):
            self._answer_mail(event, refusal)
        elif isinstance(event, Rcpt):
            self._answer_rcpt(refusal)
        elif isinstance(event, LogIn):
            self._answer_log_in(refusal)
        else:
            assert isinstance(event, ContentEnd)
            self._end_transaction()
            self._move(Move.CONTENT_END)
            self._reply_refusal(refusal) if refusal else self._reply(250, "2.0.0", text)

    def refuse_content(self, refusal: Refusal) -> None:
        """The message under way cannot be taken: read on to its end, then say so."""
        if self._mail_data.refusal is None and (self.in_content or self.state is State.CHUNKS):
            self._mail_data.refusal = refusal
            has_ended = any(isinstance(event, ContentEnd) for event in self._events)
            # What was read but not yet given out is dropped; the one who refuses has dropped the rest.
            self._events.clear()
            if has_ended:
                self._end_content()

    def close(self, code: int, enhanced: str, text: str) -> None:
        """End the conversation with this reply (shutdown, timeout, eviction, revocation)."""
        if self.state is not State.CLOSED:
            self._reply(code, enhanced, text)
            self._close()

    # Reading

    def _go_on(self) -> bool:
        """Work on one line or one piece of content; whether there was enough."""
        if self._swallow:
            return self._read_swallowed()
        if self.state is State.DATA:
            return self._read_data()
        if self.state in (State.CHUNK, State.LAST_CHUNK):
            return self._read_chunk()
        return self._read_line()

    def _read_line(self) -> bool:
        buffer = self._buffer
        in_auth = self.state is State.AUTH
        limit = self._limits.auth_line if in_auth or buffer[:5].upper() == b"AUTH " else self._limits.smtp_command_line
        if self._logged_in:
            # An authenticated sender may end a line in LF alone (PROTOCOLS lesson 1: normalised).
            at = buffer.find(b"\n", 0, limit)
            line, after = (buffer[: at - 1] if buffer[at - 1 : at] == b"\r" else buffer[:at]), at + 1
        else:
            at = buffer.find(b"\r\n", 0, limit)
            line, after = buffer[:at], at + 2
        if at < 0:
            if len(buffer) >= limit:
                self._reply(500, "5.5.2", "Line too long")
                self._close()
            return len(buffer) >= limit
        self._buffer = buffer[after:]
        if b"\n" in line or b"\r" in line or b"\0" in line:
            refusal = Refusal(500, "5.5.2", "Bare CR, LF or NUL in a command")
            self._end_auth(refusal) if in_auth else self._bad_command(refusal)
        elif in_auth:
            self._go_on_auth(line)
        else:
            self._read_command(line)
        return True

    def _read_command(self, line: bytes) -> None:
        word, _, argument = line.partition(b" ")
        verb = grammar.VERBS.get(word.upper())
        try:
            if verb is None:
                if is_http(line):
                    self._close()
                    return
                raise Refusal(500, "5.5.2", "Command not recognised")
            _COMMANDS[verb](self, argument)
        except Refusal as refusal:
            # A refused recipient is no bad command; after a refused MAIL a pipelined group may hold hundreds.
            self._reply_refusal(refusal) if verb is Verb.RCPT else self._bad_command(refusal)

    def _read_data(self) -> bool:
        mail_data = self._by_data
        if not self._buffer or mail_data is None:
            return False
        octets, self._buffer = self._buffer, b""
        rest = mail_data.feed(octets)
        if rest is not None:
            self._buffer = rest
            self._end_content()
        elif mail_data.refusal is not None and mail_data.is_endless:
            self._reply_refusal(mail_data.refusal)
            self._close()
        return True

    def _read_chunk(self) -> bool:
        mail_data = self._by_bdat
        if mail_data is None or (mail_data.left and not self._buffer):
            return False
        self._buffer = mail_data.feed(self._buffer)
        if not mail_data.left:
            if mail_data.refusal is not None or self.state is State.LAST_CHUNK:
                self._end_content()
            else:
                self._move(Move.CHUNK_END)
                self._reply(250, "2.0.0", "Chunk taken")
        return True

    def _read_swallowed(self) -> bool:
        if not self._buffer:
            return False
        taken = min(self._swallow, len(self._buffer))
        self._buffer = self._buffer[taken:]
        self._swallow -= taken
        if not self._swallow:
            self._output.append(self._swallow_reply)
        return True

    # The end of a transaction

    def _end_content(self) -> None:
        refusal = self._mail_data.refusal
        if refusal is None:
            self._events.append(ContentEnd())
            return
        self._end_transaction()
        self._move(Move.CONTENT_END)
        self._reply_refusal(refusal)

    def _end_transaction(self) -> None:
        self._mail = None
        self._recipients = 0
        self._by_data = self._by_bdat = None

    def _drop_transaction(self) -> None:
        if self._mail is not None:
            self._events.append(Aborted())
        self._end_transaction()

    # Commands

    def _helo(self, argument: bytes) -> None:
        self.helo = grammar.parse_helo_name(argument)
        self._drop_transaction()
        self.esmtp = False
        self._move(Move.HELO)
        self._reply(250, "", self._terms.hostname)

    def _ehlo(self, argument: bytes) -> None:
        self.helo = grammar.parse_helo_name(argument)
        self._drop_transaction()
        self.esmtp = True
        self._move(Move.HELO)
        self._output.append(grammar.format_ehlo(self._terms.hostname, self._terms.keywords(logged_in=self._logged_in)))

    def _mail_command(self, argument: bytes) -> None:
        if self._terms.is_submission:
            self._require_tls()
            if not self._logged_in:
                raise Refusal(530, "5.7.0", "Authentication required")
        if self.state is State.CONNECTED:
            raise Refusal(503, "5.5.1", "Send EHLO first")
        self._require(Move.MAIL)
        arguments = parameters.parse_mail(argument, self._offered)
        if arguments.size > self._size_limit:
            self._reply_refusal(too_large())
            return
        self._events.append(Mail(arguments))

    def _answer_mail(self, event: Mail, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._reply_refusal(refusal)
            return
        self._mail = event.arguments
        self._move(Move.MAIL)
        self._output.append(_SENDER_OK)

    def _rcpt(self, argument: bytes) -> None:
        self._require(Move.RCPT)
        utf8 = self._mail is not None and self._mail.utf8
        arguments = parameters.parse_rcpt(argument, self._offered, utf8=utf8)
        if self._terms.require_tls and not self._terms.in_tls and not arguments.forward_path.is_role:
            self._reply_refusal(Refusal(530, "5.7.0", "Must issue a STARTTLS command first"))
        elif self._recipients >= self._limits.recipients:
            self._reply_refusal(Refusal(452, "4.5.3", "Too many recipients"))
        else:
            self._events.append(Rcpt(arguments))

    def _answer_rcpt(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._reply_refusal(refusal)
            return
        self._recipients += 1
        self._move(Move.RCPT)
        self._output.append(_RECIPIENT_OK)

    def _data_command(self, argument: bytes) -> None:
        self._refuse_argument(argument)
        if self.state is State.SENDER:
            raise Refusal(554, "5.5.1", "No valid recipients")
        self._require(Move.DATA)
        self._move(Move.DATA)
        self._mail_data = self._by_data = ByData(self._size_limit, self._events.append, normalise=self._logged_in)
        self._output.append(_GO_AHEAD)

    def _bdat(self, argument: bytes) -> None:
        octets, is_last = grammar.parse_bdat(argument)
        move = Move.BDAT_LAST if is_last else Move.BDAT
        if (self.state, move) not in TRANSITIONS:
            # The octets come whatever is answered (RFC 3030 section 4.1): they must not be read as commands.
            code, text = (
                (554, "No valid recipients") if self.state is State.SENDER else (503, "Bad sequence of commands")
            )
            self._swallow_chunk(octets, Refusal(code, "5.5.1", text))
            return
        mail_data = self._by_bdat
        if mail_data is None:
            mail_data = self._mail_data = self._by_bdat = ByBdat(self._size_limit, self._events.append)
        if not mail_data.has_room(octets):
            self._events.append(Aborted(too_large()))
            self._end_transaction()
            self._move(Move.RSET)
            self._swallow_chunk(octets, too_large())
            return
        self._move(move)
        mail_data.begin_chunk(octets, is_last=is_last)

    def _swallow_chunk(self, octets: int, refusal: Refusal) -> None:
        reply = grammar.format_reply(refusal.code, refusal.enhanced, refusal.text)
        if octets > self._size_limit:
            self._output.append(reply)
            self._close()
        elif octets:
            self._swallow, self._swallow_reply = octets, reply
        else:
            self._output.append(reply)

    def _rset(self, argument: bytes) -> None:
        self._refuse_argument(argument)
        self._drop_transaction()
        self._move(Move.RSET)
        self._reply(250, "2.0.0", "Reset")

    def _noop(self, argument: bytes) -> None:
        self._reply(250, "2.0.0", "OK")

    def _vrfy(self, argument: bytes) -> None:
        self._reply(252, "2.5.0", "Send mail and see")

    def _expn(self, argument: bytes) -> None:
        raise Refusal(502, "5.5.1", "Command not implemented")

    def _help(self, argument: bytes) -> None:
        self._reply(214, "2.0.0", "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH")

    def _quit(self, argument: bytes) -> None:
        self._refuse_argument(argument)
        self._reply(221, "2.0.0", "Bye")
        self._drop_transaction()
        self._close()

    def _starttls(self, argument: bytes) -> None:
        if not self._terms.may_start_tls:
            raise Refusal(502, "5.5.1", "Command not implemented")
        self._refuse_argument(argument)
        self._require(Move.STARTTLS)
        if self._buffer:
            # Something was injected behind STARTTLS, or the client does not wait: nothing it says can be trusted.
            self._close()
            return
        self._reply(220, "2.0.0", "Ready to start TLS")
        self._move(Move.STARTTLS)
        self._events.append(StartTls())

    # AUTH

    def _auth(self, argument: bytes) -> None:
        if not self._terms.is_submission:
            raise Refusal(502, "5.5.1", "Command not implemented")
        self._require_tls()
        if self._logged_in:
            raise Refusal(503, "5.5.1", "Already authenticated")
        self._require(Move.AUTH)
        exchange = Exchange.begin(argument)
        self._move(Move.AUTH)
        self._exchange = exchange
        _, space, initial = argument.partition(b" ")
        if space:
            self._go_on_auth(initial.strip(b" "))
        else:
            self._output.append(exchange.challenge)

    def _go_on_auth(self, response: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        try:
            credentials = exchange.receive(response)
        except Refusal as refusal:
            self._end_auth(refusal)
            return
        if credentials is None:
            self._output.append(exchange.challenge)
        else:
            self._events.append(LogIn(credentials))

    def _end_auth(self, refusal: Refusal) -> None:
        self._exchange = None
        self._move(Move.AUTH_END)
        self._bad_command(refusal)

    def _answer_log_in(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._end_auth(refusal)
            return
        self._exchange = None
        self._move(Move.AUTH_END)
        self._logged_in = True
        self._bad = 0
        self._reply(235, "2.7.0", "Authenticated")

    # Common

    def _require(self, move: Move) -> None:
        if (self.state, move) not in TRANSITIONS:
            raise Refusal(503, "5.5.1", "Bad sequence of commands")

    def _require_tls(self) -> None:
        if not self._terms.in_tls:
            raise Refusal(530, "5.7.0", "Must issue a STARTTLS command first")

    def _refuse_argument(self, argument: bytes) -> None:
        if argument.strip():
            raise Refusal(501, "5.5.4", "No argument allowed")

    def _move(self, move: Move) -> None:
        self.state = TRANSITIONS[self.state, move]

    def _reply(self, code: int, enhanced: str, text: str) -> None:
        self._output.append(grammar.format_reply(code, enhanced, text))

    def _reply_refusal(self, refusal: Refusal) -> None:
        self._output.append(grammar.format_reply(refusal.code, refusal.enhanced, refusal.text))

    def _bad_command(self, refusal: Refusal) -> None:
        """Answer, and close after too many: 3 before log-in on submission, 20 otherwise; 502 is not counted."""
        self._reply_refusal(refusal)
        if refusal.code in _CODES_NOT_COUNTED:
            return
        self._bad += 1
        limits = self._limits
        early = self._terms.is_submission and not self._logged_in
        if self._bad >= (limits.bad_commands_before_login if early else limits.bad_commands):
            self.close(421, "4.7.0", "Too many errors")

    def _close(self) -> None:
        self._move(Move.CLOSE)
        self._buffer = b""
        self._events.append(Closed())


_COMMANDS: Final[dict[Verb, Callable[[Session, bytes], None]]] = {
    Verb.HELO: Session._helo,
    Verb.EHLO: Session._ehlo,
    Verb.MAIL: Session._mail_command,
    Verb.RCPT: Session._rcpt,
    Verb.DATA: Session._data_command,
    Verb.BDAT: Session._bdat,
    Verb.RSET: Session._rset,
    Verb.NOOP: Session._noop,
    Verb.VRFY: Session._vrfy,
    Verb.EXPN: Session._expn,
    Verb.HELP: Session._help,
    Verb.QUIT: Session._quit,
    Verb.AUTH: Session._auth,
    Verb.STARTTLS: Session._starttls,
}
