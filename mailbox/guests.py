"""Rows about guests, in the transactions of whoever changes them: invitations, bequests, whom one has heard from."""

from collections.abc import Iterator
from typing import Protocol

from msgspec import structs

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.changes import QUEUE_CHANGED
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_guests import GuestRow, decode, encode, heard_key
from certmaild.mailbox.layout_queue import Due, due_key


class Hashes(RowSealer, Protocol):
    """Seals rows, and hides addresses."""

    def heard_hash(self, whose: bytes, address: bytes) -> bytes:
        """The place of an address among those that one user has heard from."""
        ...


def read_guest(txn: ReadTxn, sealer: RowSealer, user_id: UserId) -> GuestRow | None:
    """How a guest stands; None for who is none. Raises `Damaged`."""
    value = txn.get(Table.GUEST, user_id)
    return None if value is None else open_guest(sealer, user_id, value)


def write_guest(txn: WriteTxn, sealer: RowSealer, user_id: UserId, row: GuestRow) -> None:
    """Put a guest's row in its place."""
    txn.put(Table.GUEST, user_id, sealer.seal_row(Table.GUEST, user_id, encode(row)))


def all_guests(txn: ReadTxn, sealer: RowSealer, after: bytes = b"") -> Iterator[tuple[UserId, GuestRow]]:
    """Every guest behind ``after``, by user id."""
    for key, value in txn.scan(Table.GUEST, after + b"\0" if after else b""):
        user_id = UserId(key)
        yield user_id, open_guest(sealer, user_id, value)


def open_guest(sealer: RowSealer, user_id: UserId, value: bytes) -> GuestRow:
    """A guest's row from its stored value. Raises `Damaged`."""
    try:
        return decode(GuestRow, sealer.open_row(Table.GUEST, user_id, value))
    except SealBroken as broken:
        raise Damaged(Table.GUEST) from broken


def set_notice_due(txn: WriteTxn, sealer: RowSealer, user_id: UserId, row: GuestRow, due_s: int) -> None:
    """Write a guest's row with another time at which his next notice is looked at, 0 for none.

    ``row`` may differ from the stored one in all but that time.
    """
    if row.notice_due_s != due_s:
        if row.notice_due_s:
            forget_notice_due(txn, user_id, row.notice_due_s)
        if due_s:
            txn.put(Table.QDUE, due_key(Due.NOTICE, due_s, user_id), b"")
            # Whoever works the queue looks when to wake next.
            txn.announce(QUEUE_CHANGED)
    write_guest(txn, sealer, user_id, structs.replace(row, notice_due_s=due_s))


def forget_notice_due(txn: WriteTxn, user_id: UserId, due_s: int) -> None:
    """Remove a time at which there is nothing to look at."""
    txn.delete(Table.QDUE, due_key(Due.NOTICE, due_s, user_id))


def was_given_its_name(txn: ReadTxn, sealer: RowSealer, user_id: UserId) -> bool:
    """Whether an account's main address was made up here for a guest who has another of his own."""
    row = read_guest(txn, sealer, user_id)
    return row is not None and bool(row.ordinary)


def note_code_dies(txn: WriteTxn, user_id: UserId, expires_s: int) -> None:
    """Have it looked then whether the code was used. What is no longer so at that time is of no effect."""
    txn.put(Table.QDUE, due_key(Due.CODE, expires_s, user_id), b"")


def write_bequest(txn: WriteTxn, user_id: UserId, sealed: bytes | None) -> None:
    """Keep a guest's root key as sealed to who invited him; None destroys it."""
    if sealed is None:
        txn.delete(Table.BEQUEST, user_id)
    else:
        txn.put(Table.BEQUEST, user_id, sealed)


def read_bequest(txn: ReadTxn, user_id: UserId) -> bytes | None:
    """What `write_bequest` kept."""
    return txn.get(Table.BEQUEST, user_id)


def note_heard(txn: WriteTxn, hashes: Hashes, user_id: UserId, address: Address) -> None:
    """The user has had mail from this address, so he may write to it."""
    key = heard_key(user_id, hashes.heard_hash(user_id, address.base.key))
    if txn.get(Table.HEARD, key) is None:
        txn.put(Table.HEARD, key, b"")


def has_heard(txn: ReadTxn, hashes: Hashes, user_id: UserId, address: Address) -> bool:
    """Whether `note_heard` was told so."""
    return txn.get(Table.HEARD, heard_key(user_id, hashes.heard_hash(user_id, address.base.key))) is not None
