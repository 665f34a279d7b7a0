"""SMTP listeners on Twisted: carries bytes to the session, and its events to reception and gatekeeper.

One coroutine per burst of input does what the session asks, in order; replies of a pipelined group leave in one write.
"""

import secrets
from collections.abc import Awaitable, Callable
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

from certmaild.mailbox.changes import ChangeHub
from certmaild.protocols.connections import Connections
from certmaild.protocols.countdown import Countdown
from certmaild.protocols.interfaces import Doorkeeper, Gatekeeper
from certmaild.protocols.smtp import events
from certmaild.protocols.smtp.authentication import Authentication
from certmaild.protocols.smtp.errors import Refusal, internal_error
from certmaild.protocols.smtp.grammar import PlainCredentials
from certmaild.protocols.smtp.interfaces import Hop, Reception, TlsFacts, Transaction
from certmaild.protocols.smtp.journal import Entry, Journal
from certmaild.protocols.smtp.session import Session
from certmaild.protocols.smtp.terrain import Terrain
from certmaild.protocols.smtp.transport import Transport
from certmaild.protocols.transport import Clock
from certmaild.protocols.turns import Turns

log = Logger()

HIGH_WATER = 64 * 1024
"""Octets received ahead of the session at which reading pauses."""
CLOSING_S = 15
"""Seconds that a closing connection may take."""
CHECK_S = 30
"""Seconds between looks at the time at most: patience is shorter once content is expected."""


def nobody(peer: str, tls: TlsFacts | None) -> bool:
    """No client is a partner's server."""
    return False


class SmtpFactory(Factory):
    """Connections of one listener. For `Listener.SUBMISSIONS` the endpoint wraps it in TLS.

    ``tls`` makes STARTTLS connections; None offers none. ``hash_address`` turns an address into what the log may show.
    ``recognises`` says of an IP address and what TLS showed whether it is a partner's server.
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
        recognises: Callable[[str, TlsFacts | None], bool] = nobody,
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
        self.recognises = recognises
        self.connections: Connections[SmtpConnection] = Connections()

    def buildProtocol(self, addr: object) -> "SmtpConnection":  # type: ignore[override]  # typed by a private protocol
        """One more connection."""
        return SmtpConnection(self)


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class SmtpConnection(Protocol):
    """One connection."""

    factory: SmtpFactory
    _authentication: Authentication
    transport: Transport  # type: ignore[assignment]  # Twisted says ITransport, which is less than it gives

    def __init__(self, factory: SmtpFactory) -> None:
        self.factory = factory
        self._terrain = factory.terrain
        self._limits = factory.terrain.limits
        self._id = secrets.token_hex(6)
        self._peer = ""
        self._session: Session | None = None
        self._tls: TlsFacts | None = None
        self._is_partner = False
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
        self._countdown = Countdown(factory.clock)

    # Twisted calls these

    def connectionMade(self) -> None:
        """Take a place, and greet; inside TLS only after the handshake."""
        factory, terrain = self.factory, self._terrain
        host = self.transport.getHost()
        self._peer = self.transport.getPeer().host
        factory.connections.add(self)
        self._last_input = factory.clock.seconds()
        if terrain.is_submission:
            self._log_in_until = self._last_input + self._limits.time_to_log_in
        self.transport.registerProducer(self, True)
        admission = factory.doorkeeper.admit(self._peer, host.port, self)
        self._authentication = Authentication(
            factory.gatekeeper, factory.hub, self._peer, admission, self._account_changed
        )
        if admission is None:
            if not terrain.is_in_tls_at_once:
                self.transport.write(b"421 4.7.0 Too many connections\r\n")
            self._lose()
            return
        self._check_time()
        if not terrain.is_in_tls_at_once:
            self._session = self._new_session()
            self._session.greet()
            self._flush()

    def handshakeCompleted(self) -> None:
        """Start anew inside TLS: nothing said before counts (PROTOCOLS lesson 2)."""
        handle = self.transport.getHandle()
        self._tls = TlsFacts(
            handle.get_protocol_version_name(),
            handle.get_cipher_name() or "",
            handle.get_group_name() or "",
            handle.peer_chain(),
        )
        self._is_partner = self.factory.recognises(self._peer, self._tls)
        self._last_input = self.factory.clock.seconds()
        if self._ending is not None:
            return
        self._session = self._new_session()
        if self._terrain.is_in_tls_at_once:
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
        self._countdown.cancel()
        self._authentication.end()
        self.factory.connections.remove(self)

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

    def shut_down(self) -> None:
        """Close with 421 4.3.2 when the command in flight is done."""
        self.end(421, "4.3.2", "Shutting down")

    def cut_off(self) -> None:
        """Close now, whatever is under way."""
        self.transport.abortConnection()

    def end(self, code: int, enhanced: str, text: str) -> None:
        """Close with this reply when the command in flight is done; unfinished content is dropped."""
        if self._ending is None:
            self._ending = (code, enhanced, text)
            if not self._is_working:
                self._end_now()

    # Work

    def _new_session(self) -> Session:
        in_tls, offer_starttls = self._tls is not None, self.factory.tls is not None
        terms = self._terrain.terms(
            self._peer,
            in_tls=in_tls,
            offer_starttls=offer_starttls,
            is_partner=self._is_partner,
            now_s=int(self.factory.clock.seconds()),
        )
        return Session(terms)

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
            login=self._authentication.login,
            is_partner=self._is_partner,
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
        await self._transaction.add_recipient(event.arguments)
        self._recipients.append(str(event.arguments.forward_path))

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
        await self._authentication.log_in(credentials)
        self._log_in_until = None

    def _account_changed(self) -> None:
        Deferred.fromCoroutine(self._end_if_revoked()).addErrback(self._fail)

    async def _end_if_revoked(self) -> bool:
        if not await self._authentication.is_revoked():
            return False
        self.end(421, "4.7.0", "Account changed, please authenticate again")
        return True

    async def _check_login(self) -> None:
        """Refuse a sender whose credential was revoked since he came."""
        if await self._end_if_revoked():
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
        self._countdown.set(CLOSING_S, self.transport.abortConnection)
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
            self._countdown.set(min(max(due - now, 1.0), CHECK_S), self._check_time)
            return
        self.end(421, "4.4.2", "Timeout")

    def _log_message(self, session: Session, queue_id: str, refusal: Refusal | None) -> None:
        result = "accepted" if refusal is None else f"{refusal.code} {refusal.enhanced}"
        recipients = tuple(self._recipients)
        self.factory.journal.note(
            Entry(self._id, queue_id, self._peer, self._tls, session.octets, result, self._sender, recipients)
        )
