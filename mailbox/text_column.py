"""The text column of a folder: normalised texts of many messages in one encrypted frame, scanned at once.

The column is a copy, made from the messages and strictly behind them (`certmaild.mailbox.text_keeper`). What it says
of a UID is true as long as the UID exists, for a message's text never changes; a message that it does not name is read
itself. So an older or a missing frame makes a search slower and not wrong.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.primitives import open_frame
from certmaild.mailbox.errors import ColumnDamaged, Damaged
from certmaild.mailbox.finding import finder
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.layout import Codec, Table, unpack_frame
from certmaild.mailbox.layout_messages import Record
from certmaild.mailbox.layout_text import (
    COLON,
    END,
    Kind,
    column_key,
    decode_directory,
    directory_place,
    first_uid_of,
    kind_range,
    text_context,
)
from certmaild.mailbox.packing import unpack_all
from certmaild.mailbox.pages import Shelf
from certmaild.mailbox.search_text import MessageText

CODECS = {Kind.HEADERS: Codec.RAW, Kind.BODIES: Codec.ZSTD}
"""Headers are short: unpacking them one by one would cost more than reading them as they are."""
_KEPT_OCTETS = 4 << 20
"""Opened texts kept for the next key of a program."""


@dataclass(frozen=True, slots=True)
class TextLeaf:
    """One key of a program that is about text: as it is looked for in the column, and in one message.

    ``name`` alone: in fields of that name (lower case; an empty needle: the field is there). ``header`` and ``body``
    say where else to look; then the needle is not empty.
    """

    needle: str
    """As `certmaild.mailbox.text.normalise` gives it."""
    name: str | None = None
    header: bool = False

    def in_message(self, text: MessageText) -> bool:
        """Whether one message, read itself, holds it."""
        if self.name is not None:
            return text.header_has(self.name, self.needle)
        return text.text_has(self.needle) if self.header else text.body_has(self.needle)

    def in_frame(self, frame: "TextFrame") -> set[int]:
        """UIDs of the frame's messages that hold it."""
        needle = encoded(self.needle)
        if self.name is not None:
            return frame.uids_of(_rows_with_field(frame, encoded(self.name), needle))
        rows = _rows_with(frame.text(Kind.BODIES), frame.directory.body_ends, needle)
        if self.header:
            rows |= _rows_with(frame.text(Kind.HEADERS), frame.directory.header_ends, needle)
        return frame.uids_of(rows)


def encoded(text: str) -> bytes:
    """The octets of a text in the column; a lone surrogate, which some charsets give, keeps its own."""
    return text.encode("utf-8", "surrogatepass")


def _rows_with(text: bytearray, ends: Sequence[int], needle: bytes) -> set[int]:
    """Which messages' texts hold the needle: one scan of them all, that goes on behind a message once it is found."""
    rows: set[int] = set()
    find = finder(text)
    at = find(needle, 0)
    while at >= 0:
        row = bisect_right(ends, at)
        rows.add(row)
        at = find(needle, ends[row])
    return rows


def _rows_with_field(frame: "TextFrame", name: bytes, needle: bytes) -> set[int]:
    """Which messages have a field of this name with the needle in its value."""
    text, ends = frame.text(Kind.HEADERS), frame.directory.header_ends
    rows: set[int] = set()
    if needle not in text:
        return rows
    find, mark = text.find, END + name + COLON
    at = find(mark)
    while at >= 0:
        begin = at + len(mark)
        end = find(END, begin)
        end = len(text) if end < 0 else end
        if find(needle, begin, end) >= 0:
            row = bisect_right(ends, at)
            rows.add(row)
            end = ends[row]
        at = find(mark, end)
    return rows


class TextFrame:
    """One frame inside one read transaction; texts are opened when asked for. All of it raises `ColumnDamaged`."""

    def __init__(self, txn: ReadTxn, shelf: Shelf, box_id: bytes, first_uid: int, value: bytes) -> None:
        self._txn = txn
        self._shelf = shelf
        self._box_id = box_id
        self.first_uid = first_uid
        self.value = value
        """The stored directory."""
        place = directory_place(box_id, first_uid)
        try:
            self.directory = decode_directory(shelf.keys.open_names(Record.TEXT, place, value))
        except (SealBroken, Damaged) as broken:
            raise self._damaged("directory") from broken
        self.held = self._held()
        """UIDs whose text is here; the others are only named."""
        self.texts: dict[Kind, bytearray] = {}

    def _damaged(self, what: str) -> ColumnDamaged:
        return ColumnDamaged(f"text column: {what}", self._box_id, self.first_uid, self.value)

    def _held(self) -> frozenset[int]:
        directory = self.directory
        uids = directory.uids
        if len({0, *directory.header_ends}) > len(uids):
            # Each has a header.
            return frozenset(uids)
        named = []
        before = (0, 0)
        for uid, ends in zip(uids, zip(directory.header_ends, directory.packed_ends, strict=True), strict=True):
            if ends == before:
                named.append(uid)
            before = ends
        return frozenset(uids).difference(named) if named else frozenset(uids)

    def uids_of(self, rows: set[int]) -> set[int]:
        """The UIDs of these rows."""
        uids = self.directory.uids
        return {uids[row] for row in rows}

    @property
    def octets(self) -> int:
        """Of the texts that are open."""
        return sum(map(len, self.texts.values()))

    def text(self, kind: Kind) -> bytearray:
        """The texts of all its messages, end to end."""
        text = self.texts.get(kind)
        if text is None:
            stored = self.stored(kind)
            try:
                text = bytearray(stored) if kind is Kind.HEADERS else unpack_all(stored, self.directory.body_ends[-1])
            except Damaged as damaged:
                raise self._damaged("texts do not unpack") from damaged
            self.texts[kind] = text
        return text

    def stored(self, kind: Kind) -> memoryview:
        """The same as it is stored: of bodies one zstd frame a message, end to end."""
        directory, user_id = self.directory, self._shelf.user_id
        octets = (directory.header_ends if kind is Kind.HEADERS else directory.packed_ends)[-1]
        if not octets:
            return memoryview(b"")
        value = self._txn.get(Table.TEXT, column_key(user_id, self._box_id, kind, self.first_uid))
        if value is None:
            raise self._damaged("texts are missing")
        context = text_context(user_id, self._box_id, kind, self.first_uid, directory.generation)
        try:
            codec, payload = unpack_frame(open_frame(directory.text_key, context, value))
        except (SealBroken, Damaged) as broken:
            raise self._damaged("texts") from broken
        if codec is not CODECS[kind] or len(payload) != octets:
            raise self._damaged("texts")
        return payload


def has_column(txn: ReadTxn, user_id: bytes, box_id: bytes) -> bool:
    """Whether somebody has searched the folder by text."""
    return any(True for _ in txn.scan(Table.TEXT, *kind_range(user_id, box_id, Kind.DIRECTORY)))


class Column:
    """A folder's column as one read transaction sees it."""

    def __init__(self, txn: ReadTxn, shelf: Shelf, box_id: bytes) -> None:
        self._txn = txn
        self._shelf = shelf
        self._box_id = box_id
        self._frames: dict[int, TextFrame] = {}
        self._found: dict[tuple[int, TextLeaf], set[int]] = {}
        self._next_uid: int | None = None
        self._kept: list[TextFrame] = []
        self._kept_octets = 0
        self.octets = 0
        """Text scanned so far."""

    @property
    def next_uid(self) -> int:
        """All messages from this UID on are not in the column yet."""
        if self._next_uid is None:
            last = self.last()
            self._next_uid = 1 if last is None else last.directory.uids[-1] + 1
        return self._next_uid

    def last(self) -> TextFrame | None:
        """The last frame."""
        low, high = kind_range(self._shelf.user_id, self._box_id, Kind.DIRECTORY)
        for key, value in self._txn.scan(Table.TEXT, low, high, reverse=True):
            return self._frame(key, value)
        return None

    def frame(self, first_uid: int) -> TextFrame | None:
        """The frame with this key."""
        key = column_key(self._shelf.user_id, self._box_id, Kind.DIRECTORY, first_uid)
        value = self._txn.get(Table.TEXT, key)
        return None if value is None else self._frame(key, value)

    def first_behind(self, frame: TextFrame) -> int | None:
        """The key of the frame behind another."""
        low, high = kind_range(self._shelf.user_id, self._box_id, Kind.DIRECTORY)
        for key, _ in self._txn.scan(Table.TEXT, low + (frame.first_uid + 1).to_bytes(4, "big"), high):
            return first_uid_of(key)
        return None

    def frames(self, first: int = 0, last: int = 0xFFFFFFFF) -> Iterator[TextFrame]:
        """The frames that may name UIDs from ``first`` to ``last``, ascending."""
        low, high = kind_range(self._shelf.user_id, self._box_id, Kind.DIRECTORY)
        start = low + first.to_bytes(4, "big")
        for key, _ in self._txn.scan(Table.TEXT, low, start + b"\0", reverse=True):
            start = key
            break
        for key, value in self._txn.scan(Table.TEXT, start, high):
            if first_uid_of(key) > last:
                return
            yield self._frame(key, value)

    def _frame(self, key: bytes, value: bytes) -> TextFrame:
        first_uid = first_uid_of(key)
        frame = self._frames.get(first_uid)
        if frame is None:
            frame = TextFrame(self._txn, self._shelf, self._box_id, first_uid, value)
            self._frames[first_uid] = frame
        return frame

    def look(self, leaf: TextLeaf, uids: Sequence[int]) -> tuple[set[int], set[int]]:
        """Of ascending ``uids``: those found to hold the leaf, and those whose text is not in the column."""
        unknown = set(uids)
        found: set[int] = set()
        for frame in self.frames(uids[0], uids[-1]) if uids[0] < self.next_uid else ():
            if not unknown.isdisjoint(frame.held):
                found |= self._in_frame(leaf, frame)
                unknown -= frame.held
        return found.intersection(uids), unknown

    def _in_frame(self, leaf: TextLeaf, frame: TextFrame) -> set[int]:
        found = self._found.get((frame.first_uid, leaf))
        if found is None:
            before = frame.octets
            found = self._found[frame.first_uid, leaf] = leaf.in_frame(frame)
            self._keep(frame, frame.octets - before)
        return found

    def _keep(self, frame: TextFrame, opened: int) -> None:
        """Count what was opened, and let go of the other frames' texts when they are many."""
        self.octets += opened
        self._kept_octets += opened
        if opened:
            self._kept.append(frame)
        if self._kept_octets > _KEPT_OCTETS:
            for other in self._kept:
                if other is not frame:
                    other.texts.clear()
            self._kept, self._kept_octets = [frame], frame.octets
