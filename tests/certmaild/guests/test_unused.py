"""Mailboxes that nobody ever opened go, and the sender hears of it once."""

from dataclasses import replace
from pathlib import Path

import pytest
from delivery_support import NOW, House
from msgspec import structs
from support import memory_engine, run
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from certmaild.config_values import Invites, When
from certmaild.guests.unused import LOOK_EACH_S, UnusedGuests, unused_since_s
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.directory import Directory, RecipientFacts
from certmaild.mailbox.guests import write_guest
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.partners.book import PartnerBook

DAY_S = 86_400
CONTENT = b"From: Ann <ann@example.com>\r\nSubject: hi\r\n\r\nHello.\r\n"
BOB, EVA = "bob@far.example", "eva@far.example"


@pytest.fixture
def house(tmp_path: Path) -> House:
    invites = Invites("guest.example.com", When.ALWAYS, unused_days=30)
    house = House(
        memory_engine(), ServerSecrets.create(tmp_path / "secrets"), partners=PartnerBook([]), invites=invites
    )
    house.add("ann")
    house.send(BOB, EVA, sender="ann", content=CONTENT)
    return house


class Job:
    """The job at work, and its clock."""

    def __init__(self, house: House) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.job = UnusedGuests(
            house.engine, house.secrets, house.correspondence.mail, lambda: house.invites, self.clock
        )

    def runs(self, days: float) -> None:
        """Start it after so many days, let it look once, and stop it."""
        self.clock.advance(days * DAY_S)
        run(self.job.start())
        ended = Deferred.fromCoroutine(self.job.stop())
        assert ended.called


def facts(house: House, address: str) -> RecipientFacts | None:
    return run(Directory(house.engine, house.secrets).recipient(canonical(address)))


def change(house: House, address: str, **changes: int) -> None:
    found = facts(house, address)
    assert found is not None
    assert found.guest is not None
    row = structs.replace(found.guest, **changes)
    run(house.engine.write(lambda txn: write_guest(txn, house.secrets, found.user_id, row)))


def test_who_never_came_is_removed_and_the_sender_told_once(house: House) -> None:
    change(house, EVA, opened_s=int(NOW) + 1)
    job = Job(house)
    job.runs(29.99)
    assert facts(house, BOB) is not None
    before = len(house.mail_of("ann"))
    job.runs(0.02)
    assert facts(house, BOB) is None
    assert facts(house, EVA) is not None
    letters = house.mail_of("ann")
    assert len(letters) == before + 1
    assert b"Never opened: the mailbox of bob@far.example" in letters[-1].content
    job.runs(1)
    assert len(house.mail_of("ann")) == before + 1
    acts = [row.act for _, row in run(house.engine.read(lambda txn: list(audit_log.entries(txn, house.secrets))))]
    assert acts.count("guest removed") == 1
    house.seconds = NOW + 31 * DAY_S
    house.send(BOB, sender="ann", content=CONTENT)
    again = facts(house, BOB)
    assert again is not None
    assert again.address.startswith("bob.far.example-")


def test_a_code_made_anew_or_a_later_notice_begins_the_time_anew() -> None:
    invites = Invites("guest.example.com", code_days=14)
    row = GuestRow(ordinary=BOB, inviter="ann@example.com", inviter_id="", invited_s=1000 * DAY_S)
    assert unused_since_s(row, invites) == 1000 * DAY_S
    assert unused_since_s(structs.replace(row, noticed_s=1020 * DAY_S), invites) == 1020 * DAY_S
    assert unused_since_s(structs.replace(row, code_expires_s=1044 * DAY_S), invites) == 1030 * DAY_S
    assert unused_since_s(structs.replace(row, opened_s=1), invites) is None
    assert unused_since_s(structs.replace(row, joined_s=1), invites) is None


def test_without_a_time_nobody_goes(house: House) -> None:
    house.invites = replace(house.invites, unused_days=0)
    job = Job(house)
    job.runs(10_000)
    assert facts(house, BOB) is not None
    assert LOOK_EACH_S == 3600


def test_who_comes_while_he_is_being_removed_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mail = house.correspondence.mail
    replaced = mail.replace

    async def meanwhile(*given: object, **named: object) -> object:
        for name in (BOB, EVA):
            change(house, name, opened_s=int(NOW) + 1)
        return await replaced(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(mail, "replace", meanwhile)
    before = len(house.mail_of("ann"))
    Job(house).runs(31)
    assert facts(house, BOB) is not None
    assert facts(house, EVA) is not None
    assert len(house.mail_of("ann")) == before


def test_one_that_cannot_be_removed_keeps_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mail = house.correspondence.mail
    replaced, calls = mail.replace, []

    async def first_fails(*given: object, **named: object) -> object:
        calls.append(given)
        if len(calls) == 1:
            raise ValueError("a letter that cannot be written")
        return await replaced(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(mail, "replace", first_fails)
    logged: list[str] = []
    monkeypatch.setattr("certmaild.guests.unused.log.failure", lambda text, **_: logged.append(text))
    Job(house).runs(31)
    assert sorted(facts(house, one) is None for one in (BOB, EVA)) == [False, True]
    assert len(logged) == 1
