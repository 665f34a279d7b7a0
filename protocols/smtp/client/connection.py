"""One outgoing SMTP or LMTP connection on Twisted: what the courier says, as coroutines with time limits.

Content is poured as fast as the server takes it and no faster, so that memory stays flat. One coroutine at a time may
speak; whatever ends the conversation is `ConversationOver`, once and for all that is asked later.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from certmaild.keystore.errors import TlsUnproven
from certmaild.keystore.tls_values import Proof, TlsResult
from certmaild.protocols.countdown import Countdown
from certmaild.protocols.errors import GrammarError
from certmaild.protocols.smtp.client.errors import ConversationOver
from certmaild.protocols.smtp.client.events import (
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
from certmaild.protocols.smtp.client.grammar import Credentials, Offers, Reply
from certmaild.protocols.smtp.client.session import Session
from certmaild.protocols.smtp.client.states import State
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments
from certmaild.protocols.smtp.transport import Transport
from certmaild.protocols.transport import Clock

QUOTED = 200
"""Characters of a reply within a sentence of ours."""
CLOSING_S = 15
"""Seconds that a closing connection may take."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a server may be silent (RFC 5321 section 4.5.3.2)."""

    connect: int = 30
    """Until the TCP connection stands, for each address."""
    greeting: float = 300
    handshake: float = 60
    command: float = 300
    """EHLO, STARTTLS, AUTH, MAIL, RCPT, RSET: for each reply."""
    data: float = 120
    block: float = 180
    """For some 64 KiB of the content to be taken."""
    end: float = 600
    """Between the end of the content and its reply."""
    quit: float = 5


class Handshake(Interface):
    """TLS on one connection (`certmaild.keystore.tls_client.Handshake`)."""

    def clientConnectionForTLS(self, tlsProtocol: object) -> object: ...
    def prove(self) -> Proof: ...
    def is_fault_of_tls(self, fault: BaseException | None) -> bool: ...
    def explain(self, fault: BaseException | None) -> TlsUnproven: ...


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a transaction."""

    replies: tuple[Reply | None, ...]
    """For each recipient; None where the conversation ended before he was decided."""
    over: ConversationOver | None
    """Set if the connection is of no more use."""


@implementer(IHandshakeListener, IPushProducer)
class ClientConnection(Protocol):
    """One connection, from the greeting to QUIT. `open` first; `start_tls` before anything that TLS must protect."""

    transport: Transport  # type: ignore[assignment]  # Twisted says ITransport, which is less than it gives

    def __init__(
        self,
        hostname: str,
        clock: Clock,
        *,
        patience: Patience | None = None,
        is_lmtp: bool = False,
        tls: Handshake | None = None,
    ) -> None:
        """``hostname`` is ours, for EHLO; ``tls`` begins at once, without STARTTLS."""
        self.proof: Proof | None = None
        self._hostname = hostname
        self._patience = patience or Patience()
        self._is_lmtp = is_lmtp
        self._handshake = tls
        self._session: Session | None = None
        self._events: deque[Event] = deque()
        self._waiting: Deferred[None] | None = None
        self._over: ConversationOver | None = None
        self._unproven: TlsUnproven | None = None
        self._is_paused = False
        self._is_lost = self._is_closing = False
        self._replies = 0
        self._countdown = Countdown(clock)

    @property
    def offers(self) -> Offers:
        """What the server can do, as it said last."""
        return self._session.offers if self._session else Offers()

    @property
    def is_ready(self) -> bool:
        """Whether a transaction may begin."""
        return self._over is None and self._session is not None and self._session.state is State.READY

    # Twisted calls these

    def connectionMade(self) -> None:
        """TCP stands."""
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            # The end of the content follows in a write of its own; it must not wait for an acknowledgement.
            set_no_delay(True)
        self.transport.registerProducer(self, True)
        if self._handshake is not None:
            self._begin_tls(self._handshake)
        else:
            self._session = Session(self._hostname, is_lmtp=self._is_lmtp)
            self._wait_for(self._patience.greeting)

    def handshakeCompleted(self) -> None:
        """Judge at once: nothing is sent before."""
        handshake = self._handshake
        assert handshake is not None
        try:
            self.proof = handshake.prove()
        except TlsUnproven as unproven:
            self._unproven = unproven
            self._end(ConversationOver(unproven.words))
            return
        self._session = Session(self._hostname, is_lmtp=self._is_lmtp, may_log_in=self.proof.verified)
        self._replies = 0
        self._wait_for(self._patience.greeting)
        self._wake()

    def dataReceived(self, data: bytes) -> None:
        """Hear what he says."""
        if self._over is not None:
            # TLS goes on reading while it closes: whoever talks on must cost nothing.
            return
        session = self._session
        if session is None:
            self._end(ConversationOver("it speaks out of turn"))
            return
        session.receive_data(data)
        try:
            while not isinstance(event := session.next_event(), Signal):
                self._events.append(event)
                if isinstance(event, TlsReady):
                    # Before anything else comes in.
                    self._session = None
        except GrammarError as fault:
            self._end(ConversationOver(f"it broke the rules of SMTP ({fault})"))
            return
        self._flush()
        self._look_at_the_end()
        if session.replies != self._replies:
            self._replies = session.replies
            self._count_down()
        self._wake()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It is gone."""
        self._is_lost = True
        self._countdown.cancel()
        fault = reason.value if reason else None
        if self._over is None and self._handshake is not None and self._is_lost_by_tls(self._handshake, fault):
            self._unproven = self._handshake.explain(fault)
        self._over = self._over or ConversationOver("it closed the connection")
        self._wake()

    def _is_lost_by_tls(self, handshake: Handshake, fault: BaseException | None) -> bool:
        if self._session is None:
            return True
        return not self._session.replies and handshake.is_fault_of_tls(fault)

    def pauseProducing(self) -> None:
        """He takes no more for now."""
        self._is_paused = True
        self._wait_for(self._patience.block)

    def resumeProducing(self) -> None:
        """He took it."""
        self._is_paused = False
        self._count_down()
        self._wake()

    def stopProducing(self) -> None:
        """`connectionLost` follows."""

    # The courier calls these

    async def open(self) -> None:
        """Wait for TLS, if it begins at once, for the greeting, and for the reply to EHLO (LHLO), or HELO.

        Raises `ConversationOver`, or `TlsUnproven` from TLS at once.
        """
        await self._next(Hello)

    async def start_tls(self, handshake: Handshake) -> None:
        """STARTTLS, handshake, proof, and EHLO anew. Raises `TlsUnproven` or `ConversationOver`: the line is dead then.

        Only where it is offered.
        """
        session = self._speak()
        session.start_tls()
        self._flush()
        event = await self._next(TlsReady, TlsRefused)
        if isinstance(event, TlsRefused):
            unproven = TlsUnproven(
                f"it offers STARTTLS and then refuses it ({str(event.reply)[:QUOTED]})",
                TlsResult.STARTTLS_NOT_SUPPORTED,
            )
            self._end(ConversationOver(unproven.words, event.reply))
            raise unproven
        self._begin_tls(handshake)
        while self._session is None:
            await self._sleep()
        self._session.say_hello()
        self._flush()
        await self._next(Hello)

    async def log_in(self, credentials: Credentials) -> None:
        """AUTH. Raises `ConversationOver`; `StateError` where TLS has not proven the server, or it offers no AUTH."""
        self._speak().log_in(credentials)
        self._flush()
        await self._next(LoggedIn)

    async def send(
        self,
        mail: MailArguments,
        recipients: Sequence[RcptArguments],
        content: Callable[[], AsyncIterator[bytes]],
        last_octets: Callable[[], None],
    ) -> Sent:
        """One transaction; ``content`` and ``last_octets`` as in `certmaild.outbound`.

        Raises what they raise, `ContentUnfit`, or `ValueError` for an address that cannot be sent; but for the last one
        the connection is cut then, before the end of the content.
        """
        replies: list[Reply | None] = [None] * len(recipients)
        try:
            self._speak().send(mail, recipients)
            self._flush()
            while not isinstance(event := await self._next(Decided, ContentWanted, Over), Over):
                if isinstance(event, Decided):
                    replies[event.index] = event.reply
                else:
                    await self._pour_or_cut(content(), last_octets)
        except ConversationOver as over:
            return Sent(tuple(over.reply if reply is None else reply for reply in replies), over)
        return Sent(tuple(replies), None)

    async def quit(self) -> None:
        """QUIT where that can be said, and a moment for the reply; then the connection is closed."""
        if self.is_ready and self._session is not None:
            self._session.quit()
            self._flush()
            self._wait_for(self._patience.quit)
            with suppress(ConversationOver):
                await self._next(Closed)
        self._end(ConversationOver("we left"))

    def leave(self) -> None:
        """Close without waiting; with QUIT where that can be said."""
        if self.is_ready and self._session is not None:
            self._session.quit()
            self._flush()
        self._end(ConversationOver("we left"))

    def cut(self) -> None:
        """Close now, whatever is under way."""
        self._over = self._over or ConversationOver("we left")
        if not self._is_lost:
            self.transport.abortConnection()

    # Speaking

    def _speak(self) -> Session:
        if self._over is not None:
            raise self._over
        assert self._session is not None
        return self._session

    async def _pour_or_cut(self, content: AsyncIterator[bytes], last_octets: Callable[[], None]) -> None:
        try:
            await self._pour(content, last_octets)
        except ConversationOver:
            raise
        except BaseException:
            # Half a message must not end, and DATA has no way back.
            self.cut()
            raise
        finally:
            close = getattr(content, "aclose", None)
            if close is not None:
                await close()

    async def _pour(self, content: AsyncIterator[bytes], last_octets: Callable[[], None]) -> None:
        async for piece in content:
            session = self._speak()
            if not session.wants_content:
                return
            session.write(piece)
            self._flush()
            while self._is_paused:
                await self._sleep()
        session = self._speak()
        if session.wants_content:
            last_octets()
            session.finish()
            self._flush()

    def _flush(self) -> None:
        if self._session is not None and not self._is_lost and (output := self._session.take_output()):
            self.transport.write(output)
            self._count_down()

    def _begin_tls(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._session = None
        self._wait_for(self._patience.handshake)
        self.transport.startTLS(handshake)

    # Waiting

    async def _next(self, *kinds: type[Event]) -> Event:
        """The next event. Raises `ConversationOver` for an end, or `TlsUnproven`."""
        while not self._events:
            await self._sleep()
        event = self._events.popleft()
        if isinstance(event, kinds):
            return event
        assert isinstance(event, Closed | Refused), event
        raise _over(event.reply)

    async def _sleep(self) -> None:
        """Until something happens."""
        if self._unproven is not None:
            raise self._unproven
        if self._over is not None:
            raise self._over
        assert self._waiting is None
        self._waiting = Deferred(self._forget)
        await self._waiting

    def _forget(self, _: object) -> None:
        """He who waited was cancelled."""
        self._waiting = None
        self.cut()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _count_down(self) -> None:
        """Set the time limit for what is awaited now."""
        state = self._session.state if self._session is not None else None
        patience = self._patience
        if self._is_paused or state is None:
            return
        if state is State.READY or state is State.CONTENT:
            # Ours is the next word.
            self._countdown.cancel()
        elif state is State.CONNECTED:
            self._wait_for(patience.greeting)
        elif state is State.GOING_AHEAD:
            self._wait_for(patience.data)
        elif state is State.ENDING:
            self._wait_for(patience.end)
        else:
            self._wait_for(patience.command)

    def _wait_for(self, seconds: float) -> None:
        if not self._is_lost and not self._is_closing:
            self._countdown.set(seconds, lambda: self._time_is_up(seconds))

    def _time_is_up(self, seconds: float) -> None:
        if self._session is None and self._handshake is not None:
            self._unproven = TlsUnproven(
                f"it did not finish the TLS handshake within {seconds:g} s", TlsResult.VALIDATION_FAILURE
            )
        self._over = self._over or ConversationOver(f"it did not answer within {seconds:g} s")
        self.transport.abortConnection()
        self._wake()

    # Ends

    def _look_at_the_end(self) -> None:
        if self._events and isinstance(last := self._events[-1], Closed | Refused):
            self._end(_over(last.reply))

    def _end(self, over: ConversationOver) -> None:
        """Say no more, and close; cut the line if he does not let go."""
        self._over = self._over or over
        if not self._is_lost and not self._is_closing:
            self._is_closing = True
            self._countdown.set(CLOSING_S, self.transport.abortConnection)
            self.transport.unregisterProducer()  # else TLS waits for it
            self.transport.loseConnection()
        self._wake()


def _over(reply: Reply | None) -> ConversationOver:
    return ConversationOver("it closed the connection" if reply is None else f"it answered {reply}", reply)
