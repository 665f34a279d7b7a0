"""MTA-STS policies in the store: one row a domain, found by a keyed hash of it."""

from collections.abc import Iterator

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_policies import StsRow, decode_sts, encode_row
from certmaild.mailbox.queue import QueueSealer


class StsRows:
    """Functions for transactions."""

    def __init__(self, seals: QueueSealer) -> None:
        self._seals = seals

    def _key(self, domain: str) -> bytes:
        return self._seals.place_hash(b"sts\0" + domain.encode("ascii"))

    def read(self, txn: ReadTxn, domain: str) -> StsRow | None:
        """The row of a domain (A-labels). Raises `Damaged`."""
        key = self._key(domain)
        value = txn.get(Table.STS, key)
        return None if value is None else self._open(key, value)

    def put(self, txn: WriteTxn, row: StsRow) -> None:
        """Write or replace a domain's row."""
        key = self._key(row.domain)
        txn.put(Table.STS, key, self._seals.seal_row(Table.STS, key, encode_row(row)))

    def remove(self, txn: WriteTxn, domain: str) -> None:
        """Forget a domain's policy."""
        txn.delete(Table.STS, self._key(domain))

    def scan(self, txn: ReadTxn, after: bytes = b"") -> Iterator[tuple[bytes, StsRow]]:
        """All rows with their keys, from behind a key on. Raises `Damaged`."""
        for key, value in txn.scan(Table.STS, after + b"\0" if after else b""):
            yield key, self._open(key, value)

    def _open(self, key: bytes, value: bytes) -> StsRow:
        try:
            return decode_sts(self._seals.open_row(Table.STS, key, value))
        except SealBroken:
            raise Damaged("policy row") from None
