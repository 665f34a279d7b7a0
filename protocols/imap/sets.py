"""Sequence sets made into UIDs by a session's own view of the folder."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from certmaild.mailbox.values import UidSet
from certmaild.protocols.imap.errors import Bad, No
from certmaild.protocols.imap.grammar.sequence_sets import SAVED, merge_ranges, parse_sequence_set
from certmaild.protocols.imap.view import SelectedView


@dataclass(frozen=True, slots=True)
class Chosen:
    """Messages that a command names.

    ``uids`` may span UIDs that do not exist, but none that the folder has and this view has not: a view lacks only
    what is gone for ever and what is newer than all it has. ``count`` is how many of the view's messages these are.
    """

    uids: UidSet
    count: int

    def __bool__(self) -> bool:
        return bool(self.count)


def choose(view: SelectedView, text: bytes, *, by_uid: bool, strict: bool = True) -> Chosen:
    """The messages of a ``sequence-set`` (of UIDs if ``by_uid``), ``$`` included.

    Sequence numbers beyond the last message raise `Bad` if ``strict`` (RFC 9051 section 9, ``seq-number``), unless a
    ``*`` is in the set: old clients ask for ``1:*`` of an empty folder. UIDs that do not exist are passed over.
    """
    if text == SAVED:
        return _within(view, view.saved_search)
    if by_uid:
        return _within(view, parse_sequence_set(text, largest=view.largest_uid))
    held = len(view)
    numbers = parse_sequence_set(text, largest=held)
    if strict and b"*" not in text and numbers[-1].stop - 1 > held:
        raise Bad(b"There is no message of this number.")
    uids = view.uids
    parts = [part for part in numbers if part.start <= held]
    chosen = [range(uids[part.start - 1], uids[min(part.stop - 1, held) - 1] + 1) for part in parts]
    return Chosen(chosen, sum(min(part.stop - 1, held) - part.start + 1 for part in parts))


def _within(view: SelectedView, parts: Sequence[range]) -> Chosen:
    """Ranges of UIDs cut down to what the view has."""
    uids = view.uids
    end = view.largest_uid + 1
    kept = []
    count = 0
    for part in parts:
        low, high = bisect_left(uids, part.start), bisect_left(uids, part.stop)
        if low < high:
            kept.append(range(part.start, min(part.stop, end)))
            count += high - low
    return Chosen(kept, count)


def refuse_expunged(view: SelectedView, chosen: Chosen) -> None:
    """Raises `No` when one of these is gone though its EXPUNGE could not be told yet (RFC 5530)."""
    if view.has_expunged and any(view.is_expunged(uid) for uid in uids_of(view, chosen)):
        raise No(b"Some of the messages were expunged by another session.", b"EXPUNGEISSUED")


def uids_of(view: SelectedView, chosen: Chosen) -> list[int]:
    """The UIDs of the view among these, ascending."""
    uids = view.uids
    found: list[int] = []
    for part in merge_ranges(chosen.uids):
        found += uids[bisect_left(uids, part.start) : bisect_left(uids, part.stop)]
    return found


def numbers_of(view: SelectedView, uids: Sequence[int]) -> Sequence[int]:
    """Sequence numbers of ascending ``uids``, all of this view (0 for one that it has not)."""
    if not uids:
        return ()
    first = bisect_left(view.uids, uids[0])
    if view.uids[first : first + len(uids)] == uids:
        return range(first + 1, first + 1 + len(uids))
    return [view.number(uid) or 0 for uid in uids]
