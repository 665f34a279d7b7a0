"""SMTP listeners on Twisted: carries bytes to the session, and its events to reception and gatekeeper.

One coroutine per burst of input does what the session asks, in order; replies of a pipelined group leave in one write.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import assert_never

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from certmaild.mailbox.changes import Change, ChangeHub, ChangeKind, Watch
from certmaild.protocols.interfaces import (
    Admission,
    Doorkeeper,
    Gatekeeper,
    Login,
    LogInRefused,
    LogInUnavailable,
    Service,
    TooManySessions,
)
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp import events
from certmaild.protocols.smtp.errors import Refusal, internal_error
from certmaild.protocols.smtp.grammar import PlainCredentials
from certmaild.protocols.smtp.interfaces import Hop, Listener, Reception, TlsFacts, Transaction
from certmaild.protocols.smtp.journal import Entry, Journal
from certmaild.protocols.smtp.session import Session
from certmaild.protocols.smtp.terms import Terms
from certmaild.protocols.smtp.transport import Transport
from certmaild.protocols.transport import Clock, Timer
from certmaild.protocols.turns import Turns

log = Logger()

HIGH_WATER = 64 * 1024
"""Octets received ahead of the session at which reading pauses."""
CLOSE_TIME = 15
"""Seconds that a closing connection may take."""
CHECK_TIME = 30
"""Seconds between looks at the time at most: patience is shorter once content is expected."""


@dataclass(frozen=True, slots=True)
class Terrain:
    """What one listener needs to know."""

    listener: Listener
    hostname: str
    limits: Limits
    require_tls: bool = True
    """Port 25: refuse mail before TLS (``[inbound] tls``)."""
    clear_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Peers that may send to port 25 without TLS all the same."""


class SmtpFactory(Factory):
    """Connections of one listener. For `Listener.SUBMISSIONS` the endpoint wraps it in TLS.

    ``tls`` makes STARTTLS connections; None offers none. ``hash_address`` turns an address into what the log may show.
    """

    noisy = False

    def __init__(
        self,
        terrain: Terrain,
        *,
        reception: Reception,
        clock: Clock,
        doorkeeper: Doorkeeper,
        gatekeeper: Gatekeeper | None = None,
        tls: IOpenSSLServerConnectionCreator | None = None,
        hash_address: Callable[[str], str] = lambda address: "-",
        hub: ChangeHub | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.terrain = terrain
        self.reception = reception
        self.clock = clock
        self.doorkeeper = doorkeeper
        self.gatekeeper = gatekeeper
        self.tls = tls
        self.journal = Journal(clock, hash_address)
        self.hub = hub
        self.turns = turns or Turns(clock)
        self.connections: set[SmtpConnection] = set()
        self._gone: Deferred[None] | None = None

    def buildProtocol(self, addr: object) -> "SmtpConnection":  # type: ignore[override]  # typed by a private protocol
        """One more connection."""
        return SmtpConnection(self)

    def shut_down(self) -> Deferred[None]:
        """Say 421 4.3.2 to each connection when its command in flight is done; fires when all are gone."""
        self._gone = Deferred()
        for connection in list(self.connections):
            connection.end(421, "4.3.2", "Shutting down")
        self._check_gone()
        return self._gone

    def cut_off(self) -> None:
        """Drop the connections that are still there, when `shut_down` has taken long enough."""
        for connection in list(self.connections):
            connection.transport.abortConnection()

    def remove(self, connection: "SmtpConnection") -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self._check_gone()

    def _check_gone(self) -> None:
        if self._gone is not None and not self.connections and not self._gone.called:
            self._gone.callback(None)


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class SmtpConnection(Protocol):
    """One connection."""

    factory: SmtpFactory
    transport: Transport  # type: ignore[assignment]  # Twisted says ITransport, which is less than it gives

    def __init__(self, factory: SmtpFactory) -> None:
        self.factory = factory
        self._terrain = factory.terrain
        self._limits = factory.terrain.limits
        self._id = secrets.token_hex(6)
        self._peer = ""
        self._session: Session | None = None
        self._tls: TlsFacts | None = None
        self._login: Login | None = None
        self._watch: Watch | None = None
        self._admission: Admission | None = None
        self._is_proving = False
        self._transaction: Transaction | None = None
        self._sender = ""
        self._recipients: list[str] = []
        self._is_working = False
        self._is_finishing = False
        self._is_paused = False
        self._is_output_full = False
        self._is_lost = False
        self._is_ended = False
        self._ending: tuple[int, str, str] | None = None
        self._last_input = 0.0
        self._log_in_until: float | None = None
        self._timer: Timer | None = None

    # Twisted calls these

    def connectionMade(self) -> None:
        """Take a place, and greet; inside TLS only after the handshake."""
        factory, terrain = self.factory, self._terrain
        host = self.transport.getHost()
        self._peer = self.transport.getPeer().host
        factory.connections.add(self)
        self._last_input = factory.clock.seconds()
        if terrain.listener is not Listener.INBOUND:
            self._log_in_until = self._last_input + self._limits.time_to_log_in
        self.transport.registerProducer(self, True)
        self._admission = factory.doorkeeper.admit(self._peer, host.port, self)
        if self._admission is None:
            if terrain.listener is not Listener.SUBMISSIONS:
                self.transport.write(b"421 4.7.0 Too many connections\r\n")
            self._lose()
            return
        self._check_time()
        if terrain.listener is not Listener.SUBMISSIONS:
            self._session = self._new_session()
            self._session.greet()
            self._flush()

    def handshakeCompleted(self) -> None:
        """Start anew inside TLS: nothing said before counts (PROTOCOLS lesson 2)."""
        handle = self.transport.getHandle()
        self._tls = TlsFacts(
            handle.get_protocol_version_name(), handle.get_cipher_name() or "", handle.get_group_name() or ""
        )
        self._last_input = self.factory.clock.seconds()
        if self._ending is not None:
            return
        self._session = self._new_session()
        if self._terrain.listener is Listener.SUBMISSIONS:
            self._session.greet()
            self._flush()

    def dataReceived(self, data: bytes) -> None:
        """Give input to the session and do what it asks."""
        session = self._session
        if session is None:
            self.transport.abortConnection()
            return
        if session.in_content or b"\n" in data:
            # Five minutes a command, not an octet.
            self._last_input = self.factory.clock.seconds()
        session.receive_data(data)
        if not self._is_working and self._work():
            return
        if session.buffered > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """The client sends nothing more: answer what it sent, then close."""
        self._is_ended = True
        if self._session is None:
            self.transport.abortConnection()
        elif not self._is_working:
            self._work()

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Drop what is unfinished; a message at its commit is left to it."""
        self._is_lost = True
        if not self._is_finishing:
            self._abort()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._watch is not None:
            self._watch.stop()
        if self._login is not None and self.factory.gatekeeper is not None:
            self.factory.gatekeeper.log_out(self._login)
        if not self._is_proving:
            self._leave()
        self.factory.remove(self)

    def _leave(self) -> None:
        if self._admission is not None:
            self._admission.leave()

    def pauseProducing(self) -> None:
        """The client does not read our replies: read no more of its commands."""
        self._is_output_full = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Replies went out."""
        self._is_output_full = False
        if not self._is_paused:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` follows."""

    # Called by others

    def evict(self) -> None:
        """Give way to a new connection (PROTOCOLS section 6)."""
        self.end(421, "4.7.0", "Too many connections")

    def end(self, code: int, enhanced: str, text: str) -> None:
        """Close with this reply when the command in flight is done; unfinished content is dropped."""
        if self._ending is None:
            self._ending = (code, enhanced, text)
            if not self._is_working:
                self._end_now()

    # Work

    def _new_session(self) -> Session:
        terrain = self._terrain
        is_submission = terrain.listener is not Listener.INBOUND
        return Session(
            Terms(
                hostname=terrain.hostname,
                limits=self._limits,
                is_submission=is_submission,
                in_tls=self._tls is not None,
                offer_starttls=self.factory.tls is not None,
                require_tls=is_submission or (terrain.require_tls and not self._is_in_clear_network()),
            )
        )

    def _is_in_clear_network(self) -> bool:
        networks = self._terrain.clear_networks
        return bool(networks) and any(ip_address(self._peer.partition("%")[0]) in network for network in networks)

    def _work(self) -> bool:
        """Go on, or return False when it is the turn of others."""
        turns = self.factory.turns
        if not turns.begin(self._work):
            return False
        self._is_working = True
        try:
            Deferred.fromCoroutine(self._go_on()).addErrback(self._fail)
        finally:
            turns.end()
        return True

    async def _go_on(self) -> None:
        """Do all that the session asks until it needs more input."""
        session = self._session
        while session is not None and not self._is_lost:
            if self._ending is not None:
                self._is_working = False
                self._end_now()
                return
            if self.factory.turns.is_over():
                self._flush()
                await self.factory.turns.others_first()
            event = session.next_event()
            if event is events.YIELD:
                continue
            if isinstance(event, events.Signal):
                break
            await self._do(session, event)
            # After STARTTLS there is a new session, and this one is dead.
            session = session if self._session is session else None
        self._is_working = False
        if not self._is_lost:
            self._flush()
            if self._is_ended:
                self._abort()
                self._lose()
            elif self._is_paused:
                self._is_paused = False
                if not self._is_output_full:
                    self.transport.resumeProducing()

    async def _do(self, session: Session, event: events.Event) -> None:
        match event:
            case events.Content():
                await self._take(session, event.octets)
            case events.Rcpt():
                session.answer(await self._outcome(self._add_recipient(event)))
            case events.Mail():
                session.answer(await self._outcome(self._begin(session, event)))
            case events.ContentEnd():
                await self._finish(session)
            case events.Aborted():
                if event.refusal is not None:
                    self._log_message(session, "-", event.refusal)
                self._abort()
            case events.LogIn():
                self._flush()
                session.answer(await self._outcome(self._log_in(event.credentials)))
            case events.StartTls():
                self._start_tls()
            case events.Closed():
                self._abort()
                self._flush()
                self._lose()
            case _:
                assert_never(event)

    async def _outcome(self, work: Awaitable[None]) -> Refusal | None:
        try:
            await work
        except Refusal as refusal:
            return refusal
        except Exception:
            log.failure("SMTP command failed", session=self._id)
            return internal_error()
        return None

    async def _begin(self, session: Session, event: events.Mail) -> None:
        self._abort()
        await self._check_login()
        hop = Hop(
            session=self._id,
            listener=self._terrain.listener,
            peer=self._peer,
            helo=session.helo,
            esmtp=session.esmtp,
            tls=self._tls,
            login=self._login,
        )
        transaction = await self.factory.reception.begin(hop, event.arguments)
        if self._is_lost:
            transaction.abort()
            return
        self._transaction = transaction
        self._sender = str(event.arguments.reverse_path)
        self._recipients = []

    async def _add_recipient(self, event: events.Rcpt) -> None:
        if self._transaction is None:
            raise internal_error()
        await self._transaction.add_recipient(event.path)
        self._recipients.append(str(event.path))

    async def _take(self, session: Session, octets: bytes) -> None:
        transaction = self._transaction
        if transaction is None:
            return
        try:
            pause = transaction.write(octets)
            if pause is not None:
                await pause
        except Refusal as refusal:
            self._refuse_content(session, refusal)
        except Exception:
            log.failure("taking content failed", session=self._id)
            self._refuse_content(session, internal_error())

    def _refuse_content(self, session: Session, refusal: Refusal) -> None:
        self._abort()
        session.refuse_content(refusal)
        self._log_message(session, "-", refusal)

    async def _finish(self, session: Session) -> None:
        transaction, self._transaction = self._transaction, None
        queue_id = "-"
        refusal: Refusal | None = None
        self._flush()
        self._is_finishing = True
        try:
            if transaction is None:
                raise internal_error()
            await self._check_login()
            queue_id = await transaction.finish()
        except Refusal as refused:
            refusal = refused
        except Exception:
            log.failure("message not taken", session=self._id)
            refusal = internal_error()
        finally:
            self._is_finishing = False
        if refusal is not None and transaction is not None:
            transaction.abort()
        self._log_message(session, queue_id, refusal)
        session.answer(refusal, f"Message taken as {queue_id}")

    async def _log_in(self, credentials: PlainCredentials) -> None:
        gatekeeper = self.factory.gatekeeper
        if gatekeeper is None:
            raise Refusal(454, "4.7.0", "Authentication not available")
        self._is_proving = True
        try:
            login = await gatekeeper.log_in(
                credentials.username, credentials.password, service=Service.SUBMISSION, peer=self._peer
            )
        except LogInRefused:
            raise Refusal(535, "5.7.8", "Authentication failed") from None
        except LogInUnavailable as error:
            raise Refusal(454, "4.7.0", error.public_text) from None
        except TooManySessions:
            raise Refusal(454, "4.7.0", "Too many sessions") from None
        finally:
            self._is_proving = False
            if self._is_lost:
                # Not before: who does not wait for the answer has his connections counted all the same.
                self._leave()
        if self._is_lost:
            gatekeeper.log_out(login)
            return
        self._login = login
        self._log_in_until = None
        if self._admission is not None:
            self._admission.authenticated()
        if self.factory.hub is not None:
            self._watch = self.factory.hub.watch(login.user_id, self._account_changed)

    def _account_changed(self, change: Change) -> None:
        if change.kind is ChangeKind.ACCOUNT:
            Deferred.fromCoroutine(self._end_if_revoked()).addErrback(self._fail)

    async def _end_if_revoked(self) -> None:
        gatekeeper, login = self.factory.gatekeeper, self._login
        if gatekeeper is None or login is None or await gatekeeper.is_valid(login) or self._is_lost:
            return
        self.end(421, "4.7.0", "Account changed, please authenticate again")

    async def _check_login(self) -> None:
        """Refuse a sender whose credential was revoked since he came."""
        if self._login is not None:
            await self._end_if_revoked()
            if self._ending is not None:
                raise Refusal(451, "4.7.0", "Account changed, please authenticate again")

    # Ends

    def _start_tls(self) -> None:
        if self.factory.tls is None:
            self._lose()
            return
        self._flush()
        self._session = None
        self.transport.startTLS(self.factory.tls)

    def _end_now(self) -> None:
        self._abort()
        if self._session is not None and self._ending is not None:
            self._session.close(*self._ending)
            self._flush()
        self._lose()

    def _abort(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.abort()

    def _flush(self) -> None:
        if self._session is not None and not self._is_lost and (output := self._session.take_output()):
            self.transport.write(output)

    def _lose(self) -> None:
        """Close, and cut the line if the peer does not let go."""
        if self._is_lost:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self.factory.clock.callLater(CLOSE_TIME, self.transport.abortConnection)
        self.transport.unregisterProducer()  # else TLS waits for it
        self.transport.loseConnection()

    def _fail(self, failure: Failure) -> None:
        log.failure("SMTP session failed", failure=failure, session=self._id)
        self._is_working = False
        self._abort()
        if not self._is_lost:
            self.transport.abortConnection()

    def _patience(self) -> float:
        """Seconds of silence allowed now (PROTOCOLS section 6)."""
        in_content = self._session is not None and self._session.in_content
        return self._limits.smtp_content_time if in_content else self._limits.smtp_command_time

    def _check_time(self) -> None:
        now = self.factory.clock.seconds()
        if self._is_working:
            self._last_input = now
        due = self._last_input + self._patience()
        if self._log_in_until is not None:
            due = min(due, self._log_in_until)
        if due > now or self._is_working:
            wait = min(max(due - now, 1.0), CHECK_TIME)
            self._timer = self.factory.clock.callLater(wait, self._check_time)
            return
        self._timer = None
        self.end(421, "4.4.2", "Timeout")

    def _log_message(self, session: Session, queue_id: str, refusal: Refusal | None) -> None:
        result = "accepted" if refusal is None else f"{refusal.code} {refusal.enhanced}"
        recipients = tuple(self._recipients)
        self.factory.journal.note(
            Entry(self._id, queue_id, self._peer, self._tls, session.octets, result, self._sender, recipients)
        )
