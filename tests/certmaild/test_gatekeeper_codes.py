"""Log-in with a guest's pickup code: what it costs, whom it delays, and that failing tells nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from gatekeeper_support import House, Work
from support import run

from certmaild.keystore.codes import new_pickup_code
from certmaild.mailbox import account_rows, ways_in
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout_accounts import PICKUP_ID, Kind, Role
from certmaild.protocols.interfaces import LogInRefused, LogInUnavailable, Service
from certmaild.throttle import PAIR_RATE, USER_RATE

GUEST, ALIAS = canonical("bob.gmail.com@example.com"), canonical("bob@elsewhere.example")
DAY_S = 86_400


@dataclass
class Guest:
    user_id: UserId
    code: str


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.gatekeeper.stop()
    run(made.engine.close())


@pytest.fixture
def guest(house: House) -> Guest:
    """An account whose only way in is a pickup code of 14 days."""
    account = run(house.accounts.create(GUEST, role=Role.GUEST))
    run(house.accounts.add_alias(ALIAS, GUEST))
    assert account.device_password is not None
    now = int(house.clock.seconds())
    with run(house.accounts.unlock(GUEST, account.device_password.encode())) as unlocked:
        made = ways_in.new_pickup(house.secrets, account.user_id, unlocked.root, created=now, expires=now + 14 * DAY_S)
        taken = list(unlocked.credentials)

    def work(txn):  # type: ignore[no-untyped-def]
        for one in taken:
            account_rows.delete_credential(txn, account.user_id, one)
        account_rows.write_credential(txn, account.user_id, PICKUP_ID, made.row)

    run(house.engine.write(work))
    return Guest(account.user_id, made.code.text)


@pytest.mark.parametrize("service", list(Service))
@pytest.mark.parametrize("name", [GUEST.lookup, ALIAS.lookup])
def test_a_pickup_code_opens_by_either_address_however_it_is_typed(
    house: House, guest: Guest, name: str, service: Service
) -> None:
    work = Work()
    with patch("certmaild.keystore.credentials.password_kdf", work):
        login = house.log_in(name, guest.code.lower().replace("-", " ").replace("0", "o"), service)
    assert (login.user_id, login.kind, login.address) == (guest.user_id, Kind.PICKUP, GUEST.lookup)
    assert work.rounds == ways_in.PICKUP_ROUNDS
    assert run(house.gatekeeper.is_valid(login))


def test_a_code_that_nobody_has_used_dies(house: House, guest: Guest) -> None:
    house.clock.advance(14 * DAY_S)
    with pytest.raises(LogInRefused):
        house.log_in(GUEST.lookup, guest.code)


def test_a_code_that_was_used_lasts(house: House, guest: Guest) -> None:
    login = house.log_in(GUEST.lookup, guest.code)
    run(house.engine.write(lambda txn: None))
    house.clock.advance(14 * DAY_S)
    assert run(house.gatekeeper.is_valid(login))
    assert house.log_in(GUEST.lookup, guest.code).user_id == guest.user_id


def test_a_code_opens_nobody_elses_mailbox(house: House, guest: Guest) -> None:
    for name in ("alice", "bob"):
        with pytest.raises(LogInRefused):
            house.log_in(name, guest.code)


def test_a_wrong_code_takes_as_long_whoever_it_is_tried_at(house: House, guest: Guest) -> None:
    """Bob has a human password, alice a device password; who has no account is not told from them.

    It is compared as a code, then as a human password, which takes the rounds of the hardest that is stored.
    """
    taken = set()
    for n, name in enumerate([GUEST.lookup, ALIAS.lookup, "alice", "bob", "nobody", "x@guest.example", "@@"]):
        work, jobs = Work(), house.slow.jobs
        with patch("certmaild.keystore.credentials.password_kdf", work), pytest.raises(LogInRefused):
            house.log_in(name, new_pickup_code().text, peer=f"198.51.100.{n}")
        taken.add((work.rounds, house.slow.jobs - jobs))
    assert taken == {(2 * ways_in.PICKUP_ROUNDS, 2)}


def test_a_right_code_does_not_wait_for_what_others_guess(house: House, guest: Guest) -> None:
    for n in range(2 * USER_RATE.burst):
        house.begin(GUEST.lookup, new_pickup_code().text, peer=f"198.51.100.{n}").addErrback(lambda _: None)
    begun = house.clock.seconds()
    assert house.log_in(GUEST.lookup, guest.code).user_id == guest.user_id
    assert house.clock.seconds() == begun


def test_who_guesses_waits_before_his_codes_are_looked_at(house: House, guest: Guest) -> None:
    for _ in range(6):
        house.begin(GUEST.lookup, new_pickup_code().text).addErrback(lambda _: None)
    jobs = house.slow.jobs
    late = house.begin(GUEST.lookup, guest.code)
    assert (house.slow.jobs, late.called) == (jobs, False)
    house.clock.advance(2)
    assert run(late).user_id == guest.user_id


def test_a_wrong_code_counts_whatever_becomes_of_it_as_a_password(
    house: House, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who fills the queue that comes behind could try codes without end."""

    async def full(*_: object) -> None:
        raise LogInUnavailable("full")

    monkeypatch.setattr(house.gatekeeper, "_by_password", full)
    for _ in range(PAIR_RATE.burst):
        with pytest.raises(LogInUnavailable):
            house.log_in(GUEST.lookup, new_pickup_code().text)
    late = house.begin(GUEST.lookup, guest.code)
    assert not late.called
    house.clock.advance(2)
    assert run(late).user_id == guest.user_id
