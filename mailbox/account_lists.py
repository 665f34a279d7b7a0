"""What the command line shows of accounts: plain values, none of them a secret and none that needs a user's keys."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import account_rows as rows
from certmaild.mailbox import ownership
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.clients import read_client
from certmaild.mailbox.errors import AccountMissing
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Account, CredentialRow, Kind, Option
from certmaild.mailbox.layout_guests import ClientRow
from certmaild.mailbox.removal import end_of
from certmaild.mailbox.ways_in import networks_of, scope_names

EPOCH_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account. Sizes in octets; limits of None are none."""

    user_id: UserId
    address: str
    state: str
    role: str
    octets: int
    octets_limit: int | None
    messages: int
    messages_limit: int | None
    sent: str
    """Who keeps copies of what is sent: ``client`` or ``server``."""
    retrieve_marks_seen: bool
    r"""Whether POP3's RETR sets ``\Seen``."""
    service_folders: bool
    """Whether the server keeps the folder Devices."""
    created: datetime
    aliases: tuple[str, ...]
    pending: int
    """Arrivals that no session has absorbed yet."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One way in."""

    credential_id: CredentialId
    kind: str
    scopes: tuple[str, ...]
    created: datetime
    last_used: date | None
    networks: tuple[str, ...]
    """From where it may be used; none: from anywhere."""
    expires: datetime | None
    client: ClientRow
    row: CredentialRow


async def list_accounts(engine: Engine, secrets: ServerSecrets) -> list[AccountView]:
    """Every account, by address; parked ones after the one that has the address now."""

    def work(txn: ReadTxn) -> list[AccountView]:
        aliases = list(rows.all_aliases(txn))
        views = [_view(txn, secrets, one, account, aliases) for one, account in rows.all_accounts(txn, secrets)]
        return sorted(views, key=lambda view: (view.address, view.state == "parked", view.created))

    return await engine.scan(work)


async def show_account(engine: Engine, secrets: ServerSecrets, address: Address) -> AccountView:
    """The account that has this address. Raises `AccountMissing`."""

    def work(txn: ReadTxn) -> AccountView:
        user_id = _user(txn, address)
        account = rows.read_account(txn, secrets, user_id)
        if account is None:
            raise AccountMissing
        return _view(txn, secrets, user_id, account, list(rows.all_aliases(txn)))

    return await engine.scan(work)


async def list_devices(engine: Engine, secrets: ServerSecrets, address: Address) -> list[DeviceView]:
    """The ways into an account, the oldest first. Raises `AccountMissing`."""

    def work(txn: ReadTxn) -> list[DeviceView]:
        user_id = _user(txn, address)
        views = [
            DeviceView(
                one,
                Kind(row.head.kind).name.lower(),
                scope_names(row.head.scopes),
                datetime.fromtimestamp(row.head.created, UTC),
                _day(rows.read_day(txn, secrets, user_id, one)),
                networks_of(row.head),
                datetime.fromtimestamp(row.head.expires, UTC) if row.head.expires else None,
                read_client(txn, secrets, user_id, one),
                row,
            )
            for one, row in rows.credentials_of(txn, user_id)
        ]
        return sorted(views, key=lambda view: (view.created, view.credential_id))

    return await engine.scan(work)


async def list_aliases(engine: Engine) -> list[tuple[str, str]]:
    """Every alias and its target."""
    return await engine.scan(lambda txn: list(rows.all_aliases(txn)))


def _user(txn: ReadTxn, address: Address) -> UserId:
    target = rows.find_address(txn, address)
    if target is None:
        raise AccountMissing
    return target.user_id


def _day(day: int | None) -> date | None:
    return None if day is None else EPOCH_DAY + timedelta(days=day)


def _view(
    txn: ReadTxn, secrets: ServerSecrets, user_id: UserId, account: Account, aliases: list[tuple[str, str]]
) -> AccountView:
    use = ownership.read_use(txn, secrets, user_id)
    return AccountView(
        user_id,
        account.address,
        account.state.name.lower(),
        account.role.name.lower(),
        use.octets,
        account.octets_limit,
        use.messages,
        account.messages_limit,
        account.sent_copies.name.lower(),
        Option.RETRIEVE_MARKS_SEEN in account.options,
        Option.SERVICE_FOLDERS in account.options,
        datetime.fromtimestamp(account.created, UTC),
        tuple(alias for alias, target in aliases if target == account.address),
        sum(1 for _ in txn.scan(Table.IN, user_id, end_of(user_id))),
    )
