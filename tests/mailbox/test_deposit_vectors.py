"""Known answers for what deposits write: bytes once written are read for ever.

``tests/vectors/deposit.json`` is never regenerated silently: ``python tests/mailbox/test_deposit_vectors.py`` makes a
missing file only. Each case names its outcome; failures are cases too.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.primitives import hpke_open, private_key, public_key, public_octets, seal_frame
from certmaild.keystore.sealing import PublicKey, public_key_id, seal_arrival
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.mailbox import layout
from certmaild.mailbox.arrivals import in_digest
from certmaild.mailbox.blobs import StoredBlob, open_sealed
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import BlobId, BoxId, Mid, UserId
from certmaild.mailbox.layout import Codec, Table, frame_context, pack_frame

FILE = Path(__file__).parents[1] / "vectors" / "deposit.json"
SECRETS = ServerSecrets({name: bytes([n]) * 32 for n, name in enumerate(FILES, 1)})
CEK, BLOB = bytes(range(32)), BlobId(b"blob id, 16 byte")
USER, MID, BOX = UserId(b"user id, 16 byte"), Mid(b"mid, of 16 bytes"), BoxId(b"box id, 16 bytes")
SEED = bytes(range(32, 64))
PREVIOUS = bytes(range(64, 96))


def blob(size: int) -> StoredBlob:
    return StoredBlob(CEK, BLOB, size, 1, size, b"", ())


def clear_rows() -> dict[str, bytes]:
    """Rows and keys without randomness, by name: as encoded today."""
    return {
        "frame key": layout.frame_key(BLOB, 258),
        "frame context": frame_context(BLOB, 258, True),
        "facts frame key": layout.frame_key(BLOB, layout.FACTS_FRAME),
        "reference count": layout.encode_count(3),
        "dead key": layout.dead_key(1_700_000_000, BLOB),
        "stage": layout.encode_stage(layout.Stage(b"boot id 16 bytes", 4321, 987_654, 1_700_000_000)),
        "own key": layout.own_key(USER, MID),
        "own": layout.encode_own(layout.Own(BLOB, 2, 12_345)),
        "arrival key": layout.arrival_key(USER, 258),
        "order": layout.encode_order(MID),
        "order dtag": SECRETS.dtag(USER, 258, PREVIOUS, hashlib.sha256(layout.encode_order(MID)).digest()),
        "tail": layout.encode_tail(layout.Tail(259, PREVIOUS)),
        "use": layout.encode_use(layout.Use(123_456_789, 42)),
        "ring key": layout.ring_key(4097),
        "ring": layout.encode_changes([Change(ChangeKind.ARRIVAL, USER), Change(ChangeKind.FOLDER, USER, BOX)]),
        "packed frame": pack_frame(Codec.RAW, b"x" * 100, True),
    }


SEALED_ROWS = {
    Table.OWN: (layout.own_key(USER, MID), "own"),
    Table.TAIL: (USER, "tail"),
    Table.USE: (USER, "use"),
    Table.RING: (layout.ring_key(4097), "ring"),
}
CONTENT = b"Subject: known\r\n\r\n" + b"known answer " * 40


def make() -> dict[str, Any]:
    key = PublicKey(public_key_id(public_octets(SEED)), 1, public_key(public_octets(SEED)))
    sealed = seal_arrival(key, USER, MID, b"the card")
    import zstandard

    packed = zstandard.ZstdCompressor(level=3).compress(CONTENT)
    clear = clear_rows()
    return {
        "clear": {name: value.hex() for name, value in clear.items()},
        "server-sealed": {t: SECRETS.seal_row(t, key, clear[name]).hex() for t, (key, name) in SEALED_ROWS.items()},
        "arrival": (sealed + SECRETS.dtag(USER, 1, layout.FIRST_DTAG, hashlib.sha256(sealed).digest())).hex(),
        "frame raw": seal_frame(CEK, frame_context(BLOB, 0, True), pack_frame(Codec.RAW, CONTENT, True)).hex(),
        "frame zstd": seal_frame(CEK, frame_context(BLOB, 0, True), pack_frame(Codec.ZSTD, packed, False)).hex(),
    }


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    known: dict[str, Any] = json.loads(FILE.read_text())
    return known


@pytest.mark.parametrize("name", clear_rows())
def test_what_is_encoded_does_not_change(known: dict[str, Any], name: str) -> None:
    assert clear_rows()[name].hex() == known["clear"][name]
    assert set(clear_rows()) == set(known["clear"])


def test_what_was_encoded_is_understood(known: dict[str, Any]) -> None:
    old = {name: bytes.fromhex(value) for name, value in known["clear"].items()}
    assert layout.decode_count(old["reference count"]) == 3
    assert layout.decode_dead_key(old["dead key"]) == (1_700_000_000, BLOB)
    assert layout.decode_stage(old["stage"]) == layout.Stage(b"boot id 16 bytes", 4321, 987_654, 1_700_000_000)
    assert layout.decode_own(old["own"]) == layout.Own(BLOB, 2, 12_345)
    assert layout.decode_arrival_key(old["arrival key"]) == (USER, 258)
    assert layout.decode_tail(old["tail"]) == layout.Tail(259, PREVIOUS)
    assert layout.decode_use(old["use"]) == layout.Use(123_456_789, 42)
    assert layout.decode_ring_key(old["ring key"]) == 4097
    changes = (Change(ChangeKind.ARRIVAL, USER), Change(ChangeKind.FOLDER, USER, BOX))
    assert layout.decode_changes(old["ring"]) == changes
    order = layout.decode_in_row(old["order"] + old["order dtag"])
    assert (order.order_mid, order.dtag) == (MID, old["order dtag"])


@pytest.mark.parametrize("name", ["reference count", "stage", "own", "tail", "use", "ring", "order"])
def test_a_cut_row_is_damage(known: dict[str, Any], name: str) -> None:
    decode = {
        "reference count": layout.decode_count,
        "stage": layout.decode_stage,
        "own": layout.decode_own,
        "tail": layout.decode_tail,
        "use": layout.decode_use,
        "ring": layout.decode_changes,
        "order": layout.decode_in_row,
    }[name]
    with pytest.raises(Damaged):
        decode(bytes.fromhex(known["clear"][name])[:-1])


@pytest.mark.parametrize("table", SEALED_ROWS)
def test_server_sealed_rows_open_in_their_place_only(known: dict[str, Any], table: Table) -> None:
    key, name = SEALED_ROWS[table]
    value = bytes.fromhex(known["server-sealed"][table])
    assert SECRETS.open_row(table, key, value).hex() == known["clear"][name]
    for at in range(len(value)):
        with pytest.raises(SealBroken):
            SECRETS.open_row(table, key, value[:at] + bytes([value[at] ^ 0x80]) + value[at + 1 :])
    for other_table, other_key in ((table, key[:-1] + b"?"), (Table.ACCT, key)):
        with pytest.raises(SealBroken):
            SECRETS.open_row(other_table, other_key, value)


def test_an_arrival_opens_for_its_user(known: dict[str, Any]) -> None:
    value = bytes.fromhex(known["arrival"])
    row = layout.decode_in_row(value)
    assert (row.mid, row.kid) == (MID, public_key_id(public_octets(SEED)))
    assert row.dtag == SECRETS.dtag(USER, 1, layout.FIRST_DTAG, in_digest(row, value))
    assert hpke_open(private_key(SEED), row.info(USER), row.sealed or b"") == b"the card"
    with pytest.raises(SealBroken):
        hpke_open(private_key(SEED), row.info(BOX), row.sealed or b"")


@pytest.mark.parametrize("name", ["frame raw", "frame zstd"])
def test_frames_open_in_their_place_only(known: dict[str, Any], name: str) -> None:
    value = bytes.fromhex(known[name])
    assert open_sealed(blob(len(CONTENT)), 0, True, len(CONTENT), value) == CONTENT
    for frame, last in ((1, True), (0, False)):
        with pytest.raises(Damaged):
            open_sealed(blob(len(CONTENT)), frame, last, len(CONTENT), value)
    for at in range(0, len(value), 7):
        with pytest.raises(Damaged):
            changed = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
            open_sealed(blob(len(CONTENT)), 0, True, len(CONTENT), changed)


if __name__ == "__main__":
    with FILE.open("x") as file:
        json.dump(make(), file, indent=1)
        file.write("\n")
