"""One message in Sent, though server and client both keep a copy: either order, the window, and who is left alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mailbox_support import ADDRESS, NOW, House, make_house
from support import lmdb_engine, memory_engine, run

from certmaild.mailbox import account_rows, sent_copies
from certmaild.mailbox.changes import Change
from certmaild.mailbox.errors import OverQuota
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import SentCopies
from certmaild.mailbox.sent_copies import WINDOW_S
from certmaild.mailbox.values import SERVER_COPY, FlagOp, Flags, SpecialUse, SystemFlag


def letter(name: str | None = "1", *, to: int = 1) -> bytes:
    recipients = ", ".join([f'"Recipient number {number}" <r{number}@example.org>' for number in range(to)])
    own = "" if name is None else f"Message-ID: <{name}@example.com>\r\n"
    return f"From: {ADDRESS}\r\nTo: {recipients}\r\nReferences: <0@example.com>\r\n{own}\r\nbody\r\n".encode()


@pytest.fixture(params=["memory", "lmdb"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    engine = memory_engine() if request.param == "memory" else lmdb_engine(tmp_path)
    house = make_house(tmp_path, engine)
    keep_copies(house, SentCopies.SERVER)
    yield house
    if request.param == "lmdb":
        house.mailbox.close()
        run(engine.close())


def keep_copies(house: House, who: SentCopies, **more: Any) -> None:
    def work(txn: Any) -> None:
        account = account_rows.read_account(txn, house.secrets, house.user_id)
        assert account is not None
        account = replace(account, sent_copies=who, **more)
        account_rows.write_account(txn, house.secrets, house.user_id, account)

    run(house.engine.write(work))


def sent_by_server(house: House, *messages: bytes) -> None:
    """The server's copies, absorbed if the mailbox is open."""
    house.deliver(*messages, special_use=SpecialUse.SENT, flags=SystemFlag.SEEN)
    run(house.mailbox.absorb())


def in_sent(house: House) -> list[tuple[int, bool]]:
    """UID, and whether it is the server's copy."""
    return [(entry.uid, bool(entry.flags & SERVER_COPY)) for entry in house.entries("Sent")]


def is_tidy(house: House) -> bool:
    """Quota, own rows, cards and blobs are those of what is shown."""
    entries = [entry for name in ("INBOX", "Sent", "Archive") for entry in house.entries(name)]
    quota = run(house.mailbox.quota())
    counts = {table: len(house.rows([table])) for table in (Table.OWN, Table.CARD, Table.REF)}
    mids = len({entry.mid for entry in entries})
    assert (quota.messages, quota.octets) == (len(entries), sum(entry.size for entry in entries))
    assert counts == {Table.OWN: mids, Table.CARD: mids, Table.REF: mids}
    return True


@pytest.mark.parametrize("to", [1, 600], ids=["facts in the card", "facts in the blob"])
def test_a_clients_copy_takes_the_place_of_the_servers(house: House, to: int) -> None:
    sent_by_server(house, letter("1", to=to), letter("2"))
    assert in_sent(house) == [(1, True), (2, True)]
    heard: list[Change] = []
    house.mailbox.watch(heard.append)
    assert house.append(letter("1", to=to), box="Sent") == (3,)
    assert in_sent(house) == [(2, True), (3, False)]
    assert heard
    assert run(house.mailbox.vanished_since(house.box("Sent"), 1)) == (range(1, 2),)
    assert is_tidy(house)


@pytest.mark.parametrize("to", [1, 600], ids=["facts in the card", "facts in the blob"])
def test_a_servers_copy_behind_the_clients_is_let_go(house: House, to: int) -> None:
    house.append(letter("1", to=to), box="Sent")
    sent_by_server(house, letter("1", to=to), letter("2"))
    assert in_sent(house) == [(1, False), (2, True)]
    assert not house.rows([Table.IN])
    assert is_tidy(house)


def test_what_waits_is_compared_by_when_it_was_sent_not_when_it_is_absorbed(house: House) -> None:
    house.append(letter("1"), box="Sent")
    reach, house.mailbox._absorber._stopped = house.mailbox._reach, True
    sent_by_server(house, letter("1"))
    assert house.rows([Table.IN])
    house.now[0] += 5 * 86_400
    house.reopen()
    run(house.mailbox.absorb())
    assert in_sent(house) == [(1, False)]
    assert reach.now() == NOW + 5 * 86_400
    assert is_tidy(house)


@pytest.mark.parametrize(("later_s", "left"), [(WINDOW_S, 1), (WINDOW_S + 1, 2)])
def test_the_window_is_ten_minutes(house: House, later_s: int, left: int) -> None:
    sent_by_server(house, letter("1"))
    house.now[0] += later_s
    house.append(letter("1"), box="Sent")
    assert len(in_sent(house)) == left


@pytest.mark.parametrize(("earlier_s", "left"), [(WINDOW_S, 1), (WINDOW_S + 1, 2)])
def test_the_window_is_ten_minutes_the_other_way_round(house: House, earlier_s: int, left: int) -> None:
    house.now[0] -= earlier_s
    house.append(letter("1"), box="Sent")
    house.now[0] += earlier_s
    sent_by_server(house, letter("1"))
    assert len(in_sent(house)) == left


def test_multiappend_replaces_each_and_every_copy(house: House) -> None:
    sent_by_server(house, letter("1"), letter("2"), letter("3"), letter("1"))
    assert house.append(letter("2"), letter("4"), letter("1"), box="Sent") == (5, 6, 7)
    assert in_sent(house) == [(3, True), (5, False), (6, False), (7, False)]
    assert is_tidy(house)


def test_only_sent_only_the_same_id_and_only_if_the_account_says_so(house: House) -> None:
    sent_by_server(house, letter("1"), letter(None))
    house.append(letter("1"), letter(None))
    house.append(letter("2"), letter(None), box="Sent")
    assert len(in_sent(house)) == 4
    keep_copies(house, SentCopies.CLIENT)
    house.append(letter("1"), box="Sent")
    assert len(in_sent(house)) == 5
    assert is_tidy(house)


def test_a_copy_that_the_user_made_is_his_own(house: House) -> None:
    sent_by_server(house, letter("1"))
    sent = house.box("Sent")
    run(house.mailbox.copy(sent, [range(1, 2)], house.box("Archive")))
    run(house.mailbox.copy(sent, [range(1, 2)], sent))
    assert in_sent(house) == [(1, True), (2, False)]
    house.append(letter("1"), box="Sent")
    assert in_sent(house) == [(2, False), (3, False)]
    assert [entry.flags & SERVER_COPY for entry in house.entries("Archive")] == [0]


def test_without_a_sent_folder_what_came_in_is_no_copy_of_what_went_out(house: House) -> None:
    run(house.mailbox.delete_folder("Sent"))
    house.deliver(letter("1"))
    sent_by_server(house, letter("1"))
    assert len(house.entries()) == 2
    run(house.mailbox.create_folder("Sent", SpecialUse.SENT))
    house.deliver(letter("2"))
    sent_by_server(house, letter("2"))
    assert in_sent(house) == [(1, True)]
    assert is_tidy(house)


def test_a_clients_copy_that_is_about_to_go_counts_for_nothing(house: House) -> None:
    house.append(letter("1"), box="Sent", flags=Flags(SystemFlag.DELETED))
    sent_by_server(house, letter("1"))
    assert in_sent(house) == [(1, False), (2, True)]


def test_flags_do_not_hide_whose_copy_it_is(house: House) -> None:
    sent_by_server(house, letter("1"))
    change = (FlagOp.REPLACE, Flags(SystemFlag.ANSWERED))
    run(house.mailbox.store_flags(house.box("Sent"), [range(1, 2)], *change))
    house.append(letter("1"), box="Sent")
    assert in_sent(house) == [(2, False)]


def test_a_full_mailbox_has_room_for_what_takes_a_places(house: House) -> None:
    sent_by_server(house, letter("1"))
    keep_copies(house, SentCopies.SERVER, messages_limit=1)
    before = house.rows()
    with pytest.raises(OverQuota):
        house.append(letter("2"), box="Sent")
    with pytest.raises(OverQuota):
        house.append(letter("1"), letter("2"), box="Sent")
    assert in_sent(house) == [(1, True)]
    assert house.rows([Table.OWN, Table.PAGE]) == {
        key: value for key, value in before.items() if key[0] in (Table.OWN, Table.PAGE)
    }
    house.append(letter("1"), box="Sent")
    assert in_sent(house) == [(2, False)]
    assert is_tidy(house)


def test_a_folder_being_filled_holds_nobody_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_copies, "MOST_COMPARED", 3)
    opened: list[int] = []
    look = sent_copies._message_id_at
    monkeypatch.setattr(sent_copies, "_message_id_at", lambda *args: opened.append(args[-1].uid) or look(*args))
    house.append(*[letter(str(number)) for number in range(300)], box="Sent")
    sent_by_server(house, letter("299"))
    assert opened == [300, 299, 298]
    assert len(in_sent(house)) == 300
    sent_by_server(house, letter("5"))
    assert len(in_sent(house)) == 301


def test_accounts_without_the_option_open_no_card(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_copies(house, SentCopies.CLIENT)

    def never(*_: object) -> None:
        raise AssertionError("a card was opened")

    monkeypatch.setattr(sent_copies, "open_cards", never)
    house.append(letter("1"), letter("1"), box="Sent")
    house.append(letter("1"), box="Sent")
    house.deliver(letter("1"))
    assert len(in_sent(house)) == 3


def test_either_order_in_one_group_of_writes_leaves_one(house: House) -> None:
    """Appending and absorbing begin from the same state; whichever commits second sees the other."""
    from certmaild.mailbox.absorb import open_batch, write_batch

    house.mailbox._absorber._stopped = True
    house.deliver(letter("1"), special_use=SpecialUse.SENT)
    reach = house.mailbox._reach
    batch = run(house.engine.read(lambda txn: open_batch(txn, reach, 64)))
    assert batch is not None
    house.append(letter("1"), box="Sent")
    assert run(reach.write(lambda txn: write_batch(txn, reach, batch, NOW)))
    assert in_sent(house) == [(1, False)]
    assert is_tidy(house)
