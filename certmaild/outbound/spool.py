"""The queue's rows as the values that everybody else works with, and back."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from certmaild.mailbox.blobs import Blob, read_frames
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import QueueId, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_queue import Message, Task
from certmaild.mailbox.queue import NewTask, Queue, QueueSealer
from certmaild.outbound.interfaces import QueuedMessage, Terms
from certmaild.outbound.timing import Times, Told, deadlines
from certmaild.outbound.values import (
    Delivered,
    Destination,
    Envelope,
    Fate,
    Problem,
    Recipient,
    RouteKind,
)

T = TypeVar("T")
CRLF = b"\r\n"
_DELIVERED, _PROBLEM = b"D", b"P"


@dataclass(frozen=True, slots=True)
class Place:
    """What a lane leads to: messages for one destination that ask the same of TLS."""

    destination: Destination
    terms: Terms


@dataclass(frozen=True, slots=True)
class Submission:
    """A message for other servers, as it is filed."""

    queue_id: str
    """12 hexadecimal digits."""
    blob: Blob
    header_octets: int
    """Of the content, the blank line included (`cards.Facts`)."""
    final_crlf: bool
    """Whether the content ends in CRLF (`cards.Facts`)."""
    prefix: bytes
    """Header fields that go out before it, each ended by CRLF."""
    envelope: Envelope
    sender: UserId | None
    """The account that submits it."""
    recipients: Sequence[tuple[Recipient, Destination]]


class Spool:
    """The outgoing queue. ``times`` may be replaced while it runs; a message goes by those of the moment."""

    def __init__(self, seals: QueueSealer, times: Times) -> None:
        self.queue = Queue(seals)
        self.times = times

    def enqueue(self, txn: WriteTxn, submission: Submission, now: float) -> None:
        """File a message, in the transaction that accepts it; ``now`` is in seconds since 1970.

        The blob's rows are written before, in the same transaction: `write_arrivals` does, with no arrivals too. Raises
        `StoreUnavailable` for a queue id that is in use.
        """
        envelope, blob = submission.envelope, submission.blob
        message = Message(
            blob.cek,
            blob.blob_id,  # type: ignore[arg-type]  # Blob has bytes where its makers have BlobId
            blob.size,
            blob.frames,
            blob.f0_len,
            submission.header_octets,
            submission.final_crlf,
            int(now * 1000),
            submission.sender,
            submission.prefix,
            encode(envelope),
        )
        terms = terms_of(envelope)
        self.queue.enqueue(
            txn,
            QueueId(bytes.fromhex(submission.queue_id)),
            message,
            [
                NewTask(encode_place(Place(destination, terms)), encode(recipient))
                for recipient, destination in submission.recipients
            ],
            now_s=int(now),
            timer_s=deadlines(self.times, envelope, int(now), Told()).next_s(Told()),
            priority=envelope.priority,
            not_before_s=envelope.hold_until_s or 0,
        )

    def told(self, txn: ReadTxn, queue_id: QueueId) -> Told:
        """What was done about a message so far."""
        state = self.queue.state(txn, queue_id)
        return Told() if state is None or not state.notes else decode(Told, state.notes)


def terms_of(envelope: Envelope) -> Terms:
    """What a message asks of TLS; REQUIRETLS is stronger than ``TLS-Required: No`` (RFC 8689 section 4.1)."""
    if envelope.require_tls:
        return Terms.REQUIRED
    return Terms.OPTIONAL if envelope.tls_optional else Terms.NORMAL


def recipient_of(task: Task) -> Recipient:
    """Whom a copy is for."""
    return decode(Recipient, task.recipient)


def fate_of(task: Task) -> Fate | None:
    """What became of a copy at the last try; None before the first."""
    return decode_fate(task.fate) if task.fate else None


# Octets.


def encode_place(place: Place) -> bytes:
    """A destination and terms: equal for equal ones, in every version."""
    kind, domain = place.destination.kind.value, place.destination.domain
    return b"\0".join(word.encode() for word in (kind, domain, place.terms.value))


def decode_place(octets: bytes) -> Place:
    """Inverse of `encode_place`. Raises `Damaged`."""
    try:
        kind, domain, terms = octets.decode().split("\0")
        return Place(Destination(RouteKind(kind), domain), Terms(terms))
    except ValueError:
        raise Damaged("destination") from None


def encode(value: object) -> bytes:
    """A value of this package as MessagePack, fields by name, so that a later version may add some."""
    return msgspec.msgpack.encode(value)


def decode(kind: type[T], octets: bytes) -> T:
    """Inverse of `encode`. Raises `Damaged`."""
    try:
        return msgspec.msgpack.decode(octets, type=kind)
    except msgspec.DecodeError:
        raise Damaged(f"queued {kind.__name__}") from None


def encode_fate(fate: Fate) -> bytes:
    """A fate, with its kind first."""
    return (_DELIVERED if isinstance(fate, Delivered) else _PROBLEM) + encode(fate)


def decode_fate(octets: bytes) -> Fate:
    """Inverse of `encode_fate`. Raises `Damaged`."""
    if octets[:1] == _DELIVERED:
        return decode(Delivered, octets[1:])
    return decode(Problem, octets[1:])


# Content.


def size_of(message: Message) -> int:
    """Octets that go out."""
    return len(message.prefix) + message.size + (0 if message.final_crlf else len(CRLF))


async def content_of(engine: Engine, message: Message) -> AsyncIterator[bytes]:
    """What goes out, some 256 KiB at a time. Raises `Damaged`, `MessageGone`."""
    first = message.prefix
    async for frame in read_frames(engine, message):
        yield first + frame
        first = b""
    if not message.final_crlf:
        yield CRLF


async def header_of(engine: Engine, message: Message) -> bytes:
    """The header as it goes out, the blank line included."""
    header = message.prefix
    end = len(header) + message.header_octets
    async for frame in read_frames(engine, message):
        header += frame
        if len(header) >= end:
            break
    return header[:end]


def described(engine: Engine, queue_id: QueueId, message: Message) -> QueuedMessage:
    """A message for those who report on it."""
    return QueuedMessage(
        queue_id.hex(),
        decode(Envelope, message.envelope),
        message.sender,
        message.accepted_ms // 1000,
        size_of(message),
        lambda: header_of(engine, message),
    )
