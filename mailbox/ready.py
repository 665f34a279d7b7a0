"""Ready rows: what FETCH was asked of whole pages before, kept by page so that one opening gives it for 256 messages.

A row is made of immutable facts and belongs to a UID, so it never grows stale; but it holds what the card of a message
holds, so every removal of a message from a page removes the page's rows with it. They are a cache on disk: whatever
goes wrong with them, the cards have the same.
"""

from array import array
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.keystore.errors import KeysClosed, SealBroken
from certmaild.mailbox.errors import Damaged, MailboxError
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_messages import PAGE_ROWS, Record, page_key
from certmaild.mailbox.layout_ready import (
    KIND_OCTETS,
    decode_ready,
    decode_ready_key,
    encode_ready,
    ready_key,
    ready_place,
)
from certmaild.mailbox.pages import Shelf, page_below
from certmaild.mailbox.reach import Reach

log = Logger()

FEWEST = 32
"""Messages of one page that must be asked for, or be new in it, for its rows to be read or made."""
MOST_OCTETS = 1 << 20
"""Rows of a page that are larger together are not kept."""
MOST_KINDS = 8
"""Kinds kept of one page: clients ask for two or three, and none may fill the disk with others."""
PAGES_KEPT_AT_ONCE = 8

Kept = tuple["array[int]", Sequence[Sequence[bytes]]]
"""UIDs, and for each kind one value a UID."""


class ReadyRows:
    """One command's use of the rows of a folder. ``kinds`` are names of 8 octets; values come in their order."""

    def __init__(self, reach: Reach, box_id: BoxId, kinds: Sequence[bytes]) -> None:
        if any(len(kind) != KIND_OCTETS for kind in kinds):
            raise ValueError("the name of a kind has 8 octets")
        self._reach = reach
        self._box_id = box_id
        self._kinds = kinds
        self._waiting: list[Kept] = []
        self._writing: Deferred[None] | None = None

    async def read(self, uids: "array[int]") -> list[list[bytes | None]]:
        """For each kind a value a UID, None where none is kept. ``uids`` are ascending and of one page."""
        nothing: list[list[bytes | None]] = [[None] * len(uids) for _ in self._kinds]
        if len(uids) < FEWEST:
            return nothing
        shelf, box_id = self._reach.shelf, self._box_id
        try:
            return await self._reach.read(lambda txn: [find(txn, shelf, box_id, uids, kind) for kind in self._kinds])
        except Damaged:
            log.critical(
                "ALARM: what was kept ready of a folder of {user} was changed on disk; it is made anew from the cards",
                user=shelf.user_id.hex(),
            )
            await self._drop(uids[0])
            return nothing

    async def _drop(self, uid: int) -> None:
        """Remove the rows of the page that this UID is in."""
        shelf, box_id = self._reach.shelf, self._box_id
        try:
            await self._reach.write(lambda txn: drop(txn, shelf, box_id, uid))
        except (MailboxError, KeysClosed) as error:
            log.info("damaged ready rows are not removed: {error}", error=repr(error))

    async def keep(self, uids: "array[int]", values: Sequence[Sequence[bytes]], missing: int) -> None:
        """Keep values of all the messages of a page, ``missing`` of which had none.

        Returns when there is room for more.
        """
        enough = missing >= FEWEST or (missing and len(uids) == PAGE_ROWS)
        if not enough or sum(len(value) for column in values for value in column) > MOST_OCTETS:
            return
        self._waiting.append((uids, values))
        if len(self._waiting) >= PAGES_KEPT_AT_ONCE:
            await self.finish()

    async def finish(self) -> None:
        """Let what waits be written; nobody waits for the last of it."""
        if self._writing is not None:
            await self._writing
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._writing = Deferred.fromCoroutine(self._write(waiting))

    async def _write(self, waiting: list[Kept]) -> None:
        shelf, box_id = self._reach.shelf, self._box_id
        try:
            await self._reach.write(lambda txn: write(txn, shelf, box_id, self._kinds, waiting), grows=True)
        except (MailboxError, KeysClosed) as error:
            log.info("ready rows are not kept: {error}", error=repr(error))


def find(txn: ReadTxn, shelf: Shelf, box_id: BoxId, uids: "array[int]", kind: bytes) -> list[bytes | None]:
    """The kept values of one kind for these UIDs of one page. Raises `Damaged`."""
    prefix = shelf.user_id + box_id
    last = page_key(shelf.user_id, box_id, uids[0]) + b"\xff" * (KIND_OCTETS + 1)
    key, value = next(txn.scan(Table.READY, prefix, last, reverse=True), (b"", b""))
    if not key:
        return [None] * len(uids)
    first_uid, found = decode_ready_key(key)
    if found != kind:
        value = txn.get(Table.READY, ready_key(shelf.user_id, box_id, first_uid, kind)) or b""
        if not value:
            return [None] * len(uids)
    try:
        plain = shelf.keys.open_entries(Record.READY, box_id, ready_place(first_uid, kind), value)
    except SealBroken as broken:
        raise Damaged("ready rows") from broken
    kept, values = decode_ready(plain)
    if kept == uids:
        return list(values)
    known = dict(zip(kept, values, strict=True))
    return [known.get(uid) for uid in uids]


def drop(txn: WriteTxn, shelf: Shelf, box_id: BoxId, uid: int) -> None:
    """Remove whatever `find` may look at for this UID."""
    page = page_below(txn, shelf, box_id, uid)
    low = page_key(shelf.user_id, box_id, uid if page is None else page.first_uid)
    high = page_key(shelf.user_id, box_id, uid) + b"\xff" * (KIND_OCTETS + 1)
    for key in [key for key, _ in txn.scan(Table.READY, low, high)]:
        txn.delete(Table.READY, key)


def write(txn: WriteTxn, shelf: Shelf, box_id: BoxId, kinds: Sequence[bytes], waiting: Sequence[Kept]) -> None:
    """Keep rows of pages that hold just these UIDs; one that has changed meanwhile gets none."""
    for uids, columns in waiting:
        page = page_below(txn, shelf, box_id, uids[0])
        if page is None or page.uids != uids:
            continue
        prefix = page_key(shelf.user_id, box_id, page.first_uid)
        there = {key[len(prefix) :] for key, _ in txn.scan(Table.READY, prefix, prefix + b"\xff" * (KIND_OCTETS + 1))}
        for kind, values in zip(kinds, columns, strict=True):
            if kind in there or len(there) < MOST_KINDS:
                there.add(kind)
                plain = encode_ready(uids, values)
                sealed = shelf.keys.seal_entries(Record.READY, box_id, ready_place(page.first_uid, kind), plain)
                txn.put(Table.READY, prefix + kind, sealed)
