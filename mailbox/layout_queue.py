"""Every byte of the outgoing queue: keys, and the values that are sealed under the queue's secret (docs/storage.md).

What stands in clear is ids, times, priorities and keyed hashes of destinations. Who sent and who gets a message, where
it goes and what became of it is inside the seals; envelopes, recipients and fates are octets that
`certmaild.outbound.spool` reads.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct, error
from typing import Any, TypeVar

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import BlobId, LaneId, QueueId, UserId

T = TypeVar("T")

QUEUE_ID_OCTETS = 6
LANE_ID_OCTETS = 16
HIGHEST_PRIORITY = 9
"""MT-PRIORITY goes from -9 to 9 (RFC 6710)."""
_VERSION = 1
_NO_USER = bytes(16)
_TIME = Struct(">Q")
_NUMBER = Struct(">I")


class Due(IntEnum):
    """What is to be looked at at a time: the first octet of a key in ``qdue``."""

    LANE = 1
    """A destination has something to send."""
    TASK = 2
    """A recipient is tried again."""
    MESSAGE = 3
    """A message is late, over its time, or long done."""
    NOTICE = 4
    """A guest may have to be told that mail waits for him."""
    CODE = 5
    """A guest's pickup code dies if nobody has used it."""
    TRIAL = 6
    """A mailbox on trial is near its end, or over."""
    PASSWORD = 7
    """A message shows a password since then."""


class TaskState(IntEnum):
    """Where one recipient's copy stands."""

    READY = 1
    """To be sent as soon as its lane may."""
    WAITING = 2
    """Not before its time."""
    HELD = 3
    """Until somebody releases it."""
    DELIVERED = 4
    FAILED = 5
    DROPPED = 6

    @property
    def is_open(self) -> bool:
        """Whether anything is still to be done."""
        return self <= TaskState.HELD


# Keys.


def task_key(queue_id: bytes, number: int) -> bytes:
    """Key in ``qtask``: a message's recipients are numbered from 0."""
    return queue_id + _NUMBER.pack(number)


def decode_task_key(key: bytes) -> tuple[QueueId, int]:
    """Inverse of `task_key`."""
    return QueueId(key[:QUEUE_ID_OCTETS]), int(_NUMBER.unpack_from(key, QUEUE_ID_OCTETS)[0])


_READY = Struct(">16sBQ")


def ready_key(lane_id: bytes, priority: int, accepted_ms: int, task: bytes) -> bytes:
    """Key in ``qready``: of a lane the highest priority first, then the oldest. ``task`` is its `task_key`."""
    return _READY.pack(lane_id, HIGHEST_PRIORITY - priority, accepted_ms) + task


def decode_ready_key(key: bytes) -> tuple[QueueId, int]:
    """Message and number of the recipient."""
    return decode_task_key(key[_READY.size :])


def due_key(kind: Due, at_s: int, what: bytes) -> bytes:
    """Key in ``qdue``: of each kind the earliest first. ``what`` is a lane id, a `task_key` or a queue id."""
    return bytes([kind]) + _TIME.pack(at_s) + what


def decode_due_key(key: bytes) -> tuple[int, bytes]:
    """When (seconds since 1970), and what."""
    return int(_TIME.unpack_from(key, 1)[0]), key[1 + _TIME.size :]


def said_key(hour: int, place: bytes) -> bytes:
    """Key in ``qsaid``: the hour (since 1970) in which a sender was warned of a destination, and a hash of the two."""
    return _NUMBER.pack(hour) + place


def doubt_key(queue_id: bytes, lane_id: bytes) -> bytes:
    """Key in the volatile ``doubt``: a message that was sent to its end to a destination."""
    return queue_id + lane_id


def encode_doubt(numbers: Iterable[int]) -> bytes:
    """Value in ``doubt``: for which recipients."""
    return b"".join([_NUMBER.pack(number) for number in numbers])


def decode_doubt(key: bytes, value: bytes) -> tuple[QueueId, list[int]]:
    """The message and its recipients."""
    return QueueId(key[:QUEUE_ID_OCTETS]), [number for (number,) in _NUMBER.iter_unpack(value)]


def encode_said(at_s: int) -> bytes:
    """Value in ``qsaid``: when it was said."""
    return _TIME.pack(at_s)


def decode_said(value: bytes) -> int:
    """Inverse of `encode_said`. Raises `Damaged`."""
    try:
        return int(_TIME.unpack(value)[0])
    except error:
        raise Damaged("warning") from None


# Values.


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way out; does not change. It is a `Blob` to read its frames by."""

    cek: bytes = field(repr=False)
    blob_id: BlobId
    size: int
    """Octets of the blob; the prefix goes out before it."""
    frames: int
    f0_len: int
    header_octets: int
    """Of the blob, the blank line included."""
    final_crlf: bool
    """Whether the blob ends in CRLF; what goes out does."""
    accepted_ms: int
    """Since 1970."""
    sender: UserId | None
    """The account that submitted it."""
    prefix: bytes = field(repr=False)
    """Header fields that go out before the content: Received, DKIM-Signature."""
    envelope: bytes = field(repr=False)


_MESSAGE = Struct(">B32s16sQIII?Q16sI")


def encode_message(row: Message) -> bytes:
    """Plaintext of a row in ``qmsg``."""
    head = _MESSAGE.pack(
        _VERSION,
        row.cek,
        row.blob_id,
        row.size,
        row.frames,
        row.f0_len,
        row.header_octets,
        row.final_crlf,
        row.accepted_ms,
        row.sender or _NO_USER,
        len(row.prefix),
    )
    return head + row.prefix + row.envelope


def decode_message(plain: bytes) -> Message:
    """Inverse of `encode_message`. Raises `Damaged`."""
    cek, blob_id, size, frames, f0_len, header_octets, final_crlf, accepted_ms, sender, prefix = _unpack(
        _MESSAGE, plain, "queued message"
    )
    end = _MESSAGE.size + prefix
    return Message(
        cek,
        BlobId(blob_id),
        size,
        frames,
        f0_len,
        header_octets,
        bool(final_crlf),
        accepted_ms,
        None if sender == _NO_USER else UserId(sender),
        plain[_MESSAGE.size : end],
        plain[end:],
    )


@dataclass(frozen=True, slots=True)
class MessageState:
    """What changes about a message as a whole."""

    open: int
    """Recipients for whom something is still to be done; at 0 the content is let go."""
    timer_s: int
    """When it is looked at again; 0: never."""
    is_held: bool = False
    notes: bytes = b""
    """What the sender was told already."""


_STATE = Struct(">BIQB")


def encode_state(state: MessageState) -> bytes:
    """Plaintext of a row in ``qstate``."""
    return _STATE.pack(_VERSION, state.open, state.timer_s, state.is_held) + state.notes


def decode_state(plain: bytes) -> MessageState:
    """Inverse of `encode_state`. Raises `Damaged`."""
    count, timer_s, is_held = _unpack(_STATE, plain, "queued message's state")
    return MessageState(count, timer_s, bool(is_held), plain[_STATE.size :])


@dataclass(frozen=True, slots=True)
class Task:
    """One outside recipient of one message."""

    state: TaskState
    lane_id: LaneId
    priority: int
    accepted_ms: int
    place: bytes = field(repr=False)
    """The destination, as its lane names it."""
    recipient: bytes = field(repr=False)
    next_s: int = 0
    """When a waiting one is tried again; of one that is done, when that was."""
    attempts: int = 0
    first_s: int = 0
    last_s: int = 0
    """Of the tries, seconds since 1970; 0: none yet."""
    doubts: int = 0
    """How often a crash left it open whether the next server had taken it."""
    fate: bytes = field(default=b"", repr=False)
    """The last one; empty before."""


_TASK = Struct(">BB16sbQQIQQIII")


def encode_task(task: Task) -> bytes:
    """Plaintext of a row in ``qtask``."""
    head = _TASK.pack(
        _VERSION,
        task.state,
        task.lane_id,
        task.priority,
        task.accepted_ms,
        task.next_s,
        task.attempts,
        task.first_s,
        task.last_s,
        task.doubts,
        len(task.place),
        len(task.recipient),
    )
    return head + task.place + task.recipient + task.fate


def decode_task(plain: bytes) -> Task:
    """Inverse of `encode_task`. Raises `Damaged`."""
    state, lane_id, priority, accepted_ms, next_s, attempts, first_s, last_s, doubts, place, recipient = _unpack(
        _TASK, plain, "queued recipient"
    )
    middle = _TASK.size + place
    end = middle + recipient
    return Task(
        _member(TaskState, state),
        LaneId(lane_id),
        priority,
        accepted_ms,
        plain[_TASK.size : middle],
        plain[middle:end],
        next_s,
        attempts,
        first_s,
        last_s,
        doubts,
        plain[end:],
    )


@dataclass(frozen=True, slots=True)
class Lane:
    """A destination that has something ready."""

    due_s: int
    """When it may be tried; it stands so in ``qdue``."""
    place: bytes = field(repr=False)
    failures: int = 0
    """Tries in a row that did not reach it."""
    since_s: int = 0
    """When the first of them was."""
    problem: bytes = field(default=b"", repr=False)
    """What the last of them met."""


_LANE = Struct(">BQIQI")


def encode_lane(lane: Lane) -> bytes:
    """Plaintext of a row in ``qlane``."""
    head = _LANE.pack(_VERSION, lane.due_s, lane.failures, lane.since_s, len(lane.place))
    return head + lane.place + lane.problem


def decode_lane(plain: bytes) -> Lane:
    """Inverse of `encode_lane`. Raises `Damaged`."""
    due_s, failures, since_s, place = _unpack(_LANE, plain, "lane")
    end = _LANE.size + place
    return Lane(due_s, plain[_LANE.size : end], failures, since_s, plain[end:])


def _unpack(struct: Struct, plain: bytes, what: str) -> list[Any]:
    """The fields after the version. Raises `Damaged`."""
    try:
        version, *fields = struct.unpack_from(plain)
    except error:
        raise Damaged(what) from None
    if version != _VERSION:
        raise Damaged(f"version of a {what}")
    return fields


def _member(kind: Callable[[int], T], value: int) -> T:
    try:
        return kind(value)
    except ValueError:
        raise Damaged("state of a queued recipient") from None
