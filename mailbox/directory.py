"""Who has an address, and what delivery must know of him while he is away."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from certmaild.keystore.errors import KeystoreError
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import PublicKey, check_public_key
from certmaild.mailbox import account_rows, ownership
from certmaild.mailbox.account_rows import Target
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.groups import Expansion, expand
from certmaild.mailbox.guests import has_heard, open_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Role, SentCopies, State
from certmaild.mailbox.layout_guests import GuestRow

__all__ = ["Directory", "RecipientFacts", "Target"]

REMEMBERED = 4096
"""Users whose public key, with its row 1.4 KB, and whose account are remembered as they were last opened."""


@dataclass(frozen=True, slots=True)
class RecipientFacts:
    """One local recipient, as RCPT and delivery need him."""

    user_id: UserId
    address: str
    """The account's main address in look-up form."""
    state: State
    role: Role
    sent_copies: SentCopies
    octets_left: int | None
    """Below 0 when over; None is no limit."""
    messages_left: int | None
    public_key: PublicKey = field(repr=False)
    guest: GuestRow | None = None
    """How he came, if he was invited; members may have been, too."""

    @property
    def is_active(self) -> bool:
        """Whether mail is taken for him (else 550 5.2.1)."""
        return self.state is State.ACTIVE

    def has_room_for(self, octets: int) -> bool:
        """Whether a message of so many octets fits (452 4.2.2 when it does not)."""
        return (self.octets_left is None or self.octets_left >= octets) and (
            self.messages_left is None or self.messages_left >= 1
        )


class Directory:
    """Look-ups by address over one engine. Raises `StoreUnavailable` and `Damaged`."""

    def __init__(self, engine: Engine, secrets: ServerSecrets) -> None:
        self._engine = engine
        self._secrets = secrets
        # Both take as long as the rest of a look-up, and depend on nothing but the row and whose it is.
        self._checked = lru_cache(maxsize=REMEMBERED)(partial(check_public_key, secrets))
        self._opened = lru_cache(maxsize=REMEMBERED)(partial(account_rows.open_account, secrets))
        self._guests = lru_cache(maxsize=REMEMBERED)(partial(open_guest, secrets))

    async def find(self, address: Address) -> Target | None:
        """Whose address this is; aliases and ``+tag`` are resolved. Disabled accounts are found too."""
        return await self._engine.read(lambda txn: account_rows.find_address(txn, address))

    async def owns(self, user_id: UserId, address: Address) -> bool:
        """Whether the user may send as ``address``: his own, an alias of his, or either with a tag."""
        target = await self.find(address)
        return target is not None and target.user_id == user_id

    async def recipient(self, address: Address) -> RecipientFacts | None:
        """What RCPT and delivery need, from one consistent read; None when nobody has the address."""

        def work(txn: ReadTxn) -> RecipientFacts | None:
            target = account_rows.find_address(txn, address)
            return None if target is None else self._facts(txn, target.user_id)

        return await self._engine.read(work)

    async def group(self, address: Address) -> Expansion | None:
        """Whom a group stands for; None for what is no group."""
        return await self._engine.read(lambda txn: expand(txn, self._secrets, address))

    async def is_among(self, user_id: UserId, addresses: Sequence[Address]) -> bool:
        """Whether one of the addresses is this user's, aliases included."""

        def work(txn: ReadTxn) -> bool:
            found = (account_rows.find_address(txn, one) for one in addresses)
            return any(target is not None and target.user_id == user_id for target in found)

        return await self._engine.read(work)

    async def has_heard(self, user_id: UserId, address: Address) -> bool:
        """Whether a guest has had mail from this address, so that he may write to it; asks nobody else's rows."""
        return await self._engine.read(lambda txn: has_heard(txn, self._secrets, user_id, address))

    async def account(self, user_id: UserId) -> RecipientFacts | None:
        """The same of an account, whatever addresses it has now; None when it is gone."""
        return await self._engine.read(
            lambda txn: None if txn.get(Table.ACCT, user_id) is None else self._facts(txn, user_id)
        )

    def _facts(self, txn: ReadTxn, user_id: UserId) -> RecipientFacts:
        row = txn.get(Table.ACCT, user_id)
        if row is None:
            raise Damaged("an address without an account")
        account = self._opened(user_id, row)
        use = ownership.read_use(txn, self._secrets, user_id)
        guest = txn.get(Table.GUEST, user_id)
        return RecipientFacts(
            user_id,
            account.address,
            account.state,
            account.role,
            account.sent_copies,
            None if account.octets_limit is None else account.octets_limit - use.octets,
            None if account.messages_limit is None else account.messages_limit - use.messages,
            self._read_public_key(txn, user_id),
            None if guest is None else self._guests(user_id, guest),
        )

    def _read_public_key(self, txn: ReadTxn, user_id: UserId) -> PublicKey:
        """The key to seal arrivals to, its server MAC checked. Raises `Damaged`."""
        row = txn.get(Table.PK, user_id)
        if row is None:
            raise Damaged("an account without a public key")
        try:
            return self._checked(user_id, row)
        except KeystoreError as broken:
            raise Damaged(Table.PK) from broken

    async def first_member(self) -> str | None:
        """The main address of the member who came first: the default of ``postmaster``."""

        def work(txn: ReadTxn) -> str | None:
            members = [
                (account.created, account.address)
                for _, account in account_rows.all_accounts(txn, self._secrets)
                if account.role.is_member and account.state is State.ACTIVE
            ]
            return min(members)[1] if members else None

        return await self._engine.scan(work)
