"""IMAP over a Twisted transport: one `ImapServer` per connection, commands as coroutines, one at a time."""

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from certmaild.mailbox.changes import Change, ChangeKind, Watch
from certmaild.mailbox.errors import Damaged
from certmaild.protocols.connections import Connections
from certmaild.protocols.countdown import Countdown
from certmaild.protocols.imap.capability import capabilities
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import INTERNAL_ERROR, Bad, Bye, ConnectionGone, No, failure_of
from certmaild.protocols.imap.events import CommandReady, LiteralChunk, LiteralDone, Reply, TextBehind
from certmaild.protocols.imap.interfaces import Woken
from certmaild.protocols.imap.line import Line
from certmaild.protocols.imap.literals import Literals
from certmaild.protocols.imap.registry import COMMANDS
from certmaild.protocols.imap.session import Session
from certmaild.protocols.imap.states import Move, State
from certmaild.protocols.interfaces import Admission, ClientWatch, Doorkeeper, Gatekeeper, Login, Service
from certmaild.protocols.limits import Limits
from certmaild.protocols.rounds import Rounds
from certmaild.protocols.transport import Clock, Transport
from certmaild.protocols.turns import Turns

log = Logger()

CLOSING_S = 10.0
"""A client that does not take our close is cut off after this time."""
REVOKED_S = 1.0
"""A session whose credential is revoked ends within this time, command in flight or not."""


class ImapFactory(Factory):
    """Makes the server side of each connection."""

    noisy = False

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        doorkeeper: Doorkeeper,
        limits: Limits,
        clock: Clock,
        turns: Turns | None = None,
        watch: ClientWatch | None = None,
    ) -> None:
        self.gatekeeper = gatekeeper
        self.watch = watch
        self.doorkeeper = doorkeeper
        self.limits = limits
        self.clock = clock
        self.turns = turns or Turns(clock)
        self.rounds = Rounds(clock)
        self.connections: Connections[ImapServer] = Connections()
        self._sessions = 0

    def buildProtocol(self, addr: IAddress | None) -> "ImapServer":
        """A new session."""
        self._sessions += 1
        server = ImapServer(self, self._sessions)
        server.factory = self
        return server


@implementer(IHalfCloseableProtocol)
class ImapServer(Protocol):
    """One connection: feeds the session, runs its commands, keeps the times, and is their `Wire`."""

    _line: Line

    def __init__(self, factory: ImapFactory, number: int) -> None:
        self._house = factory
        self._number = number
        self._clock = factory.clock
        self._turns = factory.turns
        self._limits = factory.limits
        self._session = Session(factory.limits)
        self._context = Context(self, self._session, factory.limits)
        self._admission: Admission | None = None
        self._watch: Watch | None = None
        self._countdown = Countdown(factory.clock)
        self._bye: bytes | None = None
        self._running = self._pumping = self._changed = self._idling = False
        self._peer = ""

    # The connection

    def connectionMade(self) -> None:
        """Admit, greet, and start the clock."""
        transport = cast(Transport, self.transport)
        self._line = Line(transport, self._session, self._clock, self._turns)
        self._peer = transport.getPeer().host
        self._admission = self._house.doorkeeper.admit(self._peer, transport.getHost().port, self)
        if self._admission is None:
            self._say_bye(b"[LIMIT] Too many connections from your address.")
            return
        self._house.connections.add(self)
        for setting in ("setTcpNoDelay", "setTcpKeepAlive"):
            getattr(transport, setting, _ignore)(True)
        self._countdown.set(self._limits.time_to_log_in, self._time_passed)
        self._context.untagged(b"OK [CAPABILITY " + capabilities(self._context) + b"] IMAP server ready.")
        self._line.send_out()

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        if self._line.closed:
            return
        self._line.receive(data)
        if not self._running:
            self._pump()
        elif self._line.on_client:
            self._line.wake_in_turn()
        else:
            self._line.pause_if_full()

    def readConnectionLost(self) -> None:
        """The client sends nothing more: answer what it sent, then close."""
        self._line.ended = True
        if not self._running:
            self._pump()
        elif self._line.on_client:
            self._line.wake_in_turn()

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The client is gone: stop what waits for it, and let go of the mailbox when no command uses it any more."""
        self._line.lose()
        self._countdown.cancel()
        if self._watch is not None:
            self._watch.stop()
        self._watch = None
        if not self._running:
            self._let_go()
        self._line.wake()
        self._house.connections.remove(self)

    def _let_go(self) -> None:
        # Not before a log-in is answered: who does not wait for that has his connections counted all the same.
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.leave()
        login, self._context.login = self._context.login, None
        self._context.end()
        if login is not None:
            self._house.gatekeeper.log_out(login)

    def evict(self) -> None:
        """Give way to other connections."""
        self._say_bye(b"[UNAVAILABLE] The server is busy; try again later.")

    def shut_down(self) -> None:
        """Say ``* BYE`` when the command in flight is done, and close."""
        self._end_soon(b"The server is shutting down.")

    def cut_off(self) -> None:
        """Close now, whatever is under way."""
        self._line.abort()

    def _end_soon(self, text: bytes) -> None:
        """End the session when the command in flight is done, at once in IDLE and between commands."""
        self._bye = self._bye or text
        if not self._running:
            self._say_bye(self._bye)
        elif self._line.on_client:
            self._line.wake()

    def _say_bye(self, text: bytes) -> None:
        if not self._line.closed:
            self._line.write(b"* BYE " + text + b"\r\n")
            self._close()

    def _close(self) -> None:
        """Send what is written, then close, by force if the client does not let us."""
        self._line.close()
        if not self._line.lost:
            self._countdown.set(CLOSING_S, self._line.abort)

    # Time

    def _time_passed(self) -> None:
        """Log out who did not log in, or was silent for too long; not IDLE, nor commands that we keep waiting."""
        if self._session.before_login:
            if self._running and not self._line.on_client:
                self._countdown.set(CLOSING_S, self._time_passed)
            else:
                self._say_bye(b"Too long without log-in.")
            return
        now = self._clock.seconds()
        if self._idling or (self._running and not self._line.on_client):
            self._line.active_at = now
        left = self._line.active_at + self._limits.imap_idle_time - now
        if left > 0:
            self._countdown.set(left, self._time_passed)
        elif self._running:
            self._line.abort()
        else:
            self._say_bye(b"Logged out for inactivity.")

    # Commands

    def _pump(self) -> None:
        """Take events from the session until it needs data, a command runs, or it is the turn of others."""
        if self._pumping:
            return
        if not self._turns.begin(self._pump):
            self._line.pause_if_full()
            return
        self._pumping = True
        try:
            while not self._running and not self._line.closed:
                if self._bye is not None:
                    self._say_bye(self._bye)
                elif self._turns.is_over():
                    self._turns.later(self._pump)
                    self._line.pause_if_full()
                    break
                elif not self._take_event():
                    break
        except Bye as bye:
            self._answer_bye(bye)
        except Exception:
            log.failure("session failed", session=self._number)
            self._say_bye(INTERNAL_ERROR)
        finally:
            self._pumping = False
            self._line.send_out()
            self._turns.end()

    def _take_event(self) -> bool:
        """One event of the session; whether to go on."""
        event = self._session.next_event()
        match event:
            case Reply():
                self._line.write(event.data)
                if event.close:
                    self._close()
            case CommandReady():
                self._running = True
                Deferred.fromCoroutine(self._run(event)).addErrback(self._failed)
            case _:
                return self._line.refill() or self._end_of_input()
        return True

    def _end_of_input(self) -> bool:
        """Where the session needs more input: close if none will come. False: there is none now."""
        if self._line.ended:
            self._close()
        return False

    async def _run(self, ready: CommandReady) -> None:
        """Run one command to its tagged response, then go on."""
        command = ready.command
        if ready.literal is not None:
            command.stream = Literals(self, ready.literal, self._limits.message_size)
        try:
            await self._dispatch(command)
            await self._drain()
        except ConnectionGone as gone:
            if not self._line.closed:
                if gone.__cause__ is not None:
                    log.failure("{command} broken off", session=self._number, command=command.name.decode("ascii"))
                self._line.abort()
        except Bye as bye:
            self._answer_bye(bye)
        except Exception as error:
            await self._answer_failure(command, error)
        self._running = False
        self._session.command_done()
        if self._line.lost:
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
        if failure is None or isinstance(error, Damaged):
            log.failure("{command} failed", session=self._number, command=command.name.decode("ascii"))
        if failure is None:
            failure = No(INTERNAL_ERROR, b"SERVERBUG")
        try:
            await self._drain()
        except ConnectionGone:
            return
        except Bye as bye:
            self._answer_bye(bye)
            return
        code = b"[" + failure.code + b"] " if failure.code else b""
        self._line.write(command.tag + b" " + failure.status + b" " + code + failure.text + b"\r\n")
        if failure.status == b"BAD" and self._session.count_bad_command():
            self._say_bye(b"Too many bad commands.")

    def _answer_bye(self, bye: Bye) -> None:
        code = b"[" + bye.code + b"] " if bye.code else b""
        self._say_bye(code + bye.text)

    def _failed(self, failure: Failure) -> None:
        """Not foreseen anywhere: this connection ends, no other is touched."""
        log.failure("session failed", failure=failure, session=self._number)
        self._running = False
        if self._line.lost:
            self._let_go()
        else:
            self._line.abort()

    # Literals that are streamed

    async def next_piece(self) -> LiteralChunk | LiteralDone | TextBehind:
        """The next piece of the command that streams. Raises `ConnectionGone`, `Bye`."""
        await self._line.share_turn()
        while True:
            event = self._session.next_event()
            if isinstance(event, Reply):
                self._line.write(event.data)
                self._close()
                raise ConnectionGone
            if isinstance(event, LiteralChunk | LiteralDone | TextBehind):
                return event
            if self._bye is not None:
                # An unfinished message is dropped, as SMTP drops unfinished DATA.
                raise Bye(self._bye)
            await self._await_input()

    async def _await_input(self) -> None:
        """Wait for more input unless there is some. Raises `ConnectionGone` where none will come."""
        if not (self._line.refill() or self._end_of_input()):
            await self._line.wait()

    def accept_literal(self) -> None:
        """Tell the client to send."""
        self._line.write(self._session.accept_literal())

    async def _drain(self) -> None:
        """Pass over what the client still sends of a streamed command."""
        while self._session.streaming:
            if self._session.has_offer:
                self._session.refuse_literal()
            else:
                await self.next_piece()

    # Wire: what commands use

    @property
    def compressing(self) -> bool:
        """Whether COMPRESS is on."""
        return self._line.compressing

    def write(self, data: bytes) -> None:
        """Send octets."""
        self._line.write(data)

    def separate(self) -> None:
        """Forget the compression context between two messages."""
        if self._line.compressing:
            self._line.send_out()

    async def flush(self) -> None:
        """Wait until the client has read enough."""
        await self._line.flush()

    async def read_line(self, limit: int) -> bytes:
        """The next line for AUTHENTICATE and IDLE."""
        while True:
            line = self._session.next_line(limit)
            if line is not None:
                return line
            if self._bye is not None:
                raise Bye(self._bye)
            await self._await_input()

    async def wait(self, timeout_s: float) -> Woken:
        """Wait for input, a change, or the time."""
        rounds, wake = self._house.rounds, self._line.wake_in_turn
        rounds.add(wake, timeout_s)
        self._idling = True
        try:
            while True:
                if self._bye is not None:
                    raise Bye(self._bye)
                if self._changed:
                    self._changed = False
                    return Woken.CHANGE
                if self._session.has_input or self._line.refill():
                    return Woken.INPUT
                if wake not in rounds:
                    return Woken.TIME
                await self._await_input()
        finally:
            self._idling = False
            rounds.drop(wake)

    def later(self, seconds: float, work: Callable[[], None]) -> Callable[[], None]:
        """Do something after so long."""

        def do() -> None:
            if not self._line.closed:
                work()
                self._line.send_out()

        timer = self._clock.callLater(seconds, do)
        return lambda: timer.cancel() if timer.active() else None

    async def log_in(self, username: bytes, password: bytes) -> Login:
        """Prove a user and open his mailbox."""
        gatekeeper = self._house.gatekeeper
        login = await gatekeeper.log_in(username, password, service=Service.IMAP, peer=self._peer)
        if self._line.closed:
            gatekeeper.log_out(login)
            raise ConnectionGone
        try:
            await self._tell(login)
            mailbox = await gatekeeper.open_mailbox(login)
        except BaseException:
            gatekeeper.log_out(login)
            raise
        self._context.logged_in(login, mailbox)
        if self._line.closed:
            raise ConnectionGone
        self._session.move(Move.LOG_IN)
        self._watch = mailbox.watch(self._on_change)
        if self._admission is not None:
            self._admission.authenticated()
        self._countdown.set(self._limits.imap_idle_time, self._time_passed)
        return login

    async def introduce(self) -> None:
        """Tell what the client says of itself."""
        if self._context.login is not None:
            await self._tell(self._context.login)

    async def _tell(self, login: Login) -> None:
        watch, client_id = self._house.watch, self._context.client_id
        if watch is not None and client_id:
            await watch.told(login, client_id, self._peer)

    def compress(self) -> None:
        """From the next octet on both directions are deflated. Raises `Bye` if the client did not wait for that."""
        if self._session.has_input:
            raise Bye(b"Nothing may follow COMPRESS before its answer.")
        self._line.compress()

    # Changes

    def _on_change(self, change: Change) -> None:
        """A commit touched this user, here or in another process."""
        if change.kind is ChangeKind.ACCOUNT:
            Deferred.fromCoroutine(self._check_login()).addErrback(self._check_failed)
        selected = self._context.selected
        if change.kind is ChangeKind.FOLDER and selected is not None and change.box_id in (selected.box_id, None):
            self._changed = True
            if self._idling:
                self._line.wake_in_turn()

    async def _check_login(self) -> None:
        login = self._context.login
        if login is None or await self._house.gatekeeper.is_valid(login) or self._line.closed:
            return
        log.info("session ends: its credential is no longer valid", session=self._number)
        self._end_soon(b"This log-in is no longer valid.")
        if not self._line.closed:
            self._countdown.set(REVOKED_S, self._line.abort)

    def _check_failed(self, failure: Failure) -> None:
        log.failure("login could not be checked", failure=failure, session=self._number)


def _ignore(on: bool) -> None:
    """Where a transport has no such setting."""
