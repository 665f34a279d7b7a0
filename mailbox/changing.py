"""Changes to the messages of an open mailbox, run as slices of at most 64 pages a transaction."""

import os
from collections.abc import Callable, Sequence

from certmaild.keystore.sealing import seal_card
from certmaild.mailbox import messages as slices
from certmaild.mailbox import ownership
from certmaild.mailbox.blobs import StoredBlob
from certmaild.mailbox.cards import encode_card, facts_of
from certmaild.mailbox.devices import messages_left
from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.folders import add_keywords, keyword_bits
from certmaild.mailbox.identifiers import BoxId, CredentialId, Mid
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout_messages import PAGE_ROWS
from certmaild.mailbox.messages import FlagChange, Moved, PreparedMessage
from certmaild.mailbox.pages import joined, pages_with, read_head
from certmaild.mailbox.reach import Reach
from certmaild.mailbox.reading import INLINE_MESSAGES
from certmaild.mailbox.sent_copies import expunge_server_copies, message_id
from certmaild.mailbox.uidsets import ALL_UIDS, normalise, overlaps, ranges_of, subtract_block
from certmaild.mailbox.values import (
    NO_FINAL_CRLF,
    SYSTEM_FLAGS,
    AppendResult,
    CopyResult,
    ExpungeResult,
    FlagOp,
    Flags,
    NewMessage,
    StoreResult,
    UidSet,
)

PREPARED_INLINE = 16
"""Messages of one APPEND whose cards are made on the calling thread, some 50 us each; more go to a reader thread."""


async def store_flags(
    reach: Reach,
    known: tuple[str, ...],
    box_id: BoxId,
    uids: UidSet,
    op: FlagOp,
    flags: Flags,
    unchanged_since: int | None,
) -> StoreResult:
    """See `OpenMailbox.store_flags`. ``known``: the keywords so far."""
    keywords, bits = await _keywords(reach, known, flags.keywords, add=op is not FlagOp.REMOVE)
    change = FlagChange(op, flags.system & SYSTEM_FLAGS, bits, unchanged_since)
    runs = normalise(uids)
    whole = slices.StoreSlice()
    while True:
        todo = runs
        part = await reach.write(lambda txn: slices.store_flags(txn, reach.shelf, box_id, todo, change))  # noqa: B023
        whole.blocks += part.blocks
        whole.changed += part.changed
        whole.modified += part.modified
        if part.resume is None:
            entries = whole.blocks[0] if len(whole.blocks) == 1 else joined(whole.blocks)
            return StoreResult(
                entries, frozenset(whole.changed), tuple(whole.modified), keywords, highest_modseq=part.modseq
            )
        runs = subtract_block(runs, part.resume)


async def _keywords(
    reach: Reach, keywords: tuple[str, ...], names: frozenset[str], *, add: bool
) -> tuple[tuple[str, ...], int]:
    """All keywords, and the bits of ``names``, which are given bits first if ``add``."""
    bits, missing = keyword_bits(keywords, names)
    if missing and add:
        keywords = await reach.write(lambda txn: add_keywords(txn, reach.shelf, missing))
        bits, _ = keyword_bits(keywords, names)
    return keywords, bits


async def append(
    reach: Reach, known: tuple[str, ...], box_id: BoxId, messages: Sequence[NewMessage], *, is_sent: bool
) -> AppendResult:
    """See `OpenMailbox.append`. ``known``: the keywords so far; ``is_sent``: the folder is Sent."""
    now = reach.now()
    names = frozenset().union(*(message.flags.keywords for message in messages))
    keywords, _ = await _keywords(reach, known, names, add=True)
    make = reach.read if len(messages) <= PREPARED_INLINE else reach.scan
    prepared = await make(lambda _: [_prepare(reach, message, keywords, now) for message in messages])

    found = [message_id(message.scan.references) for message in messages] if is_sent else []
    ids = {own for own in found if own is not None}

    def work(txn: WriteTxn) -> tuple[int, range]:
        for _, blob in prepared:
            blob.write(txn)
        if ids:
            expunge_server_copies(txn, reach.shelf, reach.secrets, box_id, ids, now)
        return slices.add_messages(txn, reach.shelf, reach.secrets, box_id, [new for new, _ in prepared], now)

    uid_validity, uids = await reach.write(work, grows=True)
    return AppendResult(uid_validity, tuple(uids))


def _prepare(
    reach: Reach, message: NewMessage, keywords: tuple[str, ...], now: int
) -> tuple[PreparedMessage, StoredBlob]:
    """The entry and sealed card of one message, and its blob with the facts frame."""
    mid, mk = Mid(os.urandom(16)), os.urandom(32)
    facts = facts_of(message.scan)
    date = now if message.internal_date is None else max(message.internal_date, 0)
    bits, _ = keyword_bits(keywords, message.flags.keywords)
    flags = message.flags.system & SYSTEM_FLAGS
    blob = message.blob.with_facts(facts.frame)
    sealed = seal_card(mk, reach.user_id, mid, encode_card(blob, facts, internal_date=date, flags=flags))
    if not facts.final_crlf:
        flags |= NO_FINAL_CRLF
    return PreparedMessage(mid, mk, sealed, blob.blob_id, blob.size, flags, bits, date), blob


async def copy(reach: Reach, box_id: BoxId, uids: UidSet, to_box: BoxId) -> CopyResult:
    """See `OpenMailbox.copy`; what a later slice cannot finish is taken back."""
    runs, octets, count = await _measure(reach, box_id, uids)
    await reach.read(lambda txn: read_head(txn, reach.shelf, to_box))
    await reach.read(lambda txn: ownership.check(txn, reach.secrets, reach.user_id, octets, count))
    now = reach.now()
    new_uids: list[int] = []
    try:
        return await _sliced(
            reach,
            runs,
            lambda txn, todo: slices.copy_slice(txn, reach.shelf, reach.secrets, box_id, todo, to_box, now),
            new_uids,
        )
    except MailboxError:
        if new_uids:
            await remove(reach, to_box, ranges_of(sorted(new_uids)), only_deleted=False)
        raise


async def move(
    reach: Reach, box_id: BoxId, uids: UidSet, to_box: BoxId, *, by: CredentialId | None = None
) -> CopyResult:
    """See `OpenMailbox.move`."""
    runs, _, _ = await _measure(reach, box_id, uids)
    now, shelf = reach.now(), reach.shelf

    def work(txn: WriteTxn, todo: list[range]) -> Moved:
        done = slices.move_slice(txn, shelf, box_id, todo, to_box, now)
        if done.mids and to_box != box_id:
            messages_left(txn, shelf, reach.secrets, box_id, done.mids, by=by, now=now, is_moved=True)
        return done

    return await _sliced(reach, runs, work, [])


async def _sliced(
    reach: Reach, runs: list[range], work: Callable[[WriteTxn, list[range]], Moved], new_uids: list[int]
) -> CopyResult:
    source_uids: list[int] = []
    while True:
        todo = runs
        part = await reach.write(lambda txn: work(txn, todo))  # noqa: B023
        source_uids += part.source_uids
        new_uids += part.new_uids
        if part.resume is None:
            return CopyResult(part.uid_validity, tuple(source_uids), tuple(new_uids), part.modseq)
        runs = subtract_block(runs, part.resume)


async def _measure(reach: Reach, box_id: BoxId, uids: UidSet) -> tuple[list[range], int, int]:
    """The UIDs of these that exist now, their octets and number: later arrivals are not taken along."""
    runs = normalise(uids)

    def work(txn: ReadTxn) -> tuple[list[range], int, int]:
        read_head(txn, reach.shelf, box_id)
        found: list[int] = []
        octets = 0
        for page in pages_with(txn, reach.shelf, box_id, runs):
            for low, high in overlaps(page.uids, runs):
                found += page.uids[low:high]
                octets += sum(page.block.sizes[low:high])
        return list(ranges_of(found)), octets, len(found)

    if sum(len(run) for run in runs) <= INLINE_MESSAGES:
        return await reach.read(work)
    return await reach.scan(work)


async def expunge(reach: Reach, box_id: BoxId, uids: UidSet | None, *, by: CredentialId | None = None) -> ExpungeResult:
    """See `OpenMailbox.expunge`."""
    head = await reach.read(lambda txn: read_head(txn, reach.shelf, box_id))
    if not head.deleted:
        return ExpungeResult((), head.highest_modseq)
    wanted = ALL_UIDS if uids is None else normalise(uids)
    known = reach.shelf.pages_to_expunge(box_id, head.highest_modseq)
    messages = head.messages if known is None else PAGE_ROWS * len(known)
    look = reach.read if messages <= INLINE_MESSAGES else reach.scan
    runs = await look(lambda txn: slices.deleted_uids(txn, reach.shelf, box_id, wanted))
    if not runs:
        return ExpungeResult((), head.highest_modseq)
    return await remove(reach, box_id, runs, only_deleted=True, by=by)


async def remove(
    reach: Reach, box_id: BoxId, runs: Sequence[range], *, only_deleted: bool, by: CredentialId | None = None
) -> ExpungeResult:
    """Remove these messages, all or those with ``\\Deleted``."""
    now, shelf, secrets = reach.now(), reach.shelf, reach.secrets
    gone: list[int] = []

    def work(txn: WriteTxn, todo: Sequence[range]) -> Moved:
        done = slices.expunge_slice(txn, shelf, secrets, box_id, todo, now=now, only_deleted=only_deleted)
        if done.mids:
            messages_left(txn, shelf, secrets, box_id, done.mids, by=by, now=now)
        return done

    while True:
        todo = runs
        part = await reach.write(lambda txn: work(txn, todo))  # noqa: B023
        gone += part.source_uids
        if part.resume is None:
            return ExpungeResult(tuple(gone), part.modseq)
        runs = subtract_block(runs, part.resume)
