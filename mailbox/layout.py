"""Every byte in the store: tables, keys and values. docs/storage.md says the same in words.

This module holds the tables and the half that delivery writes: blobs, arrivals, accounting, the ring. The accounts'
half is `certmaild.mailbox.layout_accounts`, the open mailbox's `certmaild.mailbox.layout_messages` and `layout_ready`,
the outgoing queue's `certmaild.mailbox.layout_queue`.
Integers are big-endian, so that keys sort as numbers do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from struct import Struct, error

from certmaild.keystore.primitives import SUITE, Label
from certmaild.keystore.sealing import HEADER, KID_OCTETS, arrival_info
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import BlobId, BoxId, UserId

FORMAT_VERSION = 1
"""Of the whole store, in ``meta``."""


class Table(StrEnum):
    """The closed set of tables of the durable store. A member is its name, as `seal_row` takes it."""

    META = "meta"
    ADDR = "addr"
    ACCT = "acct"
    CRED = "cred"
    SEEN = "seen"
    PK = "pk"
    EPOCH = "epoch"
    IDENT = "ident"
    UHEAD = "uhead"
    FOLDERS = "folders"
    HEAD = "head"
    PAGE = "page"
    GONE = "gone"
    CARD = "card"
    OWN = "own"
    IN = "in"
    TAIL = "tail"
    USE = "use"
    BLOB = "blob"
    REF = "ref"
    STAGE = "stage"
    DEAD = "dead"
    TEXT = "text"
    READY = "ready"
    PARTNER = "partner"
    RING = "ring"
    QMSG = "qmsg"
    QSTATE = "qstate"
    QTASK = "qtask"
    QLANE = "qlane"
    QREADY = "qready"
    QDUE = "qdue"
    QSAID = "qsaid"
    STS = "sts"
    TLSRPT = "tlsrpt"
    GUEST = "guest"
    BEQUEST = "bequest"
    HEARD = "heard"
    DAILY = "daily"
    SERVICE = "service"
    AUDIT = "audit"
    GROUP = "group"
    CLIENT = "client"


class VolatileTable(StrEnum):
    """Tables of the volatile environment, made anew at each start."""

    LEASE = "lease"
    COUNT = "count"
    LEVEL = "level"
    SEALED = "sealed"
    PROCESS = "process"
    DOUBT = "doubt"


U32 = Struct(">I")
U64 = Struct(">Q")

# Blob: the frames of one message's content.

FRAME_OCTETS = 256 * 1024
"""Content in every frame but the first and the last."""
WHOLE_OCTETS = 64 * 1024
"""A message up to this size is one frame."""
FACTS_FRAME = 0xFFFFFFFF
"""Frame number of the large parts of a card."""
_FRAME_CONTEXT = Label.FRAME.info + bytes([SUITE])
_LAST = (b"\0", b"\1")
FRAME_HEADER = Struct(">BI")
"""codec, octets of the payload; zero padding follows the payload."""


class Codec(IntEnum):
    """How a frame's payload is packed."""

    RAW = 0
    ZSTD = 1


def frame_key(blob_id: bytes, frame: int) -> bytes:
    """Key in ``blob``."""
    return blob_id + U32.pack(frame)


def frame_context(blob_id: bytes, frame: int, last: bool) -> bytes:
    """What a frame is bound to: its place, and whether it is the last."""
    return _FRAME_CONTEXT + blob_id + U32.pack(frame) + _LAST[last]


def first_frame_octets(header_octets: int) -> int:
    """Content of frame 0 of a message above `WHOLE_OCTETS`: its header, at most one frame, at least one octet."""
    return min(max(header_octets, 1), FRAME_OCTETS)


def pack_frame(codec: Codec, payload: bytes, padding: bool) -> bytes:
    """The inside of a frame. ``padding`` fills up to a Padme length, so that the size shows only O(log log n) bits."""
    plain = FRAME_HEADER.pack(codec, len(payload)) + payload
    return plain + bytes(padme(len(plain)) - len(plain)) if padding else plain


def unpack_frame(plain: bytes) -> tuple[Codec, memoryview]:
    """Codec and payload. Raises `Damaged`."""
    try:
        codec, octets = FRAME_HEADER.unpack_from(plain)
        payload = memoryview(plain)[FRAME_HEADER.size : FRAME_HEADER.size + octets]
        if len(payload) == octets:
            return Codec(codec), payload
    except (error, ValueError):
        pass
    raise Damaged("frame")


def padme(octets: int) -> int:
    """The length to fill up to: at most 12 % more (Nikitin et al., PURBs, section 4)."""
    if octets < 2:
        return octets
    exponent = octets.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (octets + mask) & ~mask


# Reference count and life of blobs.


def encode_count(count: int) -> bytes:
    """Value in ``ref``."""
    return U32.pack(count)


def decode_count(value: bytes) -> int:
    """Inverse of `encode_count`."""
    try:
        return int(U32.unpack(value)[0])
    except error:
        raise Damaged("reference count") from None


def dead_key(died_s: int, blob_id: bytes) -> bytes:
    """Key in ``dead``: when the last reference went, in seconds since 1970, then the blob. The value is empty."""
    return U64.pack(died_s) + blob_id


def decode_dead_key(key: bytes) -> tuple[int, BlobId]:
    """Inverse of `dead_key`."""
    return U64.unpack_from(key)[0], BlobId(key[8:])


_STAGE = Struct(">16sIQQ")


@dataclass(frozen=True, slots=True)
class Stage:
    """Which process uploads a blob, as ``stage`` holds it: enough to know later whether it still lives."""

    boot_id: bytes
    """16 bytes; differs after a restart of the machine."""
    pid: int
    process_start: int
    """In clock ticks since the boot, as /proc/PID/stat gives it; 0 where there is none."""
    begun_s: int
    """Seconds since 1970."""


def encode_stage(stage: Stage) -> bytes:
    """Value in ``stage``."""
    return _STAGE.pack(stage.boot_id, stage.pid, stage.process_start, stage.begun_s)


def decode_stage(value: bytes) -> Stage:
    """Inverse of `encode_stage`."""
    try:
        return Stage(*_STAGE.unpack(value))
    except error:
        raise Damaged("stage row") from None


# Own row: what one user's hold on a blob is, sealed by the server.

_OWN = Struct(">16sIQ")


@dataclass(frozen=True, slots=True)
class Own:
    """One message of one user: its blob, how many folder entries show it, and what it counts in the quota."""

    blob_id: BlobId
    copies: int
    octets: int


def own_key(user_id: bytes, mid: bytes) -> bytes:
    """Key in ``own``."""
    return user_id + mid


def encode_own(own: Own) -> bytes:
    """Plaintext of a row in ``own``."""
    return _OWN.pack(own.blob_id, own.copies, own.octets)


def decode_own(plain: bytes) -> Own:
    """Inverse of `encode_own`."""
    try:
        return Own(*_OWN.unpack(plain))
    except error:
        raise Damaged("own row") from None


# Arrivals.

DTAG_OCTETS = 32
FIRST_DTAG = bytes(DTAG_OCTETS)
"""What stands before a user's first arrival."""


class Arrival(IntEnum):
    """The type octet of a row in ``in``. 2 is kept for what stands in a removed message's place; until something
    removes messages it is refused, for a tamperer could write it over a message."""

    MESSAGE = 1
    ORDER = 3


def arrival_key(user_id: bytes, seq: int) -> bytes:
    """Key in ``in``: arrivals of a user are numbered from 1."""
    return user_id + U64.pack(seq)


def decode_arrival_key(key: bytes) -> tuple[UserId, int]:
    """Inverse of `arrival_key`."""
    return UserId(key[:16]), U64.unpack_from(key, 16)[0]


_MID = 16


@dataclass(frozen=True, slots=True)
class InRow:
    """A row of ``in``, taken apart. What it does not hold is empty or None."""

    kind: Arrival
    header: bytes
    dtag: bytes
    kid: bytes = b""
    mid: bytes = b""
    sealed: bytes | None = None
    """HPKE: encapsulated key and ciphertext."""
    order_mid: bytes | None = None
    """The message to retract or expire."""

    def info(self, user_id: bytes) -> bytes:
        """What the seal is bound to."""
        return arrival_info(self.header, user_id, self.kid, self.mid)


def decode_in_row(value: bytes) -> InRow:
    """Take a row of ``in`` apart. Raises `Damaged` for one that no version wrote."""
    header, body, dtag = value[: HEADER.size], value[HEADER.size : -DTAG_OCTETS], value[-DTAG_OCTETS:]
    try:
        suite, kind = HEADER.unpack(header)[:2]
        kind = Arrival(kind)
    except (error, ValueError):
        raise Damaged("arrival") from None
    if suite != SUITE:
        raise Damaged("suite of an arrival")
    if kind is Arrival.MESSAGE and len(body) > KID_OCTETS + _MID:
        return InRow(
            kind, header, dtag, body[:KID_OCTETS], body[KID_OCTETS : KID_OCTETS + _MID], body[KID_OCTETS + _MID :]
        )
    if kind is Arrival.ORDER and len(body) == _MID:
        return InRow(kind, header, dtag, order_mid=body)
    raise Damaged("arrival")


def encode_order(mid: bytes) -> bytes:
    """An order to retract or expire ``mid``, before its dtag."""
    return HEADER.pack(SUITE, Arrival.ORDER, 0, 0) + mid


_TAIL = Struct(">Q32s")


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a user's queue of arrivals."""

    next_seq: int = 1
    dtag: bytes = FIRST_DTAG


def encode_tail(tail: Tail) -> bytes:
    """Plaintext of a row in ``tail``."""
    return _TAIL.pack(tail.next_seq, tail.dtag)


def decode_tail(plain: bytes) -> Tail:
    """Inverse of `encode_tail`."""
    try:
        return Tail(*_TAIL.unpack(plain))
    except error:
        raise Damaged("tail") from None


_USE = Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Use:
    """What a user's messages count; copies count again."""

    octets: int = 0
    messages: int = 0


def encode_use(use: Use) -> bytes:
    """Plaintext of a row in ``use``."""
    return _USE.pack(use.octets, use.messages)


def decode_use(plain: bytes) -> Use:
    """Inverse of `encode_use`."""
    try:
        return Use(*_USE.unpack(plain))
    except error:
        raise Damaged("use row") from None


# Ring: what commits changed.

_CHANGE = Struct(">B16s16s")
_NO_BOX = bytes(16)
RING_ROWS = 4096
"""Rows kept; who falls further behind looks at everything."""
RING_ROW_CHANGES = 256
"""More changes than this in one commit are written as one row without any: look at everything."""


def ring_key(number: int) -> bytes:
    """Key in ``ring``."""
    return U64.pack(number)


def decode_ring_key(key: bytes) -> int:
    """Inverse of `ring_key`."""
    return int(U64.unpack(key)[0])


def encode_changes(changes: Iterable[Change]) -> bytes:
    """Plaintext of a row in ``ring``."""
    pack = _CHANGE.pack
    return b"".join([pack(change.kind, change.user_id, change.box_id or _NO_BOX) for change in changes])


def decode_changes(plain: bytes) -> tuple[Change, ...]:
    """Inverse of `encode_changes`. Raises `Damaged`."""
    try:
        return tuple(
            Change(ChangeKind(kind), UserId(user_id), None if box_id == _NO_BOX else BoxId(box_id))
            for kind, user_id, box_id in _CHANGE.iter_unpack(plain)
        )
    except (error, ValueError):
        raise Damaged("ring row") from None


# Volatile environment.

_LEASE = Struct(">d2s")
_LEVEL = Struct(">dd")
_FIRST = Struct(">d")
_SLOT = Struct(">H")


def slot_key(slot: int) -> bytes:
    """Key in ``process``, and the first octets of a key in ``count``: the number of a process."""
    return _SLOT.pack(slot)


def decode_slot(key: bytes) -> int:
    """Inverse of `slot_key`."""
    return int(_SLOT.unpack(key)[0])


def encode_level(level: float, at_s: float) -> bytes:
    """Value in ``level``: how high, and when (seconds since 1970)."""
    return _LEVEL.pack(level, at_s)


def decode_level(value: bytes) -> tuple[float, float]:
    """Inverse of `encode_level`."""
    level, at_s = _LEVEL.unpack(value)
    return level, at_s


def encode_amount(amount: int) -> bytes:
    """Value in ``count``: connections, sessions, or octets, of which there may be more than 4 GiB."""
    return U64.pack(amount)


def decode_amount(value: bytes) -> int:
    """Inverse of `encode_amount`."""
    return int(U64.unpack(value)[0])


def encode_kept(at_s: float, value: bytes) -> bytes:
    """Value in ``sealed``: a level of 0, whose time is that of the last use (seconds since 1970), and what is kept."""
    return encode_level(0.0, at_s) + value


def decode_kept(value: bytes) -> tuple[float, bytes]:
    """Inverse of `encode_kept`."""
    return decode_level(value[: _LEVEL.size])[1], value[_LEVEL.size :]


def encode_stretched(first_s: float, material: bytes) -> bytes:
    """What a value in ``sealed`` holds: when a password was stretched (seconds since 1970), and to what."""
    return _FIRST.pack(first_s) + material


def decode_stretched(plain: bytes) -> tuple[float, bytes]:
    """Inverse of `encode_stretched`."""
    (first_s,) = _FIRST.unpack_from(plain)
    return first_s, plain[_FIRST.size :]


def encode_lease(until_s: float, holder: bytes) -> bytes:
    """Value in ``lease``: until when (seconds since 1970), and the holder's `slot_key`."""
    return _LEASE.pack(until_s, holder)


def decode_lease(value: bytes) -> tuple[float, bytes]:
    """Inverse of `encode_lease`."""
    until_s, holder = _LEASE.unpack(value)
    return until_s, holder
