"""Wrong codes are counted without a commit each, and told to the sender who has the right one."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from pickup_support import NAME, ORDINARY, Guest, PickupHouse
from support import run

from certmaild.guests.guesses import QUIET_S, WARN_AT, WRITE_EACH_S
from certmaild.keystore.codes import new_pickup_code
from certmaild.protocols.interfaces import LogInRefused


@pytest.fixture
def house(tmp_path: Path) -> Iterator[PickupHouse]:
    made = PickupHouse(tmp_path)
    made.codes.guesses.start()
    yield made
    made.codes.guesses.stop()
    made.gatekeeper.stop()
    run(made.engine.close())


@pytest.fixture
def guest(house: PickupHouse) -> Guest:
    return house.invite()


def guess(house: PickupHouse, times: int, network: int = 0) -> None:
    """From many addresses, so that none waits."""
    for n in range(times):
        with pytest.raises(LogInRefused):
            house.log_in(NAME, new_pickup_code().text, peer=f"198.51.{network}.{n}")
        passes(house, 11)


def passes(house: PickupHouse, seconds: float) -> None:
    """And what began then is done."""
    house.clock.advance(seconds)
    for _ in range(2):
        run(house.engine.write(lambda txn: None))


def warnings(house: PickupHouse) -> list[str]:
    run(house.engine.write(lambda txn: None))
    return [str(letter["Subject"]) for letter in house.of_alice() if "Wrong" in str(letter["Subject"])]


def test_the_sender_is_warned_at_ten_and_once_a_day(house: PickupHouse, guest: Guest) -> None:
    guess(house, WARN_AT - 1)
    passes(house, WRITE_EACH_S)
    assert warnings(house) == []
    assert house.row(guest).wrong_codes == WARN_AT - 1
    guess(house, 1)
    passes(house, WRITE_EACH_S)
    assert warnings(house) == [f"Wrong codes for {ORDINARY}"]
    assert house.row(guest).wrong_codes == 0
    guess(house, 2 * WARN_AT, network=1)
    passes(house, WRITE_EACH_S)
    assert len(warnings(house)) == 1
    passes(house, QUIET_S)
    guess(house, 1, network=2)
    passes(house, WRITE_EACH_S)
    assert len(warnings(house)) == 2
    assert house.log_in(NAME, guest.code).user_id == guest.user_id


def test_guesses_do_not_make_us_commit_at_will(house: PickupHouse, guest: Guest) -> None:
    guesses = house.codes.guesses
    passes(house, WRITE_EACH_S)
    with patch.object(house.engine, "write", wraps=house.engine.write) as write:
        for _ in range(1000):
            guesses.note(guest.user_id)
        assert write.call_count == 1
    run(house.engine.write(lambda txn: None))
    passes(house, WRITE_EACH_S)
    assert len(warnings(house)) == 1
    assert house.row(guest).wrong_codes == 1000 - WARN_AT


def test_who_has_no_code_is_not_counted(house: PickupHouse) -> None:
    with pytest.raises(LogInRefused):
        house.log_in("alice", new_pickup_code().text)
    assert not house.codes.guesses._counts
