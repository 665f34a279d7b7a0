"""Deposits: rows for each recipient, sealed and chained, in one transaction."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support import memory_engine, run
from twisted.internet.defer import succeed

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.sealing import check_public_key
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.keystore.users import KeyRing, create_user_keys
from certmaild.mailbox.arrivals import SLICE, Recipient, in_digest, queue_order, seal_all, seal_for, write_arrivals
from certmaild.mailbox.blobs import BlobWriter, StoredBlob
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.layout import (
    FIRST_DTAG,
    Arrival,
    Own,
    Table,
    Tail,
    Use,
    arrival_key,
    decode_arrival_key,
    decode_count,
    decode_in_row,
    decode_own,
    decode_tail,
    decode_use,
    own_key,
)

SECRETS = ServerSecrets({name: bytes([n]) * 32 for n, name in enumerate(FILES, 1)})


class Person:
    def __init__(self) -> None:
        made = create_user_keys(SECRETS)
        self.user_id = UserId(made.user_id)
        self.keys: KeyRing = made.keys
        self.public_key = check_public_key(SECRETS, self.user_id, made.public_key_row)

    def recipient(self, card: bytes = b"card", octets: int = 11) -> Recipient:
        return Recipient(self.user_id, self.public_key, card, octets)


@pytest.fixture(scope="module")
def ann() -> Person:
    return Person()


@pytest.fixture(scope="module")
def bob() -> Person:
    return Person()


def deposit(engine: Engine, *recipients: Recipient) -> StoredBlob:
    async def work() -> StoredBlob:
        writer = BlobWriter(engine, lambda: 0)
        writer.write(b"Subject: x\r\n\r\nhello")
        blob = await writer.finish()
        sealed = [seal_for(recipient) for recipient in recipients]
        await engine.write(lambda txn: write_arrivals(txn, SECRETS, blob, sealed), grows=True)
        return blob

    return run(work())


def rows(engine: Engine, table: Table) -> list[tuple[bytes, bytes]]:
    return run(engine.read(lambda txn: list(txn.scan(table, b""))))


def open_all(engine: Engine, person: Person) -> list[bytes]:
    """As absorbing does: check the numbers and the chain, open the cards."""
    cards, chain = [], FIRST_DTAG
    found = run(engine.read(lambda txn: list(txn.scan(Table.IN, person.user_id, person.user_id + b"\xff" * 9))))
    for number, (key, value) in enumerate(found, 1):
        assert decode_arrival_key(key) == (person.user_id, number)
        row = decode_in_row(value)
        chain = SECRETS.dtag(person.user_id, number, chain, in_digest(row, value))
        if chain != row.dtag:
            raise Damaged("chain")
        if row.sealed is not None:
            cards.append(person.keys.open_arrival(row.kid, row.info(person.user_id), row.sealed))
    return cards


def test_a_deposit_writes_every_row_of_each_recipient(ann: Person, bob: Person) -> None:
    engine = memory_engine()
    heard: list[Change] = []
    engine.hub.watch(ann.user_id, heard.append)
    blob = deposit(engine, ann.recipient(b"ann's card", 30), bob.recipient(b"bob's card", 40))
    assert open_all(engine, ann) == [b"ann's card"]
    assert open_all(engine, bob) == [b"bob's card"]
    assert [(key, decode_count(value)) for key, value in rows(engine, Table.REF)] == [(blob.blob_id, 2)]
    owns = {key: decode_own(SECRETS.open_row(Table.OWN, key, value)) for key, value in rows(engine, Table.OWN)}
    arrivals = [(key[:16], decode_in_row(value).mid) for key, value in rows(engine, Table.IN)]
    octets = {ann.user_id: 30, bob.user_id: 40}
    assert owns == {own_key(user, mid): Own(blob.blob_id, 1, octets[UserId(user)]) for user, mid in arrivals}
    for key, value in rows(engine, Table.USE):
        assert decode_use(SECRETS.open_row(Table.USE, key, value)) == Use(octets[UserId(key)], 1)
    assert heard == [Change(ChangeKind.ARRIVAL, ann.user_id)]


def test_arrivals_are_numbered_chained_and_counted(ann: Person) -> None:
    engine = memory_engine()
    for n in range(5):
        deposit(engine, ann.recipient(b"card %d" % n, 10 + n))
    assert open_all(engine, ann) == [b"card %d" % n for n in range(5)]
    ((key, tail),) = rows(engine, Table.TAIL)
    last = decode_in_row(rows(engine, Table.IN)[-1][1])
    assert decode_tail(SECRETS.open_row(Table.TAIL, key, tail)) == Tail(6, last.dtag)
    ((key, use),) = rows(engine, Table.USE)
    assert decode_use(SECRETS.open_row(Table.USE, key, use)) == Use(10 + 11 + 12 + 13 + 14, 5)


def test_an_order_keeps_the_chain(ann: Person) -> None:
    engine = memory_engine()
    deposit(engine, ann.recipient())
    mid = Mid(b"m" * 16)
    run(engine.write(lambda txn: queue_order(txn, SECRETS, ann.user_id, mid)))
    deposit(engine, ann.recipient(b"after"))
    assert open_all(engine, ann) == [b"card", b"after"]
    order = decode_in_row(rows(engine, Table.IN)[1][1])
    assert (order.kind, order.order_mid, order.sealed) == (Arrival.ORDER, mid, None)


def test_each_changed_byte_of_an_arrival_is_refused(ann: Person) -> None:
    engine = memory_engine()
    deposit(engine, ann.recipient())
    ((key, value),) = rows(engine, Table.IN)
    for at in range(len(value)):
        changed = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        run(engine.write(lambda txn, changed=changed: txn.put(Table.IN, key, changed)))
        with pytest.raises(Damaged):
            open_all(engine, ann)


def test_a_seal_is_bound_to_its_user_and_message_even_under_a_right_chain(ann: Person, bob: Person) -> None:
    engine = memory_engine()
    deposit(engine, ann.recipient(), bob.recipient())
    values = {key[:16]: value for key, value in rows(engine, Table.IN)}
    row, other = decode_in_row(values[ann.user_id]), decode_in_row(values[bob.user_id])
    with pytest.raises(SealBroken):
        ann.keys.open_arrival(row.kid, row.info(bob.user_id), row.sealed or b"")
    with pytest.raises(SealBroken):
        ann.keys.open_arrival(row.kid, row.info(ann.user_id), other.sealed or b"")


def test_swapped_dropped_and_foreign_rows_break_the_chain(ann: Person, bob: Person) -> None:
    def fresh() -> tuple[Any, dict[bytes, bytes]]:
        engine = memory_engine()
        for n in range(3):
            deposit(engine, ann.recipient(b"%d" % n), bob.recipient(b"%d" % n))
        return engine, dict(rows(engine, Table.IN))

    one, two, three = (arrival_key(ann.user_id, n) for n in (1, 2, 3))
    for target, source in [(one, two), (two, three), (two, arrival_key(bob.user_id, 2)), (three, two)]:
        engine, stored = fresh()
        run(engine.write(lambda txn, t=target, s=source, rows=stored: txn.put(Table.IN, t, rows[s])))
        with pytest.raises(Damaged):
            open_all(engine, ann)


@pytest.mark.parametrize("table", [Table.TAIL, Table.USE])
def test_a_changed_server_row_stops_the_deposit(ann: Person, table: Table) -> None:
    engine = memory_engine()
    deposit(engine, ann.recipient())
    ((key, value),) = rows(engine, table)
    run(engine.write(lambda txn: txn.put(table, key, value[:-1] + bytes([value[-1] ^ 1]))))
    with pytest.raises(Damaged):
        deposit(engine, ann.recipient())
    assert len(rows(engine, Table.BLOB)) == 1


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\1",
        bytes(100),
        b"\1\1" + bytes(8) + bytes(24) + bytes(32),
        b"\1\2" + bytes(8) + bytes(32) + bytes(32),
        b"\1\3" + bytes(8) + bytes(15) + bytes(32),
        b"\2\1" + bytes(200),
        b"\1\x09" + bytes(200),
    ],
    ids=lambda value: str(len(value)),
)
def test_what_no_version_wrote_is_damage(value: bytes) -> None:
    with pytest.raises(Damaged):
        decode_in_row(value)


def test_many_recipients_are_sealed_in_slices_off_the_reactor(ann: Person) -> None:
    slices: list[int] = []

    def in_thread(work: Callable[[], Any]) -> Awaitable[Any]:
        done = work()
        slices.append(len(done))
        return succeed(done)

    few = run(seal_all([ann.recipient()] * SLICE, in_thread))
    assert (len(few), slices) == (SLICE, [])
    many = run(seal_all([ann.recipient()] * (2 * SLICE + 1), in_thread))
    assert (len(many), slices) == (2 * SLICE + 1, [SLICE, SLICE, 1])
    assert len({arrival.mid for arrival in many}) == len(many)
    assert all(arrival.digest == hashlib.sha256(arrival.sealed).digest() for arrival in many)
    assert "card" not in repr(ann.recipient()) and "sealed" not in repr(many[0])
