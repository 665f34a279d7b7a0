"""Known answers for the text column: what was once written is read for ever.

``tests/vectors/text.json`` is never regenerated silently: ``python tests/mailbox/test_text_vectors.py`` makes a missing
file only.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.primitives import open_frame, seal_frame
from certmaild.keystore.secret import Secret
from certmaild.keystore.users import KeyRing
from certmaild.mailbox import layout_text as layout
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout import pack_frame, unpack_frame
from certmaild.mailbox.layout_messages import Record, decode_numbers
from certmaild.mailbox.layout_text import Directory, Kind, ends_of
from certmaild.mailbox.packing import pack, unpack_all
from certmaild.mailbox.text_column import CODECS

FILE = Path(__file__).parents[1] / "vectors" / "text.json"
USER, BOX = b"user id, 16 byte", b"box id, 16 bytes"
HEADERS = (b"\xffsubject\xfegr\xc3\xbcsse\xfffrom\xfeann@example.org", b"", b"\xffsubject\xfetwo")
BODIES = (b"first text\xffsecond text\xff", b"", b"third\xff")
KEY = bytes(range(32))
GENERATION, FIRST_UID = 7, 258


def ring() -> KeyRing:
    return KeyRing(USER, {1: Secret(bytes(range(64, 96)))}, {1: Secret(bytes(range(96, 128)))})


def directory(packed: list[bytes]) -> Directory:
    uids = decode_numbers("I", bytes.fromhex("00000102 00000105 00000106"))
    lengths = [[len(text) for text in texts] for texts in (HEADERS, BODIES, packed)]
    return Directory(GENERATION, KEY, uids, *map(ends_of, lengths))


def made() -> dict[str, Any]:
    packed = [pack(text, -1) if text else b"" for text in BODIES]
    plain = layout.encode_directory(directory(packed))
    frames = {
        kind.name: seal_frame(
            KEY,
            layout.text_context(USER, BOX, kind, FIRST_UID, GENERATION),
            pack_frame(CODECS[kind], b"".join(texts), padding=True),
        )
        for kind, texts in ((Kind.HEADERS, HEADERS), (Kind.BODIES, packed))
    }
    place = layout.directory_place(BOX, FIRST_UID)
    return {
        "keys": {kind.name: layout.column_key(USER, BOX, kind, FIRST_UID).hex() for kind in Kind},
        "mark key": layout.mark_key(USER, BOX, FIRST_UID).hex(),
        "directory": plain.hex(),
        "sealed directory": ring().seal_names(Record.TEXT, place, plain).hex(),
        "frames": {name: value.hex() for name, value in frames.items()},
    }


VECTORS = json.loads(FILE.read_text()) if FILE.exists() else {}


def test_keys() -> None:
    for kind in Kind:
        assert layout.column_key(USER, BOX, kind, FIRST_UID).hex() == VECTORS["keys"][kind.name]
    assert layout.mark_key(USER, BOX, FIRST_UID).hex() == VECTORS["mark key"]


def test_the_directory() -> None:
    plain = bytes.fromhex(VECTORS["directory"])
    found = layout.decode_directory(plain)
    assert layout.encode_directory(found) == plain
    assert (found.generation, found.text_key, list(found.uids)) == (GENERATION, KEY, [258, 261, 262])
    assert found.header_ends == ends_of([len(text) for text in HEADERS])
    assert found.body_ends == ends_of([len(text) for text in BODIES])
    for wrong in (plain[:-1], plain + b"\0", b"\2" + plain[1:], plain[:37], b""):
        with pytest.raises(Damaged):
            layout.decode_directory(wrong)


def test_the_sealed_directory_opens_in_its_place_only() -> None:
    value, keys = bytes.fromhex(VECTORS["sealed directory"]), ring()
    place = layout.directory_place(BOX, FIRST_UID)
    assert keys.open_names(Record.TEXT, place, value).hex() == VECTORS["directory"]
    for wrong in (layout.directory_place(BOX, FIRST_UID + 1), layout.directory_place(USER, FIRST_UID), BOX):
        with pytest.raises(SealBroken):
            keys.open_names(Record.TEXT, wrong, value)
    for at in range(len(value)):
        with pytest.raises(SealBroken):
            keys.open_names(Record.TEXT, place, value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :])


@pytest.mark.parametrize("kind", [Kind.HEADERS, Kind.BODIES])
def test_texts_open_in_their_place_only(kind: Kind) -> None:
    value = bytes.fromhex(VECTORS["frames"][kind.name])
    codec, payload = unpack_frame(open_frame(KEY, layout.text_context(USER, BOX, kind, FIRST_UID, GENERATION), value))
    assert codec is CODECS[kind]
    texts = b"".join(HEADERS if kind is Kind.HEADERS else BODIES)
    assert (unpack_all(payload, len(texts)) if kind is Kind.BODIES else payload) == texts
    other = Kind.BODIES if kind is Kind.HEADERS else Kind.HEADERS
    for context in (
        layout.text_context(BOX, BOX, kind, FIRST_UID, GENERATION),
        layout.text_context(USER, USER, kind, FIRST_UID, GENERATION),
        layout.text_context(USER, BOX, other, FIRST_UID, GENERATION),
        layout.text_context(USER, BOX, kind, FIRST_UID + 1, GENERATION),
        layout.text_context(USER, BOX, kind, FIRST_UID, GENERATION + 1),
    ):
        with pytest.raises(SealBroken):
            open_frame(KEY, context, value)


if __name__ == "__main__":
    with FILE.open("x") as file:
        json.dump(made(), file, indent=1)
        file.write("\n")
