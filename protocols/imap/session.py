"""The IMAP session without I/O: octets in, commands and literals out (RFC 9051 section 2.2).

Commands run one at a time, in order: after a `CommandReady` the session answers `PAUSED` until `command_done`, so a
line is judged by the limits of the state that the commands before it led to.
"""

from enum import Enum, auto

from certmaild.protocols.errors import StateError
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.errors import Bye
from certmaild.protocols.imap.events import (
    NEED_DATA,
    PAUSED,
    CommandReady,
    Event,
    LiteralChunk,
    LiteralDone,
    LiteralStarted,
    Reply,
    TextBehind,
)
from certmaild.protocols.imap.states import TRANSITIONS, Move, State
from certmaild.protocols.limits import Limits
from certmaild.protocols.web_clients import is_http

STREAMED = frozenset({b"APPEND"})
"""Commands whose literals, but for one in the first argument, are handed on as they arrive."""
BUFFER_OCTETS = 64 * 1024
"""Above so much unread input the connection is paused while a command runs."""
SKIPPED_LINES = 16
"""A line too long is passed over up to so many times the limit, then the connection is closed."""
MAX_DIGITS = 18
MAX_TAG = 255
MAX_NAME = 32
_NOT_IN_TAG = frozenset(b'(){ %*"\\+\x7f') | frozenset(range(32)) | frozenset(range(128, 256))


class _Mode(Enum):
    LINE = auto()
    SKIPPED_LINE = auto()
    LITERAL = auto()
    STREAM_OFFERED = auto()
    STREAM_LITERAL = auto()
    STREAM_TEXT = auto()


class Session:
    """Input of one connection, cut into commands, within limits."""

    __slots__ = (
        "_arguments",
        "_bad_commands",
        "_buffer",
        "_head",
        "_limits",
        "_literal_octets",
        "_mode",
        "_offered",
        "_remaining",
        "_running",
        "_scanned",
        "_skipped",
        "_text_octets",
        "state",
    )

    def __init__(self, limits: Limits) -> None:
        self.state = State.NOT_AUTHENTICATED
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0
        self._mode = _Mode.LINE
        self._running = False
        self._bad_commands = 0
        self._offered: LiteralStarted | None = None
        self._reset()

    def _reset(self) -> None:
        self._head: tuple[bytes, bytes] | None = None
        self._arguments: list[bytes] = []
        self._text_octets = self._literal_octets = self._remaining = self._skipped = 0

    # State

    def move(self, move: Move) -> None:
        """Change state by the table. Raises `StateError` for a move that is not in it."""
        try:
            self.state = TRANSITIONS[self.state, move]
        except KeyError:
            raise StateError(f"cannot {move.value} in state {self.state.value}") from None

    @property
    def before_login(self) -> bool:
        """Whether the smaller limits hold."""
        return self.state is State.NOT_AUTHENTICATED

    def count_bad_command(self) -> bool:
        """Note a command answered with BAD; whether the limit is reached and the connection is to be closed."""
        self._bad_commands += 1
        limit = self._limits.bad_commands_before_login if self.before_login else self._limits.bad_commands
        return self._bad_commands >= limit

    # Input

    def receive_data(self, data: bytes) -> None:
        """Take octets as they come from the connection."""
        self._buffer += data

    @property
    def has_input(self) -> bool:
        """Whether octets wait that no command has taken."""
        return bool(self._buffer)

    @property
    def wants_pause(self) -> bool:
        """Whether enough is unread that the client should wait for the command that runs."""
        if len(self._buffer) >= BUFFER_OCTETS:
            return True
        return self._buffer.count(b"\n") >= self._limits.commands_in_flight

    def command_done(self) -> None:
        """The command is answered: go on with the next one."""
        self._running = False
        self._mode = _Mode.LINE
        self._reset()

    def next_line(self, limit: int) -> bytes | None:
        """The next line for the command that runs (AUTHENTICATE, IDLE), without CRLF, or None as yet.

        Raises `Bye` above ``limit`` octets.
        """
        line = self._take_line()
        if len(self._buffer if line is None else line) > limit:
            raise Bye(b"Line too long.", b"TOOBIG")
        return line

    def next_event(self) -> Event:
        """What to do next."""
        while (event := self._next_step()) is None:
            pass
        return event

    def _next_step(self) -> Event | None:
        """One step, and None if another one follows: a command of 10,000 literals must not nest 10,000 calls."""
        match self._mode:
            case _Mode.STREAM_OFFERED:
                return PAUSED
            case _Mode.STREAM_LITERAL:
                return self._next_chunk()
            case _Mode.STREAM_TEXT:
                return self._next_text()
        if self._running:
            return PAUSED
        if self._mode is _Mode.LITERAL:
            return self._next_literal()
        if self._mode is _Mode.SKIPPED_LINE:
            return self._skip_line()
        return self._next_command_text()

    # Lines

    def _take_line(self) -> bytes | None:
        """The line at the front, taken out, without its ending; a bare LF leaves a CR or LF in it, to be refused."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            return None
        self._scanned = 0
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line[:-2] if line.endswith(b"\r\n") else line

    def _text_left(self) -> int:
        limit = self._limits.command_line_before_login if self.before_login else self._limits.command_line
        return limit - self._text_octets

    def _next_command_text(self) -> Event | None:
        line = self._take_line()
        if line is None:
            if len(self._buffer) <= self._text_left() + 1:
                return NEED_DATA
            return self._too_long(bytes(self._buffer))
        if len(line) > self._text_left():
            self._buffer[:0] = line + b"\r\n"
            return self._too_long(line)
        self._text_octets += len(line)
        return self._take_text(line)

    def _take_text(self, line: bytes) -> Event | None:
        """One more piece of the command's text, with or without a literal announced at its end."""
        text, literal = split_literal(line)
        if not self._arguments:
            if is_http(line):
                return Reply(b"", close=True)
            self._head, text = parse_head(text.rstrip(b"\r\n"))
        flawed = self._head is None or b"\r" in line or b"\n" in line or b"\0" in line
        if flawed and (literal is None or literal.synchronizing):
            return self._bad(b"This is not a command.")
        self._arguments.append(text)
        if literal is None:
            return self._complete(None)
        return self._announced(literal)

    def _announced(self, literal: LiteralStarted) -> Event | None:
        """A literal is announced behind the text: refuse, stream or collect it."""
        if self._streams():
            refusal = self._refusal(literal, self._limits.message_size)
            return refusal or self._complete(literal)
        limit = self._limits.literal_before_login if self.before_login else self._limits.literal
        refusal = self._refusal(literal, limit - self._literal_octets)
        if refusal is not None:
            return refusal
        self._literal_octets += literal.size
        self._remaining = literal.size
        self._arguments.append(b"")
        self._mode = _Mode.LITERAL
        return Reply(b"+ OK\r\n") if literal.synchronizing else None

    def _streams(self) -> bool:
        """Whether the literal behind the text so far is one to stream: not the first argument of the command."""
        if self._head is None or self._head[1] not in STREAMED or self.before_login:
            return False
        return len(self._arguments) > 1 or bool(self._arguments[0].strip())

    def _refusal(self, literal: LiteralStarted, limit: int) -> Reply | None:
        """RFC 7888 section 4: too large is NO where the client waits for us, else nothing is left but to close."""
        if literal.size <= limit:
            return None
        if not literal.synchronizing:
            return Reply(b"* BYE [TOOBIG] Literal too large.\r\n", close=True)
        tag = self._tag
        self.command_done()
        return Reply(tag + b" NO [TOOBIG] Literal too large.\r\n")

    def _complete(self, literal: LiteralStarted | None) -> Event:
        assert self._head is not None
        self._running = True
        self._mode = _Mode.LINE if literal is None else _Mode.STREAM_OFFERED
        self._offered = literal
        tag, name = self._head
        return CommandReady(Command(tag, name, tuple(self._arguments)), literal)

    @property
    def _tag(self) -> bytes:
        return self._head[0] if self._head else b"*"

    def _bad(self, text: bytes) -> Reply:
        """Answer BAD, with the tag if there is one, and end the session at the limit."""
        tag = self._tag
        self.command_done()
        reply = tag + b" BAD " + text + b"\r\n"
        if self.count_bad_command():
            return Reply(reply + b"* BYE Too many bad commands.\r\n", close=True)
        return Reply(reply)

    # Lines too long

    def _too_long(self, line: bytes) -> Event:
        """Begin to pass over a line that is too long; before log-in nobody has a reason to send one."""
        if self.before_login:
            return Reply(b"* BYE [TOOBIG] Command line too long.\r\n", close=True)
        if not self._arguments:
            self._head, _ = parse_head(line[: MAX_TAG + MAX_NAME])
        self._mode = _Mode.SKIPPED_LINE
        return self._skip_line()

    def _skip_line(self) -> Event:
        end = self._buffer.find(b"\n")
        if end < 0:
            # What may announce a literal at the line's end is kept.
            self._skipped += len(self._buffer[:-32])
            del self._buffer[:-32]
            self._scanned = 0
            if self._skipped > SKIPPED_LINES * self._limits.command_line:
                return Reply(b"* BYE [TOOBIG] Command line too long.\r\n", close=True)
            return NEED_DATA
        _, literal = split_literal(bytes(self._buffer[max(0, end - 33) : end]).removesuffix(b"\r"))
        del self._buffer[: end + 1]
        self._scanned = 0
        if literal is not None and not literal.synchronizing:
            return Reply(b"* BYE [TOOBIG] Command line too long.\r\n", close=True)
        return self._bad(b"[TOOBIG] Command line too long.")

    # Literals that are collected

    def _next_literal(self) -> Event | None:
        taken = bytes(self._buffer[: self._remaining])
        del self._buffer[: len(taken)]
        self._arguments[-1] += taken
        self._remaining -= len(taken)
        if self._remaining:
            return NEED_DATA
        self._mode = _Mode.LINE
        return None

    # Literals that are streamed

    def accept_literal(self) -> bytes:
        """Let the announced literal come; what to send to the client for that."""
        offered = self._take_offer()
        self._remaining = offered.size
        self._mode = _Mode.STREAM_LITERAL
        return b"+ OK\r\n" if offered.synchronizing else b""

    def refuse_literal(self) -> None:
        """Do without the announced literal. A synchronizing one ends the command here; the other comes all the same."""
        offered = self._take_offer()
        self._remaining = offered.size
        self._mode = _Mode.LINE if offered.synchronizing else _Mode.STREAM_LITERAL

    def _take_offer(self) -> LiteralStarted:
        offered, self._offered = self._offered, None
        if offered is None:
            raise StateError("no literal is announced")
        return offered

    @property
    def has_offer(self) -> bool:
        """Whether an announced literal waits for `accept_literal` or `refuse_literal`."""
        return self._offered is not None

    @property
    def streaming(self) -> bool:
        """Whether the command that runs has not ended on the wire: a literal or text of it is still to come."""
        return self._mode in (_Mode.STREAM_OFFERED, _Mode.STREAM_LITERAL, _Mode.STREAM_TEXT)

    def _next_chunk(self) -> Event:
        if not self._remaining:
            self._mode = _Mode.STREAM_TEXT
            return LiteralDone()
        if not self._buffer:
            return NEED_DATA
        if len(self._buffer) <= self._remaining:
            chunk, self._buffer = bytes(self._buffer), bytearray()
        else:
            chunk = bytes(self._buffer[: self._remaining])
            del self._buffer[: self._remaining]
        self._remaining -= len(chunk)
        return LiteralChunk(chunk)

    def _next_text(self) -> Event:
        line = self._take_line()
        if len(self._buffer if line is None else line) > self._text_left() + 1:
            return Reply(b"* BYE [TOOBIG] Command line too long.\r\n", close=True)
        if line is None:
            return NEED_DATA
        self._text_octets += len(line)
        text, literal = split_literal(line)
        if literal is None:
            self._mode = _Mode.LINE
            return TextBehind(text, None)
        if literal.size > self._limits.message_size:
            if not literal.synchronizing:
                return Reply(b"* BYE [TOOBIG] Literal too large.\r\n", close=True)
            self._mode = _Mode.LINE
            return TextBehind(text, literal)
        self._offered = literal
        self._mode = _Mode.STREAM_OFFERED
        return TextBehind(text, literal)


def split_literal(line: bytes) -> tuple[bytes, LiteralStarted | None]:
    """The line without the literal it announces at its end, and the literal (RFC 9051 section 4.3, RFC 7888).

    Numbers of more than 18 digits count as 10**18.
    """
    if not line.endswith(b"}"):
        return line, None
    start = line.rfind(b"{", -MAX_DIGITS * 2)
    digits = line[start + 1 : -1]
    synchronizing = not digits.endswith(b"+")
    digits = digits.removesuffix(b"+")
    if start < 0 or not digits.isdigit():
        return line, None
    size = int(digits) if len(digits) <= MAX_DIGITS else 10**MAX_DIGITS
    text = line[:start]
    binary = text.endswith(b"~")
    return text[:-1] if binary else text, LiteralStarted(size, binary, synchronizing)


def parse_head(line: bytes) -> tuple[tuple[bytes, bytes] | None, bytes]:
    """Tag and command name in capitals, and what stands behind them; None when they are not well-formed."""
    tag, space, rest = line.partition(b" ")
    if not tag or not space or len(tag) > MAX_TAG or not _NOT_IN_TAG.isdisjoint(tag):
        return None, b""
    name, _, rest = rest.partition(b" ")
    name = name.upper()
    if name == b"UID":
        sub, _, rest = rest.partition(b" ")
        name = b"UID " + sub.upper()
    if not name.removeprefix(b"UID ").isalpha() or len(name) > MAX_NAME:
        return None, b""
    return (tag, name), rest
