"""From an unknown address to an answer, a second device and its end: the whole way of a guest."""

import imaplib
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from enrol import (
    ENDS_WITHIN_S,
    URI,
    Idle,
    await_pickup,
    first_log_in,
    invite,
    is_let_in,
    join,
    own_password,
    password_of,
    pickup_of,
    time_to_end,
)
from guest_support import GuestHouse, guest_house, running_world
from guest_world import GUESTS, GuestWorld
from person import DEVICE_PASSWORD, PICKUP_CODE, Person, reply_to, text_of


@pytest.fixture(scope="module")
def world() -> Iterator[GuestWorld]:
    with running_world() as running:
        yield running


@pytest.fixture(scope="module")
def house(world: GuestWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestHouse]:
    with guest_house(world, tmp_path_factory.mktemp("house")) as running:
        yield running


@pytest.fixture(scope="module")
def workers(world: GuestWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestHouse]:
    """The same with two processes that serve."""
    with guest_house(world, tmp_path_factory.mktemp("workers"), workers=2) as running:
        yield running


def test_from_an_unknown_address_to_an_answer(house: GuestHouse) -> None:
    ordinary = house.stranger("Bob.Smith")
    pickup = invite(house.member, ordinary)
    assert PICKUP_CODE.fullmatch(pickup.code)
    assert pickup.account == f"{ordinary.lower().replace('@', '.')}@{GUESTS}"
    (notice,) = house.post.wait_for(ordinary)
    assert pickup.account in text_of(notice) and house.member.address in text_of(notice)
    assert pickup.code not in notice.as_string() and not URI.search(text_of(notice))
    assert notice.get_content_type() == "text/plain" and notice["Auto-Submitted"] == "auto-generated"

    guest = first_log_in(house.member, pickup)
    letter = guest.wait_for(lambda one: one["Subject"] == "Your results")
    assert text_of(letter) == "They are normal.\n"
    assert "Your results" in [one["Subject"] for one in guest.messages_by_pop3()]
    own = guest.with_password(own_password(guest))
    assert "Your results" in [one["Subject"] for one in own.messages()]
    assert not is_let_in(guest)

    own.submit(house.member.address, body="Thank you.\n", **reply_to(letter))
    answer = house.member.wait_for(lambda one: one["Subject"] == "Re: Your results")
    assert text_of(answer) == "Thank you.\n" and pickup.account in str(answer["From"])
    # What showed the code shows it no longer.
    house.member.wait_for(lambda one: one["Subject"] == f"Opened: the mailbox of {ordinary}")
    assert not any(pickup.code in text_of(one) for one in house.member.messages())


def test_a_guest_answers_with_the_code_alone(house: GuestHouse) -> None:
    pickup = house.invited()
    guest = first_log_in(house.member, pickup)
    letter = guest.wait_for(lambda one: one["Subject"] == "Your results")
    guest.submit(house.member.address, body="By the code.\n", **reply_to(letter))
    house.member.wait_for(lambda one: text_of(one) == "By the code.\n")


def test_odd_addresses_get_names_that_log_in(house: GuestHouse) -> None:
    """Names that every mail program can send, without quotes and what wizards stumble over."""
    locals_ = ["o'brien", "Anna/Sales", "anna+news", '"John Smith"', "x" * 60, "{1}%&"]
    sender, seen = house.new_member(), set()
    for local in locals_:
        ordinary = f"{local}@{house.stranger('odd').replace('@', '.')}"
        sender.submit(ordinary, Subject=f"To {local}")
        letter = sender.wait_for(lambda one: (found := pickup_of(one)) and found.account not in seen)
        pickup = pickup_of(letter)
        assert pickup is not None
        seen.add(pickup.account)
        name, _, domain = pickup.account.partition("@")
        assert domain == GUESTS and len(name) <= 64 and re.fullmatch(r"[a-z0-9._-]+", name), pickup.account
        first_log_in(sender, pickup).wait_for(lambda one, local=local: one["Subject"] == f"To {local}")


def test_a_second_device_by_mail_is_gone_with_its_message(house: GuestHouse) -> None:
    own = join(house.member, house.invited())
    domain = house.member.address.rpartition("@")[2]
    own.submit(f"devices@{domain}", Subject="add phone")
    passwords = (own.account.password,)
    answer = own.wait_for(
        lambda one: (found := DEVICE_PASSWORD.search(text_of(one))) and found.group() not in passwords
    )
    phone = own.with_password(password_of(answer))
    idle = Idle(phone)
    assert time_to_end(own, [idle]) < ENDS_WITHIN_S
    assert not is_let_in(phone)
    assert is_let_in(own)


def test_several_guests_by_one_message(house: GuestHouse) -> None:
    strangers = [house.stranger() for _ in range(3)]
    house.member.submit(*strangers, Subject="To all", body="Read me.\n")
    pickups = [await_pickup(house.member, one) for one in strangers]
    assert len({one.code for one in pickups}) == len({one.account for one in pickups}) == 3
    guest = first_log_in(house.member, pickups[0])
    letter = guest.wait_for(lambda one: one["Subject"] == "To all")
    # One guest's code says nothing about the others.
    assert not any(one.code in letter.as_string() for one in pickups)


def test_two_senders_make_one_guest_and_one_code(workers: GuestHouse) -> None:
    other, ordinary = workers.new_member(), workers.stranger()
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(one.submit, ordinary, Subject=one.address) for one in (workers.member, other)]:
            done.result()

    def told(one: Person) -> list[str]:
        one.wait_for(lambda message: ordinary in str(message["Subject"]) + text_of(message))
        return [found.code for message in one.messages() if (found := pickup_of(message))]

    assert len(told(workers.member) + told(other)) == 1
    assert len(workers.post.wait_for(ordinary)) == 1
    assert workers.daemon.command("guest", "list").count(ordinary) == 1


def test_the_codes_sessions_end_in_every_process_when_he_joins(workers: GuestHouse) -> None:
    pickup = workers.invited()
    guest = first_log_in(workers.member, pickup)
    password = own_password(guest)
    # So many that each of two processes has some.
    idles = [Idle(guest) for _ in range(8)]
    own = guest.with_password(password)
    with ThreadPoolExecutor(len(idles)) as pool:
        ends = [pool.submit(one.await_end) for one in idles]
        assert any(one["Subject"] == "Your results" for one in own.messages())
        joined = time.monotonic()
        assert max(end.result() for end in ends) - joined < ENDS_WITHIN_S
    with pytest.raises(imaplib.IMAP4.error):
        guest.messages()
    assert not is_let_in(guest)
