"""The ring: one sealed row for each commit that somebody may watch, read by the other processes."""

from twisted.logger import Logger

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.changes import Change
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import (
    RING_ROW_CHANGES,
    RING_ROWS,
    Table,
    decode_changes,
    decode_ring_key,
    encode_changes,
    ring_key,
)

log = Logger()
_MANY = RING_ROWS // 16


class Ring:
    """One process's view of the ring: where it has read to, and which rows are its own.

    `append` runs in the writer thread, `read_new` on the reactor's; the set of own rows is added to by one and taken
    from by the other, each in one step.
    """

    def __init__(self, sealer: RowSealer) -> None:
        self._sealer = sealer
        self._seen = 0
        self._own: set[int] = set()

    def skip(self, txn: ReadTxn) -> list[Change]:
        """Take everything that stands in the ring as known; gives no change."""
        self._see(_last(txn))
        return []

    @property
    def is_far_behind(self) -> bool:
        """Whether so many own rows wait to be passed over that the ring should be read before they fill it."""
        return len(self._own) > _MANY

    def _see(self, number: int) -> None:
        """Everything to this number is known."""
        self._seen = number
        for own in [own for own in tuple(self._own) if own <= number]:
            self._own.discard(own)

    def append(self, txn: WriteTxn, changes: list[Change]) -> int:
        """Write what a commit changed; its number. Too much for a row becomes an empty one: look at everything."""
        number = _last(txn) + 1
        distinct = tuple(dict.fromkeys(changes))
        plain = encode_changes(distinct if len(distinct) <= RING_ROW_CHANGES else ())
        key = ring_key(number)
        self._own.add(number)
        txn.put(Table.RING, key, self._sealer.seal_row(Table.RING, key, plain))
        if number > RING_ROWS:
            txn.delete(Table.RING, ring_key(number - RING_ROWS))
        return number

    def forget(self, number: int | None) -> None:
        """The commit of this row failed."""
        if number is not None:
            self._own.discard(number)

    def read_new(self, txn: ReadTxn) -> list[Change] | None:
        """What other processes changed since the last call; None if too much happened to say."""
        changes: list[Change] = []
        expected, everything = self._seen + 1, False
        for key, value in txn.scan(Table.RING, ring_key(expected)):
            number = decode_ring_key(key)
            everything |= number != expected
            expected = number + 1
            if number in self._own:
                continue
            found = self._open(key, value)
            everything |= not found
            changes.extend(found)
        self._see(expected - 1)
        return None if everything else changes

    def _open(self, key: bytes, value: bytes) -> tuple[Change, ...]:
        """The changes in a row; none for one that is damaged, so that everybody looks at everything."""
        try:
            return decode_changes(self._sealer.open_row(Table.RING, key, value))
        except (SealBroken, Damaged):
            log.critical("ALARM: row {number} of the ring of changes is damaged", number=decode_ring_key(key))
            return ()


def _last(txn: ReadTxn) -> int:
    for key, _ in txn.scan(Table.RING, b"", reverse=True):
        return decode_ring_key(key)
    return 0
