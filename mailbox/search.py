"""SEARCH: the program's values, and their evaluation over entries, cards and decoded content."""

from array import array
from dataclasses import dataclass
from enum import Enum

from certmaild.mailbox.values import UidSet


class DateOp(Enum):
    """How a day compares: SEARCH's BEFORE, ON and SINCE."""

    BEFORE = "before"
    ON = "on"
    SINCE = "since"


class DateOf(Enum):
    """Which date: INTERNALDATE, the Date field (as written, without its zone), or the save date (RFC 8514)."""

    INTERNAL = "internal"
    SENT = "sent"
    SAVED = "saved"


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class HasFlags:
    """All of these `SystemFlag` bits are set (``wanted``) or none of them is."""

    bits: int
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """The keyword of this name is set (``wanted``) or not; a name never used is set nowhere."""

    name: str
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class HasUid:
    """The UID is one of these: UID sets, sequence sets, ``$``, RECENT, once the session has made UIDs of them."""

    uids: UidSet


@dataclass(frozen=True, slots=True)
class OnDay:
    """The date falls before, on, or on or after a day, counted in days since 1970 (UTC for INTERNALDATE and saved)."""

    which: DateOf
    op: DateOp
    day: int


@dataclass(frozen=True, slots=True)
class Aged:
    """WITHIN (RFC 5032): INTERNALDATE lies within the last ``seconds`` (YOUNGER), or before that (OLDER)."""

    seconds: int
    younger: bool
    which: DateOf = DateOf.INTERNAL


@dataclass(frozen=True, slots=True)
class SizeIs:
    """LARGER or SMALLER than so many octets."""

    octets: int
    larger: bool


@dataclass(frozen=True, slots=True)
class ModSeqFrom:
    """MODSEQ (RFC 7162 section 3.1.5): the mod-sequence is this or higher."""

    modseq: int


@dataclass(frozen=True, slots=True)
class HeaderHas:
    """A header field of this name (any case) holds the text, RFC 2047 decoded; empty text: the field is there.

    SUBJECT, FROM, TO, CC and BCC are this with their field's name.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class BodyHas:
    """The decoded text of the body holds the text."""

    text: str


@dataclass(frozen=True, slots=True)
class TextHas:
    """Header or body hold the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """The key does not hold."""

    key: "SearchKey"


@dataclass(frozen=True, slots=True)
class And:
    """All keys hold (none: every message)."""

    keys: tuple["SearchKey", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of the keys holds."""

    keys: tuple["SearchKey", ...]


@dataclass(frozen=True, slots=True)
class HasMid:
    """EMAILID (RFC 8474)."""

    mid: bytes


SearchKey = (
    All
    | HasFlags
    | HasKeyword
    | HasUid
    | OnDay
    | Aged
    | SizeIs
    | ModSeqFrom
    | HeaderHas
    | BodyHas
    | TextHas
    | Not
    | And
    | Or
    | HasMid
)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Found UIDs, ascending (``array('I')``), and the highest mod-sequence among them (0 when none)."""

    uids: "array[int]"
    highest_modseq: int
