"""Changes to messages inside one write transaction: flags, adding, copying, moving, expunging; 64 pages at most.

Each function does a slice and says where the next one begins, so that a change of many thousand messages never keeps
other writers waiting for long; `certmaild.mailbox.opened` runs the slices.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from certmaild.mailbox import ownership
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.identifiers import BlobId, BoxId, Mid
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_messages import card_key
from certmaild.mailbox.pages import FolderEditor, Page, Shelf, all_pages, chosen, joined, pages_at, picked, read_head
from certmaild.mailbox.uidsets import overlaps, ranges_of, subtract_block
from certmaild.mailbox.values import COPIED_WITHIN, SERVER_COPY, SYSTEM_FLAGS, EntryBlock, FlagOp, SystemFlag

SLICE_PAGES = 64
"""Of a slice that changes only pages: some 3 us a message."""
OWNED_PAGES = 8
"""Of a slice that also changes what each message is owned by: some 20 us a message. Other writers wait for 40 ms."""


@dataclass(frozen=True, slots=True)
class FlagChange:
    """What STORE asks, with keywords as bits; ``unchanged_since`` as in RFC 7162 section 3.1.3."""

    op: FlagOp
    system: int
    keywords: int
    unchanged_since: int | None = None

    def apply(self, flags: int, keywords: int) -> tuple[int, int]:
        """The flags and keywords that these become; the store's own bits stay."""
        if self.op is FlagOp.ADD:
            return flags | self.system, keywords | self.keywords
        if self.op is FlagOp.REMOVE:
            return flags & ~self.system, keywords & ~self.keywords
        return (flags & ~SYSTEM_FLAGS) | self.system, self.keywords


@dataclass(slots=True)
class StoreSlice:
    """One slice's part of a `StoreResult`; ``resume`` is the first UID of the next slice, None at the end."""

    blocks: list[EntryBlock] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    modified: list[int] = field(default_factory=list)
    modseq: int = 0
    resume: int | None = None


def store_flags(txn: WriteTxn, shelf: Shelf, box_id: BoxId, runs: Sequence[range], change: FlagChange) -> StoreSlice:
    """Change the flags of the named messages in the next 64 pages."""
    editor = FolderEditor(txn, shelf, box_id)
    done = StoreSlice()
    for page in _slice(editor, runs, done, pages=SLICE_PAGES):
        _store_page(editor, page, runs, change, done)
    if editor.save():
        txn.announce(Change(ChangeKind.FOLDER, shelf.user_id, box_id))
    done.modseq = editor.head.highest_modseq
    return done


def _slice(editor: FolderEditor, runs: Sequence[range], done: "StoreSlice | Moved", *, pages: int) -> Iterator[Page]:
    for n, page in enumerate(editor.pages(runs)):
        if n == pages:
            done.resume = page.first_uid
            return
        yield page


def _store_page(editor: FolderEditor, page: Page, runs: Sequence[range], change: FlagChange, done: StoreSlice) -> None:
    block = page.block
    flags, keywords, modseqs = block.flags[:], block.keywords[:], block.modseqs[:]
    told: list[int] = []
    changed_here = 0
    limit = change.unchanged_since
    for low, high in overlaps(page.uids, runs):
        for at in range(low, high):
            if limit is not None and modseqs[at] > limit:
                done.modified.append(block.uids[at])
                continue
            told.append(at)
            now = change.apply(flags[at], keywords[at])
            if now != (flags[at], keywords[at]):
                flags[at], keywords[at] = now
                modseqs[at] = editor.modseq
                done.changed.append(block.uids[at])
                changed_here += 1
    if changed_here:
        block = EntryBlock(
            block.uids,
            block.mids,
            block.mks,
            flags,
            keywords,
            modseqs,
            block.internal_dates,
            block.sizes,
            block.save_dates,
        )
        editor.replace(page, block)
    if told:
        done.blocks.append(picked(block, told))


@dataclass(frozen=True, slots=True, repr=False)
class PreparedMessage:
    """A message ready to be added: its sealed card and the columns of its entry."""

    mid: Mid
    mk: bytes
    sealed_card: bytes
    blob_id: BlobId
    size: int
    """With the prefix."""
    flags: int
    keywords: int
    internal_date: int


def entries_of(messages: Sequence[PreparedMessage], now: int) -> EntryBlock:
    """The columns of new messages; UIDs and mod-sequences are given when they are added."""
    count = len(messages)
    return EntryBlock(
        array("I", bytes(4 * count)),
        b"".join([message.mid for message in messages]),
        b"".join([message.mk for message in messages]),
        array("H", [message.flags for message in messages]),
        array("Q", [message.keywords for message in messages]),
        array("Q", bytes(8 * count)),
        array("Q", [message.internal_date for message in messages]),
        array("Q", [message.size for message in messages]),
        array("Q", [now]) * count,
    )


def add_messages(
    txn: WriteTxn, shelf: Shelf, secrets: RowSealer, box_id: BoxId, messages: Sequence[PreparedMessage], now: int
) -> tuple[int, range]:
    """Add new messages, whose blobs the caller writes, to a folder; UIDVALIDITY and UIDs. Raises `OverQuota`."""
    editor = FolderEditor(txn, shelf, box_id)
    ownership.charge(txn, secrets, shelf.user_id, sum(m.size for m in messages), len(messages))
    for message in messages:
        txn.put(Table.CARD, card_key(shelf.user_id, message.mid), message.sealed_card)
        ownership.hold(txn, secrets, shelf.user_id, message.mid, message.blob_id, message.size)
    uids = editor.add(entries_of(messages, now))
    editor.save()
    txn.announce(Change(ChangeKind.FOLDER, shelf.user_id, box_id))
    return editor.head.uid_validity, uids


@dataclass(slots=True)
class Moved:
    """One slice of a copy, move or expunge."""

    uid_validity: int = 0
    source_uids: list[int] = field(default_factory=list)
    new_uids: list[int] = field(default_factory=list)
    octets: int = 0
    mids: bytes = b""
    """Of what has left the folder, 16 octets each."""
    modseq: int = 0
    resume: int | None = None


def copy_slice(
    txn: WriteTxn, shelf: Shelf, secrets: RowSealer, box_id: BoxId, runs: Sequence[range], to_box: BoxId, now: int
) -> Moved:
    """Copy the named messages of the next 8 pages. Raises `OverQuota`."""
    source = FolderEditor(txn, shelf, box_id)
    target = source if to_box == box_id else FolderEditor(txn, shelf, to_box)
    done = Moved(target.head.uid_validity)
    blocks = [
        block for page in _slice(source, runs, done, pages=OWNED_PAGES) if (block := chosen(page, runs)) is not None
    ]
    if blocks:
        block = joined(blocks)
        ownership.charge(txn, secrets, shelf.user_id, sum(block.sizes), len(block))
        for at in range(0, 16 * len(block), 16):
            ownership.add_copy(txn, secrets, shelf.user_id, Mid(block.mids[at : at + 16]))
        _add_copied(target, block, within=to_box == box_id, now=now, done=done)
        target.save()
        txn.announce(Change(ChangeKind.FOLDER, shelf.user_id, to_box))
    return done


def _add_copied(target: FolderEditor, block: EntryBlock, *, within: bool, now: int, done: Moved) -> None:
    mark = COPIED_WITHIN if within else 0
    copied = EntryBlock(
        block.uids,
        block.mids,
        block.mks,
        array("H", [flags & ~(COPIED_WITHIN | SERVER_COPY) | mark for flags in block.flags]),
        block.keywords,
        block.modseqs,
        block.internal_dates,
        block.sizes,
        array("Q", [now]) * len(block),
    )
    done.new_uids += target.add(copied)
    done.source_uids += block.uids


def move_slice(txn: WriteTxn, shelf: Shelf, box_id: BoxId, runs: Sequence[range], to_box: BoxId, now: int) -> Moved:
    """Move the named messages of the next 64 pages: out of one folder and into the other in one transaction."""
    source = FolderEditor(txn, shelf, box_id)
    target = source if to_box == box_id else FolderEditor(txn, shelf, to_box)
    done = Moved(target.head.uid_validity)
    blocks = []
    for page in list(_slice(source, runs, done, pages=SLICE_PAGES)):
        at = [n for low, high in overlaps(page.uids, runs) for n in range(low, high)]
        if at:
            blocks.append(source.remove(page, at))
    if blocks:
        block = joined(blocks)
        source.log_gone(ranges_of(block.uids))
        done.mids = block.mids
        _add_copied(target, block, within=False, now=now, done=done)
        source.save()
        txn.announce(Change(ChangeKind.FOLDER, shelf.user_id, box_id))
        if target is not source:
            target.save()
            txn.announce(Change(ChangeKind.FOLDER, shelf.user_id, to_box))
    done.modseq = source.head.highest_modseq
    return done


def expunge_slice(
    txn: WriteTxn,
    shelf: Shelf,
    secrets: RowSealer,
    box_id: BoxId,
    runs: Sequence[range],
    *,
    now: int,
    only_deleted: bool = True,
) -> Moved:
    """Remove named messages of the next 8 pages, those with ``\\Deleted`` or all, and release what they held."""
    editor = FolderEditor(txn, shelf, box_id)
    done = Moved(editor.head.uid_validity)
    for page in list(_slice(editor, runs, done, pages=OWNED_PAGES)):
        flags = page.block.flags
        at = [
            n
            for low, high in overlaps(page.uids, runs)
            for n in range(low, high)
            if not only_deleted or flags[n] & SystemFlag.DELETED
        ]
        if not at:
            continue
        going = editor.remove(page, at)
        done.source_uids += going.uids
        done.octets += sum(going.sizes)
        done.mids += going.mids
        for n in range(0, 16 * len(going), 16):
            ownership.release(txn, secrets, shelf.user_id, Mid(going.mids[n : n + 16]), now)
    if done.source_uids:
        ownership.refund(txn, secrets, shelf.user_id, done.octets, len(done.source_uids))
        editor.log_gone(ranges_of(done.source_uids))
        editor.save()
        txn.announce(Change(ChangeKind.FOLDER, shelf.user_id, box_id))
    done.modseq = editor.head.highest_modseq
    return done


def deleted_uids(txn: ReadTxn, shelf: Shelf, box_id: BoxId, runs: Sequence[range]) -> list[range]:
    """Which of these UIDs have ``\\Deleted``. Looks only at pages that may have some, once all were looked at."""
    found: list[int] = []
    holding: set[int] = set()
    modseq = read_head(txn, shelf, box_id).highest_modseq
    known = shelf.pages_to_expunge(box_id, modseq)
    for page in all_pages(txn, shelf, box_id) if known is None else pages_at(txn, shelf, box_id, known):
        if page.has_deleted():
            holding.add(page.first_uid)
            flags, uids = page.block.flags, page.uids
            found += [
                uids[n] for low, high in overlaps(uids, runs) for n in range(low, high) if flags[n] & SystemFlag.DELETED
            ]
    shelf.holding_deleted[box_id] = modseq, frozenset(holding)
    return list(ranges_of(found))


def expunge_mids(
    txn: WriteTxn, shelf: Shelf, secrets: RowSealer, box_ids: Sequence[BoxId], mids: frozenset[Mid], *, now: int
) -> int:
    """Remove every entry of these messages, wherever it lies; how many."""
    total = 0
    for box_id in box_ids:
        found: list[int] = []
        for page in all_pages(txn, shelf, box_id):
            block = page.block
            found += [uid for n, uid in enumerate(block.uids) if block.mids[16 * n : 16 * n + 16] in mids]
        runs: Sequence[range] = ranges_of(found)
        while runs:
            done = expunge_slice(txn, shelf, secrets, box_id, runs, now=now, only_deleted=False)
            total += len(done.source_uids)
            runs = () if done.resume is None else subtract_block(runs, done.resume)
    return total
