"""What was done to accounts, by whom and when: a chain of server-sealed rows."""

from collections.abc import Iterator
from hashlib import sha256

import msgspec

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.interfaces import Engine, ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import U64, Table
from certmaild.mailbox.layout_guests import AuditRow, audit_key, decode, encode

SERVER = "server"
"""Who did it, where nobody else did."""


def note(txn: WriteTxn, sealer: RowSealer, row: AuditRow) -> None:
    """Add a row, in the transaction of what it tells of."""
    number, previous = 0, ""
    last = next(txn.scan(Table.AUDIT, b"", reverse=True), None)
    if last is not None:
        number = int(U64.unpack(last[0])[0])
        previous = sha256(_opened(sealer, *last)).hexdigest()
    key = audit_key(number + 1)
    plain = encode(msgspec.structs.replace(row, previous=previous))
    txn.put(Table.AUDIT, key, sealer.seal_row(Table.AUDIT, key, plain))


def entries(txn: ReadTxn, sealer: RowSealer, after: int = 0) -> Iterator[tuple[int, AuditRow]]:
    """Rows behind number ``after``, oldest first. Raises `Damaged` where one is missing or was changed."""
    expected, previous = after + 1, None
    if after:
        key = audit_key(after)
        value = txn.get(Table.AUDIT, key)
        previous = None if value is None else sha256(_opened(sealer, key, value)).hexdigest()
    for key, value in txn.scan(Table.AUDIT, audit_key(after + 1)):
        number = int(U64.unpack(key)[0])
        plain = _opened(sealer, key, value)
        row = decode(AuditRow, plain)
        if number != expected or row.previous != (previous or ""):
            raise Damaged("a row of the audit log is missing")
        yield number, row
        expected, previous = number + 1, sha256(plain).hexdigest()


async def read_all(engine: Engine, sealer: RowSealer) -> tuple[list[tuple[int, AuditRow]], bool]:
    """All rows up to the first that is missing or was changed, and whether there is none such."""

    def work(txn: ReadTxn) -> tuple[list[tuple[int, AuditRow]], bool]:
        found: list[tuple[int, AuditRow]] = []
        try:
            found.extend(entries(txn, sealer))
        except Damaged:
            return found, False
        return found, True

    return await engine.scan(work)


def _opened(sealer: RowSealer, key: bytes, value: bytes) -> bytes:
    try:
        return sealer.open_row(Table.AUDIT, key, value)
    except SealBroken as broken:
        raise Damaged(Table.AUDIT) from broken
