"""A session's own view of the selected folder: its sequence numbers, and what it has been told."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import chain

from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.values import FolderState, FolderUpdate

FOLDED_FROM = 1024
FOLDED_RUNS = 512
"""UIDs are folded from so many messages on and into so many runs at most, which takes a millisecond to find out."""


class SelectedView:
    """Sequence numbers as this session knows them (RFC 9051 section 2.3.1.2).

    A message keeps its number until this session is told of its EXPUNGE, whatever other sessions know. `take` stores
    what the mailbox reports; `release_expunged` is called when the client is told that messages are gone.
    """

    __slots__ = (
        "_expunged",
        "_folded",
        "_own_changes",
        "_recent",
        "_uids",
        "box_id",
        "folder_name",
        "keywords",
        "modseq",
        "read_only",
        "saved_search",
        "uid_next",
        "uid_validity",
    )

    def __init__(self, folder_name: str, state: FolderState, *, read_only: bool) -> None:
        self.folder_name = folder_name
        self.box_id: BoxId = state.box_id
        self.uid_validity = state.uid_validity
        self.uid_next = state.uid_next
        self.modseq = state.highest_modseq
        self.keywords = state.keywords
        self.read_only = read_only
        self._uids: array[int] = array("I", state.uids)
        self._folded: array[int] | None = None
        self.saved_search: Sequence[range] = ()
        """UIDs of ``$`` (RFC 5182), as ranges; those told as expunged are taken out of it by whoever reads it."""
        self._recent: list[range] = [state.recent] if state.recent else []
        self._expunged: set[int] = set()
        self._own_changes: dict[int, int] = {}

    @property
    def uids(self) -> "array[int]":
        """UIDs by sequence number, ascending; they are unfolded."""
        if self._folded is not None:
            ends = iter(self._folded)
            self._uids = array("I", chain.from_iterable(map(range, ends, ends)))
            self._folded = None
        return self._uids

    def fold(self) -> None:
        """Keep the UIDs as runs until they are asked for: a session that waits in a large folder is smaller so."""
        if self._folded is None and len(self._uids) >= FOLDED_FROM:
            self._folded = runs_of(self._uids, at_most=FOLDED_RUNS)
            if self._folded is not None:
                self._uids = array("I")

    def __len__(self) -> int:
        """Messages as this session counts them: the number of the last EXISTS less the EXPUNGEs since."""
        return len(self.uids)

    @property
    def largest_uid(self) -> int:
        """The UID that ``*`` means in UID commands; 0 in an empty folder."""
        return self.uids[-1] if self.uids else 0

    def number(self, uid: int) -> int | None:
        """The sequence number of a UID, or None when this session has no such message."""
        at = bisect_left(self.uids, uid)
        return at + 1 if at < len(self.uids) and self.uids[at] == uid else None

    def is_recent(self, uid: int) -> bool:
        r"""Whether this session is the first to be told of the message (``\Recent``, rev1)."""
        return any(uid in part for part in self._recent)

    @property
    def recent(self) -> tuple[range, ...]:
        r"""Ranges of UIDs that are ``\Recent`` for this session; they may span UIDs that do not exist."""
        return tuple(self._recent)

    @property
    def recent_count(self) -> int:
        """Messages of this view that are recent."""
        return sum(bisect_left(self.uids, part.stop) - bisect_left(self.uids, part.start) for part in self._recent)

    def is_expunged(self, uid: int) -> bool:
        """Whether the message is known to be gone though the client has not been told yet (RFC 5530 EXPUNGEISSUED)."""
        return uid in self._expunged

    def note_own_change(self, uid: int, modseq: int) -> None:
        """The client knows the flags as of ``modseq`` (it set them, or was told): do not tell it again."""
        self._own_changes[uid] = modseq

    def knows(self, uid: int, modseq: int) -> bool:
        """Whether `note_own_change` covered this change."""
        return self._own_changes.get(uid, 0) >= modseq

    def take(self, update: FolderUpdate) -> bool:
        """Take in what changed; whether there are more messages than before. Expunges wait for `release_expunged`."""
        for gone in update.expunged:
            self._expunged.update(self.uids[bisect_left(self.uids, gone.start) : bisect_left(self.uids, gone.stop)])
        before = len(self.uids)
        last = self.largest_uid
        self.uids.extend(uid for uid in update.arrived.uids if uid > last)
        if update.recent:
            self._recent.append(update.recent)
        self.uid_next, self.modseq = update.uid_next, update.highest_modseq
        self._own_changes.clear()
        return len(self.uids) > before

    @property
    def has_expunged(self) -> bool:
        """Whether EXPUNGEs wait to be told."""
        return bool(self._expunged)

    def release_expunged(self) -> tuple[list[int], list[int]]:
        """Forget the messages that are gone.

        Gives the numbers for EXPUNGE responses in order (each valid after the one before it, RFC 9051 section 7.5.1)
        and the UIDs.
        """
        gone = sorted(self._expunged)
        self._expunged.clear()
        numbers: list[int] = []
        kept: array[int] = array("I")
        start = 0
        for told, uid in enumerate(gone):
            at = bisect_left(self.uids, uid, start)
            numbers.append(at + 1 - told)
            kept.extend(self.uids[start:at])
            start = at + 1
        if gone:
            kept.extend(self.uids[start:])
            self._uids = kept
        return numbers, gone


def runs_of(uids: "array[int]", *, at_most: int) -> "array[int] | None":
    """Ascending UIDs as runs without a gap: first and end of each in turn; None when there are more runs."""
    runs: array[int] = array("Q")
    at = 0
    while at < len(uids):
        if len(runs) == 2 * at_most:
            return None
        # Each gap moves the UIDs behind it away from their index.
        end = at + bisect_right(range(at, len(uids)), uids[at] - at, key=lambda index: uids[index] - index)
        runs.extend((uids[at], uids[at] + end - at))
        at = end
    return runs
