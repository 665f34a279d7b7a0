"""Known answers for the message half of the store: what was once written is read for ever.

``tests/vectors/messages.json`` is never regenerated silently: ``python tests/mailbox/test_message_vectors.py`` makes a
missing file only.
"""

import json
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.sealing import open_card, seal_card
from certmaild.keystore.secret import Secret
from certmaild.keystore.users import KeyRing
from certmaild.mailbox import layout_messages as layout
from certmaild.mailbox.cards import BlobFacts, Card, encode_card, facts_of
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout_messages import FolderRow, FolderRows, Head, Record, UserHead
from certmaild.mailbox.mime import Scanner
from certmaild.mailbox.values import EntryBlock, SpecialUse

FILE = Path(__file__).parents[1] / "vectors" / "messages.json"
USER, BOX, MID, BLOB = b"user id, 16 byte", b"box id, 16 bytes", b"mid, of 16 bytes", b"blob id, 16 byte"
MK, CEK = bytes(range(32)), bytes(range(32, 64))
MAIL = b"From: Ann <ann@example.org>\r\nSubject: =?utf-8?q?=C3=A4?=\r\nMessage-ID: <1@example.org>\r\n\r\nbody\r\n"
HEAD = Head(1_750_000_000, 1001, 77, 900, 500, 20, 3, 123_456_789, 12, 9)
USER_HEAD = UserHead(5, 42, bytes(range(32)))
FOLDERS = FolderRows(
    5,
    1_750_000_009,
    (FolderRow("INBOX", BOX), FolderRow("Gesendet/2025 \u00e4", MID, int(SpecialUse.SENT))),
    ("Work", "$Forwarded"),
    ("INBOX", "gone"),
)
GONE = (range(3, 4), range(7, 12))
PAGE = EntryBlock(
    array("I", [5, 9]),
    MID + BLOB,
    MK + CEK,
    array("H", [1, 0x4008]),
    array("Q", [0, 1 << 63]),
    array("Q", [70, 77]),
    array("Q", [1_750_000_000, 1_750_000_001]),
    array("Q", [1234, 3_000_000_000]),
    array("Q", [1_750_000_002, 1_750_000_003]),
)
PAGE_PLACE = layout.PAGE_PLACE.pack(5, 2)


def ring() -> KeyRing:
    return KeyRing(USER, {1: Secret(bytes(range(64, 96)))}, {1: Secret(bytes(range(96, 128)))})


def card_plain(*, listed: bool) -> bytes:
    """With the header fields that messages are listed by, or as cards were before they had them."""
    scanner = Scanner()
    scanner.feed(MAIL)
    blob = BlobFacts(CEK, BLOB, len(MAIL), 1, len(MAIL), bytes(range(100, 132)))
    scan = scanner.finish()
    return encode_card(
        blob,
        facts_of(scan if listed else replace(scan, listed=b"")),
        internal_date=1_750_000_000,
        prefix=b"Return-Path: <a@b>\r\n",
        reverse_path=b"a@b",
        original_recipient=b"joe@example.com",
        special_use=SpecialUse.JUNK,
        flags=1,
    )


def clear() -> dict[str, bytes]:
    return {
        "page": layout.encode_page(PAGE),
        "head": layout.encode_head(HEAD),
        "user head": layout.encode_user_head(USER_HEAD),
        "folder table": layout.encode_folders(FOLDERS),
        "gone": layout.encode_gone(GONE),
        "card": card_plain(listed=False),
        "listed card": card_plain(listed=True),
        "page key": layout.page_key(USER, BOX, 258),
        "head key": layout.head_key(USER, BOX),
        "gone key": layout.gone_key(USER, BOX, 77),
        "card key": layout.card_key(USER, MID),
    }


def made() -> dict[str, Any]:
    keys, plain = ring(), clear()
    sealed = {
        "page": keys.seal_entries(Record.PAGE, BOX, PAGE_PLACE, plain["page"]),
        "gone": keys.seal_entries(Record.GONE, BOX, (77).to_bytes(8, "big"), plain["gone"]),
        "head": keys.seal_names(Record.HEAD, BOX, plain["head"]),
        "user head": keys.seal_names(Record.USER_HEAD, b"", plain["user head"]),
        "folder table": keys.seal_names(Record.FOLDERS, b"", plain["folder table"]),
        "card": seal_card(MK, USER, MID, plain["card"]),
    }
    return {
        name: {key: value.hex() for key, value in rows.items()} for name, rows in (("clear", plain), ("sealed", sealed))
    }


VECTORS = json.loads(FILE.read_text()) if FILE.exists() else {"clear": {}, "sealed": {}}


def opened(name: str, value: bytes, place: bytes | None = None) -> bytes:
    keys = ring()
    if name == "page":
        return keys.open_entries(Record.PAGE, BOX, place or PAGE_PLACE, value)
    if name == "gone":
        return keys.open_entries(Record.GONE, BOX, place or (77).to_bytes(8, "big"), value)
    if name == "card":
        return open_card(MK, USER, place or MID, value)
    record, own = {"head": (Record.HEAD, BOX), "user head": (Record.USER_HEAD, b"")}.get(name, (Record.FOLDERS, b""))
    return keys.open_names(record, own if place is None else place, value)


@pytest.mark.parametrize("name", VECTORS["clear"])
def test_encodes_as_ever(name: str) -> None:
    assert clear()[name].hex() == VECTORS["clear"][name]


@pytest.mark.parametrize("name", VECTORS["sealed"])
def test_sealed_values_open_in_their_place_only(name: str) -> None:
    value = bytes.fromhex(VECTORS["sealed"][name])
    assert opened(name, value).hex() == VECTORS["clear"][name]
    with pytest.raises(SealBroken):
        opened(name, value, place=b"another place 16")
    for at in range(len(value)):
        with pytest.raises(SealBroken):
            opened(name, value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :])
    for cut in (value[:-1], value[:21], b""):
        with pytest.raises(SealBroken):
            opened(name, cut)


def test_decodes_what_it_encoded() -> None:
    plain = {name: bytes.fromhex(octets) for name, octets in VECTORS["clear"].items()}
    assert layout.decode_page(plain["page"]) == PAGE
    assert layout.decode_head(plain["head"]) == HEAD
    assert layout.decode_user_head(plain["user head"]) == USER_HEAD
    assert layout.decode_folders(plain["folder table"]) == FOLDERS
    assert layout.decode_gone(plain["gone"]) == GONE
    card = Card(MID, plain["card"])
    assert (card.size, card.special_use, card.flags, card.lines) == (len(MAIL), SpecialUse.JUNK, 1, 5)
    assert card.prefix == b"Return-Path: <a@b>\r\n" and card.reverse_path == b"a@b"
    assert card.original_recipient == b"joe@example.com" and b"=?utf-8?q?=C3=A4?=" in card.envelope
    assert [part.path for part in card.parts] == [(), (1,)] and len(card.references) == 1
    assert len(plain["card"]) % 64 == 0 and card.full_size == len(MAIL) + 20


@pytest.mark.parametrize("name", ["page", "head", "user head", "folder table", "gone"])
def test_a_cut_plaintext_is_damaged(name: str) -> None:
    """Only a fault of ours can seal such a thing; it is still refused."""
    decode = {
        "page": layout.decode_page,
        "head": layout.decode_head,
        "user head": layout.decode_user_head,
        "folder table": layout.decode_folders,
        "gone": layout.decode_gone,
    }[name]
    plain = bytes.fromhex(VECTORS["clear"][name])
    for wrong in (plain[:-1], plain + b"\0"):
        with pytest.raises(Damaged):
            decode(wrong)
    if name != "page" and name != "gone":
        with pytest.raises(Damaged):
            decode(b"\xff" + plain[1:])


def test_a_cut_card_is_damaged() -> None:
    with pytest.raises(Damaged):
        Card(MID, b"short")
    with pytest.raises(Damaged):
        layout.read_field(b"\0\1\0\0\0\xff", 0, 1)
    with pytest.raises(Damaged):
        layout.decode_parts(bytes(9))


if __name__ == "__main__":
    with FILE.open("x") as file:
        json.dump(made(), file, indent=1)
        file.write("\n")
