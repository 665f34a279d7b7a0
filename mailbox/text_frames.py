"""Making and remaking frames of the text column: which messages' texts stand in them, and the rows that keep them.

Every message is compressed by itself (KEYS section 8): what one sender wrote never shows in the length of another's
mail. So a frame is made of pieces of others without opening a text, and a message leaves a frame by being left out.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from certmaild.keystore.primitives import seal_frame
from certmaild.mailbox.content import open_cards
from certmaild.mailbox.errors import ColumnDamaged, MessageGone
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table, pack_frame
from certmaild.mailbox.layout_messages import Record, decode_numbers
from certmaild.mailbox.layout_text import (
    COLON,
    END,
    FRAME_MESSAGES,
    FRAME_TEXT_OCTETS,
    MESSAGE_TEXT_OCTETS,
    Directory,
    Kind,
    box_of_mark,
    column_key,
    directory_place,
    encode_directory,
    ends_of,
    first_uid_of,
    kind_range,
    text_context,
)
from certmaild.mailbox.packing import pack
from certmaild.mailbox.pages import Shelf, chosen, find_head, pages_with
from certmaild.mailbox.search_text import MessageText, read_facts_frame
from certmaild.mailbox.text_column import CODECS, Column, TextFrame, encoded
from certmaild.mailbox.text_marks import Mark, first_marks
from certmaild.mailbox.uidsets import overlaps, ranges_of
from certmaild.mailbox.values import Entry

_LEVEL = -1
"""Read twice as fast as what level 3 packs, for a sixth more room."""
BUILD_MESSAGES = 128
BUILD_OCTETS = 1 << 20
"""One slice of building: so many messages, or so much text."""
COMPACT_FRAMES = 16
"""One slice of compaction remakes so many frames."""
CUT_FRAMES = 256
"""So many are removed in one transaction."""


@dataclass(frozen=True, slots=True, repr=False)
class Piece:
    """One message's texts, the body packed; both empty for one that is only named."""

    uid: int
    header: bytes
    body_octets: int
    body: bytes

    @property
    def octets(self) -> int:
        """Its text."""
        return len(self.header) + self.body_octets


def piece_of(txn: ReadTxn, shelf: Shelf, entry: Entry) -> Piece | None:
    """The texts of a message, read from its blob; None when it is gone. Raises `Damaged`."""
    (card,) = open_cards(txn, shelf.user_id, [(entry.mid, entry.mk)])
    if card is None or not read_facts_frame(txn, card):
        return None
    message = MessageText(txn, card)
    with suppress(MessageGone):
        header = b"".join([END + encoded(name) + COLON + encoded(value) for name, value in message.header])
        texts = message.body(MESSAGE_TEXT_OCTETS)
        body = b"".join([encoded(text) + END for text in texts or ()])
        if texts is None or len(header) + len(body) > MESSAGE_TEXT_OCTETS:
            return Piece(entry.uid, b"", 0, b"")
        return Piece(entry.uid, header, len(body), pack(body, _LEVEL) if body else b"")
    return None


def pieces_in(frame: TextFrame) -> list[Piece]:
    """What a frame was made of."""
    directory = frame.directory
    headers, bodies = frame.stored(Kind.HEADERS), frame.stored(Kind.BODIES)
    pieces = []
    before = (0, 0, 0)
    rows = zip(directory.header_ends, directory.body_ends, directory.packed_ends, strict=True)
    for uid, ends in zip(directory.uids, rows, strict=True):
        header, body = bytes(headers[before[0] : ends[0]]), bytes(bodies[before[2] : ends[2]])
        pieces.append(Piece(uid, header, ends[1] - before[1], body))
        before = ends
    return pieces


Row = tuple[bytes, bytes]
"""Key and value."""


def frame_rows(shelf: Shelf, box_id: bytes, first_uid: int, generation: int, pieces: Sequence[Piece]) -> list[Row]:
    """The rows of one frame under a fresh key."""
    text_key = os.urandom(32)
    user_id = shelf.user_id
    directory = Directory(
        generation,
        text_key,
        decode_numbers("I", b"".join([piece.uid.to_bytes(4, "big") for piece in pieces])),
        ends_of([len(piece.header) for piece in pieces]),
        ends_of([piece.body_octets for piece in pieces]),
        ends_of([len(piece.body) for piece in pieces]),
    )
    sealed = shelf.keys.seal_names(Record.TEXT, directory_place(box_id, first_uid), encode_directory(directory))
    rows = [(column_key(user_id, box_id, Kind.DIRECTORY, first_uid), sealed)]
    for kind, texts in (
        (Kind.HEADERS, b"".join([piece.header for piece in pieces])),
        (Kind.BODIES, b"".join([piece.body for piece in pieces])),
    ):
        if texts:
            context = text_context(user_id, box_id, kind, first_uid, generation)
            value = seal_frame(text_key, context, pack_frame(CODECS[kind], texts, padding=True))
            rows.append((column_key(user_id, box_id, kind, first_uid), value))
    return rows


def _cut(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Pieces by frame."""
    frames: list[list[Piece]] = []
    room = messages = 0
    for piece in pieces:
        if room <= 0 or messages == FRAME_MESSAGES:
            frames.append([])
            room, messages = FRAME_TEXT_OCTETS, 0
        frames[-1].append(piece)
        room -= piece.octets
        messages += 1
    return frames


@dataclass(slots=True)
class Remade:
    """Frames to be put in the place of others, if these are still as they were read."""

    box_id: BoxId
    before: list[tuple[int, bytes]]
    """First UID and stored directory of the frames that go."""
    rows: list[Row]
    marks: Sequence[Mark] = ()
    """Which are taken away with this, if they are still the same."""
    added: tuple[range, ...] = ()
    """Messages behind the column's end, which it shall name now; each must still exist."""
    end: bytes = b""
    """Where messages are added: the stored directory of the last frame, which must still be the last; empty: none."""

    def write(self, txn: WriteTxn, shelf: Shelf) -> bool:
        """Put them in; False, with nothing done, when something changed meanwhile."""
        user_id, box_id = shelf.user_id, self.box_id
        for first_uid, value in self.before:
            if txn.get(Table.TEXT, column_key(user_id, box_id, Kind.DIRECTORY, first_uid)) != value:
                return False
        if any(txn.get(Table.TEXT, key) != mark for key, mark in self.marks):
            return False
        if self.added and not self._may_add(txn, shelf):
            return False
        for key, _ in self.marks:
            txn.delete(Table.TEXT, key)
        for first_uid, _ in self.before:
            for kind in Kind:
                txn.delete(Table.TEXT, column_key(user_id, box_id, kind, first_uid))
        for key, value in self.rows:
            txn.put(Table.TEXT, key, value)
        return True

    def _may_add(self, txn: ReadTxn, shelf: Shelf) -> bool:
        """Nobody else went on with the column or cut it off, and all that it shall name is there."""
        directories = txn.scan(Table.TEXT, *kind_range(shelf.user_id, self.box_id, Kind.DIRECTORY), reverse=True)
        if next((value for _, value in directories), b"") != self.end:
            return False
        count = sum(
            stop - start
            for page in pages_with(txn, shelf, self.box_id, self.added)
            for start, stop in overlaps(page.uids, self.added)
        )
        return count == sum(map(len, self.added))


def build(txn: ReadTxn, shelf: Shelf, box_id: BoxId, through: int) -> Remade | None:
    """The next slice of the column up to the UID ``through``; None when there is nothing to add. Raises `Damaged`."""
    column = Column(txn, shelf, box_id)
    runs = [range(column.next_uid, through + 1)]
    pieces: list[Piece] = []
    octets = 0
    for entry in (entry for page in pages_with(txn, shelf, box_id, runs) for entry in chosen(page, runs) or ()):
        if len(pieces) == BUILD_MESSAGES or octets >= BUILD_OCTETS:
            break
        piece = piece_of(txn, shelf, entry)
        if piece is not None:
            pieces.append(piece)
            # A message that has too much text took long to read.
            octets += piece.octets or MESSAGE_TEXT_OCTETS
    if not pieces:
        return None
    added = ranges_of([piece.uid for piece in pieces])
    last = column.last()
    end = b"" if last is None else last.value
    if last is None or not _is_small(last):
        return Remade(box_id, [], _rows_of(shelf, box_id, 1, pieces), added=added, end=end)
    generation = last.directory.generation + 1
    rows = _rows_of(shelf, box_id, generation, pieces_in(last) + pieces, last.first_uid)
    return Remade(box_id, [(last.first_uid, last.value)], rows, added=added, end=end)


def _is_small(frame: TextFrame) -> bool:
    directory = frame.directory
    octets = directory.header_ends[-1] + directory.body_ends[-1]
    return octets < FRAME_TEXT_OCTETS // 2 and len(directory.uids) < FRAME_MESSAGES // 2


def _rows_of(
    shelf: Shelf, box_id: bytes, generation: int, pieces: Sequence[Piece], first_uid: int | None = None
) -> list[Row]:
    """Pieces as frames; ``first_uid`` is the first one's key if it is not that of its first message."""
    rows: list[Row] = []
    for frame in _cut(pieces):
        rows += frame_rows(shelf, box_id, first_uid or frame[0].uid, generation, frame)
        first_uid = None
    return rows


def cut_off(txn: WriteTxn, shelf: Shelf, damaged: ColumnDamaged) -> bool:
    """Remove some of the column's last frames, from the end on to the damaged one; whether that is left to be removed.

    Nothing is done if it was written anew meanwhile. What is left names no message behind the next one to be built.
    """
    user_id, box_id, first_uid = shelf.user_id, damaged.box_id, damaged.first_uid
    if txn.get(Table.TEXT, column_key(user_id, box_id, Kind.DIRECTORY, first_uid)) != damaged.directory:
        return False
    low, high = kind_range(user_id, box_id, Kind.DIRECTORY)
    directories = txn.scan(Table.TEXT, low + first_uid.to_bytes(4, "big"), high, reverse=True)
    firsts = [first_uid_of(key) for key, _ in islice(directories, CUT_FRAMES)]
    for first in firsts:
        for kind in Kind:
            txn.delete(Table.TEXT, column_key(user_id, box_id, kind, first))
    return firsts[-1] != first_uid


def without_gone(txn: ReadTxn, shelf: Shelf) -> Remade | None:
    """The next marked frames, made anew without what left their folder; None when no frame is marked."""
    marks = first_marks(txn, shelf.user_id, COMPACT_FRAMES)
    if not marks:
        return None
    box_id = BoxId(box_of_mark(marks[0][0]))
    remade = Remade(box_id, [], [], marks=marks)
    column = Column(txn, shelf, box_id)
    there = find_head(txn, shelf, box_id) is not None
    group: list[TextFrame] = []
    for key, _ in marks:
        frame = column.frame(first_uid_of(key))
        if frame is None:
            continue
        if group and column.first_behind(group[-1]) != frame.first_uid:
            _remake(txn, shelf, group, there, remade)
            group = []
        group.append(frame)
    _remake(txn, shelf, group, there, remade)
    return remade


def _remake(txn: ReadTxn, shelf: Shelf, group: Sequence[TextFrame], there: bool, remade: Remade) -> None:
    """Frames that stand side by side, with what is alive of them, in as few as it takes."""
    if not group:
        return
    runs = [range(group[0].directory.uids[0], group[-1].directory.uids[-1] + 1)]
    alive: set[int] = set()
    for page in pages_with(txn, shelf, remade.box_id, runs) if there else ():
        alive.update(page.uids)
    pieces = [
        piece
        for frame in group
        if not alive.isdisjoint(frame.directory.uids)
        for piece in pieces_in(frame)
        if piece.uid in alive
    ]
    generation = 1 + max(frame.directory.generation for frame in group)
    remade.before += [(frame.first_uid, frame.value) for frame in group]
    remade.rows += _rows_of(shelf, remade.box_id, generation, pieces)
