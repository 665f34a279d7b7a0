"""Ready rows: kept by page, right for every message, and gone with the messages they tell of."""

from array import array
from pathlib import Path

import pytest
from mailbox_support import House, mail, make_house
from support import run
from twisted.logger import LogLevel, capturedLogs, formatEvent

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_ready import decode_ready, encode_ready
from certmaild.mailbox.ready import FEWEST, MOST_KINDS, MOST_OCTETS
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag

KIND, OTHER = b"envelope", b"thefield"
COUNT = FEWEST + 8


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = make_house(tmp_path)
    house.append(*[mail(str(n)) for n in range(COUNT)])
    return house


def value(uid: int, kind: bytes = KIND) -> bytes:
    return b"%b of %d" % (kind, uid)


def keep(house: House, *kinds: bytes, uids: "array[int] | None" = None, octets: int = 0) -> None:
    """As a FETCH of all does that found nothing."""
    uids = house.blocks()[0].uids if uids is None else uids
    rows = house.mailbox.ready_rows(house.box(), kinds)
    columns = [[value(uid, kind) + bytes(octets) for uid in uids] for kind in kinds]

    async def work() -> None:
        await rows.keep(uids, columns, len(uids))
        await rows.finish()

    run(work())


def read(house: House, kind: bytes = KIND, uids: "array[int] | None" = None) -> list[bytes | None]:
    uids = house.blocks()[0].uids if uids is None else uids
    (column,) = run(house.mailbox.ready_rows(house.box(), [kind]).read(uids))
    return column


def test_what_is_kept_is_found(house: House) -> None:
    uids = house.blocks()[0].uids
    keep(house, KIND, OTHER)
    assert read(house, KIND) == [value(uid) for uid in uids]
    assert read(house, OTHER) == [value(uid, OTHER) for uid in uids]
    assert read(house, b"anything") == [None] * COUNT
    # Some of them, at least so many that one opening is worth its while.
    some = uids[3 : 3 + FEWEST]
    assert read(house, KIND, some) == [value(uid) for uid in some]
    assert read(house, KIND, uids[: FEWEST - 1]) == [None] * (FEWEST - 1)


def test_later_messages_of_the_page_have_none(house: House) -> None:
    keep(house, KIND)
    house.append(mail("new"))
    assert read(house) == [value(uid) for uid in range(1, COUNT + 1)] + [None]


@pytest.mark.parametrize("way", ["expunge", "move", "delete"])
def test_rows_go_with_a_message(house: House, way: str) -> None:
    keep(house, KIND, OTHER)
    assert len(house.rows([Table.READY])) == 2
    if way == "expunge":
        run(house.mailbox.store_flags(house.box(), [range(5, 6)], FlagOp.ADD, Flags(SystemFlag.DELETED)))
        run(house.mailbox.expunge(house.box()))
    elif way == "move":
        run(house.mailbox.move(house.box(), [range(COUNT, COUNT + 1)], house.box("Archive")))
    else:
        run(house.mailbox.rename_folder("INBOX", "Elsewhere"))
    assert not house.rows([Table.READY])
    assert read(house, uids=array("I", range(1, COUNT))) == [None] * (COUNT - 1)


def test_a_page_that_changed_meanwhile_gets_none(house: House) -> None:
    """Else the facts of a message that is gone would come back to the disk."""
    uids = house.blocks()[0].uids
    run(house.mailbox.move(house.box(), [range(7, 8)], house.box("Trash")))
    keep(house, KIND, uids=uids)
    assert not house.rows([Table.READY])


def test_a_damaged_row_is_told_and_removed(house: House) -> None:
    keep(house, KIND)
    (((table, key), sealed),) = house.rows([Table.READY]).items()
    for changed in (key, key[:32] + b"\0\0\0\2" + key[36:]):
        keep(house, KIND)
        house.put(table, changed, sealed[:-1] + bytes([sealed[-1] ^ 1]))
        with capturedLogs() as logs:
            assert read(house, uids=house.blocks()[0].uids[2:]) == [None] * (COUNT - 2)
            assert house.rows([Table.READY]) == {}
            read(house)
        assert [event["log_level"] for event in logs] == [LogLevel.critical]
        assert (formatEvent(logs[0]) or "").startswith("ALARM: ")


def test_a_row_of_another_kind_does_not_open(house: House) -> None:
    keep(house, KIND, OTHER)
    rows = house.rows([Table.READY])
    (first, one), (second, two) = rows.items()
    house.put(*first, two)
    house.put(*second, one)
    assert read(house, KIND) == read(house, OTHER) == [None] * COUNT


def test_neither_many_kinds_nor_large_values_are_kept(house: House) -> None:
    for number in range(MOST_KINDS + 3):
        keep(house, b"kind%04d" % number)
    assert len(house.rows([Table.READY])) == MOST_KINDS
    keep(house, b"kind0000")
    assert len(house.rows([Table.READY])) == MOST_KINDS
    run(house.mailbox.move(house.box(), [range(1, 2)], house.box("Trash")))
    keep(house, KIND, octets=MOST_OCTETS // FEWEST)
    assert not house.rows([Table.READY])


def test_few_new_messages_do_not_rewrite_a_page(house: House) -> None:
    rows = house.mailbox.ready_rows(house.box(), [KIND])
    uids = house.blocks()[0].uids

    async def work() -> None:
        await rows.keep(uids, [[b""] * len(uids)], FEWEST - 1)
        await rows.finish()

    run(work())
    assert not house.rows([Table.READY])


def test_the_codec() -> None:
    uids, values = array("I", [1, 5, 4_000_000_000]), [b"one", b"", b"three"]
    plain = encode_ready(uids, values)
    assert len(plain) % 4096 == 0
    assert decode_ready(plain) == (uids, values)
    for junk in (b"", b"\0", b"\1\1" + bytes(10), b"\0\1\0\0\0\1\0\0\1\0"):
        with pytest.raises(Damaged):
            decode_ready(junk)


def test_a_kind_has_eight_octets(house: House) -> None:
    with pytest.raises(ValueError, match="8 octets"):
        house.mailbox.ready_rows(house.box(), [b"short"])
