"""Values that the queue, the planner, the courier and the reports share: a message on its way out, and its fates."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum

from certmaild.keystore.tls_values import Demand, Proof
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.parameters import DEFAULT_NOTIFY as DEFAULT_NOTIFY
from certmaild.protocols.smtp.parameters import BodyKind as BodyKind
from certmaild.protocols.smtp.parameters import Notify as Notify


class RouteKind(Enum):
    """Which route was decided for an outside recipient (DESIGN section 6)."""

    PARTNER = "partner"
    VERIFIED_TLS = "verified"
    PLAIN = "plain"
    SEALED = "sealed"
    """A mailbox here: waits in the queue only while the sender asked for that (RFC 4865)."""
    INSIDE = "inside"
    SERVICE = "service"
    """A message of the server's own; follows ``[outbound]`` and its smart host."""
    NOTICE = "notice"
    """Word to a guest that mail waits, which holds no secret: by TLS as good as the destination allows (RFC 7435)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What holds for a message as a whole, from submission to hand-over."""

    reverse_path: Path
    body: BodyKind = BodyKind.EIGHT_BIT
    utf8: bool = False
    """The sender asked for SMTPUTF8 (RFC 6531)."""
    needs_utf8: bool = False
    """An address or a header field has octets above 127: a server without SMTPUTF8 cannot take it."""
    require_tls: bool = False
    """REQUIRETLS (RFC 8689)."""
    tls_optional: bool = False
    """``TLS-Required: No`` (RFC 8689 section 5)."""
    envid: bytes | None = None
    """ENVID as given, xtext (RFC 3461 section 4.4)."""
    returns_headers_only: bool = True
    """RET; a report that leaves the house has headers only, whatever was asked."""
    priority: int = 0
    """MT-PRIORITY, -9 to 9 (RFC 6710)."""
    deliver_by_s: int | None = None
    """Seconds since 1970 by which it must be delivered (RFC 2852)."""
    by_mode: str = ""
    """``R`` returns it when the time is over, ``N`` notifies; with ``T`` each hop is traced."""
    hold_until_s: int | None = None
    """Seconds since 1970 before which it is not sent (RFC 4865)."""
    told: Path | None = None
    """Who hears of what becomes of it although the reverse-path is null: of a notice, who wrote to the guest."""

    @property
    def reports_to(self) -> Path:
        """Where reports go; the null path for nowhere."""
        return self.told or self.reverse_path


@dataclass(frozen=True, slots=True)
class Recipient:
    """One outside recipient."""

    path: Path
    route: RouteKind
    reason: str
    """Why this route, in words: kept with the message and shown in reports."""
    notify: frozenset[Notify] = DEFAULT_NOTIFY
    orcpt: bytes | None = None
    """ORCPT as given, ``rfc822;xtext`` (RFC 3461 section 4.2)."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a lane of the queue leads: messages with the same one share connections, limits and back-off."""

    kind: RouteKind
    domain: str
    """Lower-case A-labels, or an address literal with brackets; the partner's domain on that route."""


@dataclass(frozen=True, slots=True)
class PlannedHost:
    """One server to try, and what it must prove."""

    name: str
    """Lower-case A-labels without the last dot, or an IP address for a literal."""
    addresses: tuple[str, ...]
    """IP addresses in the order to be tried."""
    port: int
    demand: Demand
    is_lmtp: bool = False
    implicit_tls: bool = False
    authenticates: bool = False
    """It is the smart host: log in with the credentials of ``[outbound]``, once TLS has proven it."""
    is_reported: bool = True
    """How TLS went counts in the report to the domain (RFC 8460): its own policies were asked what must be proven."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The servers of a destination in the order to be tried."""

    destination: Destination
    hosts: tuple[PlannedHost, ...]
    require_tls: bool = False
    """Only a server that offers REQUIRETLS will do (RFC 8689 section 4.2.1)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a destination or a recipient is not reached, now or ever. Fit to be shown to the sender."""

    permanent: bool
    code: int
    """SMTP reply code; ours where no server answered."""
    enhanced: str
    """RFC 3463, such as ``4.7.5``."""
    words: str
    """One or two plain sentences, without our inner workings."""
    host: str = ""
    """The server that answered, or was tried."""
    reply: str = ""
    """His reply, if he gave one: printable ASCII or UTF-8, at most 1,000 characters, for the reports' diagnostic."""
    concerns_tls: bool = False
    """The destination did not prove what it must: warned about early."""


@dataclass(frozen=True, slots=True)
class SelfProof:
    """Whether the servers of a domain prove by themselves, to whoever asks, that they are that domain's."""

    is_proven: bool
    words: str
    """By what, or why not; fit to be shown to the sender."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next server took it, and answers for it from now on."""

    host: str
    reply: str
    proof: Proof | None
    """None: in clear text, where a partner's record allows that."""
    relays_dsn: bool = False
    """He said DSN: reports of success are then his."""


Fate = Delivered | Problem


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message for some recipients of one destination, ready to be sent."""

    envelope: Envelope
    recipients: tuple[Recipient, ...]
    size: int
    """Octets of the content as it goes out."""
    content: Callable[[], AsyncIterator[bytes]] = field(repr=False)
    """The octets, from the start at each call: CRLF line ends, no bare CR or LF, ends in CRLF, not dot-stuffed."""
    queue_id: str = ""
