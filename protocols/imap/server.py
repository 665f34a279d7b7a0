"""IMAP over a Twisted transport: one `ImapServer` per connection, commands as coroutines, one at a time."""

from collections.abc import Callable
from typing import Protocol as Port
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from certmaild.mailbox.changes import Change, ChangeKind, Watch
from certmaild.protocols.imap.capability import capabilities
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.compression import Deflation
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import INTERNAL_ERROR, Bad, Bye, ConnectionGone, No, failure_of
from certmaild.protocols.imap.interfaces import Woken
from certmaild.protocols.imap.registry import COMMANDS
from certmaild.protocols.imap.session import (
    NEED_DATA,
    PAUSED,
    CommandReady,
    LiteralChunk,
    LiteralDone,
    LiteralStarted,
    Move,
    Reply,
    Session,
    State,
    TextBehind,
)
from certmaild.protocols.interfaces import Admission, Doorkeeper, Gatekeeper, Login, Service
from certmaild.protocols.limits import Limits

log = Logger()

OUT_OCTETS = 16 * 1024
"""Written responses are gathered up to so much (one TLS record)."""
COMMANDS_IN_A_ROW = 16
"""After so many pipelined commands other connections get their turn."""
CLOSING_S = 10.0
"""A client that does not take our close is cut off after this time."""
REVOKED_S = 1.0
"""A session whose credential is revoked ends within this time, command in flight or not."""


class Timer(Port):
    """The part of IDelayedCall that is used."""

    def active(self) -> bool:
        """Whether it is still to come."""

    def cancel(self) -> None:
        """Let it not come."""


class Clock(Port):
    """The part of IReactorTime that is used."""

    def seconds(self) -> float:
        """Now."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> Timer:
        """Call after ``delay`` seconds."""


class Connection(Port):
    """The part of a Twisted TCP or TLS transport that is used."""

    def getPeer(self) -> object:
        """The client's address."""

    def getHost(self) -> object:
        """Ours."""

    def write(self, data: bytes) -> None:
        """Send."""

    def loseConnection(self) -> None:
        """Close when all is sent."""

    def abortConnection(self) -> None:
        """Close now."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Tell ``producer`` when to pause."""

    def unregisterProducer(self) -> None:
        """Tell it no more."""

    def pauseProducing(self) -> None:
        """Read no more."""

    def resumeProducing(self) -> None:
        """Read on."""


class ImapFactory(Factory):
    """Makes the server side of each connection, and ends them all on shut-down."""

    noisy = False

    def __init__(self, gatekeeper: Gatekeeper, doorkeeper: Doorkeeper, limits: Limits, clock: Clock) -> None:
        self.gatekeeper = gatekeeper
        self.doorkeeper = doorkeeper
        self.limits = limits
        self.clock = clock
        self.connections: set[ImapServer] = set()
        self._sessions = 0

    def buildProtocol(self, addr: IAddress | None) -> "ImapServer":
        """A new session."""
        self._sessions += 1
        server = ImapServer(self, self._sessions)
        server.factory = self
        return server

    async def shut_down(self) -> None:
        """Say ``* BYE`` to every client once its command in flight is done; returns when all are gone."""
        for connection in list(self.connections):
            await connection.shut_down()


@implementer(IPushProducer)
class ImapServer(Protocol):
    """One connection: feeds the session, runs its commands, keeps the times, and is their `Wire`."""

    def __init__(self, factory: ImapFactory, number: int) -> None:
        self._house = factory
        self._number = number
        self._clock = factory.clock
        self.limits = factory.limits
        self._session = Session(factory.limits)
        self._context = Context(self, self._session, factory.limits)
        self._out: list[bytes] = []
        self._out_octets = 0
        self._deflation: Deflation | None = None
        self._waiter: Deferred[None] | None = None
        self._gone: Deferred[None] | None = None
        self._admission: Admission | None = None
        self._watch: Watch | None = None
        self._timer: Timer | None = None
        self._bye: bytes | None = None
        self._running = self._pumping = self._lost = self._closed = False
        self._write_paused = self._read_paused = self._changed = False
        self._on_client = self._idling = False
        self._active_at = 0.0
        self._in_a_row = 0
        self._peer = ""

    # The connection

    def connectionMade(self) -> None:
        """Admit, greet, and start the clock."""
        transport = self._connection = cast(Connection, self.transport)
        peer = transport.getPeer()
        transport.registerProducer(self, True)
        self._peer = str(getattr(peer, "host", ""))
        port = int(getattr(transport.getHost(), "port", 0))
        self._admission = self._house.doorkeeper.admit(self._peer, port, self)
        if self._admission is None:
            self._say_bye(b"[LIMIT] Too many connections from your address.")
            return
        self._house.connections.add(self)
        for setting in ("setTcpNoDelay", "setTcpKeepAlive"):
            getattr(transport, setting, lambda on: None)(True)
        self._active_at = self._clock.seconds()
        self._set_timer(self.limits.time_to_log_in, self._time_passed)
        self._context.untagged(b"OK [CAPABILITY " + capabilities(self._context) + b"] IMAP server ready.")
        self._send_out()

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        if self._closed:
            return
        self._active_at = self._clock.seconds()
        if self._deflation is None:
            self._session.receive_data(data)
        else:
            self._deflation.receive(data)
        if self._running:
            if not self._wake() and not self._read_paused and self._wants_pause:
                self._pause_reading()
        else:
            self._pump()

    @property
    def _wants_pause(self) -> bool:
        return self._session.wants_pause or (self._deflation is not None and self._deflation.is_full)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The client is gone: stop what waits for it, and let go of the mailbox when no command uses it any more."""
        self._lost = self._closed = True
        self._house.connections.discard(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._admission is not None:
            self._admission.leave()
        if self._watch is not None:
            self._watch.stop()
        if not self._running:
            self._let_go()
        self._wake()
        if self._gone is not None:
            self._gone.callback(None)

    def _let_go(self) -> None:
        login, self._context.login = self._context.login, None
        self._context.close_mailbox()
        if login is not None:
            self._house.gatekeeper.log_out(login)

    def evict(self) -> None:
        """Give way to other connections."""
        self._say_bye(b"[UNAVAILABLE] The server is busy; try again later.")

    async def shut_down(self) -> None:
        """Say ``* BYE`` when the command in flight is done; returns when the connection is gone."""
        if self._lost:
            return
        self._gone = self._gone or Deferred()
        self._end_soon(b"The server is shutting down.")
        await self._gone

    def _end_soon(self, text: bytes) -> None:
        """End the session when the command in flight is done, at once in IDLE and between commands."""
        self._bye = self._bye or text
        if self._running:
            self._wake()
        else:
            self._say_bye(self._bye)

    def _say_bye(self, text: bytes) -> None:
        if not self._closed:
            self.write(b"* BYE " + text + b"\r\n")
            self._close()

    def _close(self) -> None:
        """Send what is written, then close."""
        self._send_out()
        self._closed = True
        if not self._lost:
            self._connection.unregisterProducer()
            self._connection.loseConnection()
            self._set_timer(CLOSING_S, self._abort_if_there)

    def _abort(self) -> None:
        """Close without a word: what was written may have ended within a literal."""
        self._closed = True
        self._out.clear()
        if not self._lost:
            self._connection.abortConnection()

    # Back-pressure

    def pauseProducing(self) -> None:
        """The client reads more slowly than we write."""
        self._write_paused = True

    def resumeProducing(self) -> None:
        """The client has read."""
        self._write_paused = False
        self._active_at = self._clock.seconds()
        self._wake()

    def stopProducing(self) -> None:
        """The connection is about to be lost; `connectionLost` follows."""
        self._write_paused = False

    def _pause_reading(self) -> None:
        self._read_paused = True
        self._connection.pauseProducing()

    def _resume_reading(self) -> None:
        if self._read_paused and not self._lost:
            self._read_paused = False
            self._connection.resumeProducing()

    def _refill(self) -> bool:
        """More input for the session: from what waits to be inflated, else by reading on; whether there is some now."""
        if self._deflation is not None:
            clear = self._deflation.inflate()
            if clear:
                self._session.receive_data(clear)
                return True
        self._resume_reading()
        return False

    def _wake(self) -> bool:
        """Let the command that waits look again; whether one waited."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return False
        waiter.callback(None)
        return True

    async def _wait(self) -> None:
        """Wait to be woken. Raises `ConnectionGone`."""
        if not self._lost:
            self._send_out()
            self._waiter = Deferred()
            self._on_client = True
            await self._waiter
            self._on_client = False
        if self._lost:
            raise ConnectionGone

    # Time

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, call)

    def _time_passed(self) -> None:
        """Log out who did not log in, or was silent for too long; not IDLE, nor commands that we keep waiting."""
        now = self._clock.seconds()
        if self._session.before_login:
            self._say_bye(b"Too long without log-in.")
            return
        limit = self.limits.imap_idle_time
        if self._idling or (self._running and not self._on_client):
            self._active_at = now
        left = self._active_at + limit - now
        if left > 0:
            self._set_timer(left, self._time_passed)
        elif self._running:
            self._abort()
        else:
            self._say_bye(b"Logged out for inactivity.")

    # Commands

    def _pump(self) -> None:
        """Take events from the session until it needs data or a command runs."""
        if self._pumping:
            return
        self._pumping = True
        self._in_a_row = 0
        try:
            while not self._running and not self._closed:
                if self._in_a_row == COMMANDS_IN_A_ROW:
                    self._clock.callLater(0, self._pump)
                    break
                if self._bye is not None:
                    self._say_bye(self._bye)
                elif not self._take_event():
                    break
        except Bye as bye:
            self._answer_bye(bye)
        except Exception:
            log.failure("session failed", session=self._number)
            self._say_bye(INTERNAL_ERROR)
        finally:
            self._pumping = False
            self._send_out()

    def _take_event(self) -> bool:
        """One event of the session; whether to go on."""
        event = self._session.next_event()
        match event:
            case Reply():
                self.write(event.data)
                if event.close:
                    self._close()
            case CommandReady():
                self._in_a_row += 1
                self._running = True
                Deferred.fromCoroutine(self._run(event)).addErrback(self._failed)
            case _:
                return self._refill()
        return True

    async def _run(self, ready: CommandReady) -> None:
        """Run one command to its tagged response, then go on."""
        command = ready.command
        stream = _Literals(self, ready.literal) if ready.literal is not None else None
        command.stream = stream
        try:
            await self._dispatch(command)
            if stream is not None:
                await self.drain()
        except ConnectionGone:
            if not self._closed:
                self._abort()
        except Bye as bye:
            self._answer_bye(bye)
        except Exception as error:
            await self._answer_failure(command, error)
        self._running = False
        self._session.command_done()
        if self._lost:
            self._let_go()
        elif self._session.state is State.LOGOUT:
            self._close()
        else:
            self._pump()

    async def _dispatch(self, command: Command) -> None:
        spec = COMMANDS.get(command.name)
        if spec is None:
            raise Bad(b"Unknown command.")
        if self._session.state not in spec.states:
            raise Bad(b"Not in this state.", b"CLIENTBUG")
        self._context.sync_mode = spec.sync
        await spec.run(self._context, command)

    async def _answer_failure(self, command: Command, error: Exception) -> None:
        """The tagged NO or BAD, after what the client still sends of the command was passed over."""
        failure = failure_of(error)
        if failure is None:
            log.failure("{command} failed", session=self._number, command=command.name.decode("ascii"))
            failure = No(INTERNAL_ERROR, b"SERVERBUG")
        try:
            await self.drain()
        except ConnectionGone:
            return
        except Bye as bye:
            self._answer_bye(bye)
            return
        code = b"[" + failure.code + b"] " if failure.code else b""
        self.write(command.tag + b" " + failure.status + b" " + code + failure.text + b"\r\n")
        if failure.status == b"BAD" and self._session.count_bad_command():
            self._say_bye(b"Too many bad commands.")

    def _answer_bye(self, bye: Bye) -> None:
        code = b"[" + bye.code + b"] " if bye.code else b""
        self._say_bye(code + bye.text)

    def _failed(self, failure: Failure) -> None:
        """Not foreseen anywhere: this connection ends, no other is touched."""
        log.failure("session failed", failure=failure, session=self._number)
        self._running = False
        self._abort()
        self._let_go()

    # Literals that are streamed

    async def next_stream_event(self) -> LiteralChunk | LiteralDone | TextBehind:
        """The next piece of the command that streams. Raises `ConnectionGone`, `Bye`."""
        while True:
            event = self._session.next_event()
            if isinstance(event, Reply):
                self.write(event.data)
                self._close()
                raise ConnectionGone
            if isinstance(event, LiteralChunk | LiteralDone | TextBehind):
                return event
            assert event is NEED_DATA or event is PAUSED
            if not self._refill():
                await self._wait()

    def accept_literal(self) -> None:
        """Tell the client to send."""
        self.write(self._session.accept_literal())

    async def drain(self) -> None:
        """Pass over what the client still sends of a streamed command."""
        while self._session.streaming:
            if self._session.has_offer:
                self._session.refuse_literal()
            else:
                await self.next_stream_event()

    # Wire: what commands use

    @property
    def compressing(self) -> bool:
        """Whether COMPRESS is on."""
        return self._deflation is not None

    def write(self, data: bytes) -> None:
        """Send octets, gathered into records."""
        if self._closed:
            return
        self._out.append(data)
        self._out_octets += len(data)
        if self._out_octets >= OUT_OCTETS:
            self._send_out(end=False)

    def separate(self) -> None:
        """Forget the compression context between two messages."""
        if self._deflation is not None:
            self._send_out()

    def _send_out(self, *, end: bool = True) -> None:
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._out_octets = 0
        if self._deflation is not None:
            data = self._deflation.deflate(data, end=end)
        if data and not self._lost:
            self._connection.write(data)

    async def flush(self) -> None:
        """Wait until the client has read enough."""
        if self._lost or self._closed:
            raise ConnectionGone
        while self._write_paused:
            await self._wait()

    async def read_line(self, limit: int) -> bytes:
        """The next line for AUTHENTICATE and IDLE."""
        while True:
            line = self._session.next_line(limit)
            if line is not None:
                return line
            if not self._refill():
                if self._bye is not None:
                    raise Bye(self._bye)
                await self._wait()

    async def wait(self, timeout_s: float) -> Woken:
        """Wait for input, a change, or the time."""
        end = self._clock.seconds() + timeout_s
        timer = self._clock.callLater(timeout_s, self._wake)
        self._idling = True
        try:
            while True:
                if self._bye is not None:
                    raise Bye(self._bye)
                if self._changed:
                    self._changed = False
                    return Woken.CHANGE
                if self._session.has_input or self._refill():
                    return Woken.INPUT
                if self._clock.seconds() >= end:
                    return Woken.TIME
                await self._wait()
        finally:
            self._idling = False
            if timer.active():
                timer.cancel()

    async def log_in(self, username: bytes, password: bytes) -> Login:
        """Prove a user and open his mailbox."""
        gatekeeper = self._house.gatekeeper
        login = await gatekeeper.log_in(username, password, service=Service.IMAP, peer=self._peer)
        if self._lost or self._closed:
            gatekeeper.log_out(login)
            raise ConnectionGone
        try:
            mailbox = await gatekeeper.open_mailbox(login)
        except BaseException:
            gatekeeper.log_out(login)
            raise
        self._context.logged_in(login, mailbox)
        if self._lost or self._closed:
            raise ConnectionGone
        self._session.move(Move.LOG_IN)
        self._watch = mailbox.watch(self._on_change)
        if self._admission is not None:
            self._admission.authenticated()
        return login

    def compress(self) -> None:
        """From the next octet on both directions are deflated."""
        self._send_out()
        if self._session.has_input:
            raise Bye(b"Nothing may follow COMPRESS before its answer.")
        self._deflation = Deflation()

    # Changes

    def _on_change(self, change: Change) -> None:
        """A commit touched this user, here or in another process."""
        if change.kind is ChangeKind.ACCOUNT:
            Deferred.fromCoroutine(self._check_login()).addErrback(self._check_failed)
        selected = self._context.selected
        if change.kind is ChangeKind.FOLDER and selected is not None and selected.box_id == change.box_id:
            self._changed = True
            if self._idling:
                self._wake()

    async def _check_login(self) -> None:
        login = self._context.login
        if login is not None and not await self._house.gatekeeper.is_valid(login) and not self._closed:
            self._clock.callLater(REVOKED_S, self._abort_if_there)
            self._end_soon(b"[UNAVAILABLE] This log-in is no longer valid.")

    def _abort_if_there(self) -> None:
        if not self._lost:
            self._abort()

    def _check_failed(self, failure: Failure) -> None:
        log.failure("login could not be checked", failure=failure, session=self._number)


class _Literals:
    """`LiteralStream` of an APPEND."""

    __slots__ = ("_literal", "_reading", "_server")

    def __init__(self, server: ImapServer, literal: LiteralStarted) -> None:
        self._server = server
        self._literal: LiteralStarted | None = literal
        self._reading = False

    @property
    def size(self) -> int:
        return self._literal.size if self._literal else 0

    @property
    def binary(self) -> bool:
        return self._literal is not None and self._literal.binary

    @property
    def more(self) -> bool:
        return self._literal is not None

    async def read(self) -> bytes:
        if self._literal is None:
            return b""
        if not self._reading:
            self._reading = True
            self._server.accept_literal()
        event = await self._server.next_stream_event()
        if isinstance(event, LiteralChunk):
            return event.data
        self._literal = None
        return b""

    async def next_text(self) -> bytes:
        while await self.read():
            pass
        event = await self._server.next_stream_event()
        assert isinstance(event, TextBehind)
        self._literal, self._reading = event.literal, False
        if event.literal is not None and event.literal.size > self._server.limits.message_size:
            raise No(b"Literal too large.", b"TOOBIG")
        return event.text
