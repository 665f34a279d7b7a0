"""Evaluation of SEARCH over a folder: entries first, then cards, then contents, each only for who is still undecided.

Runs in reader threads, a page or a few messages at a time, so that neither the reactor nor a transaction is held long.
"""

from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from certmaild.mailbox.cards import Card
from certmaild.mailbox.content import open_cards
from certmaild.mailbox.errors import MessageGone
from certmaild.mailbox.folders import keyword_bits, read_rows
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.pages import read_head
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
from certmaild.mailbox.uidsets import next_in, normalise, subtract_block
from certmaild.mailbox.values import Entry, UidSet

_DAY_S = 86400
_PAGES_AT_ONCE = 8
_CONTENTS_AT_ONCE = 16


@dataclass(slots=True)
class Candidate:
    """One message under test, with what was read of it so far."""

    entry: Entry
    card: Card | None = None
    text: MessageText | None = None


Test = Callable[[Candidate], bool | None]
"""Whether it holds; None while what it takes was not read."""


def compiled(key: SearchKey, keywords: tuple[str, ...], now: int) -> Test:
    """A function that tests one message."""
    match key:
        case All():
            return lambda _: True
        case HasFlags(bits, wanted):
            goal = bits if wanted else 0
            return lambda found: found.entry.flags & bits == goal
        case HasKeyword(name, wanted):
            bit, _ = keyword_bits(keywords, [name])
            return lambda found: bool(found.entry.keywords & bit) is wanted
        case HasUid(uids):
            return partial(_in_runs, normalise(uids))
        case OnDay(which, op, day):
            return partial(_on_day, which, op, day)
        case Aged(seconds, younger, which):
            return partial(_aged, which, now - seconds, younger)
        case SizeIs(octets, larger):
            return lambda found: found.entry.size > octets if larger else found.entry.size < octets
        case ModSeqFrom(modseq):
            return lambda found: found.entry.modseq >= modseq
        case HasMid(mid):
            return lambda found: found.entry.mid == mid
        case HeaderHas(name, text):
            return partial(_text, MessageText.header_has, name.lower(), normalise_text(text))
        case BodyHas(text):
            return partial(_text, MessageText.body_has, normalise_text(text))
        case TextHas(text):
            return partial(_text, MessageText.text_has, normalise_text(text))
        case Not(inner):
            return partial(_not, compiled(inner, keywords, now))
        case And(keys):
            return partial(_all, tuple(compiled(inner, keywords, now) for inner in keys))
        case Or(keys):
            return partial(_any, tuple(compiled(inner, keywords, now) for inner in keys))
        case _:
            assert_never(key)


def _in_runs(runs: Sequence[range], found: Candidate) -> bool:
    return next_in(runs, found.entry.uid) == found.entry.uid


def _on_day(which: DateOf, op: DateOp, day: int, found: Candidate) -> bool | None:
    if which is DateOf.SENT:
        if found.card is None:
            return None
        its_day = sent_day(found.card)
    elif which is DateOf.INTERNAL:
        its_day = found.entry.internal_date // _DAY_S
    else:
        its_day = found.entry.save_date // _DAY_S
    if op is DateOp.BEFORE:
        return its_day < day
    return its_day == day if op is DateOp.ON else its_day >= day


def _aged(which: DateOf, limit: int, younger: bool, found: Candidate) -> bool:
    date = found.entry.save_date if which is DateOf.SAVED else found.entry.internal_date
    return (date >= limit) is younger


def _text(has: Callable[..., bool], *arguments_and_found: "str | Candidate") -> bool | None:
    *arguments, found = arguments_and_found
    assert isinstance(found, Candidate)
    return None if found.text is None else has(found.text, *arguments)


def _not(inner: Test, found: Candidate) -> bool | None:
    held = inner(found)
    return None if held is None else not held


def _all(tests: Sequence[Test], found: Candidate) -> bool | None:
    unknown = False
    for test in tests:
        held = test(found)
        if held is False:
            return False
        unknown |= held is None
    return None if unknown else True


def _any(tests: Sequence[Test], found: Candidate) -> bool | None:
    unknown = False
    for test in tests:
        held = test(found)
        if held:
            return True
        unknown |= held is None
    return None if unknown else False


async def search(reach: Reach, box_id: BoxId, program: SearchKey, uids: UidSet) -> SearchResult:
    """See `OpenMailbox.find`."""

    def begin(txn: ReadTxn) -> tuple[str, ...]:
        read_head(txn, reach.shelf, box_id)
        return read_rows(txn, reach.shelf).keywords

    test = compiled(program, await reach.read(begin), reach.now())
    result = SearchResult(array("I"), 0)
    highest = 0
    runs: Sequence[range] = normalise(uids)
    while runs:
        todo = runs
        sure, unsure, resume = await reach.scan(lambda txn: _sift(txn, reach, box_id, todo, test))  # noqa: B023
        for at in range(0, len(unsure), _CONTENTS_AT_ONCE):
            some = unsure[at : at + _CONTENTS_AT_ONCE]
            sure += await reach.scan(lambda txn: _read_and_test(txn, some, test))  # noqa: B023
        for uid, modseq in sorted(sure):
            result.uids.append(uid)
            highest = max(highest, modseq)
        if resume is None:
            break
        runs = subtract_block(runs, resume)
    return SearchResult(result.uids, highest)


Found = list[tuple[int, int]]
"""UID and mod-sequence."""


def _sift(
    txn: ReadTxn, reach: Reach, box_id: BoxId, runs: Sequence[range], test: Test
) -> tuple[Found, list[Candidate], int | None]:
    """The next pages' messages that fulfil the program by entry and card, and those still undecided."""
    blocks, resume = read_blocks(txn, reach.shelf, box_id, runs, changed_since=None, pages=_PAGES_AT_ONCE)
    found: Found = []
    undecided: list[Candidate] = []
    for block in blocks:
        for entry in block:
            candidate = Candidate(entry)
            held = test(candidate)
            if held is None:
                (candidate.card,) = open_cards(txn, reach.user_id, [(entry.mid, entry.mk)])
                if candidate.card is None or not read_facts_frame(txn, candidate.card):
                    continue
                held = test(candidate)
            if held is None:
                undecided.append(candidate)
            elif held:
                found.append((entry.uid, entry.modseq))
    return found, undecided, resume


def _read_and_test(txn: ReadTxn, candidates: Sequence[Candidate], test: Test) -> Found:
    found: Found = []
    for candidate in candidates:
        assert candidate.card is not None
        candidate.text = MessageText(txn, candidate.card)
        with suppress(MessageGone):
            if test(candidate):
                found.append((candidate.entry.uid, candidate.entry.modseq))
        candidate.text = None
    return found
