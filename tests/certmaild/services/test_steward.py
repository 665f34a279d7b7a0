"""The folder Devices follows what is so, and passwords are hidden once they have been used."""

from pathlib import Path
from typing import Any

import pytest
from mailbox_support import ALL
from steward_support import DAY_S, Home, make_home
from support import run

from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.clients import read_client
from certmaild.mailbox.devices import revoke
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import NO_OPTIONS, Kind
from certmaild.mailbox.values import SystemFlag
from certmaild.services.steward import LATER_S, Steward
from certmaild.services.texts import INSTRUCTION_SUBJECT


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def writes(home: Home) -> dict[Any, bytes]:
    return home.house.rows([Table.SERVICE, Table.CLIENT, Table.OWN, Table.IN])


def test_one_message_a_device_and_the_instruction(home: Home) -> None:
    desk, phone = home.add("desk"), home.add("phone")
    home.add("", Kind.RECOVERY)
    home.log_in(desk, client_id=(("name", "Thunderbird"), ("version", "140.1\r\nx")))
    found = home.texts()
    assert set(found) == {"desk", "phone", INSTRUCTION_SUBJECT}
    assert "192.0.2.0/24" in found["desk"] and "program    Thunderbird 140.1 x" in found["desk"]
    assert "192.0.2.7" not in found["desk"]
    assert "last used  never" in found["phone"]
    assert {mark.number for mark in home.marks.values()} >= {desk, phone}


def test_nothing_is_written_where_all_is_as_it_should_be(home: Home) -> None:
    desk = home.add("desk")
    home.log_in(desk)
    before = writes(home)
    for _ in range(3):
        home.log_in(desk)
    assert writes(home) == before
    # Another process, which knows nothing of what was done, finds it done.
    home.steward = Steward(home.house.engine, home.house.secrets, home.correspondence.mail, home.clock)
    home.log_in(desk)
    assert writes(home) == before


def test_the_day_of_use_is_renewed_once_a_day_and_the_message_stays_read(home: Home) -> None:
    desk = home.add("desk")
    home.log_in(desk)
    home.clock.advance(DAY_S)
    home.log_in(desk, peer="2001:db8:1:2::3")
    (entry,) = [one for one in home.house.entries("Devices") if one.flags & SystemFlag.SEEN]
    text = home.texts()["desk"]
    assert "2001:db8:1::/48" in text and len(home.texts()) == 2
    before = writes(home)
    home.log_in(desk, peer="198.51.100.1")
    assert writes(home) == before and entry.uid == 3


def test_names_and_revocations_show_while_a_session_lasts(home: Home) -> None:
    desk, phone = home.add("desk"), home.add("phone")
    home.log_in(desk)
    house = home.house

    def gone(txn: Any) -> None:
        revoke(txn, house.secrets, house.user_id, phone, now=1)

    run(house.engine.write(gone))
    home.clock.advance(LATER_S)
    assert set(home.texts()) == {"desk", INSTRUCTION_SUBJECT}
    tablet = home.add("tablet")
    run(house.engine.write(lambda txn: txn.announce(Change(ChangeKind.ACCOUNT, house.user_id))))
    home.clock.advance(LATER_S)
    assert set(home.texts()) == {"desk", "tablet", INSTRUCTION_SUBJECT}
    assert tablet in {mark.number for mark in home.marks.values()}


def test_what_has_to_come_back_comes_back_with_words_once(home: Home) -> None:
    desk = home.add("desk")
    home.log_in(desk)
    mailbox = home.house.mailbox
    run(mailbox.move(home.house.box("Devices"), ALL, home.house.box("Trash"), by=desk))
    home.clock.advance(LATER_S)
    back = home.texts()
    assert set(back) == {"desk", INSTRUCTION_SUBJECT}
    assert "This message came back" in back["desk"] and home.texts("Trash") == {}
    before = writes(home)
    home.log_in(desk)
    assert writes(home) == before
    home.clock.advance(DAY_S)
    home.log_in(desk)
    assert "came back" not in home.texts()["desk"].partition("\r\n\r\n")[2].partition("\r\n")[0]


def test_a_password_is_hidden_by_its_first_use_and_no_other(home: Home) -> None:
    desk, phone = home.add("desk"), home.add("phone")
    shown = home.show_password(phone, "K7QM-2D9X")
    home.log_in(desk)
    assert "K7QM-2D9X" in home.texts("INBOX")["shown"] and shown in home.marks
    home.log_in(phone)
    (subject,) = home.texts("INBOX")
    assert "K7QM-2D9X" not in home.texts("INBOX")[subject] and shown not in home.marks
    assert "phone has logged in" in home.texts("INBOX")[subject]


def test_a_password_whose_device_is_revoked_is_hidden(home: Home) -> None:
    desk, phone = home.add("desk"), home.add("phone")
    home.show_password(phone, "K7QM-2D9X")
    home.log_in(desk)
    house = home.house
    run(house.engine.write(lambda txn: revoke(txn, house.secrets, house.user_id, phone, now=1)))
    home.clock.advance(LATER_S)
    assert list(home.texts("INBOX")) == ["The password that stood here is void"]


def test_accounts_that_want_no_folder_have_none_and_nothing_is_noted(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    house = home.house
    home.want_folders(NO_OPTIONS)
    desk = home.add("desk")
    home.log_in(desk, client_id=(("name", "x"),))
    assert home.texts() == {} and not home.marks
    row = run(house.engine.read(lambda txn: read_client(txn, house.secrets, house.user_id, desk)))
    assert row.network == ""


def test_two_processes_at_once_write_each_message_once(home: Home) -> None:
    desk = home.add("desk")
    other = Steward(home.house.engine, home.house.secrets, home.correspondence.mail, home.clock)
    other.stirred(home.house.user_id, home.house.keys)
    home.log_in(desk)
    assert sorted(home.texts()) == sorted(["desk", INSTRUCTION_SUBJECT])
    assert len(home.house.entries("Devices")) == 2
    other.stop()
    home.steward.stop()


def test_keys_that_are_gone_end_it_quietly(home: Home) -> None:
    desk = home.add("desk")
    home.log_in(desk)
    home.house.mailbox.close()
    home.house.keys.close()
    home.steward.stirred(home.house.user_id, home.house.keys)
    assert not home.clock.getDelayedCalls()


def test_a_program_calls_itself_nothing_that_nobody_sees(home: Home) -> None:
    number = home.add("phone")
    home.log_in(number, client_id=(("name", "K-9\x00\x1b[2J\u202eliam\r\nX: y"),))
    (text,) = [text for subject, text in home.texts().items() if "phone" in subject]
    assert "K-9[2Jliam X: y" in text
    assert not set("\x00\x1b\u202e") & set(text)
