"""Marks on frames of the text column that hold text of messages which left the folder."""

import os
from bisect import bisect_left
from collections.abc import Sequence

from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_text import MARK_OCTETS, Kind, first_uid_of, kind_range, mark_key, mark_range

Mark = tuple[bytes, bytes]
"""Key and value; a frame that is marked again gets another value."""


def mark_frames(txn: WriteTxn, user_id: bytes, box_id: bytes, uids: Sequence[int]) -> None:
    """Mark the frames that may name these ascending UIDs, in the transaction that takes the messages away."""
    low, high = kind_range(user_id, box_id, Kind.DIRECTORY)
    at = 0
    while at < len(uids):
        behind = low + (uids[at] + 1).to_bytes(5, "big")[1:] if uids[at] < 0xFFFFFFFF else high
        for key, _ in txn.scan(Table.TEXT, low, behind, reverse=True):
            txn.put(Table.TEXT, mark_key(user_id, box_id, first_uid_of(key)), os.urandom(MARK_OCTETS))
            break
        following = next((key for key, _ in txn.scan(Table.TEXT, behind, high)), None)
        if following is None:
            return
        at = bisect_left(uids, first_uid_of(following), at + 1)


def mark_all(txn: WriteTxn, user_id: bytes, box_id: bytes) -> None:
    """Mark all frames of a folder that goes."""
    for key, _ in txn.scan(Table.TEXT, *kind_range(user_id, box_id, Kind.DIRECTORY)):
        txn.put(Table.TEXT, mark_key(user_id, box_id, first_uid_of(key)), os.urandom(MARK_OCTETS))


def first_marks(txn: ReadTxn, user_id: bytes, limit: int) -> list[Mark]:
    """The first marks, so many at most, of one folder."""
    marks: list[Mark] = []
    for mark in txn.scan(Table.TEXT, *mark_range(user_id)):
        if len(marks) == limit or (marks and mark[0][:-4] != marks[0][0][:-4]):
            break
        marks.append(mark)
    return marks
