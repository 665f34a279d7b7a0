"""How TLS with other domains went, in the store: one row a day and domain, found by a keyed hash of the domain."""

from collections.abc import Iterator

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import U32, Table
from certmaild.mailbox.layout_policies import TlsDayRow, day_key, decode_day_key, decode_tls_day, encode_row
from certmaild.mailbox.queue import QueueSealer


class TlsDays:
    """Functions for transactions. Days are counted from 1970, UTC."""

    def __init__(self, seals: QueueSealer) -> None:
        self._seals = seals

    def read(self, txn: ReadTxn, day: int, domain: str) -> TlsDayRow | None:
        """The row of a domain (A-labels). Raises `Damaged`."""
        key = self._key(day, domain)
        value = txn.get(Table.TLSRPT, key)
        return None if value is None else self._open(key, value)

    def put(self, txn: WriteTxn, day: int, row: TlsDayRow) -> None:
        """Write or replace a row."""
        key = self._key(day, row.domain)
        txn.put(Table.TLSRPT, key, self._seals.seal_row(Table.TLSRPT, key, encode_row(row)))

    def remove(self, txn: WriteTxn, day: int, domain: str) -> bool:
        """Remove a row; whether it was there."""
        return txn.delete(Table.TLSRPT, self._key(day, domain))

    def scan(self, txn: ReadTxn, before: int, after: bytes = b"") -> Iterator[tuple[bytes, int, TlsDayRow | None]]:
        """Key, day and row of days before ``before``, from behind a key on; None for a row that does not open."""
        for key, value in txn.scan(Table.TLSRPT, after + b"\0" if after else b"", U32.pack(before)):
            try:
                row = self._open(key, value)
            except Damaged:
                row = None
            yield key, decode_day_key(key)[0], row

    def drop(self, txn: WriteTxn, key: bytes) -> None:
        """Remove a row by its key."""
        txn.delete(Table.TLSRPT, key)

    def _key(self, day: int, domain: str) -> bytes:
        return day_key(day, self._seals.place_hash(b"tlsrpt\0" + domain.encode("ascii")))

    def _open(self, key: bytes, value: bytes) -> TlsDayRow:
        try:
            return decode_tls_day(self._seals.open_row(Table.TLSRPT, key, value))
        except SealBroken:
            raise Damaged("TLS report row") from None
