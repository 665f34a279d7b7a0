"""What the command line shows of guests: plain values, none of them a secret and none that needs a user's keys."""

from dataclasses import dataclass
from datetime import UTC, datetime

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import account_rows, ownership
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.errors import AccountMissing
from certmaild.mailbox.guests import all_guests, read_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn
from certmaild.mailbox.layout_accounts import State
from certmaild.mailbox.layout_guests import GuestRow


@dataclass(frozen=True, slots=True)
class GuestView:
    """Somebody who was invited. Times of None: never."""

    address: str
    """That he is written to: his ordinary one where he has one."""
    account: str
    state: str
    """``waits`` for its first opening, ``opened`` by the code, ``joined`` with a password of his own, ``disabled``."""
    role: str
    inviter: str
    invited: datetime
    code_expires: datetime | None
    opened: datetime | None
    joined: datetime | None
    noticed: datetime | None
    trial_until: datetime | None
    """None: he was invited."""
    language: str
    generation: int
    messages: int
    octets: int
    user_id: UserId


async def list_guests(engine: Engine, secrets: ServerSecrets) -> list[GuestView]:
    """Everybody who was invited, by address."""

    def work(txn: ReadTxn) -> list[GuestView]:
        views = [_view(txn, secrets, user_id, row) for user_id, row in all_guests(txn, secrets)]
        return sorted((one for one in views if one is not None), key=lambda view: view.address)

    return await engine.scan(work)


async def show_guest(engine: Engine, secrets: ServerSecrets, address: Address) -> GuestView:
    """The one who has this address, ordinary or account name. Raises `AccountMissing`."""

    def work(txn: ReadTxn) -> GuestView:
        target = account_rows.find_address(txn, address)
        row = None if target is None else read_guest(txn, secrets, target.user_id)
        view = None if target is None or row is None else _view(txn, secrets, target.user_id, row)
        if view is None:
            raise AccountMissing
        return view

    return await engine.read(work)


def _view(txn: ReadTxn, secrets: ServerSecrets, user_id: UserId, row: GuestRow) -> GuestView | None:
    account = account_rows.read_account(txn, secrets, user_id)
    if account is None or account.state is State.PARKED:
        return None
    use = ownership.read_use(txn, secrets, user_id)
    return GuestView(
        row.ordinary or account.address,
        account.address,
        "disabled" if account.state is State.DISABLED else _state(row),
        account.role.name.lower(),
        row.inviter,
        datetime.fromtimestamp(row.invited_s, UTC),
        _time(row.code_expires_s),
        _time(row.opened_s),
        _time(row.joined_s),
        _time(row.noticed_s),
        _time(row.trial_until_s),
        row.language,
        row.generation,
        use.messages,
        use.octets,
        user_id,
    )


def _state(row: GuestRow) -> str:
    return "joined" if row.joined_s else "opened" if row.opened_s else "waits"


def _time(at_s: int) -> datetime | None:
    return datetime.fromtimestamp(at_s, UTC) if at_s else None
