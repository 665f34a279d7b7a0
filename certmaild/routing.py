"""Which way a message goes to one recipient (DESIGN section 6): asked at RCPT, without DNS.

Only sealed mailboxes here are reached so far. The other routes are values that policy will choose when there is a
queue; nothing falls back from one route to another.
"""

from dataclasses import dataclass

from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.directory import Directory, RecipientFacts
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.layout_accounts import State
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import Path


@dataclass(frozen=True, slots=True)
class Sealed:
    """A mailbox here; the message is sealed to its key."""

    recipient: RecipientFacts
    address: Address
    """As the sender wrote it, ``+tag`` included: Delivered-To."""


@dataclass(frozen=True, slots=True)
class Invite:
    """Make a guest mailbox here, then `Sealed`, then a notice to the ordinary address."""

    address: Address


@dataclass(frozen=True, slots=True)
class Partner:
    """Relay over TLS verified as the partner's record demands."""

    name: str
    address: Address


@dataclass(frozen=True, slots=True)
class VerifiedTls:
    """Relay because the destination proves itself by DANE, MTA-STS or a valid certificate."""

    address: Address


@dataclass(frozen=True, slots=True)
class Inside:
    """Unseal, tag, hand to the internal server."""

    address: Address


@dataclass(frozen=True, slots=True)
class Plain:
    """Relay without proof, only where policy allows it in words."""

    address: Address


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep until somebody decides."""

    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """No route is allowed."""

    refusal: Refusal


Route = Sealed | Invite | Partner | VerifiedTls | Inside | Plain | Hold | Refuse

NO_SUCH_MAILBOX = Refuse(Refusal(550, "5.1.1", "No such mailbox here"))
DISABLED = Refuse(Refusal(550, "5.2.1", "Mailbox is disabled"))
FULL = Refuse(Refusal(452, "4.2.2", "Mailbox is full"))
NOT_CARRIED_OUT = Refuse(
    Refusal(550, "5.7.1", "This server does not send to other domains yet; only to addresses in its own")
)
RELAYING_DENIED = Refuse(Refusal(550, "5.7.1", "Relaying denied"))
BAD_ADDRESS = Refuse(Refusal(553, "5.1.3", "Bad recipient address"))


class Router:
    """Chooses routes. ``domains`` are the hosted ones, as lower-case A-labels; the first is ``<postmaster>``'s."""

    def __init__(self, directory: Directory, domains: tuple[str, ...], *, postmaster: Address | None = None) -> None:
        self._directory = directory
        self._domains = domains
        self._postmaster = postmaster

    async def route(self, path: Path, *, is_submission: bool, declared_size: int) -> Route:
        """Whether and how a message of so many declared octets (0: not declared) may go to ``path``."""
        try:
            address = canonical(str(path) if path.domain else f"{path.local}@{self._domains[0]}")
        except AddressError:
            return BAD_ADDRESS
        if address.domain not in self._domains:
            return NOT_CARRIED_OUT if is_submission else RELAYING_DENIED
        recipient = await self._directory.recipient(address)
        if path.is_role and (recipient is None or recipient.state is not State.ACTIVE):
            recipient = await self._role_owner()
        if recipient is None or recipient.state is State.PARKED:
            return NO_SUCH_MAILBOX
        if recipient.state is State.DISABLED:
            return DISABLED
        # Who must always be reachable is reached over quota too. What is not declared counts as one octet.
        if not path.is_role and not recipient.has_room_for(max(declared_size, 1)):
            return FULL
        return Sealed(recipient, address)

    async def _role_owner(self) -> RecipientFacts | None:
        owner = self._postmaster
        if owner is None and (first := await self._directory.first_member()) is not None:
            owner = canonical(first)
        return None if owner is None else await self._directory.recipient(owner)
