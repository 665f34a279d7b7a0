"""Which way a message goes to one recipient (DESIGN section 6): asked at RCPT, without DNS.

Nothing falls back from one route to another: what a route demands of the other server is settled by the partner's
record or by the default, and a server that does not prove it gets nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from certmaild.config_values import Invites
from certmaild.keystore.tls_values import Level
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.directory import Directory, RecipientFacts
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.groups import Expansion, Senders
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
    reason: str = "a mailbox here"
    """Why, in words."""


@dataclass(frozen=True, slots=True)
class Invite:
    """Make a mailbox here, then `Sealed`, then a notice to the ordinary address."""

    address: Address
    """As the sender wrote it."""
    reason: str = ""
    """Why, in words."""
    role: Role = Role.GUEST
    is_own_name: bool = False
    """The account is named by the address itself, of a domain that is hosted here: there is no other to write to."""
    language: str = ""


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
    """Local part, lower-case, without its tag: one of `SERVICES`, or `TRY`."""
    tag: str | None
    address: Address


@dataclass(frozen=True, slots=True)
class Trial:
    """Somebody asks another server's way for a mailbox to try (``try@``): the message itself goes nowhere."""

    address: Address


@dataclass(frozen=True, slots=True)
class Undecided:
    """Outside, and allowed: fixed at the end of data, by marks and by how the destination proves itself."""

    address: Address
    relay: VerifiedTls | Plain
    """The way on the wire, where that is allowed."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group that the sender may write to: each member has a route of his own."""

    address: Address
    members: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """No route is allowed."""

    refusal: Refusal


Relay = Partner | VerifiedTls | Plain
Route = Sealed | Invite | Undecided | Relay | Inside | Service | Trial | Group | Hold | Refuse

SERVICES = frozenset(("devices", "help", "status", "settings", "invite"))
"""Service addresses in each hosted domain and in the guests'; a mailbox of that name goes first."""
TRY = "try"
"""Where there are trials, one more in each hosted domain; of port 25 it takes mail too."""

NO_SUCH_MAILBOX = Refuse(Refusal(550, "5.1.1", "No such mailbox here"))
DISABLED = Refuse(Refusal(550, "5.2.1", "Mailbox is disabled"))
FULL = Refuse(Refusal(452, "4.2.2", "Mailbox is full"))
NOT_CARRIED_OUT = Refuse(Refusal(550, "5.7.1", "This server does not send to other domains, only to its own"))
GUEST = Refuse(
    Refusal(550, "5.7.1", "Guests of this server may write to its own domains and to people who have written to them")
)
ON_TRIAL = Refuse(
    Refusal(550, "5.7.1", "A mailbox on trial writes to this server alone: to try, devices, help, status and settings")
)
GUESTS_CLOSED = Refuse(
    Refusal(550, "5.7.1", "Mail to this domain is taken from people who are logged in here, and from proven partners")
)
NOT_PROVEN = Refuse(
    Refusal(550, "5.7.30", "The message demands TLS on the whole way, and this domain's mail may go in clear text")
)
ASKED_FROM_OUTSIDE = Refuse(Refusal(550, "5.7.1", "This address takes mail from people who are logged in here only"))
GROUP_INSIDE = Refuse(Refusal(550, "5.7.2", "This group takes mail from people who are logged in here only"))
GROUP_CLOSED = Refuse(Refusal(550, "5.7.2", "You may not write to this group; ask the people who run this server"))
RELAYING_DENIED = Refuse(Refusal(550, "5.7.1", "Relaying denied"))
_NO_ROLE = Path("", "")
NO_INVITES = Invites()
BAD_ADDRESS = Refuse(Refusal(553, "5.1.3", "Bad recipient address"))


def is_on_trial(who: RecipientFacts) -> bool:
    """Whether a mailbox was asked for at ``try@``, and nobody made its owner more than a guest."""
    return who.role is Role.GUEST and who.guest is not None and who.guest.trial_until_s > 0


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
        invites: Invites = NO_INVITES,
    ) -> None:
        self._directory = directory
        self._domains = domains
        self._postmaster = postmaster
        self._partners = partners
        self._seconds = seconds
        self._level = level
        self._guest_domain = invites.domain
        self._has_trials = invites.has_trials
        self._by_domain = {one.domain: one for one in invites.domains} if invites.domain is not None else {}

    async def route(
        self,
        path: Path,
        *,
        sender: str | None,
        declared_size: int = 0,
        require_tls: bool = False,
        is_partner: bool = False,
    ) -> Route:
        """Whether and how a message of so many declared octets (0: not declared) may go to ``path``.

        ``sender`` is the main address of the account that submits it; None on port 25, where ``is_partner`` says that a
        partner proved himself.
        """
        try:
            address = canonical(str(path) if path.domain else f"{path.local}@{self._domains[0]}")
        except AddressError:
            return BAD_ADDRESS
        if sender is not None and await self._is_on_trial(sender):
            return await self._from_trial(path, address)
        if address.domain == self._guest_domain:
            return await self._to_guests(path, address, sender, declared_size, is_partner=is_partner)
        if address.domain not in self._domains:
            if sender is None:
                return RELAYING_DENIED
            return await self._outside(address, sender, declared_size, require_tls=require_tls)
        service = self._service(address)
        recipient = await self._recipient(address)
        if recipient is None and service is not None:
            return self._asked(service, sender)
        if recipient is None and not path.is_role:
            group = await self._directory.group(address)
            if group is not None:
                return await self._to_group(group, sender)
        if recipient is None and sender is not None and not path.is_role:
            invite = await self._by_message(address, sender)
            if invite is not None:
                return invite
        return await self._to_mailbox(path, address, recipient, declared_size)

    async def _recipient(self, address: Address) -> RecipientFacts | None:
        """Whose mailbox mail of others goes to. One on trial is nobody's: it holds the server's own words alone."""
        found = await self._directory.recipient(address)
        return None if found is not None and is_on_trial(found) else found

    async def _is_on_trial(self, sender: str) -> bool:
        """Whether somebody who is logged in has his mailbox on trial: its name is in no domain that members are in."""
        address = canonical(sender)
        if address.domain in self._domains:
            return False
        who = await self._directory.recipient(address)
        return who is None or is_on_trial(who)

    async def _from_trial(self, path: Path, address: Address) -> Route:
        """Whom a mailbox on trial writes to: the server's own addresses, and who must always be reachable."""
        service = self._service(address)
        recipient = await self._recipient(address)
        if service is not None and recipient is None:
            return service
        if path.is_role and self.is_hosted(address.domain):
            return await self._to_mailbox(path, address, recipient, 0)
        return ON_TRIAL

    @staticmethod
    def _asked(service: Service, sender: str | None) -> Route:
        """Who is logged in commands; others may ask for a trial, where there are any."""
        if sender is not None:
            return service
        return Trial(service.address) if service.name == TRY else ASKED_FROM_OUTSIDE

    async def _to_group(self, group: Expansion, sender: str | None) -> Route:
        """Strangers' mail never leaves the house by a group, whatever has become of the groups within it."""
        if sender is None:
            stays = all(self.is_hosted(one.domain) for one in group.members)
            is_open = group.senders is Senders.ANYONE and stays
            return Group(group.address, group.members) if is_open else GROUP_INSIDE
        who = await self._directory.recipient(canonical(sender))
        if who is None:
            return GROUP_CLOSED
        if group.senders is Senders.MEMBERS:
            may = who.role is not Role.GUEST
        else:
            may = group.senders is Senders.ANYONE or await self._directory.is_among(who.user_id, group.members)
        return Group(group.address, group.members) if may else GROUP_CLOSED

    async def _to_mailbox(
        self, path: Path, address: Address, recipient: RecipientFacts | None, declared_size: int
    ) -> Route:
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

    async def _to_guests(
        self, path: Path, address: Address, sender: str | None, declared_size: int, *, is_partner: bool
    ) -> Route:
        """An account name of the guests' domain. Strangers and other guests never learn whether it exists."""
        if path.is_role:
            return await self._to_mailbox(path, address, None, declared_size)
        service = self._service(address)
        if service is not None:
            return ASKED_FROM_OUTSIDE if sender is None else service
        if sender is None:
            if not is_partner:
                return GUESTS_CLOSED
        elif not await self._may_write_to(address, sender):
            return GUEST
        return await self._to_mailbox(path, address, await self._recipient(address), declared_size)

    async def _may_write_to(self, address: Address, sender: str) -> bool:
        """Whether somebody may write outside the hosted domains at all: a guest only to who has written to him.

        For a guest nothing of ``address`` is looked at that would take longer where it is somebody's.
        """
        who = await self._directory.recipient(canonical(sender))
        if who is None:
            return False
        return who.role is not Role.GUEST or await self._directory.has_heard(who.user_id, address)

    async def _by_message(self, address: Address, sender: str) -> Invite | None:
        """An account for an unknown address of a domain that was named for it, by a sender who may."""
        wanted = self._by_domain.get(address.domain)
        if wanted is None or address.is_literal:
            return None
        who = await self._directory.recipient(canonical(sender))
        if who is None or who.role is Role.GUEST:
            return None
        is_named = sender in wanted.senders or "@" + sender.rpartition("@")[2] in wanted.senders
        if wanted.senders and not is_named:
            return None
        is_own_name = address.domain in self._domains
        role = wanted.role if is_own_name else Role.GUEST
        reason = f"a message to an unknown address of {address.domain} makes its account"
        return Invite(address, reason, role, is_own_name, wanted.language)

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
        if not self.is_hosted(address.domain):
            return None
        recipient = await self._directory.recipient(address)
        if path.is_role and (recipient is None or not recipient.is_active):
            recipient = await self._role_owner()
        return recipient

    def is_hosted(self, domain: str) -> bool:
        """Whether a lower-case A-label domain is ours; that of the guests is."""
        return domain in self._domains or domain == self._guest_domain

    def _service(self, address: Address) -> Service | None:
        name = address.base.lookup.partition("@")[0]
        if name == TRY:
            return (
                Service(name, address.detail, address) if self._has_trials and address.domain in self._domains else None
            )
        return Service(name, address.detail, address) if self.is_hosted(address.domain) and name in SERVICES else None

    async def _outside(self, address: Address, sender: str, declared_size: int, *, require_tls: bool) -> Route:
        if self._partners is None:
            return NOT_CARRIED_OUT
        who = await self._directory.recipient(canonical(sender))
        if who is None or (who.role is Role.GUEST and not await self._directory.has_heard(who.user_id, address)):
            return GUEST
        if self._guest_domain is not None:
            recipient = await self._recipient(address)
            if recipient is not None:
                return await self._to_mailbox(_NO_ROLE, address, recipient, declared_size)
        relay = self._relay(address, self._partners)
        if who.role is Role.GUEST:
            return GUEST if isinstance(relay, VerifiedTls) else relay
        if isinstance(relay, Partner):
            return relay
        invite = await self._by_message(address, sender)
        if invite is not None:
            return invite
        if require_tls and isinstance(relay, Plain):
            return NOT_PROVEN
        return Undecided(address, relay)

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
