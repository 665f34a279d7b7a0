"""Evaluation of SEARCH over a folder: by entries first, then by cards, then by texts, each for who is still undecided.

Runs in reader threads, a slice at a time, so that neither the reactor nor a transaction is held long. Texts come from
the folder's text column, which is built as the search goes; a message that is not in it is read itself.
"""

from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, assert_never

from certmaild.mailbox.cards import Card
from certmaild.mailbox.content import open_cards
from certmaild.mailbox.errors import ColumnDamaged, MessageGone
from certmaild.mailbox.folders import keyword_bits, read_rows
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.pages import Shelf, read_head
from certmaild.mailbox.reach import Reach
from certmaild.mailbox.reading import read_blocks
from certmaild.mailbox.search import (
    Aged,
    All,
    And,
    BodyHas,
    DateOf,
    DateOp,
    HasFlags,
    HasKeyword,
    HasMid,
    HasUid,
    HeaderHas,
    ModSeqFrom,
    Not,
    OnDay,
    Or,
    SearchKey,
    SearchResult,
    SizeIs,
    TextHas,
)
from certmaild.mailbox.search_text import MessageText, read_facts_frame, sent_day
from certmaild.mailbox.text import normalise as normalise_text
from certmaild.mailbox.text_column import Column, TextLeaf
from certmaild.mailbox.uidsets import normalise, overlaps, subtract_block
from certmaild.mailbox.values import EntryBlock, UidSet

_DAY_S = 86400
_PAGES_AT_ONCE = 32
_OCTETS_AT_ONCE = 8 << 20
"""A slice ends when it scanned so much text of the column, or read messages of that size."""
_MESSAGE_OCTETS = 64 << 10
"""What reading a message itself counts beside its own size."""
_MESSAGES_AT_ONCE = 16
"""Messages that are read themselves; their texts are held together."""
WORTH_BUILDING = 64
"""Messages of a page whose text is asked for and that the column lacks: from here on it is built first."""


class ColumnBuilder(Protocol):
    """What a search needs of `certmaild.mailbox.text_keeper.TextKeeper`."""

    async def extend(self, box_id: BoxId, first: int, through: int) -> bool:
        """Let the column name all messages up to ``through``; whether it does."""
        ...

    def follow(self, box_id: BoxId) -> None:
        """Build the whole column in the background."""
        ...

    async def mend(self, damaged: ColumnDamaged) -> None:
        """Remove a damaged frame, and those behind it."""
        ...


class Lacking(Exception):
    """Texts of so many messages are asked for that the column lacks; those behind its end are told apart."""

    def __init__(self, behind: int) -> None:
        self.behind = behind


@dataclass(slots=True)
class Sift:
    """One slice of a search: what its tests read, and the block of entries under test."""

    txn: ReadTxn
    shelf: Shelf
    column: Column
    block: EntryBlock = field(default_factory=EntryBlock)
    reads_messages: bool = False
    """Read a message itself whose text the column lacks; else `Lacking` is raised."""
    octets: int = 0
    """Sizes of the messages read."""
    gone: set[int] = field(default_factory=set)
    """Rows whose message went meanwhile: they fulfil nothing."""
    cards: dict[int, Card] = field(default_factory=dict)
    texts: dict[int, MessageText] = field(default_factory=dict)

    def begin(self, block: EntryBlock) -> None:
        """Go on to another block."""
        self.block = block
        self.reads_messages = False
        self.gone.clear()
        self.cards.clear()
        self.texts.clear()

    def card(self, row: int) -> Card | None:
        """A row's card, or None for a message that is gone."""
        card = self.cards.get(row)
        if card is None:
            mids, mks = self.block.mids, self.block.mks
            pair = mids[16 * row : 16 * row + 16], mks[32 * row : 32 * row + 32]
            (card,) = open_cards(self.txn, self.shelf.user_id, [pair])
            if card is None or not read_facts_frame(self.txn, card):
                self.gone.add(row)
                return None
            self.cards[row] = card
        return card

    def in_message(self, leaf: TextLeaf, row: int) -> bool:
        """Whether a row's message, read itself, holds it."""
        card = self.card(row)
        if card is None:
            return False
        text = self.texts.get(row)
        if text is None:
            text = self.texts[row] = MessageText(self.txn, card)
            self.octets += card.size + _MESSAGE_OCTETS
        with suppress(MessageGone):
            return leaf.in_message(text)
        self.gone.add(row)
        return False


Rows = set[int]
"""Indexes into the block under test."""
Test = Callable[[Sift, Rows], Rows]
"""Which of these rows fulfil a key."""


def compiled(key: SearchKey, keywords: tuple[str, ...], now: int) -> Test:
    """A function that says which messages fulfil the key."""
    match key:
        case Not(inner):
            return partial(_not, compiled(inner, keywords, now))
        case And(keys):
            return partial(_all, tuple(compiled(inner, keywords, now) for inner in sorted(keys, key=_cost)))
        case Or(keys):
            return partial(_any, tuple(compiled(inner, keywords, now) for inner in sorted(keys, key=_cost)))
        case HeaderHas(name, text):
            return partial(_text, TextLeaf(normalise_text(text), name=name.lower()))
        case BodyHas(text) | TextHas(text):
            if not text:
                return _every
            return partial(_text, TextLeaf(normalise_text(text), header=isinstance(key, TextHas)))
        case OnDay(DateOf.SENT, op, day):
            return partial(_sent, op, day)
        case _:
            return _entry_test(key, keywords, now)


def _entry_test(
    key: All | HasFlags | HasKeyword | HasUid | OnDay | Aged | SizeIs | ModSeqFrom | HasMid,
    keywords: tuple[str, ...],
    now: int,
) -> Test:
    """A test that takes nothing but entries."""
    match key:
        case All():
            return _every
        case HasFlags(bits, wanted):
            return partial(_column, "flags", lambda flags: flags & bits == (bits if wanted else 0))
        case HasKeyword(name, wanted):
            bit, _ = keyword_bits(keywords, [name])
            return partial(_column, "keywords", lambda bits: bool(bits & bit) is wanted)
        case HasUid(uids):
            return partial(_uids, normalise(uids))
        case OnDay(which, op, day):
            return partial(_column, _date_column(which), lambda date: _falls(date // _DAY_S, op, day))
        case Aged(seconds, younger, which):
            return partial(_column, _date_column(which), lambda date: (date >= now - seconds) is younger)
        case SizeIs(octets, larger):
            return partial(_column, "sizes", lambda size: size > octets if larger else size < octets)
        case ModSeqFrom(modseq):
            return partial(_column, "modseqs", lambda own: own >= modseq)
        case HasMid(mid):
            return partial(_mid, mid)
        case _:
            assert_never(key)


def _cost(key: SearchKey) -> int:
    """What a key reads: 0 entries, 1 cards, 2 headers, 3 bodies. The cheap ones are asked first."""
    match key:
        case Not(inner):
            return _cost(inner)
        case And(keys) | Or(keys):
            return max(map(_cost, keys), default=0)
        case BodyHas() | TextHas():
            return 3
        case HeaderHas():
            return 2
        case OnDay(DateOf.SENT):
            return 1
        case _:
            return 0


def _every(sift: Sift, rows: Rows) -> Rows:
    return rows


def _not(inner: Test, sift: Sift, rows: Rows) -> Rows:
    return rows - inner(sift, rows)


def _all(tests: Sequence[Test], sift: Sift, rows: Rows) -> Rows:
    for test in tests:
        if not rows:
            break
        rows = test(sift, rows)
    return rows


def _any(tests: Sequence[Test], sift: Sift, rows: Rows) -> Rows:
    found: Rows = set()
    for test in tests:
        rest = rows - found
        if not rest:
            break
        found |= test(sift, rest)
    return found


def _column(name: str, holds: Callable[[int], bool], sift: Sift, rows: Rows) -> Rows:
    values: array[int] = getattr(sift.block, name)
    return {row for row in rows if holds(values[row])}


def _date_column(which: DateOf) -> str:
    return "save_dates" if which is DateOf.SAVED else "internal_dates"


def _falls(its_day: int, op: DateOp, day: int) -> bool:
    if op is DateOp.BEFORE:
        return its_day < day
    return its_day == day if op is DateOp.ON else its_day >= day


def _uids(runs: Sequence[range], sift: Sift, rows: Rows) -> Rows:
    return rows.intersection(row for low, high in overlaps(sift.block.uids, runs) for row in range(low, high))


def _mid(mid: bytes, sift: Sift, rows: Rows) -> Rows:
    mids = sift.block.mids
    return {row for row in rows if mids[16 * row : 16 * row + 16] == mid}


def _sent(op: DateOp, day: int, sift: Sift, rows: Rows) -> Rows:
    return {row for row in rows if (card := sift.card(row)) is not None and _falls(sent_day(card), op, day)}


def _text(leaf: TextLeaf, sift: Sift, rows: Rows) -> Rows:
    if not rows:
        return rows
    uids = sift.block.uids
    ordered = sorted(rows)
    found, unknown = sift.column.look(leaf, [uids[row] for row in ordered])
    if not unknown:
        return {row for row in ordered if uids[row] in found}
    if not sift.reads_messages:
        raise Lacking(sum(uid >= sift.column.next_uid for uid in unknown))
    return {row for row in ordered if uids[row] in found or (uids[row] in unknown and sift.in_message(leaf, row))}


async def search(
    reach: Reach,
    builder: ColumnBuilder,
    box_id: BoxId,
    program: SearchKey,
    uids: UidSet,
    between: Callable[[int], Awaitable[None]] | None = None,
) -> SearchResult:
    """See `OpenMailbox.find`."""

    def begin(txn: ReadTxn) -> tuple[str, ...]:
        read_head(txn, reach.shelf, box_id)
        return read_rows(txn, reach.shelf).keywords

    test = compiled(program, await reach.read(begin), reach.now())
    found = array("I")
    highest = 0
    runs: Sequence[range] = normalise(uids)
    builds, mended = True, False
    while runs:
        if between is not None:
            await between(runs[0].start)
        todo, may_build = runs, builds
        try:
            part = await reach.scan(lambda txn: _search_slice(txn, reach.shelf, box_id, todo, test, may_build))  # noqa: B023
            found.extend(part.uids)
            highest = max(highest, part.highest_modseq)
            if part.resume is None:
                break
            runs = subtract_block(runs, part.resume)
            if part.lacking_through:
                builds = await builder.extend(box_id, part.resume, part.lacking_through)
        except ColumnDamaged as damaged:
            await builder.mend(damaged)
            mended = True
    if mended or not builds:
        builder.follow(box_id)
    return SearchResult(found, highest)


@dataclass(slots=True)
class _Slice:
    """What one slice found, where the next begins (None: there is none), and what the column lacks for it."""

    uids: list[int] = field(default_factory=list)
    highest_modseq: int = 0
    resume: int | None = None
    lacking_through: int = 0

    def take(self, block: EntryBlock, rows: Rows) -> None:
        for row in sorted(rows):
            self.uids.append(block.uids[row])
            self.highest_modseq = max(self.highest_modseq, block.modseqs[row])


def _search_slice(
    txn: ReadTxn, shelf: Shelf, box_id: BoxId, runs: Sequence[range], test: Test, may_build: bool
) -> _Slice:
    """Search the next pages, as many as `_OCTETS_AT_ONCE` allow."""
    blocks, resume = read_blocks(txn, shelf, box_id, runs, changed_since=None, pages=_PAGES_AT_ONCE)
    sift = Sift(txn, shelf, Column(txn, shelf, box_id))
    part = _Slice()
    for block in blocks:
        if sift.octets + sift.column.octets >= _OCTETS_AT_ONCE:
            part.resume = block.uids[0]
            return part
        sift.begin(block)
        try:
            rows = test(sift, set(range(len(block))))
        except Lacking as lacking:
            if may_build and lacking.behind >= WORTH_BUILDING:
                part.resume, part.lacking_through = block.uids[0], block.uids[-1]
                return part
        else:
            part.take(block, rows - sift.gone)
            continue
        for some in _parts_of(block):
            if sift.octets + sift.column.octets >= _OCTETS_AT_ONCE:
                part.resume = block.uids[some.start]
                return part
            sift.texts.clear()
            sift.reads_messages = True
            rows = test(sift, set(some))
            part.take(block, rows - sift.gone)
    part.resume = resume
    return part


def _parts_of(block: EntryBlock) -> Iterator[range]:
    """Its rows, so many that their texts can be held together."""
    for at in range(0, len(block), _MESSAGES_AT_ONCE):
        yield range(at, min(at + _MESSAGES_AT_ONCE, len(block)))
