"""What SMTP reception needs from the floor above: who takes a message, and what he is told of its way."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from certmaild.protocols.interfaces import Login
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments


class Listener(Enum):
    """The three ports (RFC 5321, RFC 6409, RFC 8314)."""

    INBOUND = "smtp"
    SUBMISSION = "submission"
    SUBMISSIONS = "submissions"


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What was negotiated, for Received and the log."""

    version: str
    """As OpenSSL names it: ``TLSv1.3``."""
    cipher: str
    group: str = ""
    """Key exchange group, such as ``X25519MLKEM768`` (KEYS section 19.3: counted)."""
    peer_chain: tuple[bytes, ...] = field(default=(), repr=False)
    """The client's certificates, DER, its own first; checked by nobody yet, but it has the first one's key."""


@dataclass(frozen=True, slots=True)
class Hop:
    """The connection a message comes by."""

    session: str
    listener: Listener
    peer: str
    """IP address."""
    helo: str
    esmtp: bool
    tls: TlsFacts | None
    login: Login | None
    """The proven sender on submission; None on port 25."""
    is_partner: bool = False
    """A partner's server, known by certificate or network: it has the limits of a proven sender."""


class Transaction(Protocol):
    """One mail transaction (RFC 5321 section 3.3). Every method may raise `Refusal`."""

    async def add_recipient(self, recipient: RcptArguments) -> None:
        """Whether some route is allowed."""

    def write(self, content: bytes) -> Awaitable[None] | None:
        """Take content; an awaitable asks for a pause until it is done. A refusal drops what came before."""
        ...

    async def finish(self) -> str:
        """Make the message durable for all recipients at once; the queue id. Nothing is kept when this raises."""
        ...

    def abort(self) -> None:
        """Drop everything; may be called at any time, also more than once."""


class Reception(Protocol):
    """Takes mail in."""

    async def begin(self, hop: Hop, mail: MailArguments) -> Transaction:
        """A transaction for an acceptable sender; raises `Refusal`."""
        ...
