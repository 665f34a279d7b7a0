"""What the open mailbox answers with: plain frozen values, nothing that reaches into the store."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple

from certmaild.mailbox.identifiers import BoxId

if TYPE_CHECKING:
    from certmaild.mailbox.blobs import StoredBlob
    from certmaild.mailbox.mime_parts import Scan

UidSet = Sequence[range]
"""UIDs as ranges of step 1, in any order, possibly overlapping; UIDs that do not exist are passed over."""


class SystemFlag(IntFlag):
    """The stored system flags (RFC 9051 section 2.3.2). ``\\Recent`` is not stored: `FolderState.recent` tells."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16


SYSTEM_FLAGS = 31
"""All bits of `SystemFlag`; the higher bits of an entry's flags are the store's own."""
SERVER_COPY = 0x2000
"""The server's own copy of what was sent, where it filed it; a client's own one takes its place."""
NO_FINAL_CRLF = 0x4000
"""The message does not end in CRLF (POP3 adds one for the dot)."""
COPIED_WITHIN = 0x8000
"""Made by COPY within a folder that already holds the same mid, so mid alone does not name the message."""

MAX_KEYWORDS = 64
"""Keywords of one user, all folders together."""
MAX_FOLDERS = 2000


class SpecialUse(IntEnum):
    """Mailbox attributes of RFC 6154 and RFC 8457; the numbers stand in the store."""

    ARCHIVE = 1
    DRAFTS = 2
    JUNK = 3
    SENT = 4
    TRASH = 5
    FLAGGED = 6
    ALL = 7
    IMPORTANT = 8


class ServiceFolder(IntEnum):
    """Folders that the server itself keeps for a user; the numbers stand in the store beside those of `SpecialUse`."""

    DEVICES = 16
    """One message for each way in."""
    SETTINGS = 17
    LATER = 18
    """What a pickup code does not show yet."""


class FlagOp(Enum):
    """How STORE combines the flags it names with those of a message (RFC 9051 section 6.4.6)."""

    REPLACE = "FLAGS"
    ADD = "+FLAGS"
    REMOVE = "-FLAGS"


@dataclass(frozen=True, slots=True)
class Flags:
    """System flags as bits of `SystemFlag`, keywords by name (compared without case)."""

    system: int = 0
    keywords: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder as LIST shows it."""

    name: str
    """Full name, levels separated by ``/``; ``INBOX`` in capitals."""
    box_id: BoxId
    special_use: SpecialUse | None = None
    subscribed: bool = False
    has_children: bool = False
    service: ServiceFolder | None = None

    @property
    def mailbox_id(self) -> bytes:
        """MAILBOXID (RFC 8474): the same for the folder's life, also when renamed."""
        return self.box_id.hex().encode("ascii")


class Entry(NamedTuple):
    """One message in one folder: its mutable facts, and the key of its card."""

    uid: int
    mid: bytes
    mk: bytes
    flags: int
    """`SystemFlag` bits, `SERVER_COPY`, `NO_FINAL_CRLF`, `COPIED_WITHIN`."""
    keywords: int
    """Bit n is ``FolderTable.keywords[n]``."""
    modseq: int
    internal_date: int
    """Seconds since 1970 UTC."""
    size: int
    """RFC822.SIZE: octets of ``BODY[]``, the trace prefix included."""
    save_date: int
    """Seconds since 1970 UTC when it came into this folder (RFC 8514)."""

    def __repr__(self) -> str:
        return f"Entry(uid={self.uid}, flags={self.flags:#x}, modseq={self.modseq}, size={self.size})"


@dataclass(frozen=True, slots=True, repr=False)
class EntryBlock:
    """Entries of one folder by column, ascending by UID; mids are 16 and mks 32 octets each, end to end."""

    uids: "array[int]" = field(default_factory=lambda: array("I"))
    mids: bytes = b""
    mks: bytes = b""
    flags: "array[int]" = field(default_factory=lambda: array("H"))
    keywords: "array[int]" = field(default_factory=lambda: array("Q"))
    modseqs: "array[int]" = field(default_factory=lambda: array("Q"))
    internal_dates: "array[int]" = field(default_factory=lambda: array("Q"))
    sizes: "array[int]" = field(default_factory=lambda: array("Q"))
    save_dates: "array[int]" = field(default_factory=lambda: array("Q"))

    def __len__(self) -> int:
        return len(self.uids)

    def __getitem__(self, at: int) -> Entry:
        return Entry(
            self.uids[at],
            self.mids[at * 16 : at * 16 + 16],
            self.mks[at * 32 : at * 32 + 32],
            self.flags[at],
            self.keywords[at],
            self.modseqs[at],
            self.internal_dates[at],
            self.sizes[at],
            self.save_dates[at],
        )

    def __iter__(self) -> Iterator[Entry]:
        mids, mks = self.mids, self.mks
        for at, (uid, flags, keywords, modseq, date, size, saved) in enumerate(
            zip(
                self.uids,
                self.flags,
                self.keywords,
                self.modseqs,
                self.internal_dates,
                self.sizes,
                self.save_dates,
                strict=True,
            )
        ):
            mid, mk = mids[at * 16 : at * 16 + 16], mks[at * 32 : at * 32 + 32]
            yield Entry(uid, mid, mk, flags, keywords, modseq, date, size, saved)


@dataclass(frozen=True, slots=True)
class FolderState:
    """What SELECT answers with (RFC 9051 section 6.3.2)."""

    box_id: BoxId
    uid_validity: int
    uid_next: int
    highest_modseq: int
    uids: "array[int]"
    """All UIDs, ascending (``array('I')``): the session's own view of sequence numbers starts as a copy of it."""
    recent: range
    """UIDs that this session is the first to be told of (rev1); those of them that exist are ``\\Recent``."""
    keywords: tuple[str, ...]
    """Names by bit."""
    unseen: int
    first_unseen: int | None
    """UID of the first message without ``\\Seen``."""


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """What STATUS answers with."""

    messages: int
    unseen: int
    recent: int
    uid_next: int
    uid_validity: int
    highest_modseq: int
    deleted: int
    size_octets: int


@dataclass(frozen=True, slots=True)
class FolderUpdate:
    """What changed in a folder since a session last asked."""

    changed: EntryBlock
    """Entries below the session's old UIDNEXT with a higher mod-sequence than it knew."""
    arrived: EntryBlock
    """Entries from the session's old UIDNEXT on."""
    expunged: tuple[range, ...]
    """UIDs gone, ascending; may name UIDs that the session never had."""
    recent: range
    """Of the arrived UIDs, those first told to this session."""
    uid_next: int
    highest_modseq: int
    messages: int
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What `store_flags` did."""

    entries: EntryBlock
    """Every named message that exists and did not fail ``unchanged_since``, as it now is."""
    changed: frozenset[int]
    """UIDs among ``entries`` whose flags differ from before (they have the new mod-sequence)."""
    modified: tuple[int, ...]
    """UIDs left alone because their mod-sequence was above ``unchanged_since`` (RFC 7162 section 3.1.3)."""
    keywords: tuple[str, ...]
    """Names by bit, after new ones were added."""
    highest_modseq: int


@dataclass(frozen=True, slots=True)
class AppendResult:
    """For APPENDUID."""

    uid_validity: int
    uids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CopyResult:
    """For COPYUID: ``source_uids[n]`` became ``new_uids[n]`` in the other folder."""

    uid_validity: int
    source_uids: tuple[int, ...]
    new_uids: tuple[int, ...]
    modseq: int = 0
    """After MOVE, the source folder's mod-sequence of the expunge."""


@dataclass(frozen=True, slots=True)
class ExpungeResult:
    """UIDs removed, ascending, and the folder's mod-sequence of it."""

    uids: tuple[int, ...]
    modseq: int


@dataclass(frozen=True, slots=True)
class Quota:
    """Used and allowed; a limit of None is none. Octets are sums of RFC822.SIZE."""

    octets: int
    octets_limit: int | None
    messages: int
    messages_limit: int | None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message for APPEND: a finished blob, its scan, and what the client said of it."""

    blob: "StoredBlob"
    scan: "Scan"
    flags: Flags = Flags()
    internal_date: int | None = None
    """Seconds since 1970 UTC; None is now."""
