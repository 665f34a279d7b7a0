"""Which way a message goes to one recipient (DESIGN section 6): asked at RCPT, without DNS.

Nothing falls back from one route to another: what a route demands of the other server is settled by the partner's
record or by the default, and a server that does not prove it gets nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from certmaild.keystore.tls_values import Level
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.directory import Directory, RecipientFacts
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout_accounts import Role, State
from certmaild.partners.book import PartnerBook
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

    address: Address
    domain: str
    """The partner's, or the address's own where each domain of his has its own way."""
    reason: str
    """Why, in words: kept with the message."""


@dataclass(frozen=True, slots=True)
class VerifiedTls:
    """Relay because the destination proves itself by DANE, MTA-STS or a valid certificate."""

    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Inside:
    """Unseal, tag, hand to the internal server."""

    address: Address


@dataclass(frozen=True, slots=True)
class Plain:
    """Relay without proof, in clear if need be: only where a partner's record allows it in words."""

    address: Address
    domain: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep until somebody decides."""

    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Service:
    """An address of the server's own, where people command by mail; of authenticated submission only."""

    name: str
    """Local part, lower-case, without its tag: one of `SERVICES`."""
    tag: str | None
    address: Address


@dataclass(frozen=True, slots=True)
class Refuse:
    """No route is allowed."""

    refusal: Refusal


Relay = Partner | VerifiedTls | Plain
Route = Sealed | Invite | Relay | Inside | Service | Hold | Refuse

SERVICES = frozenset(("devices", "help", "status", "settings", "invite"))
"""Service addresses in each hosted domain and in the guests'; a mailbox of that name goes first."""

NO_SUCH_MAILBOX = Refuse(Refusal(550, "5.1.1", "No such mailbox here"))
DISABLED = Refuse(Refusal(550, "5.2.1", "Mailbox is disabled"))
FULL = Refuse(Refusal(452, "4.2.2", "Mailbox is full"))
NOT_CARRIED_OUT = Refuse(Refusal(550, "5.7.1", "This server does not send to other domains, only to its own"))
GUEST = Refuse(Refusal(550, "5.7.1", "Guests of this server may write to addresses in its own domains only"))
NOT_PROVEN = Refuse(
    Refusal(550, "5.7.30", "The message demands TLS on the whole way, and this domain's mail may go in clear text")
)
ASKED_FROM_OUTSIDE = Refuse(Refusal(550, "5.7.1", "This address takes mail from people who are logged in here only"))
RELAYING_DENIED = Refuse(Refusal(550, "5.7.1", "Relaying denied"))
BAD_ADDRESS = Refuse(Refusal(553, "5.1.3", "Bad recipient address"))


class Router:
    """Chooses routes. ``domains`` are the hosted ones, as lower-case A-labels; the first is ``<postmaster>``'s.

    Without ``partners`` nothing leaves the house.
    """

    def __init__(
        self,
        directory: Directory,
        domains: tuple[str, ...],
        *,
        postmaster: Address | None = None,
        partners: PartnerBook | None = None,
        seconds: Callable[[], float] = lambda: 0.0,
        level: Level = Level.VERIFY,
        guest_domain: str | None = None,
    ) -> None:
        self._directory = directory
        self._domains = domains
        self._postmaster = postmaster
        self._partners = partners
        self._seconds = seconds
        self._level = level
        self._guest_domain = guest_domain

    async def route(
        self, path: Path, *, sender: str | None, declared_size: int = 0, require_tls: bool = False
    ) -> Route:
        """Whether and how a message of so many declared octets (0: not declared) may go to ``path``.

        ``sender`` is the main address of the account that submits it; None on port 25.
        """
        try:
            address = canonical(str(path) if path.domain else f"{path.local}@{self._domains[0]}")
        except AddressError:
            return BAD_ADDRESS
        service = self._service(address)
        if address.domain not in self._domains:
            if service is not None and sender is not None:
                return service
            return RELAYING_DENIED if sender is None else await self._outside(address, sender, require_tls)
        recipient = await self._directory.recipient(address)
        if recipient is None and service is not None:
            return ASKED_FROM_OUTSIDE if sender is None else service
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

    async def mailbox(self, path: Path, owner: UserId | None = None) -> RecipientFacts | None:
        """Whose mailbox here the server's own mail for ``path`` goes to, over quota too; None for an outside one.

        That of ``owner`` goes before: an address may have been taken from him.
        """
        found = None if owner is None else await self._directory.account(owner)
        if found is None or not found.is_active:
            found = await self._addressed(path)
        return found if found is not None and found.is_active else None

    async def _addressed(self, path: Path) -> RecipientFacts | None:
        try:
            address = canonical(str(path) if path.domain else f"{path.local}@{self._domains[0]}")
        except AddressError:
            return None
        if address.domain not in self._domains:
            return None
        recipient = await self._directory.recipient(address)
        if path.is_role and (recipient is None or not recipient.is_active):
            recipient = await self._role_owner()
        return recipient

    def is_hosted(self, domain: str) -> bool:
        """Whether a lower-case A-label domain is ours."""
        return domain in self._domains

    def _service(self, address: Address) -> Service | None:
        name = address.base.lookup.partition("@")[0]
        is_ours = address.domain in self._domains or address.domain == self._guest_domain
        return Service(name, address.detail, address) if is_ours and name in SERVICES else None

    async def _outside(self, address: Address, sender: str, require_tls: bool) -> Route:
        if self._partners is None:
            return NOT_CARRIED_OUT
        who = await self._directory.recipient(canonical(sender))
        if who is None or not (who.role.is_member or who.role is Role.APP):
            return GUEST
        route = self._relay(address, self._partners)
        return NOT_PROVEN if require_tls and isinstance(route, Plain) else route

    def _relay(self, address: Address, partners: PartnerBook) -> Relay:
        record = partners.find(address.domain)
        default = f"the default, level {self._level.value}"
        if record is None or not record.counts_out:
            return VerifiedTls(address, f"{address.domain} is no partner: {default}")
        if not record.is_in_force(self._seconds()):
            return VerifiedTls(address, f"partner {record.domain} counts from {record.start}; until then {default}")
        # Behind a fixed route all his domains are one destination; else each has MX records of its own.
        domain = record.domain if record.route else address.domain
        if record.level is Level.MAY:
            return Plain(address, domain, f"partner {record.domain}, whose record allows clear text (level may)")
        return Partner(address, domain, f"partner {record.domain}, level {record.level.value}")

    async def _role_owner(self) -> RecipientFacts | None:
        owner = self._postmaster
        if owner is None and (first := await self._directory.first_member()) is not None:
            owner = canonical(first)
        return None if owner is None else await self._directory.recipient(owner)
