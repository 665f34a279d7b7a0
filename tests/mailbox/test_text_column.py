"""The text column finds what reading every message finds, in any charset and on nasty messages."""

from pathlib import Path

import pytest
from mailbox_support import House, mail, make_house
from support import run
from text_support import (
    EVERY,
    alarms,
    build,
    expunge,
    finish_cleaning,
    found,
    frames,
    frames_of,
    named,
    opened_texts,
    text_rows,
)
from twisted.logger import capturedLogs

from certmaild.mailbox import text_frames
from certmaild.mailbox.errors import ColumnDamaged, Damaged
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_text import MESSAGE_TEXT_OCTETS, Kind, mark_range
from certmaild.mailbox.search import (
    And,
    BodyHas,
    HasUid,
    HeaderHas,
    Not,
    TextHas,
)
from certmaild.mailbox.text_column import Column


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = make_house(tmp_path)
    house.append(*[mail(f"subject {n}", f"marked{n}text " + "words " * 1000) for n in range(100)])
    return house


def test_a_search_builds_the_column_and_later_ones_read_nothing_else(house: House) -> None:
    assert found(house, TextHas("marked7text")) == [8]
    assert named(house) == list(range(1, 101))
    # The messages themselves are not read any more.
    for table, key in house.rows([Table.BLOB, Table.CARD]):
        run(house.engine.write(lambda txn, table=table, key=key: txn.delete(table, key)))
    assert found(house, TextHas("marked7text")) == [8]
    assert found(house, HeaderHas("subject", "SUBJECT 99")) == [100]
    assert found(house, Not(BodyHas("words"))) == []
    house.reopen()
    assert found(house, BodyHas("marked99")) == [100]


def test_a_search_of_few_builds_nothing(house: House) -> None:
    key = And((HasUid([range(3, 60)]), TextHas("text")))
    assert found(house, key) == list(range(3, 60))
    assert text_rows(house) == {}


def test_what_came_later_is_read_itself_and_then_added_to_the_last_frame(house: House) -> None:
    build(house)
    before = frames(house)
    house.append(*[mail("late", f"late{n}") for n in range(70)])
    assert found(house, And((HasUid([range(101, 111)]), BodyHas("late3")))) == [104]
    assert frames(house) == before
    assert found(house, BodyHas("late3")) == [104, *range(131, 141)]
    after = frames(house)
    assert (
        [uid for frame in after for uid in frame] == list(range(1, 171))
        and after[:-1] == before[:-1]
        and len(after) == len(before)
    )


def test_too_much_text_is_only_named(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    house.append(mail("a"), mail("b", "x" * MESSAGE_TEXT_OCTETS + "end"), mail("c", "end"))
    build(house)
    assert frames(house) == [[1, 2, 3]]
    assert sum(map(len, text_rows(house).values())) < 2000
    assert found(house, BodyHas("xend")) == [2]
    assert found(house, BodyHas("end")) == [2, 3]
    assert found(house, Not(TextHas("end"))) == [1]


def test_expunged_text_is_gone_from_the_column(house: House) -> None:
    """Its frame stands under a new key, and the old key is nowhere."""
    build(house)
    before = text_rows(house)
    assert b"marked7text" in opened_texts(house, before)
    expunge(house, 8)
    finish_cleaning(house)
    after = text_rows(house)
    assert b"marked7text" not in opened_texts(house, after)
    assert b"marked6text" in opened_texts(house, after) and b"marked8text" in opened_texts(house, after)
    assert named(house) == [uid for uid in range(1, 101) if uid != 8]
    # The old texts beside the new directories, as from an old page of the file: they do not open.
    changed = {key: value for key, value in before.items() if key in after and after[key] != value and key[32]}
    assert len(changed) == 2
    with pytest.raises(Damaged):
        opened_texts(house, after | changed)
    assert found(house, TextHas("text")) == [uid for uid in range(1, 101) if uid != 8]


def test_when_most_goes_frames_are_joined(house: House) -> None:
    build(house)
    many = len(frames(house))
    assert many >= 2
    expunge(house, *[uid for uid in range(1, 101) if uid % 10])
    finish_cleaning(house)
    assert frames(house) == [list(range(10, 101, 10))]
    assert found(house, BodyHas("marked49text")) == [50]
    expunge(house, *range(10, 101, 10))
    finish_cleaning(house)
    assert text_rows(house) == {}
    house.append(mail("new", "after all"))
    build(house)
    assert found(house, BodyHas("after all")) == [101] and frames(house) == [[101]]


@pytest.mark.parametrize("leaving", ["move", "folder"])
def test_what_leaves_otherwise_leaves_the_column_too(house: House, leaving: str) -> None:
    run(house.mailbox.create_folder("Projects"))
    box = house.box("Projects")
    run(house.mailbox.copy(house.box(), [range(1, 101)], box))
    build(house)
    build(house, "Projects")
    if leaving == "move":
        run(house.mailbox.move(house.box(), [range(1, 51)], box))
        finish_cleaning(house)
        assert named(house) == list(range(51, 101))
        assert found(house, BodyHas("marked0text")) == []
        assert found(house, BodyHas("marked0text"), "Projects") == [1, 101]
        return
    run(house.mailbox.delete_folder("Projects"))
    finish_cleaning(house)
    assert [key for key in text_rows(house) if key[16:32] != house.box()] == []
    assert found(house, BodyHas("marked0text")) == [1]


def test_a_crash_between_expunge_and_cleaning_is_made_good_at_the_next_session(house: House) -> None:
    build(house)
    clean = house.mailbox._keeper.clean
    house.mailbox._keeper.clean = lambda: None  # type: ignore[method-assign]
    expunge(house, 8)
    house.mailbox._keeper.clean = clean  # type: ignore[method-assign]
    low, high = mark_range(house.user_id)
    assert [low <= key < high for key in text_rows(house)].count(True) == 1
    assert 8 in named(house) and found(house, BodyHas("marked7text")) == []
    house.reopen()
    finish_cleaning(house)
    assert 8 not in named(house)
    assert not any(low <= key < high for key in text_rows(house))


def test_two_processes_at_once(house: House) -> None:
    """Each slice is built by both and written by one; what goes meanwhile is not written at all."""
    shelf, box = house.mailbox._reach.shelf, house.box()
    read, write = house.engine.read, house.engine.write
    mine = run(read(lambda txn: text_frames.build(txn, shelf, box, EVERY)))
    other = run(read(lambda txn: text_frames.build(txn, shelf, box, EVERY)))
    assert run(write(lambda txn: mine.write(txn, shelf))) is True
    assert run(write(lambda txn: other.write(txn, shelf))) is False
    rows = text_rows(house)
    late = mail("late", "late")
    house.append(late, late)
    mine, other = (run(read(lambda txn: text_frames.build(txn, shelf, box, EVERY))) for _ in "12")
    expunge(house, 102)
    assert run(write(lambda txn: mine.write(txn, shelf))) is False
    mine = run(read(lambda txn: text_frames.build(txn, shelf, box, EVERY)))
    assert run(write(lambda txn: mine.write(txn, shelf))) is True
    assert run(write(lambda txn: other.write(txn, shelf))) is False
    assert named(house) == list(range(1, 102)) and text_rows(house) != rows
    # A cleaning that another overtakes is discarded as well.
    house.mailbox._keeper.clean = lambda: None  # type: ignore[method-assign]
    expunge(house, 5)
    one, two = (run(read(lambda txn: text_frames.without_gone(txn, shelf))) for _ in "12")
    assert run(write(lambda txn: one.write(txn, shelf))) is True
    assert run(write(lambda txn: two.write(txn, shelf))) is False
    assert 5 not in named(house)


def test_a_process_that_does_not_get_the_lease_reads_the_messages(house: House) -> None:
    class Taken:
        def take(self, name: bytes, seconds: float) -> bool:
            return False

        def give_back(self, name: bytes) -> None:
            pass

    house.mailbox._keeper._leases = Taken()
    assert found(house, BodyHas("marked7text")) == [8]
    assert text_rows(house) == {}


def test_a_search_ends_when_nobody_wants_it(house: House) -> None:
    class Gone(Exception):
        pass

    async def between(uid: int) -> None:
        raise Gone

    with pytest.raises(Gone):
        run(house.mailbox.find(house.box(), TextHas("x"), between=between))
    assert text_rows(house) == {}


def test_the_column_of_another_folder_or_user_is_not_taken(house: House) -> None:
    build(house)
    run(house.mailbox.move(house.box(), [range(8, 9)], house.box("Archive")))
    run(house.mailbox.copy(house.box(), [range(1, 101)], house.box("Archive")))
    finish_cleaning(house)
    build(house, "Archive")
    mine, other = house.box(), house.box("Archive")
    for key, value in text_rows(house).items():
        if key[16:32] == other:
            house.put(Table.TEXT, key[:16] + mine + key[32:], value)
    with capturedLogs() as logs:
        assert found(house, TextHas("marked7text")) == []
        assert found(house, TextHas("marked8text")) == [9]
    assert alarms(logs) == 1
    assert found(house, TextHas("marked7text"), "Archive") == [1]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("which", [0, 1, -1])
def test_damage_is_told_and_made_good(house: House, kind: Kind, which: int) -> None:
    """The search itself is exact; the frames before the damaged one stay, the others come anew under fresh keys."""
    build(house)
    before = text_rows(house)
    key = [key for key in before if key[32] == kind][which]
    firsts = sorted({int.from_bytes(key[33:], "big") for key in before})
    house.put(Table.TEXT, key, before[key][:-1] + bytes([before[key][-1] ^ 1]))
    with capturedLogs() as logs:
        assert found(house, TextHas("marked7text")) == [8]
        assert found(house, And((HeaderHas("subject", "subject 99"), BodyHas("marked99text")))) == [100]
    assert alarms(logs) == 1
    assert named(house) == list(range(1, 101))
    after = text_rows(house)
    kept = [one for one in before if after.get(one) == before[one]]
    assert len(kept) == 3 * firsts[:-1].index(firsts[which]) if which != -1 else 3 * (len(firsts) - 1)
    # Nobody reads the messages any more.
    for table, row in house.rows([Table.BLOB, Table.CARD]):
        run(house.engine.write(lambda txn, table=table, row=row: txn.delete(table, row)))
    assert found(house, TextHas("marked7text")) == [8]


def test_missing_texts_are_damage_too(house: House) -> None:
    build(house)
    for key in text_rows(house):
        if key[32] == Kind.BODIES:
            run(house.engine.write(lambda txn, key=key: txn.delete(Table.TEXT, key)))
    assert found(house, TextHas("marked7text")) == [8]
    assert named(house) == list(range(1, 101))


def test_damage_does_not_keep_expunged_text(house: House) -> None:
    """Neither that of the damaged frame nor that of others."""
    build(house)
    rows = text_rows(house)
    key = next(key for key in rows if key[32] == Kind.BODIES)
    house.put(Table.TEXT, key, rows[key][:-1] + bytes([rows[key][-1] ^ 1]))
    with capturedLogs() as logs:
        expunge(house, 8, 100)
        finish_cleaning(house)
    assert alarms(logs) == 1
    low, high = mark_range(house.user_id)
    assert not any(low <= key < high for key in text_rows(house))
    assert found(house, TextHas("marked")) == [uid for uid in range(1, 100) if uid != 8] == named(house)


def test_a_slice_made_before_the_column_was_cut_off_is_not_added(house: House) -> None:
    """Else what was cut off would never be made anew."""
    build(house)
    house.append(mail("late", "late"))
    shelf, box = house.mailbox._reach.shelf, house.box()
    late = run(house.engine.read(lambda txn: text_frames.build(txn, shelf, box, EVERY)))
    late.before.clear()
    first, directory = run(
        house.engine.read(lambda txn: (last := Column(txn, shelf, box).last()) and (last.first_uid, last.value))
    )  # type: ignore[misc]
    damaged = ColumnDamaged("as it were", box, first, directory)
    assert run(house.engine.write(lambda txn: text_frames.cut_off(txn, shelf, damaged))) is False
    assert run(house.engine.write(lambda txn: late.write(txn, shelf))) is False
    again = text_rows(house)
    assert run(house.engine.write(lambda txn: text_frames.cut_off(txn, shelf, damaged))) is False
    assert text_rows(house) == again
    build(house)
    assert found(house, TextHas("marked")) == list(range(1, 101)) and named(house) == list(range(1, 102))


def test_a_long_column_is_cut_off_in_slices(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_frames, "CUT_FRAMES", 1)
    build(house)
    rows = text_rows(house)
    house.put(Table.TEXT, min(rows), b"nonsense")
    assert len(frames_of(rows)) >= 3
    assert found(house, TextHas("marked7text")) == [8]
    assert named(house) == list(range(1, 101))
