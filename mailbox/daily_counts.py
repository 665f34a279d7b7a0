"""What a user may do only so often in 24 hours, counted by whole hours of the clock, for all processes and restarts."""

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_guests import Counted, DailyRow, daily_key, decode, encode

HOUR_S = 3600
HOURS = 24


def count(txn: ReadTxn, sealer: RowSealer, user_id: UserId, what: Counted, now: int) -> int:
    """How much of it there was in the 24 hours before ``now``."""
    return sum(number for _, number in _lately(txn, sealer, user_id, what, now))


def count_in_hour(txn: ReadTxn, sealer: RowSealer, user_id: UserId, what: Counted, now: int) -> int:
    """How much of it there was since the clock's last full hour."""
    return dict(_lately(txn, sealer, user_id, what, now)).get(now // HOUR_S, 0)


def note(txn: WriteTxn, sealer: RowSealer, user_id: UserId, what: Counted, now: int, number: int) -> None:
    """So many more."""
    hours = dict(_lately(txn, sealer, user_id, what, now))
    hours[now // HOUR_S] = hours.get(now // HOUR_S, 0) + number
    key = daily_key(user_id, what)
    txn.put(Table.DAILY, key, sealer.seal_row(Table.DAILY, key, encode(DailyRow(hours=tuple(sorted(hours.items()))))))


def _lately(txn: ReadTxn, sealer: RowSealer, user_id: UserId, what: Counted, now: int) -> tuple[tuple[int, int], ...]:
    key = daily_key(user_id, what)
    value = txn.get(Table.DAILY, key)
    if value is None:
        return ()
    try:
        row = decode(DailyRow, sealer.open_row(Table.DAILY, key, value))
    except SealBroken as broken:
        raise Damaged(Table.DAILY) from broken
    return tuple(one for one in row.hours if one[0] > now // HOUR_S - HOURS)
