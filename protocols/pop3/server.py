"""POP3 over a Twisted transport inside TLS: one `Pop3Server` per connection."""

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from certmaild.mailbox.changes import Change, ChangeKind, Watch
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.opened import OpenMailbox
from certmaild.protocols.connections import Connections
from certmaild.protocols.countdown import Countdown
from certmaild.protocols.interfaces import Admission, Doorkeeper, Gatekeeper, Login, Service
from certmaild.protocols.limits import Limits
from certmaild.protocols.pop3.errors import Refusal, internal_error
from certmaild.protocols.pop3.events import Closed, Event, LogIn, Retrieve, Send, Signal, Update
from certmaild.protocols.pop3.failures import refusal_of
from certmaild.protocols.pop3.grammar import Credentials
from certmaild.protocols.pop3.inbox import Inbox
from certmaild.protocols.pop3.session import Session
from certmaild.protocols.transport import Clock, Transport
from certmaild.protocols.turns import Turns

log = Logger()

ABSORB_S = 2.0
"""New mail is taken in for at most so long at log-in; what is left shows in the next session."""
CLOSING_S = 10.0
"""A client that does not take our close is cut off after this time."""


class _Gone(Exception):
    """The connection is lost or closed; nothing is left to say."""


class Pop3Factory(Factory):
    """Makes the server side of each connection."""

    noisy = False

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        doorkeeper: Doorkeeper,
        limits: Limits,
        clock: Clock,
        hostname: str,
        turns: Turns | None = None,
    ) -> None:
        self.gatekeeper = gatekeeper
        self.doorkeeper = doorkeeper
        self.limits = limits
        self.clock = clock
        self.hostname = hostname
        self.turns = turns or Turns(clock)
        self.connections: Connections[Pop3Server] = Connections()
        self._sessions = 0

    def buildProtocol(self, addr: IAddress | None) -> "Pop3Server":
        """A new session."""
        self._sessions += 1
        server = Pop3Server(self, self._sessions)
        server.factory = self
        return server


@implementer(IPushProducer, IHalfCloseableProtocol)
class Pop3Server(Protocol):
    """One connection: feeds the session, does what its events ask, keeps the times."""

    def __init__(self, house: Pop3Factory, number: int) -> None:
        self._house = house
        self._number = number
        self._session = Session(house.limits, house.hostname)
        self._admission: Admission | None = None
        self._login: Login | None = None
        self._mailbox: OpenMailbox | None = None
        self._inbox: Inbox | None = None
        self._watch: Watch | None = None
        self._countdown = Countdown(house.clock)
        self._waiter: Deferred[None] | None = None
        self._ending: Refusal | None = None
        self._peer = ""
        self._active_at = 0.0
        self._running = self._pumping = self._closed = self._lost = False
        self._write_paused = self._read_paused = self._ended = False

    @property
    def _line(self) -> Transport:
        return cast(Transport, self.transport)

    # The connection

    def connectionMade(self) -> None:
        """Admit, greet, and start the clock."""
        line, house = self._line, self._house
        self._peer = line.getPeer().host
        self._active_at = house.clock.seconds()
        line.registerProducer(self, True)
        self._admission = house.doorkeeper.admit(self._peer, line.getHost().port, self)
        if self._admission is None:
            self._session.take_output()
            self._end(Refusal("Too many connections from your address", "SYS/TEMP"))
            return
        house.connections.add(self)
        for setting in ("setTcpNoDelay", "setTcpKeepAlive"):
            getattr(line, setting, _ignore)(True)
        self._countdown.set(house.limits.time_to_log_in, self._time_passed)
        self._send_out()

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        if self._closed:
            return
        self._active_at = self._house.clock.seconds()
        self._session.receive_data(data)
        self._pump()
        if self._session.wants_pause and not (self._closed or self._read_paused):
            self._read_paused = True
            self._line.pauseProducing()

    def readConnectionLost(self) -> None:
        """The client sends nothing more: answer what it sent, then close."""
        self._ended = True
        self._pump()

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The client is gone; what runs for it ends at its next step, and then lets go of the mailbox."""
        self._lost = self._closed = True
        self._countdown.cancel()
        if self._watch is not None:
            self._watch.stop()
        self._wake()
        if not self._running:
            self._let_go()
        self._house.connections.remove(self)

    def _let_go(self) -> None:
        self._inbox = None
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            mailbox.close()
        login, self._login = self._login, None
        if login is not None:
            self._house.gatekeeper.log_out(login)
        if self._lost and self._admission is not None:
            # Not before a log-in is answered: who does not wait for that has his connections counted all the same.
            self._admission.leave()
            self._admission = None

    def evict(self) -> None:
        """Give way to other connections."""
        self._end(Refusal("The server is busy, please try again later", "SYS/TEMP"))

    def shut_down(self) -> None:
        """Say ``-ERR`` when the command in flight is done, and close."""
        self._end_soon(Refusal("The server is shutting down", "SYS/TEMP"))

    def cut_off(self) -> None:
        """Close now, whatever is under way."""
        self._line.abortConnection()

    def _end_soon(self, refusal: Refusal) -> None:
        self._ending = self._ending or refusal
        if not self._running:
            self._end(self._ending)

    def _end(self, refusal: Refusal) -> None:
        if not self._closed:
            self._session.end(refusal)
            self._close()

    def _close(self) -> None:
        """Send what is written, then close, by force if the client does not let us."""
        if self._closed:
            return
        self._send_out()
        self._closed = True
        # A transport that has a producer would wait for it for ever.
        self._line.unregisterProducer()
        self._line.loseConnection()
        self._countdown.set(CLOSING_S, self._abort)

    def _abort(self) -> None:
        """Close without a word: an answer may have ended in its middle."""
        self._closed = True
        if not self._lost:
            self._line.abortConnection()

    # Out

    def _send_out(self) -> None:
        data = self._session.take_output()
        if data and not self._closed:
            self._line.write(data)

    def pauseProducing(self) -> None:
        """The client reads more slowly than we write."""
        self._write_paused = True

    def resumeProducing(self) -> None:
        """The client has read."""
        self._write_paused = False
        self._active_at = self._house.clock.seconds()
        self._go_on()

    def _go_on(self) -> None:
        """In its turn: what waits for the client to read, or what the client has sent meanwhile."""
        if self._house.turns.begin(self._go_on):
            try:
                self._wake()
                self._pump()
            finally:
                self._house.turns.end()

    def stopProducing(self) -> None:
        """The connection is about to be lost; `connectionLost` follows."""
        self._write_paused = False

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    async def _write(self, data: bytes) -> None:
        """Write, and wait until the client has read enough for more. Raises `_Gone`."""
        if self._closed:
            raise _Gone
        self._line.write(data)
        while self._write_paused and not self._closed:
            self._waiter = Deferred()
            await self._waiter
        if self._house.turns.is_over():
            await self._house.turns.others_first()
        if self._closed:
            raise _Gone

    # Time

    def _time_passed(self) -> None:
        """End who did not log in, or neither sent nor read anything for too long."""
        if self._session.before_login:
            self._end(Refusal("Too long without log-in"))
            return
        now = self._house.clock.seconds()
        if self._running and not self._write_paused:
            self._active_at = now
        left = self._active_at + self._house.limits.pop3_idle_time - now
        if left > 0:
            self._countdown.set(left, self._time_passed)
        elif self._running:
            self._abort()
        else:
            self._end(Refusal("Too long without a command; no message was removed"))

    # Events

    def _pump(self) -> None:
        """Take events from the session until it needs data, one runs, or it is the turn of others."""
        turns = self._house.turns
        if self._pumping or not turns.begin(self._pump):
            return
        self._pumping = True
        try:
            while not (self._running or self._closed or self._write_paused):
                if turns.is_over():
                    turns.later(self._pump)
                    break
                if not self._take_event():
                    break
        except Exception:
            log.failure("session failed", session=self._number)
            self._end(internal_error())
        finally:
            self._pumping = False
            self._send_out()
            turns.end()

    def _take_event(self) -> bool:
        if self._ending is not None:
            self._end(self._ending)
            return False
        event = self._session.next_event()
        match event:
            case Closed():
                self._close()
            case LogIn() | Send() | Retrieve() | Update():
                self._running = True
                Deferred.fromCoroutine(self._run(event)).addErrback(self._failed)
            case Signal.MORE:
                self._send_out()
            case _:
                if event is Signal.NEED_DATA:
                    self._await_input()
                return False
        return True

    def _await_input(self) -> None:
        """Read on; where the client sends nothing more, close."""
        if self._ended:
            self._close()
        elif self._read_paused:
            self._read_paused = False
            self._line.resumeProducing()

    async def _run(self, event: Event) -> None:
        """Do one event's work and answer it."""
        try:
            self._send_out()
            await self._do(event)
        except _Gone:
            pass
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None or isinstance(error, Damaged):
                log.failure("{event} failed", session=self._number, event=type(event).__name__)
            if not self._closed:
                self._session.refuse(refusal or internal_error())
        self._running = False
        if self._lost:
            self._let_go()
        else:
            self._pump()

    def _failed(self, failure: Failure) -> None:
        """Not foreseen anywhere: this connection ends, no other is touched."""
        log.failure("session failed", failure=failure, session=self._number)
        self._running = False
        self._abort()
        self._let_go()

    async def _do(self, event: Event) -> None:
        match event:
            case LogIn(credentials):
                await self._log_in(credentials)
            case Send(pieces):
                for piece in pieces:
                    await self._write(piece)
                self._session.done()
            case Retrieve(index, lines):
                await self._retrieve(index, lines)
            case Update(indexes):
                await self._remove(indexes)

    async def _log_in(self, credentials: Credentials) -> None:
        gatekeeper = self._house.gatekeeper
        self._login = await gatekeeper.log_in(
            credentials.username, credentials.password, service=Service.POP3, peer=self._peer
        )
        try:
            await self._open(self._login)
        except BaseException:
            if self._watch is not None:
                self._watch.stop()
            self._let_go()
            raise

    async def _open(self, login: Login) -> None:
        self._check_open()
        mailbox = self._mailbox = await self._house.gatekeeper.open_mailbox(login)
        self._check_open()
        self._watch = mailbox.watch(self._on_change)
        await mailbox.absorb(at_most_s=ABSORB_S)
        self._inbox = Inbox(mailbox, self._number)
        maildrop = await self._inbox.list_messages()
        maildrop.read_only = login.read_only
        self._check_open()
        self._session.accept(maildrop)
        if self._admission is not None:
            self._admission.authenticated()
        self._active_at = self._house.clock.seconds()
        self._countdown.set(self._house.limits.pop3_idle_time, self._time_passed)

    def _check_open(self) -> None:
        if self._closed:
            raise _Gone

    def _opened(self) -> Inbox:
        if self._inbox is None:
            raise _Gone
        return self._inbox

    async def _retrieve(self, index: int, lines: int | None) -> None:
        """Stream one message. What fails after ``+OK`` can only end the connection."""
        begun = False
        try:
            async for piece in self._opened().retrieve(self._session.maildrop, index, lines):
                await self._write(piece)
                begun = True
        except Exception as error:
            if not begun or isinstance(error, _Gone):
                raise
            log.failure("message could not be sent", session=self._number)
            self._abort()
            raise _Gone from error
        self._session.done()

    async def _remove(self, indexes: tuple[int, ...]) -> None:
        """QUIT: what was deleted goes now."""
        if indexes:
            await self._opened().remove([self._session.maildrop.uids[index] for index in indexes])
        self._session.done()

    # Changes

    def _on_change(self, change: Change) -> None:
        """A commit touched this user, here or in another process."""
        if change.kind is ChangeKind.ACCOUNT:
            Deferred.fromCoroutine(self._check_login()).addErrback(self._check_failed)

    async def _check_login(self) -> None:
        login = self._login
        if login is None or await self._house.gatekeeper.is_valid(login) or self._closed:
            return
        log.info("session ends: its credential is no longer valid", session=self._number)
        if self._running:
            self._abort()
        else:
            self._end(Refusal("This log-in is no longer valid", "SYS/TEMP"))

    def _check_failed(self, failure: Failure) -> None:
        log.failure("login could not be checked", failure=failure, session=self._number)


def _ignore(on: bool) -> None:
    """Where a transport has no such setting."""
