"""The folder table through the open mailbox: names, parents, renaming, subscriptions, special use."""

from pathlib import Path
from typing import Any

import pytest
from mailbox_support import NOW, House, mail, make_house
from support import run, start
from twisted.internet.defer import Deferred

from certmaild.mailbox import folders as table_work
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import (
    Damaged,
    FolderExists,
    FolderMissing,
    FolderNameInvalid,
    FolderProtected,
    HasChildren,
    LimitReached,
)
from certmaild.mailbox.layout import Table
from certmaild.mailbox.reach import Reach
from certmaild.mailbox.values import FlagOp, Flags, SpecialUse


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


def names(house: House) -> list[str]:
    return [folder.name for folder in run(house.mailbox.folders())]


def test_a_new_account_has_its_special_folders_subscribed(house: House) -> None:
    table = run(house.mailbox.folders())
    assert [folder.name for folder in table] == ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
    assert all(folder.subscribed for folder in table)
    sent = table.by_special_use(SpecialUse.SENT)
    assert sent is not None and sent.name == "Sent"
    assert table.by_name("inBoX") is table.folders[0]


def test_create_makes_real_parents(house: House) -> None:
    run(house.mailbox.create_folder("a/b/c"))
    table = run(house.mailbox.folders())
    assert {"a", "a/b", "a/b/c"} <= {folder.name for folder in table}
    a, c = table.by_name("a"), table.by_name("a/b/c")
    assert a is not None and a.has_children and c is not None and not c.has_children
    run(house.mailbox.select(a.box_id))
    assert len({run(house.mailbox.status(folder.box_id)).uid_validity for folder in table}) == len(table)


@pytest.mark.parametrize(
    "name", ["", "/", "a//b", "a/", "/a", "a*", "%", "a\x00b", "a\nb", "x" * 1001, "a/" * 32 + "a"]
)
def test_names_that_no_folder_may_have(house: House, name: str) -> None:
    with pytest.raises(FolderNameInvalid):
        run(house.mailbox.create_folder(name))


def test_one_name_however_it_is_composed(house: House) -> None:
    run(house.mailbox.create_folder("Mu\u0308ll"))
    with pytest.raises(FolderExists):
        run(house.mailbox.create_folder("M\u00fcll"))
    with pytest.raises(FolderExists):
        run(house.mailbox.create_folder("inbox"))


def test_delete_is_refused_for_parents_and_inbox(house: House) -> None:
    run(house.mailbox.create_folder("a/b"))
    with pytest.raises(HasChildren):
        run(house.mailbox.delete_folder("a"))
    with pytest.raises(FolderProtected):
        run(house.mailbox.delete_folder("INBOX"))
    with pytest.raises(FolderMissing):
        run(house.mailbox.delete_folder("c"))
    run(house.mailbox.delete_folder("a/b"))
    run(house.mailbox.delete_folder("a"))
    assert "a" not in names(house)


def test_deleting_a_folder_releases_its_messages(house: House) -> None:
    run(house.mailbox.create_folder("a"))
    house.append(mail(), mail(), box="a")
    box_id = house.box("a")
    run(house.mailbox.delete_folder("a"))
    with pytest.raises(FolderMissing):
        run(house.mailbox.select(box_id))
    rows = house.rows()
    left = {table for table, _ in rows}
    assert not left & {Table.CARD, Table.OWN, Table.PAGE, Table.GONE, Table.REF}
    assert sum(table is Table.DEAD for table, _ in rows) == 2
    assert run(house.mailbox.quota()).messages == 0


def test_a_name_made_again_has_a_higher_uid_validity(house: House) -> None:
    run(house.mailbox.create_folder("a"))
    before = run(house.mailbox.status(house.box("a"))).uid_validity
    run(house.mailbox.delete_folder("a"))
    house.now[0] = NOW - 10_000
    run(house.mailbox.create_folder("a"))
    assert run(house.mailbox.status(house.box("a"))).uid_validity > before


def test_rename_takes_children_and_subscriptions_along(house: House) -> None:
    run(house.mailbox.create_folder("a/b"))
    run(house.mailbox.set_subscribed("a/b", True))
    house.append(mail(), box="a/b")
    box_id = house.box("a/b")
    run(house.mailbox.rename_folder("a", "x/y"))
    assert {"x", "x/y", "x/y/b"} <= set(names(house)) and not {"a", "a/b"} & set(names(house))
    moved = run(house.mailbox.folders()).by_name("x/y/b")
    assert moved is not None and moved.box_id == box_id and moved.subscribed
    assert len(house.entries("x/y/b")) == 1


def test_rename_refuses_what_makes_no_sense(house: House) -> None:
    run(house.mailbox.create_folder("a"))
    run(house.mailbox.create_folder("b"))
    with pytest.raises(FolderExists):
        run(house.mailbox.rename_folder("a", "b"))
    with pytest.raises(FolderProtected):
        run(house.mailbox.rename_folder("a", "a/b"))
    with pytest.raises(FolderMissing):
        run(house.mailbox.rename_folder("nobody", "c"))
    with pytest.raises(FolderExists):
        run(house.mailbox.rename_folder("INBOX", "b"))


def test_renaming_inbox_moves_its_messages_out_of_it(house: House) -> None:
    house.append(mail("one"), mail("two"))
    inbox = house.box()
    run(house.mailbox.rename_folder("inbox", "old"))
    assert house.box() == inbox and house.entries() == []
    assert len(house.entries("old")) == 2


def test_subscriptions_may_outlive_a_folder(house: House) -> None:
    with pytest.raises(FolderMissing):
        run(house.mailbox.set_subscribed("a", True))
    run(house.mailbox.create_folder("a"))
    run(house.mailbox.set_subscribed("a", True))
    run(house.mailbox.set_subscribed("a", True))
    run(house.mailbox.delete_folder("a"))
    assert "a" in run(house.mailbox.folders()).subscriptions
    run(house.mailbox.set_subscribed("a", False))
    run(house.mailbox.set_subscribed("never", False))
    assert "a" not in run(house.mailbox.folders()).subscriptions


def test_a_special_use_stands_at_one_folder_only(house: House) -> None:
    run(house.mailbox.create_folder("Gesendet", SpecialUse.SENT))
    table = run(house.mailbox.folders())
    assert [folder.name for folder in table if folder.special_use is SpecialUse.SENT] == ["Gesendet"]


def test_two_thousand_folders_and_no_more(house: House) -> None:
    for top in range(2):
        for n in range(31):
            run(house.mailbox.create_folder("/".join([f"t{top}", *(f"{n}-{level}" for level in range(30))])))
    table = run(house.mailbox.folders())
    for n in range(2000 - len(table)):
        run(house.mailbox.create_folder(f"f{n}"))
    assert len(run(house.mailbox.folders())) == 2000
    with pytest.raises(LimitReached):
        run(house.mailbox.create_folder("one too many"))


def test_sixty_four_keywords_and_no_more(house: House) -> None:
    (uid,) = house.append(mail())
    box_id = house.box()
    many = Flags(0, frozenset(f"k{n}" for n in range(64)))
    result = run(house.mailbox.store_flags(box_id, [range(uid, uid + 1)], FlagOp.ADD, many))
    assert len(result.keywords) == 64 and result.entries[0].keywords == (1 << 64) - 1
    with pytest.raises(LimitReached):
        run(house.mailbox.store_flags(box_id, [range(uid, uid + 1)], FlagOp.ADD, Flags(0, frozenset(["one more"]))))
    same = run(house.mailbox.store_flags(box_id, [range(uid, uid + 1)], FlagOp.ADD, Flags(0, frozenset(["K7"]))))
    assert not same.changed


def test_changes_of_the_table_are_announced(house: House) -> None:
    told: list[Change] = []
    watch = house.mailbox.watch(told.append)
    run(house.mailbox.create_folder("a"))
    assert told == [Change(ChangeKind.FOLDERS, house.user_id)]
    watch.stop()


def test_an_old_folder_table_is_refused(house: House) -> None:
    old = house.rows([Table.FOLDERS])
    run(house.mailbox.create_folder("a"))
    for (table, key), value in old.items():
        house.put(table, key, value)
    house.reopen()
    with pytest.raises(Damaged):
        run(house.mailbox.folders())


@pytest.mark.parametrize(("count", "in_thread"), [(10, False), (400, True)])
def test_a_large_table_is_decoded_once_for_all_and_off_the_reactor(
    house: House, monkeypatch: pytest.MonkeyPatch, count: int, in_thread: bool
) -> None:
    for number in range(0, count, 25):
        run(house.mailbox.create_folder("/".join(f"level-{number}-{n}-of-a-long-name" for n in range(25))))
    looked: list[str] = []
    waiting: list[Deferred[None]] = []
    decode, scan = table_work.read_rows, Reach.scan

    async def later(self: Reach, work: Any) -> Any:
        waiting.append(Deferred())
        await waiting[-1]
        return await scan(self, work)

    def counted(*arguments: Any) -> Any:
        looked.append("decoded")
        return decode(*arguments)

    monkeypatch.setattr(Reach, "scan", later)
    monkeypatch.setattr(table_work, "read_rows", counted)
    house.mailbox._table = None
    asked = [start(house.mailbox.folders()) for _ in range(5)]
    assert len(waiting) == in_thread
    for one in waiting:
        one.callback(None)
    assert len({id(run(one)) for one in asked}) == 1
    assert looked == ["decoded"]
