"""Absorbing: arrivals sealed to the user's public key become cards and entries under his own keys (KEYS section 6).

Rows are opened outside any write transaction, in a reader thread, oldest first, so that UIDs rise in order of arrival.
The write takes effect only if the user head still says what the opening began from; a lost race is discarded.
"""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from certmaild.keystore.errors import KeysClosed, SealBroken
from certmaild.keystore.sealing import seal_card
from certmaild.mailbox.arrivals import InRow, decode_in_row, in_digest
from certmaild.mailbox.cards import Card
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import Damaged, MailboxError
from certmaild.mailbox.folders import (
    FIRST_SERVICE,
    INBOX,
    ensure_service,
    read_rows,
    read_user_head,
    write_user_head,
)
from certmaild.mailbox.identifiers import BlobId, BoxId, Mid
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_messages import FolderRows, UserHead, card_key
from certmaild.mailbox.messages import PreparedMessage, entries_of, expunge_mids
from certmaild.mailbox.pages import FolderEditor
from certmaild.mailbox.reach import Reach
from certmaild.mailbox.sent_copies import message_id_of, without_client_copies
from certmaild.mailbox.values import NO_FINAL_CRLF, SERVER_COPY, SYSTEM_FLAGS, ServiceFolder, SpecialUse

log = Logger()

FIRST_SLICE = 64
LARGEST_SLICE = 512
LEASE_S = 10.0
RETRY_S = 2.0
"""While arrivals wait and another process has the lease: how often to see whether it is alive and done."""


class Leases(Protocol):
    """Short-lived claims shared by all processes, so that they do not do the same work twice."""

    def take(self, name: bytes, seconds: float) -> bool:
        """Claim ``name`` for so long, or renew the own claim; False when another process has it."""
        ...

    def give_back(self, name: bytes) -> None:
        """End the own claim."""
        ...


@dataclass(slots=True)
class Batch:
    """Opened arrivals, ready to be written."""

    expected: UserHead
    after: UserHead
    rows: list[bytes] = field(default_factory=list)
    messages: list[tuple[int, PreparedMessage]] = field(default_factory=list)
    """Target special use (0: INBOX) and message."""
    sent_ids: dict[Mid, bytes | None] = field(default_factory=dict)
    """Message-IDs (`sent_copies.message_id`) of the server's own copies of what was sent."""
    retracted: list[Mid] = field(default_factory=list)
    boxes: set[BoxId] = field(default_factory=set)
    """Folders that it was filed in."""
    fresh_ids: dict[int, bytes] = field(default_factory=dict)
    """For folders of the server's own that may have to be made."""


def open_batch(txn: ReadTxn, reach: Reach, limit: int) -> Batch | None:
    """Open the next ``limit`` arrivals; None when none waits.

    Raises `Damaged` for a gap, for a row at or below the absorbed one, and for a broken chain.
    """
    shelf = reach.shelf
    head = read_user_head(txn, shelf)
    batch = Batch(head, head)
    seq, chain = head.absorbed_seq, head.absorbed_dtag
    for key, value in txn.scan(Table.IN, shelf.user_id, shelf.user_id + b"\xff" * 9):
        number = int.from_bytes(key[16:], "big")
        if number != seq + 1:
            raise Damaged("gap in arrivals" if number > seq else "arrival from before the last absorbed one")
        row = decode_in_row(value)
        dtag = reach.secrets.dtag(shelf.user_id, number, chain, in_digest(row, value))
        if not compare_digest(dtag, row.dtag):
            raise Damaged("chain of arrivals")
        seq, chain = number, dtag
        batch.rows.append(key)
        _open_row(txn, reach, row, batch)
        if len(batch.rows) == limit:
            break
    if not batch.rows:
        return None
    batch.after = UserHead(head.table_version, seq, chain)
    return batch


def _open_row(txn: ReadTxn, reach: Reach, row: InRow, batch: Batch) -> None:
    """Add what a row says: a message, an order, or nothing (a removed message)."""
    if row.order_mid is not None:
        batch.retracted.append(Mid(row.order_mid))
        return
    if row.sealed is None:
        return
    try:
        plain = reach.shelf.keys.open_arrival(row.kid, row.info(reach.user_id), row.sealed)
    except SealBroken as broken:
        raise Damaged("arrival") from broken
    mid = Mid(row.mid)
    card = Card(mid, plain)
    mk = os.urandom(32)
    flags = card.flags & (SYSTEM_FLAGS | NO_FINAL_CRLF)
    if card.special_use == SpecialUse.SENT:
        flags |= SERVER_COPY
        batch.sent_ids[mid] = message_id_of(txn, card)
    message = PreparedMessage(
        mid,
        mk,
        seal_card(mk, reach.user_id, mid, plain),
        BlobId(card.blob.blob_id),
        card.full_size,
        flags,
        0,
        card.internal_date,
    )
    batch.messages.append((card.special_use, message))
    if card.special_use >= FIRST_SERVICE and card.special_use not in batch.fresh_ids:
        batch.fresh_ids[card.special_use] = os.urandom(16)


def write_batch(txn: WriteTxn, reach: Reach, batch: Batch, now: int) -> bool:
    """File opened arrivals; False, with nothing done, when somebody else absorbed meanwhile."""
    shelf = reach.shelf
    head = read_user_head(txn, shelf)
    if (head.absorbed_seq, head.absorbed_dtag) != (batch.expected.absorbed_seq, batch.expected.absorbed_dtag):
        return False
    for special_use in {use for use, _ in batch.messages if use >= FIRST_SERVICE}:
        ensure_service(txn, shelf, ServiceFolder(special_use), now, batch.fresh_ids[special_use])
    table = read_rows(txn, shelf)
    by_folder: defaultdict[BoxId, list[PreparedMessage]] = defaultdict(list)
    for special_use, message in batch.messages:
        by_folder[target_of(table, special_use)].append(message)
    sent = next((row.box_id for row in table.folders if row.special_use == SpecialUse.SENT), None)
    for box_id, messages in by_folder.items():
        if box_id == sent:
            messages = _without_client_copies(txn, reach, box_id, messages, batch.sent_ids, now)
            if not messages:
                continue
        for message in messages:
            txn.put(Table.CARD, card_key(shelf.user_id, message.mid), message.sealed_card)
        editor = FolderEditor(txn, shelf, box_id)
        editor.add(entries_of(messages, now))
        editor.save()
        txn.announce(Change(ChangeKind.FOLDER, shelf.user_id, box_id))
        batch.boxes.add(box_id)
    for key in batch.rows:
        txn.delete(Table.IN, key)
    # A folder that was made just now has raised the table's version.
    write_user_head(txn, shelf, UserHead(table.version, batch.after.absorbed_seq, batch.after.absorbed_dtag))
    if batch.retracted:
        boxes = [BoxId(row.box_id) for row in table.folders]
        expunge_mids(txn, shelf, reach.secrets, boxes, frozenset(batch.retracted), now=now)
    return True


def _without_client_copies(
    txn: WriteTxn, reach: Reach, box_id: BoxId, messages: list[PreparedMessage], ids: dict[Mid, bytes | None], now: int
) -> list[PreparedMessage]:
    """The messages less the server's copies of what a client has filed itself, in the same order."""
    copies = [(message, ids[message.mid]) for message in messages if message.mid in ids]
    if not copies:
        return messages
    kept = {message.mid for message in without_client_copies(txn, reach.shelf, reach.secrets, box_id, copies, now)}
    return [message for message in messages if message.mid not in ids or message.mid in kept]


def target_of(table: FolderRows, special_use: int) -> BoxId:
    """The folder an arrival goes to: that with the special use, else INBOX."""
    inbox: bytes | None = None
    for row in table.folders:
        if special_use and row.special_use == special_use:
            return BoxId(row.box_id)
        if row.name == INBOX:
            inbox = row.box_id
    if inbox is None:
        raise Damaged("no INBOX")
    return BoxId(inbox)


class Absorber:
    """Absorbs for one open mailbox: one slice at a time, whoever asks."""

    def __init__(
        self,
        reach: Reach,
        leases: Leases | None = None,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
        *,
        grew: Callable[[BoxId], None] | None = None,
    ) -> None:
        self._reach = reach
        self._grew = grew
        self._leases = leases
        self._call_later = call_later
        self._lock = DeferredLock()
        self._running = False
        self._again = False
        self._stopped = False
        self._retries = False
        self.alarm: str | None = None
        """What is wrong with the queue; nothing is absorbed any more."""

    async def absorb(self, *, at_most_s: float | None = None) -> int:
        """Take waiting arrivals in until none is left or the time is up; how many. Raises `Damaged`."""
        reach = self._reach
        began, total, limit = reach.seconds(), 0, FIRST_SLICE
        while not self._stopped and self.alarm is None:
            taken = await self._locked_slice(limit)
            if taken is None:
                break
            total += taken
            limit = min(2 * limit, LARGEST_SLICE)
            if at_most_s is not None and reach.seconds() - began >= at_most_s:
                break
        return total

    async def _locked_slice(self, limit: int) -> int | None:
        await self._lock.acquire()
        try:
            return await self._slice(limit)
        except Damaged as damaged:
            self.alarm = str(damaged)
            log.critical("ALARM: arrivals of {user} are damaged: {what}", user=self._reach.user_id.hex(), what=damaged)
            raise
        finally:
            self._lock.release()

    async def _slice(self, limit: int) -> int | None:
        """Absorb one batch: how many rows (0 after a lost race), or None when none waited."""
        reach = self._reach
        if not await reach.read(lambda txn: _waiting(txn, reach)):
            return None
        batch = await reach.scan(lambda txn: open_batch(txn, reach, limit))
        if batch is None:
            return None
        now = reach.now()
        done = await reach.write(lambda txn: write_batch(txn, reach, batch, now))
        if done and self._grew is not None:
            for box_id in batch.boxes:
                self._grew(box_id)
        return len(batch.rows) if done else 0

    def kick(self) -> None:
        """Absorb in the background; called at open and for each arrival."""
        self._again = True
        if not self._running and not self._stopped and self.alarm is None:
            self._running = True
            running = Deferred.fromCoroutine(self._run())
            running.addErrback(lambda failure: log.failure("absorbing failed", failure))

    async def _run(self) -> None:
        lease, is_ours = b"absorb" + self._reach.user_id, False
        try:
            while self._again and not self._stopped:
                self._again = False
                if not await self._reach.read(lambda txn: _waiting(txn, self._reach)):
                    continue
                is_ours = self._leases is not None and self._leases.take(lease, LEASE_S)
                if self._leases is not None and not is_ours:
                    self._try_later()
                    return
                await self.absorb()
        except (MailboxError, KeysClosed) as error:
            log.error("absorbing for {user} stopped: {error}", user=self._reach.user_id.hex(), error=repr(error))
        finally:
            self._running = False
            self._reach.shelf.keys.rest()
            if self._leases is not None and is_ours:
                self._leases.give_back(lease)

    def _try_later(self) -> None:
        """Another process absorbs. Should it die, or let its mailbox go before the end, nobody would tell us."""
        if self._call_later is not None and not self._retries:
            self._retries = True
            self._call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retries = False
        self.kick()

    def stop(self) -> None:
        """Begin no further slice."""
        self._stopped = True


def _waiting(txn: ReadTxn, reach: Reach) -> bool:
    return next(iter(txn.scan(Table.IN, reach.user_id, reach.user_id + b"\xff" * 9)), None) is not None
