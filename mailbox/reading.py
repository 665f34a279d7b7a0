"""What sessions read of a folder: its state at SELECT, entries by UID, and what changed since they last asked."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.layout_messages import PAGE_ROWS, Head
from certmaild.mailbox.pages import (
    Page,
    Shelf,
    all_pages,
    chosen,
    cut,
    gone_since,
    joined,
    pages_at,
    pages_with,
    picked,
    read_head,
)
from certmaild.mailbox.uidsets import complement, normalise
from certmaild.mailbox.values import EntryBlock

INLINE_MESSAGES = 24 * PAGE_ROWS
"""A folder up to this size is read on the calling thread: some 24 pages of 40 us."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's head, its UIDs, and the first without ``\\Seen``."""

    head: Head
    uids: "array[int]"
    first_unseen: int | None


def read_listing(txn: ReadTxn, shelf: Shelf, box_id: BoxId) -> Listing:
    """What SELECT needs; one pass over the pages."""
    head = read_head(txn, shelf, box_id)
    uids = array("I")
    first_unseen: int | None = None
    search = head.unseen > 0
    holding: set[int] = set()
    for page in all_pages(txn, shelf, box_id):
        uids += page.uids
        if head.deleted and page.has_deleted():
            holding.add(page.first_uid)
        if search:
            first_unseen = page.first_unseen()
            search = first_unseen is None
    shelf.holding_deleted[box_id] = head.highest_modseq, frozenset(holding)
    return Listing(head, uids, first_unseen)


def read_blocks(
    txn: ReadTxn, shelf: Shelf, box_id: BoxId, runs: Sequence[range], *, changed_since: int | None, pages: int
) -> tuple[list[EntryBlock], int | None]:
    """Entries of the next ``pages`` pages, one block a page, and the UID to go on from (None at the end)."""
    blocks: list[EntryBlock] = []
    for n, page in enumerate(pages_with(txn, shelf, box_id, runs)):
        if n == pages:
            return blocks, page.first_uid
        block = _changed(page, runs, changed_since)
        if block is not None and len(block):
            blocks.append(block)
    return blocks, None


def _changed(page: Page, runs: Sequence[range], since: int | None) -> EntryBlock | None:
    if since is not None and page.highest_modseq <= since:
        return None
    block = chosen(page, runs)
    if block is None or since is None:
        return block
    return picked(block, [n for n, modseq in enumerate(block.modseqs) if modseq > since])


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed in a folder since a mod-sequence and a UIDNEXT."""

    head: Head
    changed: EntryBlock
    arrived: EntryBlock
    expunged: tuple[range, ...]


def read_difference(txn: ReadTxn, shelf: Shelf, box_id: BoxId, modseq: int, uid_next: int) -> Difference:
    """Entries changed or arrived, and UIDs gone, since then."""
    head = read_head(txn, shelf, box_id)
    changed: list[EntryBlock] = []
    arrived: list[EntryBlock] = []
    if head.messages:
        touched = shelf.pages_touched(box_id, modseq, head.highest_modseq)
        for page in all_pages(txn, shelf, box_id) if touched is None else pages_at(txn, shelf, box_id, touched):
            if page.highest_modseq <= modseq and page.uids[-1] < uid_next:
                continue
            split = sum(1 for uid in page.uids if uid < uid_next) if page.uids[-1] >= uid_next else len(page.uids)
            if split < len(page.uids):
                arrived.append(cut(page.block, split, len(page.uids)))
            fresh = [n for n in range(split) if page.block.modseqs[n] > modseq]
            if fresh:
                changed.append(picked(page.block, fresh))
            # Who is told of news waits for the next as a rule, and does not read on.
            page.fold()
    return Difference(head, joined(changed), joined(arrived), read_vanished(txn, shelf, box_id, modseq))


def read_vanished(txn: ReadTxn, shelf: Shelf, box_id: BoxId, modseq: int) -> tuple[range, ...]:
    """UIDs gone since ``modseq``; every absent UID when the log no longer reaches so far back."""
    head = read_head(txn, shelf, box_id)
    if modseq >= head.gone_floor:
        return tuple(normalise(gone_since(txn, shelf, box_id, modseq)))
    return complement(read_listing(txn, shelf, box_id).uids, head.uid_next)
