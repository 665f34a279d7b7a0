"""A folder's entries: sealed columnar pages, read through a cache, and changed inside one write transaction."""

import sys
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.users import KeyRing
from certmaild.mailbox.errors import Damaged, FolderMissing
from certmaild.mailbox.identifiers import BoxId, UserId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_messages import (
    PAGE_PLACE,
    PAGE_ROWS,
    Head,
    Record,
    decode_gone,
    decode_head,
    decode_page,
    encode_gone,
    encode_head,
    encode_page,
    gone_key,
    head_key,
    page_flag_octets,
    page_key,
    page_rows,
    page_uids,
)
from certmaild.mailbox.text_marks import mark_frames
from certmaild.mailbox.uidsets import next_in, overlaps
from certmaild.mailbox.values import EntryBlock, SystemFlag

SEAL_OVERHEAD = 10 + 12 + 16
"""Header, nonce and tag around a page's columns."""
GONE_ROWS_KEPT = 1000
"""Rows of the expunge log a folder keeps; beyond, the older half goes and `Head.gone_floor` rises."""
_CACHED_PAGE_OCTETS = 52_000
_LOW_OCTET = 0 if sys.byteorder == "little" else 1
_UNSEEN = bytes(0 if octet & SystemFlag.SEEN else 1 for octet in range(256))
_DELETED = bytes(1 if octet & SystemFlag.DELETED else 0 for octet in range(256))


class Page:
    """One decrypted page, immutable; columns are made of it when asked for."""

    __slots__ = ("_block", "_highest", "_plain", "_uids", "first_uid", "nonce")

    def __init__(self, first_uid: int, nonce: bytes, plain: bytes) -> None:
        page_rows(len(plain))
        self.first_uid = first_uid
        self.nonce = nonce
        self._plain = plain
        self._uids: array[int] | None = None
        self._block: EntryBlock | None = None
        self._highest: int | None = None

    @property
    def uids(self) -> "array[int]":
        """UIDs, ascending."""
        if self._uids is None:
            self._uids = page_uids(self._plain)
        return self._uids

    @property
    def block(self) -> EntryBlock:
        """All columns; do not change them."""
        if self._block is None:
            self._block = decode_page(self._plain)
        return self._block

    @property
    def highest_modseq(self) -> int:
        """The highest mod-sequence of its entries."""
        if self._highest is None:
            self._highest = max(self.block.modseqs)
        return self._highest

    def fold(self) -> None:
        """Let go of the columns, half of what a page takes; they are made again in some 20 us."""
        self._block = None

    def first_unseen(self) -> int | None:
        """UID of the first entry without ``\\Seen``."""
        at = page_flag_octets(self._plain).translate(_UNSEEN).find(1)
        return None if at < 0 else self.uids[at]

    def has_deleted(self) -> bool:
        """Whether any entry has ``\\Deleted``."""
        return 1 in page_flag_octets(self._plain).translate(_DELETED)


class PageCache:
    """Decrypted pages of all open mailboxes, least recently used ones going first; used from several threads.

    A cached page counts only while the stored nonce is the same (KEYS section 6), so it is never invalidated.
    """

    def __init__(self, limit_octets: int = 64 << 20) -> None:
        self._limit = max(1, limit_octets // _CACHED_PAGE_OCTETS)
        self._pages: OrderedDict[tuple[bytes, int], Page] = OrderedDict()
        self._lock = Lock()

    def find(self, box_id: bytes, first_uid: int, nonce: bytes) -> Page | None:
        """The page, if this very version of it is cached."""
        with self._lock:
            page = self._pages.get((box_id, first_uid))
            if page is None or page.nonce != nonce:
                return None
            self._pages.move_to_end((box_id, first_uid))
            return page

    def keep(self, box_id: bytes, page: Page) -> None:
        """Remember a page."""
        with self._lock:
            self._pages[box_id, page.first_uid] = page
            self._pages.move_to_end((box_id, page.first_uid))
            while len(self._pages) > self._limit:
                self._pages.popitem(last=False)

    def forget(self, box_ids: Sequence[bytes]) -> None:
        """Drop the pages of these folders: their mailbox was closed."""
        gone = set(box_ids)
        with self._lock:
            for key in [key for key in self._pages if key[0] in gone]:
                del self._pages[key]


Touched = tuple[bytes, int, frozenset[int]]
"""Folder, mod-sequence, keys of pages."""
TOUCHED_KEPT = 512


@dataclass(slots=True)
class Shelf:
    """What reading one user's folders takes: whose they are, his keys, the cache."""

    user_id: UserId
    keys: KeyRing
    cache: PageCache = field(default_factory=PageCache)
    boxes: set[bytes] = field(default_factory=set)
    """Folders that were read, whose pages may be cached."""
    journal: "list[Touched] | None" = None
    """Where the transaction under way, in the writer thread, notes what it changes."""
    touched: dict[bytes, dict[int, frozenset[int]]] = field(default_factory=dict)
    """By folder and mod-sequence: keys of the pages that this process changed, once committed."""
    holding_deleted: dict[bytes, tuple[int, frozenset[int]]] = field(default_factory=dict)
    """By folder: a mod-sequence, and keys of all pages in which a message then had ``\\Deleted``."""

    def keep_journal(self, journal: "list[Touched]") -> None:
        """Remember what a committed transaction changed."""
        for box_id, modseq, first_uids in journal:
            log = self.touched.setdefault(box_id, {})
            log[modseq] = first_uids
            while len(log) > TOUCHED_KEPT:
                del log[next(iter(log))]

    def pages_to_expunge(self, box_id: bytes, upto: int) -> set[int] | None:
        """Keys of the pages where a message may have ``\\Deleted`` as of a mod-sequence; None if not known."""
        known = self.holding_deleted.get(box_id)
        touched = None if known is None else self.pages_touched(box_id, known[0], upto)
        return None if known is None or touched is None else touched | known[1]

    def pages_touched(self, box_id: bytes, after: int, upto: int) -> set[int] | None:
        """Keys of the pages changed by the mod-sequences above ``after`` and up to ``upto``; None if not all known."""
        log = self.touched.get(box_id)
        if log is None or upto - after > len(log):
            return None
        touched: set[int] = set()
        for modseq in range(after + 1, upto + 1):
            first_uids = log.get(modseq)
            if first_uids is None:
                return None
            touched |= first_uids
        return touched


def find_head(txn: ReadTxn, shelf: Shelf, box_id: bytes) -> Head | None:
    """A folder's head, or None if there is no such folder. Raises `Damaged`."""
    value = txn.get(Table.HEAD, head_key(shelf.user_id, box_id))
    if value is None:
        return None
    try:
        return decode_head(shelf.keys.open_names(Record.HEAD, box_id, value))
    except SealBroken as broken:
        raise Damaged("head") from broken


def read_head(txn: ReadTxn, shelf: Shelf, box_id: bytes) -> Head:
    """A folder's head. Raises `FolderMissing`, `Damaged`."""
    head = find_head(txn, shelf, box_id)
    if head is None:
        raise FolderMissing
    return head


def write_head(txn: WriteTxn, shelf: Shelf, box_id: bytes, head: Head) -> None:
    """Replace a folder's head."""
    txn.put(Table.HEAD, head_key(shelf.user_id, box_id), shelf.keys.seal_names(Record.HEAD, box_id, encode_head(head)))


def open_page(shelf: Shelf, box_id: bytes, key: bytes, value: bytes) -> Page:
    """The page of a stored pair, from the cache when it is the same version. Raises `Damaged`."""
    first_uid = int.from_bytes(key[32:], "big")
    nonce = value[10:22]
    page = shelf.cache.find(box_id, first_uid, nonce)
    if page is None:
        place = PAGE_PLACE.pack(first_uid, page_rows(len(value) - SEAL_OVERHEAD))
        try:
            plain = shelf.keys.open_entries(Record.PAGE, BoxId(box_id), place, value)
        except SealBroken as broken:
            raise Damaged("page") from broken
        page = Page(first_uid, nonce, plain)
        shelf.boxes.add(box_id)
        shelf.cache.keep(box_id, page)
    return page


def all_pages(txn: ReadTxn, shelf: Shelf, box_id: bytes, after: int = -1) -> Iterator[Page]:
    """A folder's pages in order, those whose key lies after ``after``."""
    prefix = shelf.user_id + box_id
    for key, value in txn.scan(Table.PAGE, prefix + (after + 1).to_bytes(4, "big"), _after(prefix)):
        yield open_page(shelf, box_id, key, value)


def _after(prefix: bytes) -> bytes:
    return prefix + b"\xff\xff\xff\xff\xff"


def pages_back(txn: ReadTxn, shelf: Shelf, box_id: bytes) -> Iterator[Page]:
    """A folder's pages, the one with the highest UIDs first."""
    prefix = shelf.user_id + box_id
    for key, value in txn.scan(Table.PAGE, prefix, _after(prefix), reverse=True):
        yield open_page(shelf, box_id, key, value)


def page_below(txn: ReadTxn, shelf: Shelf, box_id: bytes, uid: int) -> Page | None:
    """The page that holds ``uid`` if any does: the last one that begins at or below it."""
    prefix = shelf.user_id + box_id
    stop = prefix + uid.to_bytes(4, "big") + b"\0"
    for key, value in txn.scan(Table.PAGE, prefix, stop, reverse=True):
        return open_page(shelf, box_id, key, value)
    return None


def pages_at(txn: ReadTxn, shelf: Shelf, box_id: bytes, first_uids: Iterable[int]) -> Iterator[Page]:
    """The pages with these keys, as far as they exist, in order."""
    for first_uid in sorted(first_uids):
        key = page_key(shelf.user_id, box_id, first_uid)
        value = txn.get(Table.PAGE, key)
        if value is not None:
            yield open_page(shelf, box_id, key, value)


def pages_with(txn: ReadTxn, shelf: Shelf, box_id: bytes, runs: Sequence[range]) -> Iterator[Page]:
    """The pages that may hold UIDs of normalised ``runs``, in order."""
    seen = -1
    need = next_in(runs, 0)
    while need is not None:
        page = page_below(txn, shelf, box_id, need)
        if page is None or page.first_uid <= seen:
            page = next(all_pages(txn, shelf, box_id, seen if page is not None else -1), None)
            if page is None:
                return
            need = next_in(runs, max(need, page.first_uid))
            if need is None:
                return
            if page.uids[-1] < need:
                seen = page.first_uid
                continue
        seen = page.first_uid
        yield page
        need = next_in(runs, max(need, page.uids[-1] + 1))


def chosen(page: Page, runs: Sequence[range]) -> EntryBlock | None:
    """The page's entries with UIDs in normalised ``runs``; None when there are none."""
    slices = list(overlaps(page.uids, runs))
    if not slices:
        return None
    if slices == [(0, len(page.uids))]:
        return page.block
    block = page.block
    pieces = [cut(block, low, high) for low, high in slices]
    return pieces[0] if len(pieces) == 1 else joined(pieces)


def cut(block: EntryBlock, low: int, high: int) -> EntryBlock:
    """Entries ``low`` up to ``high`` of a block."""
    return EntryBlock(
        block.uids[low:high],
        block.mids[16 * low : 16 * high],
        block.mks[32 * low : 32 * high],
        block.flags[low:high],
        block.keywords[low:high],
        block.modseqs[low:high],
        block.internal_dates[low:high],
        block.sizes[low:high],
        block.save_dates[low:high],
    )


def picked(block: EntryBlock, at: Sequence[int]) -> EntryBlock:
    """The entries at these ascending indexes."""
    if len(at) == len(block):
        return block
    if at and at[-1] - at[0] + 1 == len(at):
        return cut(block, at[0], at[-1] + 1)
    mids, mks = block.mids, block.mks
    return EntryBlock(
        array("I", [block.uids[n] for n in at]),
        b"".join([mids[16 * n : 16 * n + 16] for n in at]),
        b"".join([mks[32 * n : 32 * n + 32] for n in at]),
        array("H", [block.flags[n] for n in at]),
        *(
            array("Q", [column[n] for n in at])
            for column in (block.keywords, block.modseqs, block.internal_dates, block.sizes, block.save_dates)
        ),
    )


def joined(blocks: Sequence[EntryBlock]) -> EntryBlock:
    """Blocks end to end, as one new block."""
    whole = EntryBlock(mids=b"".join([b.mids for b in blocks]), mks=b"".join([b.mks for b in blocks]))
    for block in blocks:
        whole.uids.extend(block.uids)
        whole.flags.extend(block.flags)
        whole.keywords.extend(block.keywords)
        whole.modseqs.extend(block.modseqs)
        whole.internal_dates.extend(block.internal_dates)
        whole.sizes.extend(block.sizes)
        whole.save_dates.extend(block.save_dates)
    return whole


def gone_since(txn: ReadTxn, shelf: Shelf, box_id: bytes, modseq: int) -> list[range]:
    """UIDs in the expunge log after ``modseq``, as logged (neither ordered nor disjoint)."""
    prefix = shelf.user_id + box_id
    runs: list[range] = []
    for key, value in txn.scan(Table.GONE, gone_key(shelf.user_id, box_id, modseq + 1), prefix + b"\xff" * 9):
        try:
            runs += decode_gone(shelf.keys.open_entries(Record.GONE, BoxId(box_id), key[32:], value))
        except SealBroken as broken:
            raise Damaged("gone row") from broken
    return runs


class FolderEditor:
    """Changes to one folder inside one write transaction; `save` writes the head once, at the end."""

    def __init__(self, txn: WriteTxn, shelf: Shelf, box_id: bytes) -> None:
        self.txn = txn
        self.shelf = shelf
        self.box_id = BoxId(box_id)
        self.head = read_head(txn, shelf, box_id)
        self.modseq = self.head.highest_modseq + 1
        """What this transaction's changes get."""
        self.changed = False
        self._touched: set[int] = set()

    def pages(self, runs: Sequence[range]) -> Iterator[Page]:
        """Pages that may hold these UIDs (`pages_with`)."""
        return pages_with(self.txn, self.shelf, self.box_id, runs)

    def put(self, first_uid: int, block: EntryBlock) -> None:
        """Write a page."""
        plain = encode_page(block)
        place = PAGE_PLACE.pack(first_uid, len(block))
        value = self.shelf.keys.seal_entries(Record.PAGE, self.box_id, place, plain)
        self.txn.put(Table.PAGE, page_key(self.shelf.user_id, self.box_id, first_uid), value)
        self.shelf.boxes.add(self.box_id)
        self.shelf.cache.keep(self.box_id, Page(first_uid, value[10:22], plain))
        self._touched.add(first_uid)
        self.changed = True

    def add(self, new: EntryBlock) -> range:
        """Append entries, whose uids and modseqs are given here; their UIDs."""
        first = self.head.uid_next
        uids = range(first, first + len(new))
        if uids.stop > 1 << 32:
            raise Damaged("UIDs used up")
        block = EntryBlock(
            array("I", uids),
            new.mids,
            new.mks,
            new.flags,
            new.keywords,
            array("Q", [self.modseq]) * len(new),
            new.internal_dates,
            new.sizes,
            new.save_dates,
        )
        tail = page_below(self.txn, self.shelf, self.box_id, 0xFFFFFFFF)
        at = 0
        if tail is not None and len(tail.uids) < PAGE_ROWS:
            at = PAGE_ROWS - len(tail.uids)
            self.put(tail.first_uid, joined((tail.block, cut(block, 0, at))))
        while at < len(block):
            part = cut(block, at, at + PAGE_ROWS)
            self.put(part.uids[0], part)
            at += PAGE_ROWS
        self.head.uid_next = uids.stop
        self._count(block, 1)
        return uids

    def replace(self, page: Page, block: EntryBlock) -> None:
        """Put other flags, keywords and mod-sequences into a page."""
        self._count(page.block, -1)
        self._count(block, 1)
        self.put(page.first_uid, block)

    def remove(self, page: Page, at: Sequence[int]) -> EntryBlock:
        """Take the entries at these indexes out of a page; the removed entries. Log them with `log_gone`."""
        going = picked(page.block, at)
        self._count(going, -1)
        self._drop_ready(page.first_uid)
        mark_frames(self.txn, self.shelf.user_id, self.box_id, going.uids)
        out = set(at)
        staying = [n for n in range(len(page.uids)) if n not in out]
        if staying:
            self.put(page.first_uid, picked(page.block, staying))
        else:
            self.txn.delete(Table.PAGE, page_key(self.shelf.user_id, self.box_id, page.first_uid))
            self.changed = True
        return going

    def _drop_ready(self, first_uid: int) -> None:
        """Forget the ready values of a page: they hold facts of messages that leave it."""
        prefix = page_key(self.shelf.user_id, self.box_id, first_uid)
        for key in [key for key, _ in self.txn.scan(Table.READY, prefix, prefix + b"\xff" * 9)]:
            self.txn.delete(Table.READY, key)

    def log_gone(self, runs: Sequence[range]) -> None:
        """Remember which UIDs this mod-sequence removed."""
        place = self.modseq.to_bytes(8, "big")
        value = self.shelf.keys.seal_entries(Record.GONE, self.box_id, place, encode_gone(runs))
        self.txn.put(Table.GONE, gone_key(self.shelf.user_id, self.box_id, self.modseq), value)
        self.head.gone_rows += 1
        if self.head.gone_rows > GONE_ROWS_KEPT:
            self._prune_gone()

    def _prune_gone(self) -> None:
        prefix = self.shelf.user_id + self.box_id
        rows = self.txn.scan(Table.GONE, prefix, prefix + b"\xff" * 9)
        keys = [key for key, _ in zip((key for key, _ in rows), range(GONE_ROWS_KEPT // 2), strict=False)]
        for key in keys:
            self.txn.delete(Table.GONE, key)
        self.head.gone_rows -= len(keys)
        self.head.gone_floor = int.from_bytes(keys[-1][32:], "big")

    def _count(self, block: EntryBlock, sign: int) -> None:
        head = self.head
        octets = block.flags.tobytes()[_LOW_OCTET::2]
        head.messages += sign * len(block)
        head.unseen += sign * octets.translate(_UNSEEN).count(1)
        head.deleted += sign * octets.translate(_DELETED).count(1)
        head.octets += sign * sum(block.sizes)

    def save(self) -> bool:
        """Write the head if anything changed, with the new mod-sequence; whether it did."""
        if self.changed:
            self.head.highest_modseq = self.modseq
            write_head(self.txn, self.shelf, self.box_id, self.head)
            if self.shelf.journal is not None:
                self.shelf.journal.append((self.box_id, self.modseq, frozenset(self._touched)))
        return self.changed
