"""Bytes of the message half of the store: pages, heads, folder table, user head, gone rows and cards.

Part of `certmaild.mailbox.layout`; docs/storage.md says the same in words. Integers are big-endian. What these
codecs give is the plaintext inside the seal; the seal's header, nonce and tag are `certmaild.keystore.users`'.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, error, pack, unpack_from

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.mime_parts import Part
from certmaild.mailbox.values import EntryBlock

U16 = Struct(">H")
U32 = Struct(">I")
U64 = Struct(">Q")

PAGE_ROWS = 256
"""Entries in one page."""
CARD_INLINE_OCTETS = 16 * 1024
"""ENVELOPE, structure, parts and references above this together go once into the blob's facts frame."""
SCAN_VERSION = 1
"""Of the MIME scanner whose findings a card holds; a card of an older one may be made anew from the blob."""


class Record(IntEnum):
    """The type octet in the header of what is sealed under the user's keys in this half of the store."""

    USER_HEAD = 0x20
    FOLDERS = 0x21
    HEAD = 0x22
    PAGE = 0x23
    GONE = 0x24
    READY = 0x25
    TEXT = 0x26


# Keys. The user comes first, so that all rows of one user are one range of each table.


def head_key(user_id: bytes, box_id: bytes) -> bytes:
    """Key in ``head``."""
    return user_id + box_id


def page_key(user_id: bytes, box_id: bytes, first_uid: int) -> bytes:
    """Key in ``page``: the UID of the first entry the page was made with."""
    return user_id + box_id + U32.pack(first_uid)


def gone_key(user_id: bytes, box_id: bytes, modseq: int) -> bytes:
    """Key in ``gone``."""
    return user_id + box_id + U64.pack(modseq)


def card_key(user_id: bytes, mid: bytes) -> bytes:
    """Key in ``card``."""
    return user_id + mid


# Page: columns, not rows, so that a page is read with nine slices and no loop.

_ROW = 4 + 16 + 32 + 2 + 8 + 8 + 8 + 8 + 8
_SWAP = sys.byteorder == "little"
PAGE_PLACE = Struct(">IH")
"""What a page's seal binds beside the folder: first UID of its key, rows."""


def page_rows(plaintext_octets: int) -> int:
    """Rows in a page of so many octets; raises `Damaged` for a size that no page has."""
    rows, rest = divmod(plaintext_octets, _ROW)
    if rest or not 0 < rows <= PAGE_ROWS:
        raise Damaged("page size")
    return rows


def decode_numbers(code: str, octets: bytes) -> "array[int]":
    """A column of numbers of one `array` type."""
    column = array(code, octets)
    if _SWAP:
        column.byteswap()
    return column


def encode_numbers(column: "array[int]") -> bytes:
    """Inverse of `decode_numbers`."""
    if not _SWAP:
        return column.tobytes()
    swapped = column[:]
    swapped.byteswap()
    return swapped.tobytes()


def page_uids(plain: bytes) -> "array[int]":
    """The first column alone: UIDs, ascending."""
    return decode_numbers("I", plain[: 4 * (len(plain) // _ROW)])


def page_flag_octets(plain: bytes) -> bytes:
    """The system flag bits, one octet an entry: for counting with `bytes.translate`."""
    rows = len(plain) // _ROW
    return plain[52 * rows + 1 : 54 * rows : 2]


def decode_page(plain: bytes) -> EntryBlock:
    """All columns of a page."""
    rows = page_rows(len(plain))
    at_flags, at_keywords = 52 * rows, 54 * rows
    begins = range(at_keywords, at_keywords + 40 * rows, 8 * rows)
    numbers = [decode_numbers("Q", plain[at : at + 8 * rows]) for at in begins]
    return EntryBlock(
        decode_numbers("I", plain[: 4 * rows]),
        plain[4 * rows : 20 * rows],
        plain[20 * rows : at_flags],
        decode_numbers("H", plain[at_flags:at_keywords]),
        *numbers,
    )


def encode_page(block: EntryBlock) -> bytes:
    """The octets of a page."""
    return b"".join(
        (
            encode_numbers(block.uids),
            block.mids,
            block.mks,
            encode_numbers(block.flags),
            encode_numbers(block.keywords),
            encode_numbers(block.modseqs),
            encode_numbers(block.internal_dates),
            encode_numbers(block.sizes),
            encode_numbers(block.save_dates),
        )
    )


# Head of a folder.

_HEAD = Struct(">BIIQIIIIQQI")


@dataclass(slots=True)
class Head:
    """A folder's numbers. ``recent_uid``: the first UID that no session was told of."""

    uid_validity: int
    uid_next: int = 1
    highest_modseq: int = 1
    recent_uid: int = 1
    messages: int = 0
    unseen: int = 0
    deleted: int = 0
    octets: int = 0
    gone_floor: int = 0
    """Expunges up to this mod-sequence are no longer in the log."""
    gone_rows: int = 0


def encode_head(head: Head) -> bytes:
    """Octets of a head."""
    return _HEAD.pack(
        1,
        head.uid_validity,
        head.uid_next,
        head.highest_modseq,
        head.recent_uid,
        head.messages,
        head.unseen,
        head.deleted,
        head.octets,
        head.gone_floor,
        head.gone_rows,
    )


def decode_head(plain: bytes) -> Head:
    """Inverse of `encode_head`."""
    try:
        version, *fields = _HEAD.unpack(plain)
    except error:
        raise Damaged("head") from None
    if version != 1:
        raise Damaged("head version")
    return Head(*fields)


# User head.

_USER_HEAD = Struct(">BQQ32s")


@dataclass(frozen=True, slots=True)
class UserHead:
    """Which folder table is the current one, and how far arrivals are absorbed."""

    table_version: int = 1
    absorbed_seq: int = 0
    absorbed_dtag: bytes = bytes(32)


def encode_user_head(head: UserHead) -> bytes:
    """Octets of a user head."""
    return _USER_HEAD.pack(1, head.table_version, head.absorbed_seq, head.absorbed_dtag)


def decode_user_head(plain: bytes) -> UserHead:
    """Inverse of `encode_user_head`."""
    try:
        version, table_version, seq, dtag = _USER_HEAD.unpack(plain)
    except error:
        raise Damaged("user head") from None
    if version != 1:
        raise Damaged("user head version")
    return UserHead(table_version, seq, dtag)


# Folder table.

_FOLDERS = Struct(">BQIBII")
_FOLDER = Struct(">16sBH")


@dataclass(frozen=True, slots=True)
class FolderRow:
    """One folder in the table; ``special_use`` 0 is none."""

    name: str
    box_id: bytes
    special_use: int = 0


@dataclass(frozen=True, slots=True)
class FolderRows:
    """The whole table as stored."""

    version: int
    last_uid_validity: int
    """The highest UIDVALIDITY given to any folder: the next is higher."""
    folders: tuple[FolderRow, ...]
    keywords: tuple[str, ...] = ()
    """Names by bit; a bit is never given to another name."""
    subscriptions: tuple[str, ...] = ()


def _text(name: str) -> bytes:
    octets = name.encode("utf-8")
    return U16.pack(len(octets)) + octets


def encode_folders(rows: FolderRows) -> bytes:
    """Octets of a folder table."""
    counts = (len(rows.keywords), len(rows.folders), len(rows.subscriptions))
    out = [_FOLDERS.pack(1, rows.version, rows.last_uid_validity, *counts)]
    out += [_text(keyword) for keyword in rows.keywords]
    for folder in rows.folders:
        name = folder.name.encode("utf-8")
        out.append(_FOLDER.pack(folder.box_id, folder.special_use, len(name)) + name)
    out += [_text(name) for name in rows.subscriptions]
    return b"".join(out)


def decode_folders(plain: bytes) -> FolderRows:
    """Inverse of `encode_folders`."""
    try:
        kind, version, last_uid_validity, n_keywords, n_folders, n_subscriptions = _FOLDERS.unpack_from(plain)
        if kind != 1:
            raise Damaged("folder table version")
        at = _FOLDERS.size
        keywords, at = _texts(plain, at, n_keywords)
        folders = []
        for _ in range(n_folders):
            box_id, special_use, length = _FOLDER.unpack_from(plain, at)
            at += _FOLDER.size
            folders.append(FolderRow(plain[at : at + length].decode("utf-8"), box_id, special_use))
            at += length
        subscriptions, at = _texts(plain, at, n_subscriptions)
    except (error, UnicodeDecodeError):
        raise Damaged("folder table") from None
    if at != len(plain):
        raise Damaged("folder table length")
    return FolderRows(version, last_uid_validity, tuple(folders), keywords, subscriptions)


def _texts(plain: bytes, at: int, count: int) -> tuple[tuple[str, ...], int]:
    found = []
    for _ in range(count):
        (length,) = U16.unpack_from(plain, at)
        found.append(plain[at + 2 : at + 2 + length].decode("utf-8"))
        at += 2 + length
    return tuple(found), at


# Gone: the UIDs that one mod-sequence removed.


def encode_gone(ranges: Sequence[range]) -> bytes:
    """Octets of a row of the expunge log: first and last UID of each run."""
    ends = array("I")
    for run in ranges:
        ends.append(run.start)
        ends.append(run.stop - 1)
    return encode_numbers(ends)


def decode_gone(plain: bytes) -> tuple[range, ...]:
    """Inverse of `encode_gone`."""
    if len(plain) % 8:
        raise Damaged("gone row")
    ends = decode_numbers("I", plain)
    return tuple(range(ends[at], ends[at + 1] + 1) for at in range(0, len(ends), 2))


# Card.

CARD_FIXED = Struct(">32s16sQII32sQHBHQQQ")
"""CEK, blob_id, size, frames, f0_len, sha256, internal date, scan version, target special use, initial flags, octets of
the header, lines, octets of the facts frame (0: there is none and the fields are in the card)."""
CARD_FIELD = Struct(">HI")
CARD_PADDING = 64


class CardTag(IntEnum):
    """Fields of a card; 0 ends them. Unknown ones are kept."""

    END = 0
    ENVELOPE = 1
    STRUCTURE = 2
    PARTS = 3
    REFERENCES = 4
    PREFIX = 5
    REVERSE_PATH = 6
    ORIGINAL_RECIPIENT = 7
    LISTED = 8


def encode_fields(fields: Iterable[tuple[int, bytes]]) -> bytes:
    """Tagged fields end to end."""
    pack = CARD_FIELD.pack
    return b"".join([pack(tag, len(octets)) + octets for tag, octets in fields])


def pad_card(plain: bytes) -> bytes:
    """Fill up to whole multiples of 64 octets."""
    return plain + bytes(-len(plain) % CARD_PADDING)


def read_field(plain: bytes, at: int, wanted: int) -> bytes | None:
    """The field with this tag, or None. Raises `Damaged` if fields overrun."""
    unpack, end = CARD_FIELD.unpack_from, len(plain)
    while at + 6 <= end:
        tag, length = unpack(plain, at)
        if tag == 0:
            return None
        at += 6
        if at + length > end:
            raise Damaged("card field")
        if tag == wanted:
            return plain[at : at + length]
        at += length
    return None


# Part table of a card.

_PART = Struct(">BQQQIQQBHHH")
"""Numbers in the path, header offset, body offset, octets, lines, decoded octets, text offset, bits (1 multipart, 2
message), octets of encoding, type and subtype; then the path's numbers (u16 each) and the three strings."""


def encode_parts(parts: Iterable[Part]) -> bytes:
    """Octets of a part table."""
    out = []
    for part in parts:
        path = part.path
        out.append(
            _PART.pack(
                len(path),
                part.header_offset,
                part.body_offset,
                part.octets,
                part.lines,
                part.decoded_octets,
                part.text_offset,
                part.is_multipart | part.is_message << 1,
                len(part.encoding),
                len(part.type),
                len(part.subtype),
            )
        )
        if path:
            out.append(pack(f">{len(path)}H", *path))
        out += (part.encoding, part.type, part.subtype)
    return b"".join(out)


def decode_parts(plain: bytes) -> tuple[Part, ...]:
    """Inverse of `encode_parts`. Raises `Damaged`."""
    parts = []
    at, end = 0, len(plain)
    try:
        while at < end:
            depth, *numbers, text, bits, encoding, kind, subtype = _PART.unpack_from(plain, at)
            at += _PART.size
            header, body, octets, lines, decoded = numbers
            path = unpack_from(f">{depth}H", plain, at) if depth else ()
            at += 2 * depth
            after = at + encoding, at + encoding + kind, at + encoding + kind + subtype
            strings = plain[at : after[0]], plain[after[0] : after[1]], plain[after[1] : after[2]]
            at = after[2]
            parts.append(
                Part(path, header, body, octets, lines, decoded, *strings, bool(bits & 1), bool(bits & 2), text)
            )
    except error:
        raise Damaged("part table") from None
    if at != end:
        raise Damaged("part table")
    return tuple(parts)
