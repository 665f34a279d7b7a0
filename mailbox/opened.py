"""One user's open mailbox: what IMAP and POP3 program against, shared by all his sessions in this process."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from twisted.internet.defer import DeferredLock

from certmaild.mailbox import changing, ownership
from certmaild.mailbox import folders as table_work
from certmaild.mailbox.absorb import Absorber
from certmaild.mailbox.account_rows import read_account
from certmaild.mailbox.cards import Card
from certmaild.mailbox.changes import Change, ChangeHub, Watch
from certmaild.mailbox.content import Content, MessageWriter, open_cards, read_headers, with_facts
from certmaild.mailbox.errors import FolderExists, FolderMissing
from certmaild.mailbox.folders import INBOX, FolderTable, checked_name, spelled, table_of
from certmaild.mailbox.frame_streams import FrameStreams
from certmaild.mailbox.identifiers import BoxId, CredentialId, UserId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Option
from certmaild.mailbox.layout_messages import PAGE_ROWS
from certmaild.mailbox.mime import Scanner
from certmaild.mailbox.pages import Shelf, read_head, write_head
from certmaild.mailbox.reach import Reach
from certmaild.mailbox.reading import INLINE_MESSAGES, read_blocks, read_difference, read_listing, read_vanished
from certmaild.mailbox.ready import ReadyRows
from certmaild.mailbox.search import SearchKey, SearchResult
from certmaild.mailbox.searching import search
from certmaild.mailbox.text_keeper import TextKeeper
from certmaild.mailbox.uidsets import ALL_UIDS, normalise, subtract_block
from certmaild.mailbox.values import (
    AppendResult,
    CopyResult,
    Entry,
    EntryBlock,
    ExpungeResult,
    FlagOp,
    Flags,
    Folder,
    FolderState,
    FolderStatus,
    FolderUpdate,
    NewMessage,
    Quota,
    ServiceFolder,
    SpecialUse,
    StoreResult,
    UidSet,
)

INLINE_TABLE_OCTETS = 16 * 1024
"""About 300 folders; the reactor does not wait while a table of 2,000 is decoded."""
PAGES_AT_ONCE = 16
CARDS_AT_ONCE = 64


class OpenMailbox:
    """Folders and messages of one user. Every call may raise `StoreUnavailable` and `Damaged`.

    Made by `certmaild.mailbox.pool.MailboxPool`; sessions of one user share it.
    """

    def __init__(
        self,
        reach: Reach,
        address: str,
        hub: ChangeHub,
        absorber: Absorber,
        keeper: TextKeeper,
        frames: FrameStreams,
        released: Callable[[], None],
    ) -> None:
        self.user_id: UserId = reach.user_id
        self.address = address
        self._reach = reach
        self._hub = hub
        self._absorber = absorber
        self._keeper = keeper
        self._released = released
        self._frames = frames
        self._table: tuple[bytes, FolderTable] | None = None
        self._decoding = DeferredLock()

    @property
    def parts(self) -> tuple[Reach, str, ChangeHub, Absorber, TextKeeper, FrameStreams, Callable[[], None]]:
        """What another view of the same mailbox is made of (`certmaild.mailbox.narrow`)."""
        return self._reach, self.address, self._hub, self._absorber, self._keeper, self._frames, self._released

    @property
    def _shelf(self) -> Shelf:
        return self._reach.shelf

    # Folders

    async def folders(self) -> FolderTable:
        """All folders as of now, a frozen snapshot (cheap when nothing changed)."""
        while not await self._reach.read(self._knows_table):
            await self._decode_table()
        assert self._table is not None
        return self._table[1]

    def _knows_table(self, txn: ReadTxn) -> bool:
        if self._table is None:
            return False
        stamp = txn.get(Table.UHEAD, self.user_id) or b""
        known, table = self._table
        if known != stamp:
            if table.version != table_work.read_user_head(txn, self._shelf).table_version:
                return False
            self._table = stamp, table
        return True

    async def _decode_table(self) -> None:
        """Read the table anew, once for all who ask meanwhile; a large one in a reader thread."""
        shelf, seen = self._shelf, self._table

        def work(txn: ReadTxn) -> tuple[bytes, FolderTable]:
            return txn.get(Table.UHEAD, shelf.user_id) or b"", table_of(table_work.read_rows(txn, shelf))

        await self._decoding.acquire()
        try:
            if self._table is seen:
                octets = await self._reach.read(lambda txn: len(txn.get(Table.FOLDERS, shelf.user_id) or b""))
                look = self._reach.read if octets <= INLINE_TABLE_OCTETS else self._reach.scan
                self._table = await look(work)
        finally:
            self._decoding.release()

    async def create_folder(self, name: str, special_use: SpecialUse | None = None) -> Folder:
        """Make a folder and its missing parents (RFC 9051 section 6.3.4).

        Raises `FolderExists`, `FolderNameInvalid`, `LimitReached`. A special use that another folder has moves here.
        """
        ids, now, shelf = _fresh_ids(), self._reach.now(), self._shelf
        await self._reach.write(lambda txn: table_work.create(txn, shelf, name, special_use, now, ids))
        return await self._named(name)

    async def _named(self, name: str) -> Folder:
        folder = (await self.folders()).by_name(name)
        if folder is None:
            raise FolderMissing
        return folder

    async def delete_folder(self, name: str) -> None:
        """Remove a folder and its messages. Raises `FolderMissing`, `HasChildren`, `FolderProtected`: INBOX, and the
        folders that the server keeps where the account wants them."""
        shelf = self._shelf

        def work(txn: WriteTxn) -> bool:
            kept = self._kept(txn)
            row = table_work.deletable(table_work.read_rows(txn, shelf), name, kept)
            if read_head(txn, shelf, row.box_id).messages:
                return False
            table_work.delete(txn, shelf, name, kept)
            return True

        while not await self._reach.write(work):
            folder = await self._named(name)
            await changing.remove(self._reach, folder.box_id, ALL_UIDS, only_deleted=False)
        self._keeper.clean()

    async def rename_folder(self, old: str, new: str) -> None:
        """Rename with all children; INBOX instead gives its messages to ``new`` and stays (RFC 9051 section 6.3.6)."""
        ids, now, shelf = _fresh_ids(), self._reach.now(), self._shelf
        if spelled(old) != INBOX:
            await self._reach.write(lambda txn: table_work.rename(txn, shelf, old, new, now, ids, self._kept(txn)))
            return
        if (await self.folders()).by_name(checked_name(new)) is not None:
            raise FolderExists
        inbox = await self._named(INBOX)
        target = await self.create_folder(new)
        await changing.move(self._reach, inbox.box_id, ALL_UIDS, target.box_id)
        self._keeper.clean()

    def _kept(self, txn: ReadTxn) -> frozenset[ServiceFolder]:
        """Folders that the server would have to make anew."""
        account = read_account(txn, self._reach.secrets, self.user_id)
        wanted = account is not None and Option.SERVICE_FOLDERS in account.options
        return table_work.KEPT if wanted else frozenset()

    async def set_subscribed(self, name: str, subscribed: bool) -> None:
        """Subscribe (raises `FolderMissing`) or unsubscribe (any name)."""
        shelf = self._shelf
        await self._reach.write(lambda txn: table_work.set_subscribed(txn, shelf, name, subscribed))

    async def select(self, box_id: BoxId, *, read_only: bool = False) -> FolderState:
        """The folder as SELECT or EXAMINE (``read_only``: claims no ``\\Recent``) shows it. Raises `FolderMissing`."""
        shelf = self._shelf
        head = await self._reach.read(lambda txn: read_head(txn, shelf, box_id))
        look = self._reach.read if head.messages <= INLINE_MESSAGES else self._reach.scan
        listing = await look(lambda txn: read_listing(txn, shelf, box_id))
        head = listing.head
        keywords = (await self.folders()).keywords
        recent = range(self._recent_from(box_id, head.recent_uid), head.uid_next)
        if recent and not read_only:
            self._reach.recent_claims[box_id] = head.uid_next
        return FolderState(
            box_id,
            head.uid_validity,
            head.uid_next,
            head.highest_modseq,
            listing.uids,
            recent,
            keywords,
            head.unseen,
            listing.first_unseen,
        )

    def _recent_from(self, box_id: BoxId, stored: int) -> int:
        return max(stored, self._reach.recent_claims.get(box_id, 1))

    async def status(self, box_id: BoxId) -> FolderStatus:
        """Counts from the folder's head, in constant time. Raises `FolderMissing`.

        ``recent`` counts UIDs that no session was told of, at most ``messages``.
        """
        head = await self._reach.read(lambda txn: read_head(txn, self._shelf, box_id))
        recent = max(0, head.uid_next - self._recent_from(box_id, head.recent_uid))
        return FolderStatus(
            head.messages,
            head.unseen,
            min(recent, head.messages),
            head.uid_next,
            head.uid_validity,
            head.highest_modseq,
            head.deleted,
            head.octets,
        )

    # Entries

    async def entries(
        self, box_id: BoxId, uids: UidSet, *, changed_since: int | None = None
    ) -> AsyncIterator[EntryBlock]:
        """Entries with these UIDs in blocks of at most 256, ascending; missing UIDs are left out.

        ``changed_since`` keeps those with a higher mod-sequence. ``async for block in mailbox.entries(...)``.
        """
        runs = normalise(uids)
        shelf = self._shelf
        pages = 2
        while runs:
            todo, count = runs, pages
            blocks, resume = await self._reach.read(
                lambda txn: read_blocks(txn, shelf, box_id, todo, changed_since=changed_since, pages=count)  # noqa: B023
            )
            for block in blocks:
                yield block
            if resume is None:
                return
            runs = subtract_block(runs, resume)
            pages = PAGES_AT_ONCE

    async def vanished_since(self, box_id: BoxId, modseq: int) -> tuple[range, ...]:
        """UIDs expunged after ``modseq``; when the log no longer reaches back, every UID that does not exist."""
        return await self._reach.scan(lambda txn: read_vanished(txn, self._shelf, box_id, modseq))

    async def updates(
        self, box_id: BoxId, since_modseq: int, since_uid_next: int, *, claim_recent: bool = False
    ) -> FolderUpdate | None:
        """What changed since a session last asked, or None for nothing (cheap). Raises `FolderMissing`.

        ``claim_recent``: this session is read-write, so new messages are ``\\Recent`` for it and then for nobody.
        """
        shelf = self._shelf
        head = await self._reach.read(lambda txn: read_head(txn, shelf, box_id))
        if head.highest_modseq == since_modseq and head.uid_next == since_uid_next:
            return None
        touched = shelf.pages_touched(box_id, since_modseq, head.highest_modseq)
        pages = head.messages // PAGE_ROWS if touched is None else len(touched)
        look = self._reach.read if pages <= INLINE_MESSAGES // PAGE_ROWS else self._reach.scan
        found = await look(lambda txn: read_difference(txn, shelf, box_id, since_modseq, since_uid_next))
        head = found.head
        recent = range(max(since_uid_next, self._recent_from(box_id, head.recent_uid)), head.uid_next)
        if recent and claim_recent:
            self._reach.recent_claims[box_id] = head.uid_next
        return FolderUpdate(
            found.changed,
            found.arrived,
            found.expunged,
            recent,
            head.uid_next,
            head.highest_modseq,
            head.messages,
            (await self.folders()).keywords,
        )

    # Contents

    async def card(self, entry: Entry) -> Card | None:
        """The immutable facts of a message; None when it was expunged meanwhile."""
        return (await self.cards([entry]))[0]

    async def cards(self, entries: EntryBlock | Sequence[Entry]) -> list[Card | None]:
        """Cards in the order of ``entries``; ask for at most 256 at a time."""
        if isinstance(entries, EntryBlock):
            mids, mks = entries.mids, entries.mks
            pairs = [(mids[16 * n : 16 * n + 16], mks[32 * n : 32 * n + 32]) for n in range(len(entries))]
        else:
            pairs = [(entry.mid, entry.mk) for entry in entries]
        found: list[Card | None] = []
        engine = self._reach.engine
        for at in range(0, len(pairs), CARDS_AT_ONCE):
            todo = pairs[at : at + CARDS_AT_ONCE]
            found += await self._reach.read(lambda txn: open_cards(txn, self.user_id, todo))  # noqa: B023
        for n, card in enumerate(found):
            if card is not None and card.frame_octets:
                found[n] = await with_facts(engine, card)
        return found

    async def headers(self, cards: Sequence[Card], limit: int) -> list[bytes | None]:
        """Headers with their blank lines, at most ``limit`` octets of each; None for a message that is gone.

        Of the first of ``cards``, one at least, as many as take some 2 ms to open.
        """
        return await self._reach.read(lambda txn: read_headers(txn, cards, limit))

    def ready_rows(self, box_id: BoxId, kinds: Sequence[bytes]) -> ReadyRows:
        """Values of these kinds that were kept, ready to send, for many messages together."""
        return ReadyRows(self._reach, box_id, kinds)

    def content(self, card: Card) -> Content:
        """The message's octets (``BODY[]``), trace prefix included."""
        return Content(card, self._frames.find(self._reach.engine, self.user_id, card.blob))

    def new_message_writer(self, scanner: Scanner | None = None) -> MessageWriter:
        """Where an APPEND literal is streamed: blob and scan together, by a scanner with limits of its own if given."""
        reach = self._reach
        return MessageWriter(reach.engine, reach.seconds, scanner or Scanner(), padding=reach.padding)

    # Changes

    async def store_flags(
        self, box_id: BoxId, uids: UidSet, op: FlagOp, flags: Flags, *, unchanged_since: int | None = None
    ) -> StoreResult:
        """Change flags (RFC 9051 section 6.4.6, RFC 7162 section 3.1.3). Raises `LimitReached` at 64 keywords."""
        known = (await self.folders()).keywords
        return await changing.store_flags(self._reach, known, box_id, uids, op, flags, unchanged_since)

    async def append(self, box_id: BoxId, messages: Sequence[NewMessage]) -> AppendResult:
        """Add messages, all or none (RFC 3502). Raises `FolderMissing`, `OverQuota`, `LimitReached`.

        In Sent they take the place of the server's own copies (`certmaild.mailbox.sent_copies`).
        """
        table = await self.folders()
        sent = table.by_special_use(SpecialUse.SENT)
        is_sent = sent is not None and sent.box_id == box_id
        appended = await changing.append(self._reach, table.keywords, box_id, messages, is_sent=is_sent)
        self._keeper.grew(box_id)
        return appended

    async def copy(self, box_id: BoxId, uids: UidSet, to_box: BoxId) -> CopyResult:
        """Copy by reference, all or none. Raises `FolderMissing`, `OverQuota`."""
        copied = await changing.copy(self._reach, box_id, uids, to_box)
        self._keeper.grew(to_box)
        return copied

    async def move(self, box_id: BoxId, uids: UidSet, to_box: BoxId, *, by: CredentialId | None = None) -> CopyResult:
        """Move by reference in slices; each message is in exactly one of the two folders (RFC 6851).

        What leaves the folder Devices revokes devices, but not ``by``, the session's own (`certmaild.mailbox.devices`).
        """
        moved = await changing.move(self._reach, box_id, uids, to_box, by=by)
        self._keeper.grew(to_box)
        self._keeper.clean()
        return moved

    async def expunge(
        self, box_id: BoxId, uids: UidSet | None = None, *, by: CredentialId | None = None
    ) -> ExpungeResult:
        r"""Remove messages with ``\Deleted``, of these UIDs or of all. ``by`` as for `move`."""
        gone = await changing.expunge(self._reach, box_id, uids, by=by)
        if gone.uids:
            self._keeper.clean()
        return gone

    async def absorb(self, *, at_most_s: float | None = None) -> int:
        """Take waiting arrivals in, oldest first, for at most so long; how many rows.

        Starts by itself on open and on arrival.
        """
        return await self._absorber.absorb(at_most_s=at_most_s)

    async def quota(self) -> Quota:
        """Octets and messages, used and allowed."""
        reach = self._reach
        return await reach.read(lambda txn: ownership.read_quota(txn, reach.secrets, reach.user_id))

    async def retrieve_marks_seen(self) -> bool:
        r"""Whether the account wants POP3's RETR to set ``\Seen``, as of now."""
        reach = self._reach
        account = await reach.read(lambda txn: read_account(txn, reach.secrets, reach.user_id))
        return account is not None and Option.RETRIEVE_MARKS_SEEN in account.options

    def watch(self, callback: Callable[[Change], None]) -> Watch:
        """Call back (on the reactor's thread) after each commit that touched this user, in any process."""
        return self._hub.watch(self.user_id, callback)

    async def find(
        self,
        box_id: BoxId,
        program: SearchKey,
        *,
        uids: UidSet | None = None,
        between: Callable[[int], Awaitable[None]] | None = None,
    ) -> SearchResult:
        """UIDs of the messages that fulfil ``program``, ascending, of these UIDs or of all.

        ``between`` is awaited before each slice of some 30 ms, with the UID that it begins at; what it raises ends the
        search.
        """
        wanted = ALL_UIDS if uids is None else uids
        return await search(self._reach, self._keeper, box_id, program, wanted, between)

    async def keep_claims(self) -> None:
        """Store which messages sessions were told of as ``\\Recent``; the pool calls it when the last session ends."""
        shelf = self._shelf
        claims = dict(self._reach.recent_claims)

        def work(txn: WriteTxn) -> None:
            for box_id, told in claims.items():
                if txn.get(Table.HEAD, shelf.user_id + box_id) is None:
                    continue
                head = read_head(txn, shelf, box_id)
                if head.recent_uid < told:
                    head.recent_uid = told
                    write_head(txn, shelf, box_id, head)

        if claims:
            await self._reach.write(work)

    def close(self) -> None:
        """This session needs the mailbox no longer; after the last one, caches and keys are let go."""
        self._released()


def _fresh_ids() -> list[bytes]:
    """Enough ids for the levels of one name, drawn outside the transaction."""
    return [os.urandom(16) for _ in range(table_work.MAX_LEVELS)]
