"""Deposit: one message's card sealed to each recipient's public key, queued for him to absorb (KEYS sections 5.2, 6).

Sealing (some 80 us each) is done before the transaction, which then only writes rows.
"""

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.users import PublicKey, seal_arrival
from certmaild.mailbox import ownership
from certmaild.mailbox.blobs import StoredBlob
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import BlobId, Mid, UserId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import (
    Arrival,
    InRow,
    Own,
    Table,
    Tail,
    arrival_key,
    decode_count,
    decode_in_row,
    decode_tail,
    encode_count,
    encode_order,
    encode_own,
    encode_tail,
    own_key,
)

SLICE = 50
"""Recipients sealed on the calling thread; more go to a thread in slices of so many."""

__all__ = [
    "SLICE",
    "InRow",
    "Recipient",
    "SealedArrival",
    "count_waiting",
    "decode_in_row",
    "in_digest",
    "queue_order",
    "seal_all",
    "seal_for",
    "write_arrivals",
]


class ArrivalSecrets(RowSealer, Protocol):
    """What the server's secrets do for deposits."""

    def dtag(self, user_id: bytes, seq: int, previous: bytes, digest: bytes) -> bytes:
        """The chain of a user's arrivals."""
        ...


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom to seal for, and the plaintext of his card."""

    user_id: UserId
    public_key: PublicKey
    card: bytes = field(repr=False)
    octets: int
    """What the message counts: the blob and his trace prefix."""


@dataclass(frozen=True, slots=True)
class SealedArrival:
    """One recipient's card, sealed: a row of ``in`` but for its dtag."""

    user_id: UserId
    mid: Mid
    sealed: bytes = field(repr=False)
    octets: int
    digest: bytes


def seal_for(recipient: Recipient, random: Callable[[int], bytes] = os.urandom) -> SealedArrival:
    """Seal a card under a new message id."""
    mid = Mid(random(16))
    sealed = seal_arrival(recipient.public_key, recipient.user_id, mid, recipient.card)
    return SealedArrival(recipient.user_id, mid, sealed, recipient.octets, hashlib.sha256(sealed).digest())


async def seal_all(
    recipients: Sequence[Recipient],
    in_thread: Callable[[Callable[[], list[SealedArrival]]], Awaitable[list[SealedArrival]]],
) -> list[SealedArrival]:
    """Seal for all; above `SLICE` recipients through ``in_thread`` (`deferToThreadPool`), so that nobody waits long."""
    if len(recipients) <= SLICE:
        return [seal_for(recipient) for recipient in recipients]
    sealed: list[SealedArrival] = []
    for at in range(0, len(recipients), SLICE):
        part = recipients[at : at + SLICE]
        sealed += await in_thread(lambda part=part: [seal_for(recipient) for recipient in part])  # type: ignore[misc]
    return sealed


def in_digest(row: InRow, value: bytes) -> bytes:
    """The digest that a row's dtag was made over: SHA-256 of all before it."""
    return hashlib.sha256(value[: -len(row.dtag)]).digest()


def write_arrivals(txn: WriteTxn, secrets: ArrivalSecrets, blob: StoredBlob, arrivals: Iterable[SealedArrival]) -> None:
    """File a message with all its recipients: blob, references, own, arrival, tail and use rows.

    Nothing is refused for quota here: once the recipient was accepted the message is taken. Raises `Damaged`.
    """
    blob.write(txn)
    references = txn.get(Table.REF, blob.blob_id)
    count = 0 if references is None else decode_count(references)
    for arrival in arrivals:
        user_id = arrival.user_id
        _append(txn, secrets, user_id, arrival.sealed, arrival.digest)
        _own(txn, secrets, arrival, blob.blob_id)
        ownership.add_use(txn, secrets, user_id, arrival.octets, 1)
        txn.announce(Change(ChangeKind.ARRIVAL, user_id))
        count += 1
    txn.put(Table.REF, blob.blob_id, encode_count(count))


def count_waiting(txn: ReadTxn, user_id: UserId, most: int) -> int:
    """How many messages wait to be absorbed, at most ``most``. Raises `Damaged`."""
    rows = txn.scan(Table.IN, user_id, user_id + b"\xff" * 9)
    return sum(1 for _, value in islice(rows, most) if decode_in_row(value).kind is Arrival.MESSAGE)


def queue_order(txn: WriteTxn, secrets: ArrivalSecrets, user_id: UserId, mid: Mid) -> None:
    """Queue that a message be expunged at the next absorb: retracted or expired."""
    row = encode_order(mid)
    _append(txn, secrets, user_id, row, hashlib.sha256(row).digest())
    txn.announce(Change(ChangeKind.ARRIVAL, user_id))


def _append(txn: WriteTxn, secrets: ArrivalSecrets, user_id: UserId, row: bytes, digest: bytes) -> None:
    """Put a row at the end of a user's queue and move its tail."""
    last = txn.last_put(Table.TAIL, user_id)
    tail = last if isinstance(last, Tail) else _read_tail(txn, secrets, user_id)
    dtag = secrets.dtag(user_id, tail.next_seq, tail.dtag, digest)
    txn.put(Table.IN, arrival_key(user_id, tail.next_seq), row + dtag)
    after = Tail(tail.next_seq + 1, dtag)
    # A group that files several messages for one user seals his tail once.
    txn.put_last(Table.TAIL, user_id, after, lambda: secrets.seal_row(Table.TAIL, user_id, encode_tail(after)))


def _read_tail(txn: WriteTxn, secrets: RowSealer, user_id: UserId) -> Tail:
    value = txn.get(Table.TAIL, user_id)
    if value is None:
        return Tail()
    try:
        return decode_tail(secrets.open_row(Table.TAIL, user_id, value))
    except SealBroken as broken:
        raise Damaged("tail") from broken


def _own(txn: WriteTxn, secrets: ArrivalSecrets, arrival: SealedArrival, blob_id: BlobId) -> None:
    key = own_key(arrival.user_id, arrival.mid)
    row = encode_own(Own(blob_id, 1, arrival.octets))
    txn.put(Table.OWN, key, secrets.seal_row(Table.OWN, key, row))
