"""One outgoing SMTP or LMTP conversation without I/O: bytes in, events and commands out (RFC 5321, 2033, 2920, 3030).

`receive_data` takes what came, `next_event` tells what it means, and what is to be sent collects until `take_output`.
Commands are methods, called where `states.TRANSITIONS` allows them. Whatever breaks the grammar, or answers what was
not asked, raises `GrammarError`: then the connection is cut. After the STARTTLS handshake a new session begins, with
`say_hello` as its first word.
"""

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from certmaild.protocols.errors import GrammarError, StateError
from certmaild.protocols.smtp.client import grammar
from certmaild.protocols.smtp.client.content import CheckedContent, StuffedContent
from certmaild.protocols.smtp.client.events import (
    NEED_DATA,
    Closed,
    ContentWanted,
    Decided,
    Event,
    Hello,
    LoggedIn,
    Over,
    Refused,
    Signal,
    TlsReady,
    TlsRefused,
)
from certmaild.protocols.smtp.client.grammar import Credentials, Offers, Reply, ReplyReader
from certmaild.protocols.smtp.client.states import TRANSITIONS, Move, State
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments

CHUNK = 256 * 1024
"""Octets of a BDAT chunk, at least, but for the last."""
_CLOSING: Final = 421


class _Asked(Enum):
    """What a reply that is due answers."""

    GREETING = auto()
    EHLO = auto()
    HELO = auto()
    STARTTLS = auto()
    PLAIN = auto()
    LOGIN = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CHUNK = auto()
    END = auto()
    RSET = auto()
    QUIT = auto()


class Session:
    """One conversation, or its part before or inside TLS."""

    def __init__(self, hostname: str, *, is_lmtp: bool = False, may_log_in: bool = False) -> None:
        """``may_log_in``: TLS has proven whom we talk to, so a password may be sent."""
        self.state = State.CONNECTED
        self.offers = Offers()
        self.replies = 0
        """Replies so far: whoever waits sees by it that the server is alive."""
        self._hostname = hostname
        self._is_lmtp = is_lmtp
        self._may_log_in = may_log_in
        self._reader = ReplyReader()
        self._output: list[bytes] = []
        self._events: deque[Event] = deque()
        self._asked: deque[tuple[_Asked, int]] = deque([(_Asked.GREETING, 0)])
        self._unsent: deque[tuple[bytes, _Asked, int]] = deque()
        """Commands of the transaction that wait, where there is no pipelining."""
        self._responses: list[bytes] = []
        """Of AUTH LOGIN, the next one last."""
        self._recipients = 0
        self._taken: list[int] = []
        """Recipients who were accepted and are not decided yet."""
        self._in_transaction = False
        self._content: CheckedContent | None = None
        self._chunk: list[bytes] = []
        self._chunk_octets = 0

    @property
    def by_chunks(self) -> bool:
        """Whether content goes by BDAT: only with pipelining, since else each chunk waits for its reply."""
        return self.offers.chunking and self.offers.pipelining and not self._is_lmtp

    @property
    def wants_content(self) -> bool:
        """Whether `write` and `finish` may be called."""
        return self.state is State.CONTENT and self._content is not None

    def take_output(self) -> bytes:
        """What is to be sent."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # What the caller says

    def say_hello(self) -> None:
        """EHLO or LHLO without waiting for a greeting: inside TLS after STARTTLS."""
        self._asked.clear()
        self._greet()

    def start_tls(self) -> None:
        """STARTTLS (RFC 3207)."""
        self._move(Move.START_TLS)
        self._ask(b"STARTTLS\r\n", _Asked.STARTTLS)

    def log_in(self, credentials: Credentials) -> None:
        """AUTH PLAIN or LOGIN (RFC 4954). Raises `StateError` where no password may go or neither is offered."""
        if not self._may_log_in or not self.offers.mechanisms & {"PLAIN", "LOGIN"}:
            raise StateError("no way to log in")
        self._move(Move.LOG_IN)
        if "PLAIN" in self.offers.mechanisms:
            self._ask(grammar.format_plain(credentials), _Asked.PLAIN)
        else:
            texts = (credentials.password, credentials.username)
            self._responses = [grammar.format_response(text) for text in texts]
            self._ask(b"AUTH LOGIN\r\n", _Asked.LOGIN)

    def send(self, mail: MailArguments, recipients: Sequence[RcptArguments]) -> None:
        """Begin a transaction.

        Raises `ValueError` for an address that cannot be sent, and `StateError` where the message needs what is not
        offered, or more recipients than are allowed: nothing was said then.
        """
        offers = self.offers
        if (mail.utf8 and not offers.utf8) or (mail.require_tls and not offers.require_tls):
            raise StateError("the message needs an extension that is not offered")
        if not recipients or len(recipients) > (offers.rcpt_max or len(recipients)):
            raise StateError("more recipients than are allowed, or none")
        commands = [(grammar.format_mail(mail, offers), _Asked.MAIL, 0)]
        for index, recipient in enumerate(recipients):
            commands.append((grammar.format_rcpt(recipient, offers, utf8=mail.utf8), _Asked.RCPT, index))
        if offers.pipelining and not self.by_chunks:
            commands.append((b"DATA\r\n", _Asked.DATA, 0))
        self._move(Move.SEND)
        self._in_transaction = False
        self._recipients = len(recipients)
        self._taken = []
        self._unsent.extend(commands)
        self._say_next()

    def write(self, octets: bytes) -> None:
        """Some of the content. Raises `ContentUnfit`: then the connection must be cut."""
        octets = self._wanted().feed(octets)
        if not self.by_chunks:
            self._output.append(octets)
            return
        self._chunk.append(octets)
        self._chunk_octets += len(octets)
        if self._chunk_octets >= CHUNK:
            self._say_chunk(b"BDAT %d\r\n", _Asked.CHUNK)

    def finish(self) -> None:
        """The end of the content: from here on he may answer for the message. Raises `ContentUnfit`, as `write`."""
        rest = self._wanted().finish()
        self._move(Move.END)
        if self.by_chunks:
            self._chunk.append(rest)
            self._chunk_octets += len(rest)
            self._say_chunk(b"BDAT %d LAST\r\n", _Asked.END)
            return
        self._output.append(rest)
        for index in self._taken if self._is_lmtp else self._taken[:1]:
            self._asked.append((_Asked.END, index))

    def quit(self) -> None:
        """QUIT."""
        self._move(Move.QUIT)
        self._ask(b"QUIT\r\n", _Asked.QUIT)

    # What the server says

    def receive_data(self, octets: bytes) -> None:
        """Take what came."""
        self._reader.feed(octets)

    def next_event(self) -> Event | Signal:
        """The next thing he decided. Raises `GrammarError`."""
        while not self._events:
            if self.state is State.CLOSED or self.state is State.IN_HANDSHAKE:
                return NEED_DATA
            reply = self._reader.next_reply()
            if reply is None:
                return NEED_DATA
            self._take(reply)
        return self._events.popleft()

    def _take(self, reply: Reply) -> None:
        self.replies += 1
        if reply.code == _CLOSING:
            self._close(reply)
        elif not self._asked:
            if not self.wants_content or reply.code < 400:
                raise GrammarError("reply to nothing")
            # He will not hear the content to its end, and there is no way to stop it but this one.
            self._close(reply)
        else:
            asked, index = self._asked.popleft()
            _ANSWERS[asked](self, reply, index)
            self._say_next()

    def _take_greeting(self, reply: Reply, index: int) -> None:
        if reply.is_positive:
            self._greet()
        else:
            self._refuse(reply)

    def _take_ehlo(self, reply: Reply, index: int) -> None:
        if reply.is_positive:
            self.offers = grammar.parse_offers(reply)
            self._move(Move.HELLO)
            self._events.append(Hello(self.offers))
        elif reply.is_permanent and not self._is_lmtp:
            self._move(Move.EHLO_REFUSED)
            self._ask(grammar.format_hello("HELO", self._hostname), _Asked.HELO)
        else:
            self._refuse(reply)

    def _take_helo(self, reply: Reply, index: int) -> None:
        if reply.is_positive:
            self._move(Move.HELLO)
            self._events.append(Hello(self.offers))
        else:
            self._refuse(reply)

    def _take_starttls(self, reply: Reply, index: int) -> None:
        if not reply.is_positive:
            self._move(Move.TLS_REFUSED)
            self._events.append(TlsRefused(reply))
            return
        if not self._reader.is_empty:
            # Somebody in between said it, to be taken for what comes inside TLS (CVE-2011-0411 and its like).
            raise GrammarError("octets behind the reply to STARTTLS")
        self._move(Move.TLS_READY)
        self._events.append(TlsReady())

    def _take_auth(self, reply: Reply, index: int) -> None:
        if reply.is_positive:
            self._move(Move.LOGGED_IN)
            self._events.append(LoggedIn())
        elif reply.code == 334 and self._responses:
            self._ask(self._responses.pop(), _Asked.LOGIN)
        else:
            self._refuse(reply)

    def _take_mail(self, reply: Reply, index: int) -> None:
        self._in_transaction = self._is_yes(reply)
        if not self._in_transaction:
            for one in range(self._recipients):
                self._events.append(Decided(one, reply))
            self._unsent.clear()
            self._look_whether_over()

    def _take_rcpt(self, reply: Reply, index: int) -> None:
        is_yes = self._is_yes(reply)
        if self._in_transaction and is_yes:
            self._taken.append(index)
        elif self._in_transaction:
            self._events.append(Decided(index, reply))
        if not self._asked and not self._unsent:
            self._end_envelope()

    def _end_envelope(self) -> None:
        """All is answered, and DATA was not said yet."""
        if not self._in_transaction or not self._taken:
            self._look_whether_over()
        elif self.by_chunks:
            self._begin_content()
        else:
            self._move(Move.ASK_FOR_DATA)
            self._ask(b"DATA\r\n", _Asked.DATA)

    def _take_data(self, reply: Reply, index: int) -> None:
        is_wanted = self._in_transaction and bool(self._taken)
        if reply.code == 354:
            if is_wanted:
                self._begin_content()
            elif self._is_lmtp:
                # RFC 2033 section 4.2 forbids it, and nobody knows how many replies would come.
                raise GrammarError("354 without recipients")
            else:
                self._move(Move.NOBODY)
                self._ask(b".\r\n", _Asked.END)
            return
        if self._is_yes(reply):
            raise GrammarError("neither 354 nor a refusal")
        self._decide(reply)
        self._look_whether_over()

    def _take_chunk(self, reply: Reply, index: int) -> None:
        if not self._is_yes(reply):
            self._decide(reply)
            self._content = None
        if self._content is None:
            # Chunks that were sent ahead are answered too; only then comes RSET (RFC 3030 section 2).
            self._look_whether_over()

    def _take_end(self, reply: Reply, index: int) -> None:
        is_yes = self._is_yes(reply)
        if self._is_lmtp:
            self._taken.remove(index)
            self._events.append(Decided(index, reply))
        else:
            self._decide(reply)
        if not self._asked:
            # An empty message that nobody was to have may be a transaction still.
            self._in_transaction = self._in_transaction and not is_yes and not self._is_lmtp
            self._look_whether_over()

    def _take_rset(self, reply: Reply, index: int) -> None:
        if not reply.is_positive:
            self._close(None)
            return
        self._move(Move.OVER)
        self._events.append(Over())

    def _take_quit(self, reply: Reply, index: int) -> None:
        self._close(None)

    # Steps

    def _greet(self) -> None:
        self._move(Move.GREETING)
        self._ask(grammar.format_hello("LHLO" if self._is_lmtp else "EHLO", self._hostname), _Asked.EHLO)

    def _ask(self, command: bytes, asked: _Asked, index: int = 0) -> None:
        self._output.append(command)
        self._asked.append((asked, index))

    def _say_next(self) -> None:
        """Commands that wait: all with pipelining, else one when nothing is due."""
        while self._unsent and (self.offers.pipelining or not self._asked):
            self._ask(*self._unsent.popleft())

    def _say_chunk(self, command: bytes, asked: _Asked) -> None:
        self._output.append(command % self._chunk_octets)
        self._output += self._chunk
        self._chunk.clear()
        self._chunk_octets = 0
        self._asked.append((asked, 0))

    def _wanted(self) -> CheckedContent:
        if self._content is None or not self.wants_content:
            raise StateError("no content is wanted")
        return self._content

    def _begin_content(self) -> None:
        self._move(Move.GO_AHEAD)
        self._content = CheckedContent() if self.by_chunks else StuffedContent()
        self._chunk.clear()
        self._chunk_octets = 0
        self._events.append(ContentWanted())

    def _decide(self, reply: Reply) -> None:
        """One reply for all who wait."""
        self._events.extend(Decided(index, reply) for index in self._taken)
        self._taken.clear()

    def _look_whether_over(self) -> None:
        """At the end of a transaction: RSET if it failed half-way."""
        if self._asked:
            return
        if self._in_transaction:
            self._move(Move.RSET)
            self._ask(b"RSET\r\n", _Asked.RSET)
        else:
            self._move(Move.OVER)
            self._events.append(Over())

    @staticmethod
    def _is_yes(reply: Reply) -> bool:
        if reply.code // 100 == 3:
            raise GrammarError("a reply that asks for more, where there is none")
        return reply.is_positive

    def _refuse(self, reply: Reply) -> None:
        self._is_yes(reply)
        self._output.append(b"QUIT\r\n")
        self._move(Move.CLOSE)
        self._events.append(Refused(reply))

    def _close(self, reply: Reply | None) -> None:
        self._move(Move.CLOSE)
        self._asked.clear()
        self._unsent.clear()
        self._events.append(Closed(reply))

    def _move(self, move: Move) -> None:
        after = TRANSITIONS.get((self.state, move))
        if after is None:
            raise StateError(f"{move.name} in {self.state.name}")
        self.state = after


_ANSWERS: Final[dict[_Asked, Callable[[Session, Reply, int], None]]] = {
    _Asked.GREETING: Session._take_greeting,
    _Asked.EHLO: Session._take_ehlo,
    _Asked.HELO: Session._take_helo,
    _Asked.STARTTLS: Session._take_starttls,
    _Asked.PLAIN: Session._take_auth,
    _Asked.LOGIN: Session._take_auth,
    _Asked.MAIL: Session._take_mail,
    _Asked.RCPT: Session._take_rcpt,
    _Asked.DATA: Session._take_data,
    _Asked.CHUNK: Session._take_chunk,
    _Asked.END: Session._take_end,
    _Asked.RSET: Session._take_rset,
    _Asked.QUIT: Session._take_quit,
}
