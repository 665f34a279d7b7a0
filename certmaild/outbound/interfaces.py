"""What the queue's runner asks of others: where to go, the way there, and words to the sender.

Whatever goes wrong on the way is a `Problem` that comes back as a value. An exception is a fault of the program: the
runner logs it and treats it as a temporary problem.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from certmaild.keystore.tls_values import TlsResult
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.outbound.values import (
    Destination,
    Envelope,
    Fate,
    OutgoingMessage,
    Plan,
    Problem,
    Recipient,
)


class Terms(Enum):
    """What a message asks of TLS; messages with different terms never share a connection."""

    NORMAL = "normal"
    REQUIRED = "required"
    """REQUIRETLS (RFC 8689 section 4): proven, and by a server that says REQUIRETLS."""
    OPTIONAL = "optional"
    """``TLS-Required: No`` (RFC 8689 section 5)."""


class Planner(Protocol):
    """Knows where mail for a destination goes, and what must be proved there."""

    async def plan(self, destination: Destination, terms: Terms) -> Plan | Problem:
        """The hosts in order. A temporary problem holds back all of the destination, a permanent one fails it all."""
        ...


class PolicyKind(Enum):
    """Which policy of a domain applied, as TLS reports name it (RFC 8460 section 4.4)."""

    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """A domain's policy as it was found."""

    kind: PolicyKind
    lines: tuple[str, ...] = ()
    """TLSA records, or the lines of the MTA-STS policy."""
    hosts: tuple[str, ...] = ()
    """MX hosts, or patterns of them, that it names."""


class TlsWatch(Protocol):
    """Is told how TLS with other servers goes, for TLS reports (RFC 8460). Keeps nobody waiting, never raises."""

    def policy(self, domain: str, policy: TlsPolicy) -> None:
        """By the planner: what holds for a destination's sessions from now on. Others are not counted."""
        ...

    def session(self, domain: str, host: str, address: str, result: TlsResult | None, reason: str = "") -> None:
        """By the courier: one connection to a server of the destination ``domain`` came as far as TLS.

        ``result`` None: it proved what it must. Else why not, and ``reason`` in words.
        """
        ...


class CourierConnection(Protocol):
    """One connection on which messages are sent one after the other."""

    @property
    def is_open(self) -> bool:
        """Whether another message may be sent on it: false once it was lost, or has sent as many as it should."""
        ...

    async def send(self, message: OutgoingMessage, last_octets: Callable[[], None]) -> Mapping[Recipient, Fate]:
        """Send a message; the fate of each recipient.

        ``last_octets`` is called once, when all of the content but its end (``.`` or the last BDAT chunk) is sent: from
        the end on until the reply a crash leaves it open who answers for the message (RFC 1047). If it raises, the
        end must not be sent: the connection is closed and the exception goes on to the caller.
        Recipients whom the server does not take in this transaction (452 to RCPT, RFC 5321 section 4.5.3.1.10) get a
        temporary `Problem` with code 452, and are tried again at once in the next one.
        """
        ...

    async def close(self) -> None:
        """QUIT, and wait a moment for the reply; at once on a connection that is lost."""
        ...


class Courier(Protocol):
    """Opens connections."""

    async def connect(self, plan: Plan) -> CourierConnection | Problem:
        """A connection to the first host that can be reached, proves what it must and greets us: ready for MAIL.

        Else what the most telling of them had to say; a temporary problem holds back all of the destination.
        """
        ...


class Occasion(Enum):
    """What the sender may have to hear."""

    FAILED = "failed"
    """Given up (RFC 3464, failed). The fate is a `Problem`; with one that is not permanent its time was over."""
    DELAYED = "delayed"
    """Not there yet, and tried again (RFC 3464, delayed)."""
    RELAYED = "relayed"
    """Handed to a server that reports no success itself (RFC 3464, relayed); only where NOTIFY=SUCCESS asks."""
    DELIVERED = "delivered"
    """It lies in a mailbox here; only where NOTIFY=SUCCESS asks. Said by who files mail, never by the runner."""
    WARNED = "warned"
    """The destination does not prove itself, so nothing was sent: in words, early, once an hour."""


@dataclass(frozen=True, slots=True)
class News:
    """What became of one recipient at one time."""

    recipient: Recipient
    occasion: Occasion
    fate: Fate
    attempts: int
    last_try_s: int | None
    """Seconds since 1970; None if it was never tried."""
    until_s: int | None = None
    """Until when it will be tried; None where it is over."""


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in the queue, as far as those need it who report on it."""

    queue_id: str
    envelope: Envelope
    sender: UserId | None
    """The account that submitted it; None for what came from elsewhere, and the server's own."""
    accepted_s: int
    """Seconds since 1970."""
    size: int
    """Octets, as it goes out."""
    header: Callable[[], Awaitable[bytes]] = field(repr=False)
    """Its header as it goes out, the blank line included."""


Work = Callable[[WriteTxn], None]


class Reporter(Protocol):
    """Tells senders."""

    async def prepare(self, message: QueuedMessage, news: Sequence[News]) -> Work | None:
        """What files the report, in the transaction that settles the message; None if nobody is to be told.

        Decides by NOTIFY, `Envelope.reports_to`, which is not null, and whom it concerns. If it raises, failures stay
        in the queue and are settled later.
        """
        ...
