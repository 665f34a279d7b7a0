"""A new code by the inviter's own session, new keys where nobody can renew, and codes that expire."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gatekeeper_support import ALICE, BOB, House
from pickup_support import NAME, ORDINARY, Guest, PickupHouse, secrets_in
from support import run

from certmaild.guests.pickup import tag_of, user_of
from certmaild.mailbox import account_rows
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.guests import note_heard, read_bequest
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Kind, Role, State
from certmaild.mailbox.layout_queue import Due
from certmaild.mailbox.queue import Queue
from certmaild.protocols.interfaces import Login, LogInRefused
from certmaild.reports.links import link_in

DAY_S = 86_400


@pytest.fixture
def house(tmp_path: Path) -> Iterator[PickupHouse]:
    made = PickupHouse(tmp_path)
    yield made
    made.gatekeeper.stop()
    run(made.engine.close())


@pytest.fixture
def guest(house: PickupHouse) -> Guest:
    return house.invite()


def asked(house: PickupHouse, login: Login, guest: Guest, *lines: str, tag: bool = True) -> str:
    """The subject of the answer."""
    answer = run(
        house.codes.renewal.answer(login, tag_of(guest.user_id) if tag else None, None, lines or ("new code",))
    )
    assert answer is not None
    assert link_in(answer.get_content()) is None
    return " ".join(answer.get_content().split())


def alice(house: House) -> Login:
    return house.log_in("alice", house.device_password)


def bob(house: House) -> Login:
    return house.log_in("bob", "correct horse")


def heard_from(house: PickupHouse, guest: Guest, address: str) -> None:
    run(house.engine.write(lambda txn: note_heard(txn, house.secrets, guest.user_id, canonical(address))))


def test_tags() -> None:
    user_id = bytes(range(16))
    assert user_of(tag_of(user_id)) == user_id  # type: ignore[arg-type]
    assert len(tag_of(user_id)) == 26  # type: ignore[arg-type]
    for other in ("", "a", "é" * 26, "a" * 8, "1" * 26):
        assert user_of(other) is None


@pytest.mark.parametrize("by_tag", [True, False])
def test_the_inviter_renews_and_the_old_code_is_void(house: PickupHouse, guest: Guest, by_tag: bool) -> None:
    house.clock.advance(3 * DAY_S)
    lines = ("new code",) if by_tag else (f"Code for {ORDINARY}", "New code, please")
    assert "Done" in asked(house, alice(house), guest, *lines, tag=by_tag)
    (letter,) = house.of_alice()
    (code,) = secrets_in(letter)
    assert code != guest.code
    assert letter["Certmaild-Invite"] == ORDINARY
    assert letter["Reply-To"] == f"invite+{tag_of(guest.user_id)}@example.com"
    lines = letter.get_content().splitlines()
    assert f"Code: {code}" in lines
    assert f"Account: {NAME}" in lines
    with pytest.raises(LogInRefused):
        house.log_in(NAME, guest.code)
    assert house.log_in(NAME, code).user_id == guest.user_id
    assert "code renewed" in house.audited()


def test_by_the_message_that_is_answered(house: PickupHouse, guest: Guest) -> None:
    message_id = f"<invite.{tag_of(guest.user_id)}.0123456789abcdef@example.com>"
    answer = run(house.codes.renewal.answer(alice(house), None, message_id, ["Re:", "new code"]))
    assert answer is not None
    assert "Done" in answer.get_content()


def test_what_asks_for_no_code_is_not_answered(house: PickupHouse, guest: Guest) -> None:
    assert run(house.codes.renewal.answer(alice(house), tag_of(guest.user_id), None, ["hello"])) is None


def test_a_code_renewed_after_it_expired_opens(house: PickupHouse, guest: Guest) -> None:
    house.clock.advance(14 * DAY_S)
    run(house.codes.expiry.start())
    (told,) = house.of_alice()
    assert told["Subject"] == f"Not opened yet: the mailbox of {ORDINARY}"
    assert told["Reply-To"] == f"invite+{tag_of(guest.user_id)}@example.com"
    assert secrets_in(told) == []
    assert house.kinds(guest) == []
    assert (house.row(guest).code_expires_s, house.row(guest).pickup_mid) == (0, "")
    assert house.audited()[-1] == "code expired"
    assert run(house.engine.read(lambda txn: list(Queue.due(txn, Due.CODE, 2**40)))) == []
    assert "Done" in asked(house, alice(house), guest)
    code = [secrets_in(letter) for letter in house.of_alice()][-1][0]
    assert house.log_in(NAME, code).kind is Kind.PICKUP
    run(house.codes.expiry.stop())


def test_a_code_that_was_used_or_renewed_does_not_expire(house: PickupHouse, guest: Guest) -> None:
    house.clock.advance(10 * DAY_S)
    asked(house, alice(house), guest)
    house.clock.advance(4 * DAY_S)
    run(house.codes.expiry.start())
    assert house.kinds(guest) == [Kind.PICKUP]
    (letter,) = house.of_alice()
    house.log_in(NAME, secrets_in(letter)[0])
    house.clock.advance(20 * DAY_S)
    run(house.engine.write(lambda txn: None))
    assert Kind.PICKUP in house.kinds(guest)
    assert run(house.engine.read(lambda txn: list(Queue.due(txn, Due.CODE, 2**40)))) == []
    run(house.codes.expiry.stop())


def test_nothing_is_renewed_for_who_has_opened_or_joined(house: PickupHouse, guest: Guest) -> None:
    login = house.log_in(NAME, guest.code)
    assert "was opened with the code" in asked(house, alice(house), guest)
    password = secrets_in(house.letters(login)[-1])[0]
    house.log_in(NAME, password)
    assert "has a password of his own" in asked(house, alice(house), guest)
    assert house.kinds(guest) == [Kind.DEVICE, Kind.RECOVERY]


def test_others_are_not_told_who_is_a_guest(house: PickupHouse, guest: Guest) -> None:
    """Bob has not written to him; zoe is another guest."""
    nobody = Guest(house.bob.user_id, "")
    for login in (bob(house), house.log_in("zoe", _zoe(house))):
        assert asked(house, login, guest) == asked(house, login, nobody)
        assert asked(house, login, guest, f"new code {ORDINARY}", tag=False) == asked(house, login, nobody)
    assert house.log_in(NAME, guest.code).user_id == guest.user_id


def _zoe(house: PickupHouse) -> str:
    made = run(house.accounts.create(canonical("zoe@example.com"), role=Role.GUEST))
    assert made.device_password is not None
    return made.device_password


def test_another_who_wrote_hears_who_has_it_only_within_the_domain(house: PickupHouse, guest: Guest) -> None:
    other = run(house.accounts.create(canonical("eve@other.example")))
    assert other.device_password is not None
    for address in ("bob@example.com", "eve@other.example"):
        heard_from(house, guest, address)
    assert "alice@example.com" in asked(house, bob(house), guest)
    answer = asked(house, house.log_in("eve@other.example", other.device_password), guest)
    assert "given out to somebody else" in answer
    assert "alice" not in answer


def test_who_is_disabled_may_come_back(house: PickupHouse, guest: Guest) -> None:
    heard_from(house, guest, "bob@example.com")
    run(house.accounts.set_state(ALICE, State.DISABLED))
    for words in ("new code", "new mailbox"):
        assert "alice@example.com" in asked(house, bob(house), guest, words)
    assert house.log_in(NAME, guest.code).user_id == guest.user_id


@pytest.mark.parametrize("gone", ["started over", "removed"])
def test_new_keys_where_nobody_can_renew(house: PickupHouse, guest: Guest, gone: str) -> None:
    heard_from(house, guest, "bob@example.com")
    login = bob(house)
    if gone == "started over":
        house.alice = run(house.accounts.start_over(ALICE))
    else:
        run(house.accounts.remove(ALICE))
    # What waits is lost by it: that is done on express words alone.
    answer = asked(house, login, guest)
    assert "Nothing was done" in answer and "reply with the words: new mailbox" in answer
    assert "valid until" in answer and house.row(guest).generation == 1
    answer = asked(house, login, guest, "New mailbox", f"for {ORDINARY}")
    assert "send your message" in answer
    letters = house.letters(login)
    (code,) = secrets_in(letters[-1])
    mine = house.log_in(ORDINARY, code)
    assert mine.user_id != guest.user_id
    made = Guest(mine.user_id, code)
    row = house.row(made)
    assert (row.generation, row.inviter, row.ordinary) == (2, "bob@example.com", ORDINARY)
    with pytest.raises(LogInRefused):
        house.log_in(NAME, guest.code)
    for table in (Table.GUEST, Table.CRED, Table.ACCT, Table.BEQUEST):
        assert run(house.engine.read(lambda txn, table=table: txn.get(table, guest.user_id))) is None  # type: ignore[misc]
    assert run(house.engine.read(lambda txn: list(account_rows.credentials_of(txn, guest.user_id)))) == []
    if gone == "started over":
        (told,) = house.of_alice()
        assert told["Subject"] == f"Send again: your message to {ORDINARY}"
    assert "guest made anew" in house.audited()


def test_the_heir_of_new_keys_renews_as_the_first_did(house: PickupHouse, guest: Guest) -> None:
    heard_from(house, guest, "bob@example.com")
    run(house.accounts.remove(ALICE))
    login = bob(house)
    asked(house, login, guest, "new mailbox")
    again = asked(house, login, guest, f"new code {ORDINARY}", tag=False)
    assert "Done" in again
    codes = [code for letter in house.letters(login) for code in secrets_in(letter)]
    assert len(codes) == 1
    made = Guest(house.log_in(NAME, codes[0]).user_id, codes[0])
    assert house.row(made).generation == 2
    assert run(house.engine.read(lambda txn: read_bequest(txn, made.user_id))) is None
    assert BOB.lookup == house.row(made).inviter
