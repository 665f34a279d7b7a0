"""The octets of one connection, both ways: gathered, deflated, paused, and waited for."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from certmaild.protocols.imap.compression import Deflation
from certmaild.protocols.imap.errors import ConnectionGone
from certmaild.protocols.imap.session import Session
from certmaild.protocols.transport import Clock, Transport
from certmaild.protocols.turns import Turns

OUT_OCTETS = 16 * 1024
"""Written responses are gathered up to so much (one TLS record)."""


@implementer(IPushProducer)
class Line:
    """Between a transport and a session. One waits at a time: the command that runs."""

    __slots__ = (
        "_clock",
        "_deflation",
        "_out",
        "_out_octets",
        "_read_paused",
        "_session",
        "_transport",
        "_turns",
        "_waiter",
        "_write_paused",
        "active_at",
        "closed",
        "ended",
        "lost",
        "on_client",
    )

    def __init__(self, transport: Transport, session: Session, clock: Clock, turns: Turns) -> None:
        self._transport = transport
        self._session = session
        self._clock = clock
        self._turns = turns
        self._out: list[bytes] = []
        self._out_octets = 0
        self._deflation: Deflation | None = None
        self._waiter: Deferred[None] | None = None
        self._write_paused = self._read_paused = False
        self.active_at = clock.seconds()
        """When the client last sent, or read what had to wait for it."""
        self.closed = False
        """Nothing more is written, and nothing that is received counts."""
        self.lost = False
        """The connection is gone."""
        self.ended = False
        """The client has closed its half: it reads, and sends nothing more."""
        self.on_client = False
        """The command that runs waits for the client, not for us."""
        transport.registerProducer(self, True)

    # Out

    def write(self, data: bytes) -> None:
        """Send octets, gathered into records; `send_out` sends what is left."""
        if self.closed:
            return
        self._out.append(data)
        self._out_octets += len(data)
        if self._out_octets >= OUT_OCTETS:
            self._send_out(end=False)

    def send_out(self) -> None:
        """Send what is gathered; what follows shares no compression context with it."""
        self._send_out(end=True)

    def _send_out(self, *, end: bool) -> None:
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._out_octets = 0
        if self._deflation is not None:
            data = self._deflation.deflate(data, end=end)
        if data and not self.lost:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is gathered, then close."""
        if not self.closed:
            self.send_out()
            self.closed = True
            if not self.lost:
                # A transport that has a producer would wait for it for ever.
                self._transport.unregisterProducer()
                self._transport.loseConnection()

    def abort(self) -> None:
        """Close without a word: what was written may have ended within a literal."""
        self.closed = True
        self._out.clear()
        if not self.lost:
            self._transport.abortConnection()

    def lose(self) -> None:
        """The connection is gone, and its transport is not used any more."""
        self.lost = self.closed = True
        del self._transport

    async def flush(self) -> None:
        """Wait until the client has read enough. Raises `ConnectionGone`, also once closed."""
        if self.closed:
            raise ConnectionGone
        while self._write_paused:
            await self.wait()
        await self.share_turn()

    async def share_turn(self) -> None:
        """Let others go first when the turn is over. Raises `ConnectionGone`."""
        if self._turns.is_over():
            await self._turns.others_first()
            if self.closed or self.lost:
                raise ConnectionGone

    def pauseProducing(self) -> None:
        """The client reads more slowly than we write."""
        self._write_paused = True

    def resumeProducing(self) -> None:
        """The client has read."""
        self._write_paused = False
        self.active_at = self._clock.seconds()
        self.wake_in_turn()

    def stopProducing(self) -> None:
        """The connection is about to be lost; `connectionLost` follows."""
        self._write_paused = False

    # In

    def receive(self, data: bytes) -> None:
        """Octets from the client, for the session."""
        self.active_at = self._clock.seconds()
        if self._deflation is None:
            self._session.receive_data(data)
        else:
            self._deflation.receive(data)

    def refill(self) -> bool:
        """More input for the session: from what waits to be inflated, else by reading on; whether there is some now.

        Raises `Bye` for what cannot be inflated.
        """
        if self._deflation is not None:
            clear = self._deflation.inflate()
            if clear:
                self._session.receive_data(clear)
                return True
        if self._read_paused and not self.lost:
            self._read_paused = False
            self._transport.resumeProducing()
        return False

    def pause_if_full(self) -> None:
        """Let the client wait when it sent much more than was worked on. Only for who goes on without new input."""
        full = self._session.wants_pause or (self._deflation is not None and self._deflation.is_full)
        if full and not self._read_paused and not self.lost:
            self._read_paused = True
            self._transport.pauseProducing()

    # Waiting

    def wake(self) -> None:
        """Let the command that waits look again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def wake_in_turn(self) -> None:
        """The same, when other sessions have had their share of the reactor's time."""
        if self._waiter is None:
            return
        if not self._turns.begin(self.wake_in_turn):
            self.pause_if_full()
            return
        try:
            self.wake()
        finally:
            self._turns.end()

    async def wait(self) -> None:
        """Wait to be woken, with all sent out. Raises `ConnectionGone`, also once closed."""
        if not self.closed:
            self.send_out()
            self._waiter = Deferred()
            self.on_client = True
            await self._waiter
            self.on_client = False
        if self.closed:
            raise ConnectionGone

    # COMPRESS

    @property
    def compressing(self) -> bool:
        """Whether COMPRESS is on."""
        return self._deflation is not None

    def compress(self) -> None:
        """From the next octet on both directions are deflated."""
        self.send_out()
        self._deflation = Deflation()
