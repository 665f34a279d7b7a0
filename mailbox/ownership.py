"""What holds a blob alive and what it counts: own rows, reference counts and the use of a quota (KEYS section 7).

All of it is server-sealed: it needs no user key, so account removal and expiry work by it as EXPUNGE does.
"""

from dataclasses import replace

from certmaild.mailbox.account_rows import open_row, read_account
from certmaild.mailbox.errors import OverQuota
from certmaild.mailbox.identifiers import BlobId, Mid, UserId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import (
    Own,
    Table,
    Use,
    dead_key,
    decode_count,
    decode_own,
    decode_use,
    encode_count,
    encode_own,
    encode_use,
    own_key,
)
from certmaild.mailbox.layout_messages import card_key
from certmaild.mailbox.values import Quota


def read_use(txn: ReadTxn, secrets: RowSealer, user_id: UserId) -> Use:
    """What the user's messages count; nothing yet without a row."""
    value = txn.get(Table.USE, user_id)
    return Use() if value is None else decode_use(open_row(secrets, Table.USE, user_id, value))


def write_use(txn: WriteTxn, secrets: RowSealer, user_id: UserId, use: Use) -> None:
    """Replace what the user's messages count."""
    txn.put_last(Table.USE, user_id, use, lambda: secrets.seal_row(Table.USE, user_id, encode_use(use)))


def add_use(txn: WriteTxn, secrets: RowSealer, user_id: UserId, octets: int, messages: int) -> None:
    """Count more, whatever the quota says."""
    last = txn.last_put(Table.USE, user_id)
    use = last if isinstance(last, Use) else read_use(txn, secrets, user_id)
    write_use(txn, secrets, user_id, Use(use.octets + octets, use.messages + messages))


def read_limits(txn: ReadTxn, secrets: RowSealer, user_id: UserId) -> tuple[int | None, int | None]:
    """Octets and messages that the account may hold; None is no limit."""
    account = read_account(txn, secrets, user_id)
    return (None, None) if account is None else (account.octets_limit, account.messages_limit)


def read_quota(txn: ReadTxn, secrets: RowSealer, user_id: UserId) -> Quota:
    """Used and allowed."""
    use = read_use(txn, secrets, user_id)
    octets, messages = read_limits(txn, secrets, user_id)
    return Quota(use.octets, octets, use.messages, messages)


def check(txn: ReadTxn, secrets: RowSealer, user_id: UserId, octets: int, messages: int) -> Use:
    """What is used; raises `OverQuota` if so much more is above a limit."""
    quota = read_quota(txn, secrets, user_id)
    if quota.octets_limit is not None and octets and quota.octets + octets > quota.octets_limit:
        raise OverQuota
    if quota.messages_limit is not None and messages and quota.messages + messages > quota.messages_limit:
        raise OverQuota
    return Use(quota.octets, quota.messages)


def charge(txn: WriteTxn, secrets: RowSealer, user_id: UserId, octets: int, messages: int) -> None:
    """Count new entries. Raises `OverQuota`."""
    use = check(txn, secrets, user_id, octets, messages)
    write_use(txn, secrets, user_id, Use(use.octets + octets, use.messages + messages))


def refund(txn: WriteTxn, secrets: RowSealer, user_id: UserId, octets: int, messages: int) -> None:
    """Count entries no longer."""
    use = read_use(txn, secrets, user_id)
    write_use(txn, secrets, user_id, Use(max(0, use.octets - octets), max(0, use.messages - messages)))


def hold(txn: WriteTxn, secrets: RowSealer, user_id: UserId, mid: Mid, blob_id: BlobId, octets: int) -> None:
    """Write the own row of a new message, shown by one entry, and count the reference to its blob."""
    _write_own(txn, secrets, user_id, mid, Own(blob_id, 1, octets))
    count = txn.get(Table.REF, blob_id)
    txn.put(Table.REF, blob_id, encode_count(1 + (0 if count is None else decode_count(count))))


def _write_own(txn: WriteTxn, secrets: RowSealer, user_id: UserId, mid: Mid, own: Own) -> None:
    key = own_key(user_id, mid)
    txn.put(Table.OWN, key, secrets.seal_row(Table.OWN, key, encode_own(own)))


def read_own(txn: ReadTxn, secrets: RowSealer, user_id: UserId, mid: Mid) -> Own | None:
    """A message's own row; None when it was retracted, expired or released."""
    key = own_key(user_id, mid)
    value = txn.get(Table.OWN, key)
    return None if value is None else decode_own(open_row(secrets, Table.OWN, key, value))


def add_copy(txn: WriteTxn, secrets: RowSealer, user_id: UserId, mid: Mid) -> None:
    """One more entry shows the message."""
    own = read_own(txn, secrets, user_id, mid)
    if own is not None:
        _write_own(txn, secrets, user_id, mid, replace(own, copies=own.copies + 1))


def release(txn: WriteTxn, secrets: RowSealer, user_id: UserId, mid: Mid, now: int) -> None:
    """One entry less shows the message: with the last, its card and own row go, and its blob loses a reference."""
    own = read_own(txn, secrets, user_id, mid)
    if own is not None and own.copies > 1:
        _write_own(txn, secrets, user_id, mid, replace(own, copies=own.copies - 1))
        return
    txn.delete(Table.CARD, card_key(user_id, mid))
    if own is not None:
        txn.delete(Table.OWN, own_key(user_id, mid))
        drop_reference(txn, own.blob_id, now)


def forfeit(txn: WriteTxn, secrets: RowSealer, user_id: UserId, mid: Mid, now: int) -> None:
    """Nobody reads the message from now on, however many entries show it: what `release` does with the last of them.

    The entries stay, and count, until an order (`certmaild.mailbox.arrivals.queue_order`) is absorbed.
    """
    own = read_own(txn, secrets, user_id, mid)
    txn.delete(Table.CARD, card_key(user_id, mid))
    if own is not None:
        txn.delete(Table.OWN, own_key(user_id, mid))
        drop_reference(txn, own.blob_id, now)


def drop_reference(txn: WriteTxn, blob_id: BlobId, now: int) -> None:
    """One own row less names the blob; after the last it is dead, and a job removes its frames later."""
    value = txn.get(Table.REF, blob_id)
    count = 0 if value is None else decode_count(value)
    if count > 1:
        txn.put(Table.REF, blob_id, encode_count(count - 1))
        return
    txn.delete(Table.REF, blob_id)
    txn.put(Table.DEAD, dead_key(now, blob_id), b"")
