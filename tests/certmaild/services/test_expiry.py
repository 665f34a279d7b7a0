"""What time takes: passwords shown for too long, devices that nobody uses."""

from dataclasses import replace
from pathlib import Path

import pytest
from mailbox_support import NOW
from steward_support import DAY_S, Home, make_home
from support import run
from twisted.internet.defer import Deferred

from certmaild.mailbox import audit_log
from certmaild.mailbox.account_rows import credentials_of
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Kind, State


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def look(home: Home) -> None:
    """Let the job begin, look once and end."""
    job = home.expiry()
    run(job.start())
    ended = Deferred.fromCoroutine(job.stop())
    assert ended.called


def test_a_password_is_shown_for_so_long_and_no_longer(home: Home) -> None:
    desk, phone = home.add("desk"), home.add("phone")
    home.show_password(phone, "K7QM-2D9X")
    home.clock.advance(home.settings.shown - 1)
    look(home)
    assert list(home.texts("INBOX")) == ["shown"]
    home.clock.advance(1)
    look(home)
    found = home.texts("INBOX")
    assert list(found) == ["The password that stood here is gone"] and "K7QM" not in str(found)
    assert not home.marks and sorted(home.devices) == sorted([desk, phone])
    look(home)
    assert len(home.house.entries("INBOX")) == 1 and not home.house.rows([Table.QDUE])


def test_who_is_disabled_meanwhile_loses_the_message_without_a_word(home: Home) -> None:
    home.show_password(home.add("phone"), "K7QM-2D9X")
    home.change_account(state=State.DISABLED)
    home.clock.advance(home.settings.shown)
    look(home)
    assert home.texts("INBOX") == {} and not home.marks


def test_what_was_shown_while_nobody_was_there_is_never_seen(home: Home) -> None:
    home.house.mailbox.close()
    home.show_password(home.add("phone"), "K7QM-2D9X")
    home.clock.advance(home.settings.shown)
    look(home)
    home.house.mailbox = home.house.pool.open(home.house.user_id, "joe@example.com", home.house.keys)
    assert list(home.texts("INBOX")) == ["The password that stood here is gone"]


def test_a_device_that_nobody_uses_is_revoked_after_so_many_days(home: Home) -> None:
    home.settings = replace(home.settings, unused_days=30)
    desk, phone, recovery = home.add("desk"), home.add("phone"), home.add("", Kind.RECOVERY)
    home.log_in(phone)
    home.clock.advance(30 * DAY_S)
    home.log_in(desk)
    look(home)
    assert sorted(home.devices) == sorted([desk, phone])
    home.clock.advance(DAY_S)
    look(home)
    assert home.devices == [desk]
    (subject,) = home.texts("INBOX")
    assert subject.startswith("A device that was not used is revoked: ")
    house = home.house
    rows = run(house.engine.read(lambda txn: [row for _, row in audit_log.entries(txn, house.secrets)]))
    assert [(row.act, row.by, row.whom) for row in rows] == [("device revoked", "server", "joe@example.com")]
    ways = run(house.engine.read(lambda txn: [one for one, _ in credentials_of(txn, house.user_id)]))
    assert recovery in ways


def test_the_last_way_in_stays_however_long_nobody_comes(home: Home) -> None:
    older, newer = home.add("older", made_s=NOW - DAY_S), home.add("newer")
    home.log_in(older)
    home.clock.advance(DAY_S)
    home.log_in(newer)
    home.clock.advance(10_000 * DAY_S)
    look(home)
    assert home.devices == [newer]
    look(home)
    assert home.devices == [newer]


def test_without_a_number_of_days_nothing_is_revoked(home: Home) -> None:
    home.settings = replace(home.settings, unused_days=0)
    home.add("desk"), home.add("phone")
    home.clock.advance(10_000 * DAY_S)
    look(home)
    assert len(home.devices) == 2
