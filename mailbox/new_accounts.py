"""The rows of an account that is made: prepared outside of a transaction, written inside of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from certmaild.keystore.users import NewUser
from certmaild.mailbox import account_rows as rows
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import AddressTaken
from certmaild.mailbox.folders import new_account_rows
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Account, CredentialRow, encode_alias, encode_owner, numbered_key

MAX_UID_VALIDITY = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class AccountRows:
    """An account with its folders, keys and ways in, and nothing that opens it."""

    user_id: UserId
    account: Account
    public_key_row: bytes = field(repr=False)
    rows: tuple[tuple[Table, bytes, bytes], ...] = field(repr=False)
    """Keys and folders: table, key, value."""
    ways: tuple[tuple[CredentialId, CredentialRow], ...] = field(repr=False)

    @property
    def key(self) -> bytes:
        """Of its address in ``addr``."""
        return self.account.address.encode("utf-8")


def prepare_account(
    account: Account, user: NewUser, ways: Sequence[tuple[CredentialId, CredentialRow]], *, now: int, least: int = 0
) -> AccountRows:
    """The rows; ``least`` is the least UIDVALIDITY that its folders may get. ``user`` stays the caller's to wipe."""
    first = min(max(now, least), MAX_UID_VALIDITY // 2)
    folders = new_account_rows(user.keys, now, uid_validity=first)
    user_id = UserId(user.user_id)
    keys = [
        (Table.PK, user_id, user.public_key_row),
        (Table.EPOCH, numbered_key(user_id, user.epoch), user.epoch_row),
        (Table.IDENT, numbered_key(user_id, user.epoch), user.ident_row),
    ]
    account = replace(account, last_uid_validity=first + len(folders))
    return AccountRows(user_id, account, user.public_key_row, (*keys, *folders), tuple(ways))


def write_account_rows(
    txn: WriteTxn, sealer: RowSealer, made: AccountRows, *, aliases: Sequence[bytes] = (), replaces: bytes | None = None
) -> None:
    """Make the account. Raises `AddressTaken` where the address is not free, or not as ``replaces`` says it stands.

    ``aliases`` are keys in ``addr`` of its further addresses.
    """
    if txn.get(Table.ADDR, made.key) != replaces or any(txn.get(Table.ADDR, one) is not None for one in aliases):
        raise AddressTaken
    txn.put(Table.ADDR, made.key, encode_owner(made.user_id))
    for one in aliases:
        txn.put(Table.ADDR, one, encode_alias(made.account.address))
    rows.write_account(txn, sealer, made.user_id, made.account)
    for table, key, value in made.rows:
        txn.put(table, key, value)
    for credential_id, row in made.ways:
        rows.write_credential(txn, made.user_id, credential_id, row)
    txn.announce(Change(ChangeKind.ACCOUNT, made.user_id))
