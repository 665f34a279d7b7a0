"""Reading and writing the rows of accounts inside a transaction: addresses, accounts, credentials, days of use."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import (
    MOST_ROUNDS,
    Account,
    CredentialRow,
    State,
    credential_key,
    decode_account,
    decode_address,
    decode_credential,
    decode_credential_key,
    decode_day,
    decode_rounds,
    encode_account,
    encode_credential,
    encode_day,
    encode_rounds,
)

LAST_CREDENTIAL = b"\xff" * 4


@dataclass(frozen=True, slots=True)
class Target:
    """Whom an address belongs to."""

    user_id: UserId
    address: str
    """The account's main address in look-up form, which differs from the one asked for with an alias or a tag."""


def open_row(sealer: RowSealer, table: Table, key: bytes, value: bytes) -> bytes:
    """A server-sealed row's plaintext. Raises `Damaged`."""
    try:
        return sealer.open_row(table, key, value)
    except SealBroken as broken:
        raise Damaged(table) from broken


def find_address(txn: ReadTxn, address: Address) -> Target | None:
    """Who has this address: as it stands, else without its ``+tag``; aliases are followed once."""
    return _owner(txn, address.key) or (None if address.detail is None else _owner(txn, address.base.key))


def _owner(txn: ReadTxn, key: bytes) -> Target | None:
    value = txn.get(Table.ADDR, key)
    if value is None:
        return None
    found = decode_address(value)
    if found is None:
        return None
    if isinstance(found, bytes):
        return Target(UserId(found), key.decode("utf-8"))
    value = txn.get(Table.ADDR, found.encode("utf-8"))
    owner = None if value is None else decode_address(value)
    return Target(UserId(owner), found) if isinstance(owner, bytes) else None


def read_account(txn: ReadTxn, sealer: RowSealer, user_id: UserId) -> Account | None:
    """The account's row."""
    value = txn.get(Table.ACCT, user_id)
    return None if value is None else open_account(sealer, user_id, value)


def open_account(sealer: RowSealer, user_id: UserId, value: bytes) -> Account:
    """An account from its row. Raises `Damaged`."""
    return decode_account(open_row(sealer, Table.ACCT, user_id, value))


def write_account(txn: WriteTxn, sealer: RowSealer, user_id: UserId, account: Account) -> None:
    """Make or replace the account's row."""
    txn.put(Table.ACCT, user_id, sealer.seal_row(Table.ACCT, user_id, encode_account(account)))


def set_state(txn: WriteTxn, sealer: RowSealer, user_id: UserId, state: State) -> bool:
    """Change the state; False when there is no such account."""
    account = read_account(txn, sealer, user_id)
    if account is None:
        return False
    write_account(txn, sealer, user_id, replace(account, state=state))
    return True


def all_accounts(txn: ReadTxn, sealer: RowSealer) -> Iterator[tuple[UserId, Account]]:
    """Every account, parked ones too, in no order that means anything."""
    for key, value in txn.scan(Table.ACCT, b""):
        yield UserId(key), decode_account(open_row(sealer, Table.ACCT, key, value))


def all_aliases(txn: ReadTxn) -> Iterator[tuple[str, str]]:
    """Every alias and its target, by alias."""
    for key, value in txn.scan(Table.ADDR, b""):
        found = decode_address(value)
        if isinstance(found, str):
            yield key.decode("utf-8"), found


def read_credential(txn: ReadTxn, user_id: UserId, credential_id: CredentialId) -> CredentialRow | None:
    """One way in."""
    value = txn.get(Table.CRED, credential_key(user_id, credential_id))
    return None if value is None else decode_credential(value)


def write_credential(txn: WriteTxn, user_id: UserId, credential_id: CredentialId, row: CredentialRow) -> None:
    """Make or replace one way in."""
    txn.put(Table.CRED, credential_key(user_id, credential_id), encode_credential(row))
    if row.head.rounds > read_most_rounds(txn):
        txn.put(Table.META, MOST_ROUNDS, encode_rounds(row.head.rounds))


def read_most_rounds(txn: ReadTxn) -> int:
    """The most rounds that any password is stored under, or was since `count_most_rounds`."""
    value = txn.get(Table.META, MOST_ROUNDS)
    return 0 if value is None else decode_rounds(value)


def count_most_rounds(txn: WriteTxn) -> None:
    """Find out anew what `read_most_rounds` gives, which otherwise only rises. Damaged rows count for nothing."""
    most = 0
    for _, value in txn.scan(Table.CRED, b""):
        with suppress(Damaged):
            most = max(most, decode_credential(value).head.rounds)
    if most != read_most_rounds(txn):
        txn.put(Table.META, MOST_ROUNDS, encode_rounds(most))


def delete_credential(txn: WriteTxn, user_id: UserId, credential_id: CredentialId) -> bool:
    """Remove one way in with what is known of its use; whether it was there."""
    key = credential_key(user_id, credential_id)
    txn.delete(Table.SEEN, key)
    txn.delete(Table.CLIENT, key)
    return txn.delete(Table.CRED, key)


def credentials_of(txn: ReadTxn, user_id: UserId) -> Iterator[tuple[CredentialId, CredentialRow]]:
    """Every way in of a user, by id."""
    for key, value in txn.scan(Table.CRED, user_id, user_id + LAST_CREDENTIAL):
        yield decode_credential_key(key)[1], decode_credential(value)


def read_day(txn: ReadTxn, sealer: RowSealer, user_id: UserId, credential_id: CredentialId) -> int | None:
    """The day of last use, in days since 1970; None when never used."""
    key = credential_key(user_id, credential_id)
    value = txn.get(Table.SEEN, key)
    return None if value is None else decode_day(open_row(sealer, Table.SEEN, key, value))


def last_day(txn: ReadTxn, sealer: RowSealer, user_id: UserId) -> int | None:
    """The day on which any way in was last used; None when none ever was."""
    rows = txn.scan(Table.SEEN, user_id, user_id + LAST_CREDENTIAL)
    return max((decode_day(open_row(sealer, Table.SEEN, key, value)) for key, value in rows), default=None)


def write_day(txn: WriteTxn, sealer: RowSealer, user_id: UserId, credential_id: CredentialId, day: int) -> None:
    """Note the day of last use."""
    key = credential_key(user_id, credential_id)
    if txn.get(Table.CRED, key) is not None:
        txn.put(Table.SEEN, key, sealer.seal_row(Table.SEEN, key, encode_day(day)))
