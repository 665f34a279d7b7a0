"""A folder with a text column: what it holds, what a search must find, and what stands on the disk."""

from collections.abc import Iterator
from typing import Any

from mailbox_support import House
from support import run
from twisted.logger import formatEvent

from certmaild.mailbox.content import open_cards
from certmaild.mailbox.engine_memory import MemoryEngine
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_text import Kind
from certmaild.mailbox.search import (
    And,
    BodyHas,
    HasFlags,
    HasUid,
    HeaderHas,
    Not,
    Or,
    SearchKey,
    TextHas,
)
from certmaild.mailbox.search_text import MessageText, read_facts_frame
from certmaild.mailbox.text import normalise
from certmaild.mailbox.text_column import Column
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag

EVERY = 0xFFFFFFFF


def build(house: House, box: str = "INBOX") -> None:
    """The whole column of a folder."""
    run(house.mailbox._keeper.extend(house.box(box), 1, max((e.uid for e in house.entries(box)), default=0)))


def frames(house: House, box: str = "INBOX") -> list[list[int]]:
    """UIDs by frame."""
    shelf, box_id = house.mailbox._reach.shelf, house.box(box)
    return run(house.engine.read(lambda txn: [list(f.directory.uids) for f in Column(txn, shelf, box_id).frames()]))


def named(house: House) -> list[int]:
    """UIDs that the column of INBOX names."""
    return [uid for frame in frames(house) for uid in frame]


def found(house: House, key: SearchKey, box: str = "INBOX") -> list[int]:
    return list(run(house.mailbox.find(house.box(box), key)).uids)


def holds(key: SearchKey, text: MessageText, uid: int, flags: int) -> bool:
    """The oracle: one message, read itself."""
    match key:
        case HeaderHas(name, needle):
            return text.header_has(name.lower(), normalise(needle))
        case BodyHas(needle):
            return text.body_has(normalise(needle))
        case TextHas(needle):
            return text.text_has(normalise(needle))
        case HasFlags(bits):
            return flags & bits == bits
        case HasUid(uids):
            return any(uid in run_ for run_ in uids)
        case Not(inner):
            return not holds(inner, text, uid, flags)
        case And(keys):
            return all(holds(inner, text, uid, flags) for inner in keys)
        case Or(keys):
            return any(holds(inner, text, uid, flags) for inner in keys)
    raise AssertionError(key)


def expected(house: House, key: SearchKey, box: str = "INBOX") -> list[int]:
    def work(txn: Any) -> list[int]:
        uids = []
        for entry in house.entries(box):
            (card,) = open_cards(txn, house.user_id, [(entry.mid, entry.mk)])
            assert card is not None and read_facts_frame(txn, card)
            if holds(key, MessageText(txn, card), entry.uid, entry.flags):
                uids.append(entry.uid)
        return uids

    return run(house.engine.read(work))


def texts_of(house: House) -> Iterator[str]:
    """What can be found: as the column has it, so that needles also reach over the borders of fields and messages."""

    def work(txn: Any) -> list[str]:
        headers, bodies = [], []
        for entry in house.entries():
            (card,) = open_cards(txn, house.user_id, [(entry.mid, entry.mk)])
            assert card is not None and read_facts_frame(txn, card)
            text = MessageText(txn, card)
            headers += [piece for field in text.header for piece in field]
            bodies += text.body(1 << 20) or []
        return bodies + headers

    yield from run(house.engine.read(work))


def finish_cleaning(house: House) -> None:
    house.mailbox._keeper.clean()
    cleaning = house.mailbox._keeper._cleaning
    if cleaning is not None:
        run(cleaning)


def expunge(house: House, *uids: int) -> None:
    runs = [range(uid, uid + 1) for uid in uids]
    run(house.mailbox.store_flags(house.box(), runs, FlagOp.ADD, Flags(SystemFlag.DELETED)))
    run(house.mailbox.expunge(house.box(), runs))


def text_rows(house: House) -> dict[bytes, bytes]:
    return {key: value for (_, key), value in house.rows([Table.TEXT]).items()}


def opened_texts(house: House, rows: dict[bytes, bytes]) -> bytes:
    """What the user's keys open of these rows, taken from whatever commit."""
    engine = MemoryEngine()
    for key, value in rows.items():
        run(engine.write(lambda txn, key=key, value=value: txn.put(Table.TEXT, key, value)))
    shelf = house.mailbox._reach.shelf

    def work(txn: Any) -> bytes:
        return b"".join(
            frame.text(kind)
            for frame in Column(txn, shelf, house.box()).frames()
            for kind in (Kind.HEADERS, Kind.BODIES)
        )

    return run(engine.read(work))


def alarms(logs: Any) -> int:
    return sum("ALARM: search texts" in (formatEvent(event) or "") for event in logs)


def frames_of(rows: dict[bytes, bytes]) -> list[bytes]:
    return [key for key in rows if key[32] == Kind.DIRECTORY]
