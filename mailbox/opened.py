"""One user's open mailbox: what IMAP and POP3 program against, shared by all his sessions in this process."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from certmaild.mailbox.cards import Card
from certmaild.mailbox.changes import Change
from certmaild.mailbox.content import Content, MessageWriter
from certmaild.mailbox.folders import FolderTable
from certmaild.mailbox.identifiers import BoxId, UserId
from certmaild.mailbox.search import SearchKey, SearchResult
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
    SpecialUse,
    StoreResult,
    UidSet,
)


class Watch(Protocol):
    """A standing request to be told of changes."""

    def stop(self) -> None:
        """Tell no more; may be called again."""


class OpenMailbox:
    """Folders and messages of one user. Every call may raise `StoreUnavailable` and `Damaged`."""

    user_id: UserId
    address: str

    # Folders

    async def folders(self) -> FolderTable:
        """All folders as of now, a frozen snapshot (cheap when nothing changed)."""
        raise NotImplementedError

    async def create_folder(self, name: str, special_use: SpecialUse | None = None) -> Folder:
        """Make a folder and its missing parents (RFC 9051 section 6.3.4).

        Raises `FolderExists`, `FolderNameInvalid`, `LimitReached`. A special use that another folder has moves here.
        """
        raise NotImplementedError

    async def delete_folder(self, name: str) -> None:
        """Remove a folder and its messages. Raises `FolderMissing`, `HasChildren`, `FolderProtected` (INBOX)."""
        raise NotImplementedError

    async def rename_folder(self, old: str, new: str) -> None:
        """Rename with all children; INBOX instead gives its messages to ``new`` and stays (RFC 9051 section 6.3.6)."""
        raise NotImplementedError

    async def set_subscribed(self, name: str, subscribed: bool) -> None:
        """Subscribe (raises `FolderMissing`) or unsubscribe (any name)."""
        raise NotImplementedError

    async def select(self, box_id: BoxId, *, read_only: bool = False) -> FolderState:
        """The folder as SELECT or EXAMINE (``read_only``: claims no ``\\Recent``) shows it. Raises `FolderMissing`."""
        raise NotImplementedError

    async def status(self, box_id: BoxId) -> FolderStatus:
        """Counts from the folder's head, in constant time. Raises `FolderMissing`."""
        raise NotImplementedError

    # Entries

    def entries(self, box_id: BoxId, uids: UidSet, *, changed_since: int | None = None) -> AsyncIterator[EntryBlock]:
        """Entries with these UIDs in blocks of at most 256, ascending; missing UIDs are left out.

        ``changed_since`` keeps those with a higher mod-sequence. ``async for block in mailbox.entries(...)``.
        """
        raise NotImplementedError

    async def vanished_since(self, box_id: BoxId, modseq: int) -> tuple[range, ...]:
        """UIDs expunged after ``modseq``; when the log no longer reaches back, every UID that does not exist."""
        raise NotImplementedError

    async def updates(
        self, box_id: BoxId, since_modseq: int, since_uid_next: int, *, claim_recent: bool = False
    ) -> FolderUpdate | None:
        """What changed since a session last asked, or None for nothing (cheap). Raises `FolderMissing`.

        ``claim_recent``: this session is read-write, so new messages are ``\\Recent`` for it and then for nobody.
        """
        raise NotImplementedError

    # Contents

    async def card(self, entry: Entry) -> Card | None:
        """The immutable facts of a message; None when it was expunged meanwhile."""
        raise NotImplementedError

    async def cards(self, entries: EntryBlock | Sequence[Entry]) -> list[Card | None]:
        """Cards in the order of ``entries``; ask for at most 256 at a time."""
        raise NotImplementedError

    def content(self, card: Card) -> Content:
        """The message's octets (``BODY[]``), trace prefix included."""
        raise NotImplementedError

    def new_message_writer(self) -> MessageWriter:
        """Where an APPEND literal is streamed: blob and scan together."""
        raise NotImplementedError

    # Changes

    async def store_flags(
        self, box_id: BoxId, uids: UidSet, op: FlagOp, flags: Flags, *, unchanged_since: int | None = None
    ) -> StoreResult:
        """Change flags (RFC 9051 section 6.4.6, RFC 7162 section 3.1.3). Raises `LimitReached` at 64 keywords."""
        raise NotImplementedError

    async def append(self, box_id: BoxId, messages: Sequence[NewMessage]) -> AppendResult:
        """Add messages, all or none (RFC 3502). Raises `FolderMissing`, `OverQuota`, `LimitReached`."""
        raise NotImplementedError

    async def copy(self, box_id: BoxId, uids: UidSet, to_box: BoxId) -> CopyResult:
        """Copy by reference, all or none. Raises `FolderMissing`, `OverQuota`."""
        raise NotImplementedError

    async def move(self, box_id: BoxId, uids: UidSet, to_box: BoxId) -> CopyResult:
        """Move by reference in slices; each message is in exactly one of the two folders (RFC 6851)."""
        raise NotImplementedError

    async def expunge(self, box_id: BoxId, uids: UidSet | None = None) -> ExpungeResult:
        """Remove messages with ``\\Deleted``, of these UIDs or of all."""
        raise NotImplementedError

    async def absorb(self, *, at_most_s: float | None = None) -> int:
        """Take waiting arrivals in, oldest first, for at most so long; how many. Starts by itself on open and arrival."""
        raise NotImplementedError

    async def quota(self) -> Quota:
        """Octets and messages, used and allowed."""
        raise NotImplementedError

    def watch(self, callback: Callable[[Change], None]) -> Watch:
        """Call back (on the reactor's thread) after each commit that touched this user, in any process."""
        raise NotImplementedError

    async def find(self, box_id: BoxId, program: SearchKey, *, uids: UidSet | None = None) -> SearchResult:
        """UIDs of the messages that fulfil ``program``, ascending, of these UIDs or of all."""
        raise NotImplementedError

    def close(self) -> None:
        """This session needs the mailbox no longer; after the last one, caches and keys are let go."""
        raise NotImplementedError
