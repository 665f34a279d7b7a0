"""Which messages in a user's folders are the server's own, and what they tell of."""

from collections.abc import Iterator

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_guests import Service, ServiceRow, decode, encode, service_key
from certmaild.mailbox.layout_queue import Due, due_key


def write_mark(txn: WriteTxn, sealer: RowSealer, user_id: UserId, mid: Mid, row: ServiceRow) -> None:
    """Note a message of the server's own, in the transaction that files it; a password by its time too."""
    key = service_key(user_id, mid)
    if row.kind == Service.PASSWORD:
        txn.put(Table.QDUE, due_key(Due.PASSWORD, row.made_s, key), b"")
    txn.put(Table.SERVICE, key, sealer.seal_row(Table.SERVICE, key, encode(row)))


def read_mark(txn: ReadTxn, sealer: RowSealer, user_id: UserId, mid: Mid) -> ServiceRow | None:
    """What a message of the server's own is; None for any other."""
    key = service_key(user_id, mid)
    value = txn.get(Table.SERVICE, key)
    return None if value is None else _opened(sealer, key, value)


def remove_mark(txn: WriteTxn, user_id: UserId, mid: Mid) -> None:
    """The message is gone, or no longer the server's business."""
    txn.delete(Table.SERVICE, service_key(user_id, mid))


def marks_of(txn: ReadTxn, sealer: RowSealer, user_id: UserId) -> Iterator[tuple[Mid, ServiceRow]]:
    """All of one user's."""
    for key, value in txn.scan(Table.SERVICE, user_id, user_id + b"\xff" * 17):
        yield Mid(key[16:]), _opened(sealer, key, value)


def _opened(sealer: RowSealer, key: bytes, value: bytes) -> ServiceRow:
    try:
        return decode(ServiceRow, sealer.open_row(Table.SERVICE, key, value))
    except SealBroken as broken:
        raise Damaged(Table.SERVICE) from broken
