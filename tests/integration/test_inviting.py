"""Guests by the real daemon with two workers: who becomes one, what he may do, and what others learn of him."""

import smtplib
import statistics
import time
from collections.abc import Iterator
from itertools import count

import pytest
from daemon import Account, Daemon
from person import PICKUP_CODE, Person, text_of

TABLES = """
[invite]
domain = "guest.example.com"
when = "always"
invitations_per_sender = 3
[outbound]
smart_host = "127.0.0.1:1"
"""
numbers = count(1)
ROUNDS = 40


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("inviting"), workers=2, tables=TABLES) as running:
        yield running


@pytest.fixture
def ann(house: Daemon) -> Person:
    return Person(house, house.add_user(f"ann{next(numbers)}"))


def invited(ann: Person, address: str) -> Person:
    """A new guest, under his account name."""
    ann.submit(address, Subject="for you")
    letter = ann.wait_for(lambda one: one["Certmaild-Invite"] == address)
    found = PICKUP_CODE.search(text_of(letter))
    assert found is not None
    (account,) = [line.removeprefix("Account: ") for line in text_of(letter).splitlines() if "Account: " in line]
    return Person(ann.server, Account(account, found[0]))


def outside(house: Daemon) -> smtplib.SMTP:
    """Port 25, as another server comes."""
    client = smtplib.SMTP("localhost", house.ports["smtp"])
    client.starttls(context=house.tls_context())
    client.ehlo("mx.far.example")
    return client


def answers(client: smtplib.SMTP, sender: str, *to: str) -> set[tuple[int, bytes]]:
    client.mail(sender)
    return {client.rcpt(one) for one in to}


def seconds(client: smtplib.SMTP, sender: str, *to: str) -> list[float]:
    """The median time of RCPT for each, all asked in turn."""
    taken: dict[str, list[float]] = {one: [] for one in to}
    for _ in range(ROUNDS):
        client.rset()
        client.mail(sender)
        for one in to:
            begun = time.perf_counter()
            client.rcpt(one)
            taken[one].append(time.perf_counter() - begun)
    return [statistics.median(each) for each in taken.values()]


def test_a_guest_reads_and_replies(ann: Person) -> None:
    guest = invited(ann, "bob@far.example")
    assert guest.address == "bob.far.example@guest.example.com"
    letter = guest.wait_for(lambda one: one["Subject"] == "for you")
    assert "Hello." in text_of(letter)
    ordinary = Person(ann.server, Account("Bob+x@FAR.example", guest.account.password))
    ordinary.submit(ann.address, sender="bob@far.example", Subject="thanks")
    ann.wait_for(lambda one: one["Subject"] == "thanks")


def test_a_guest_reaches_no_stranger_and_learns_of_no_other_guest(ann: Person) -> None:
    guest = invited(ann, f"g{next(numbers)}@far.example")
    other = invited(ann, f"h{next(numbers)}@far.example")
    strangers = ["stranger@elsewhere.example", "nobody@far.example", "nobody@guest.example.com"]
    others = [other.address, other.address.partition(".far")[0] + "@far.example"]
    with guest.submission() as client:
        ((code, words),) = answers(client, guest.address, *strangers, *others)
        assert (code, words[:5]) == (550, b"5.7.1")
        known, unknown = seconds(client, guest.address, other.address, "nobody.far.example@guest.example.com")
        assert abs(known - unknown) < 0.5 * max(known, unknown) + 0.0005
        assert client.rcpt(ann.address)[0] == 250


def test_port_25_does_not_tell_who_is_a_guest(house: Daemon, ann: Person) -> None:
    ordinary = f"p{next(numbers)}@far.example"
    guest = invited(ann, ordinary)
    client = outside(house)
    assert answers(client, "eve@evil.example", ordinary, "nobody@far.example") == {(550, b"5.7.1 Relaying denied")}
    ((code, words),) = answers(client, "", guest.address, "nobody@guest.example.com", guest.address.upper())
    assert (code, words[:5]) == (550, b"5.7.1")
    assert client.rcpt("postmaster@guest.example.com")[0] == 250
    for known, unknown in ((ordinary, "nobody@far.example"), (guest.address, "nobody.far.example@guest.example.com")):
        one, two = seconds(client, "eve@evil.example", known, unknown)
        assert abs(one - two) < 0.5 * max(one, two) + 0.0005
    client.quit()


def test_nobody_writes_under_anothers_name(ann: Person) -> None:
    ordinary = f"f{next(numbers)}@far.example"
    guest = invited(ann, ordinary)
    for sender, forged in ((guest, ann.address), (ann, ordinary), (ann, guest.address)):
        with pytest.raises(smtplib.SMTPException) as caught:
            sender.submit(ann.address, sender=forged)
        assert "5.7.1" in str(caught.value)


def test_invitations_of_one_sender_are_counted_over_all_workers(ann: Person) -> None:
    for _ in range(3):
        ann.submit(f"c{next(numbers)}@far.example")
    with pytest.raises(smtplib.SMTPDataError) as caught:
        ann.submit(f"c{next(numbers)}@far.example")
    assert caught.value.smtp_code == 450
    assert b"4.7.1 You may invite 3 new people in 24 hours, and 0 are left" in bytes(caught.value.smtp_error)
