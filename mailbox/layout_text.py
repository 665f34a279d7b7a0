"""Bytes of the text column: its keys, a frame's directory, and what a frame's texts are bound to (KEYS section 9).

Part of `certmaild.mailbox.layout`; docs/storage.md says the same in words. Integers are big-endian.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, error

from certmaild.keystore.primitives import SUITE, Label
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout_messages import U32, decode_numbers, encode_numbers

FRAME_MESSAGES = 256
"""The most that one frame holds."""
FRAME_TEXT_OCTETS = 256 * 1024
"""A frame that has so much text takes no further message."""
MESSAGE_TEXT_OCTETS = 1 << 20
"""A message with more text than this is named in the column, without its text."""
MARK_OCTETS = 8

# Inside a frame's texts. None of these octets occurs in UTF-8, so no needle can hold them.
END = b"\xff"
"""Ends each text of a body, and stands before each field's name."""
COLON = b"\xfe"
"""Between a field's name and its value."""


class Kind(IntEnum):
    """What a row of the column holds; part of its key, so that directories lie together."""

    DIRECTORY = 0
    HEADERS = 1
    BODIES = 2


_MARKS = bytes(16)
"""Stands where a folder's id would: no folder has it."""


def column_key(user_id: bytes, box_id: bytes, kind: Kind, first_uid: int) -> bytes:
    """Key in ``text`` of a frame's row; ``first_uid`` is that of the frame's first message when it was made."""
    return user_id + box_id + bytes([kind]) + U32.pack(first_uid)


def kind_range(user_id: bytes, box_id: bytes, kind: Kind) -> tuple[bytes, bytes]:
    """First key and end of a folder's rows of one kind."""
    return user_id + box_id + bytes([kind]), user_id + box_id + bytes([kind + 1])


def first_uid_of(key: bytes) -> int:
    """The last part of a row's or a mark's key."""
    return int.from_bytes(key[-4:], "big")


def mark_key(user_id: bytes, box_id: bytes, first_uid: int) -> bytes:
    """Key in ``text`` of the mark that a frame holds text of messages which left the folder."""
    return user_id + _MARKS + box_id + U32.pack(first_uid)


def mark_range(user_id: bytes) -> tuple[bytes, bytes]:
    """First key and end of a user's marks."""
    return user_id + _MARKS, user_id + _MARKS + b"\xff" * 17


def box_of_mark(key: bytes) -> bytes:
    """The folder in a mark's key."""
    return key[32:48]


def directory_place(box_id: bytes, first_uid: int) -> bytes:
    """What a directory's seal binds beside the user."""
    return box_id + U32.pack(first_uid)


_CONTEXT = Label.TEXT.info + bytes([SUITE])


def text_context(user_id: bytes, box_id: bytes, kind: Kind, first_uid: int, generation: int) -> bytes:
    """What a frame's texts are bound to: user, folder, kind, frame, and how often the frame was written."""
    return _CONTEXT + column_key(user_id, box_id, kind, first_uid) + U32.pack(generation)


_FIXED = Struct(">BI32s")
_VERSION = 1
_ROW = 4 * 4


@dataclass(frozen=True, slots=True, repr=False)
class Directory:
    """What one frame holds: its key, and by message where the texts end.

    A message whose texts are both empty is only named: it has too much text, and is read itself.
    """

    generation: int
    """How often the frame was written."""
    text_key: bytes
    """32 random octets, drawn each time the frame is written."""
    uids: "array[int]"
    """Ascending."""
    header_ends: "array[int]"
    """Octets of header text up to and with this message's."""
    body_ends: "array[int]"
    packed_ends: "array[int]"
    """The same of the bodies as they are stored: one zstd frame a message, none for an empty text."""


def encode_directory(directory: Directory) -> bytes:
    """Plaintext of a directory."""
    columns = (directory.uids, directory.header_ends, directory.body_ends, directory.packed_ends)
    fixed = _FIXED.pack(_VERSION, directory.generation, directory.text_key)
    return fixed + b"".join([encode_numbers(column) for column in columns])


def decode_directory(plain: bytes) -> Directory:
    """Inverse of `encode_directory`. Raises `Damaged`."""
    try:
        version, generation, text_key = _FIXED.unpack_from(plain)
    except error:
        raise Damaged("text directory") from None
    rows, rest = divmod(len(plain) - _FIXED.size, _ROW)
    if version != _VERSION or rest or not 0 < rows <= FRAME_MESSAGES:
        raise Damaged("text directory")
    begins = range(_FIXED.size, len(plain), 4 * rows)
    return Directory(generation, text_key, *(decode_numbers("I", plain[at : at + 4 * rows]) for at in begins))


def ends_of(lengths: Sequence[int]) -> "array[int]":
    """Running sums, as a directory keeps them."""
    ends, total = array("I"), 0
    for length in lengths:
        total += length
        ends.append(total)
    return ends
