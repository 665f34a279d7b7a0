"""A guest's first session by the code, his first password, and the way back with a recovery code."""

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from pickup_support import NAME, ORDINARY, Guest, PickupHouse, number_of, secrets_in
from support import run

from certmaild.guests.code_texts import BY_CODE
from certmaild.mailbox.account_rows import read_credential
from certmaild.mailbox.errors import FolderExists, FolderMissing, NotByThisCode
from certmaild.mailbox.guests import read_bequest
from certmaild.mailbox.layout_accounts import Kind
from certmaild.mailbox.uidsets import ALL_UIDS
from certmaild.mailbox.values import FlagOp, Flags, ServiceFolder, SystemFlag
from certmaild.protocols.interfaces import Login, LogInRefused, Service
from certmaild.reports.links import link_in


@pytest.fixture
def house(tmp_path: Path) -> Iterator[PickupHouse]:
    made = PickupHouse(tmp_path)
    yield made
    made.gatekeeper.stop()
    run(made.engine.close())


@pytest.fixture
def guest(house: PickupHouse) -> Guest:
    return house.invite()


def write(house: PickupHouse, guest: Guest, subject: str, folder: int = 0) -> None:
    letter = EmailMessage()
    letter["Subject"] = subject
    letter.set_content("words\n")
    run(house.engine.write(run(house.mail.place(letter, guest.user_id, special_use=folder)).file))


def subjects(house: PickupHouse, login: Login, folder: str = "INBOX") -> list[str]:
    return [str(letter["Subject"]) for letter in house.letters(login, folder)]


def first_password(house: PickupHouse, guest: Guest) -> str:
    login = house.log_in(NAME, guest.code)
    password, _ = secrets_in(house.letters(login)[-1])
    house.gatekeeper.log_out(login)
    return password


@pytest.mark.parametrize("service", list(Service))
def test_the_first_session_finds_a_password_and_a_recovery_code(
    house: PickupHouse, guest: Guest, service: Service
) -> None:
    write(house, guest, "waiting")
    login = house.log_in(ORDINARY, guest.code, service)
    waiting, welcome = house.letters(login)
    assert waiting["Subject"] == "waiting"
    password, recovery = secrets_in(welcome)
    assert guest.code not in welcome.as_string()
    assert link_in(welcome.get_content()) is None
    assert house.kinds(guest) == [Kind.DEVICE, Kind.RECOVERY, Kind.PICKUP]
    assert house.row(guest).opened_s == int(house.clock.seconds())
    assert run(house.engine.read(lambda txn: read_bequest(txn, guest.user_id))) is None
    assert house.audited()[-1] == "guest opened"
    assert house.log_in(NAME, recovery).kind is Kind.RECOVERY
    assert house.log_in(NAME, password).kind is Kind.DEVICE


def test_the_sender_reads_who_opened_and_the_code_no_more(house: PickupHouse, guest: Guest) -> None:
    (shown,) = house.of_alice()
    assert secrets_in(shown) == [guest.code]
    house.log_in(NAME, guest.code)
    (told,) = house.of_alice()
    assert told["Subject"] == f"Opened: the mailbox of {ORDINARY}"
    assert secrets_in(told) == []
    assert BY_CODE in " ".join(told.get_content().split())


def test_the_code_is_gone_from_a_message_that_was_absorbed_long_ago(house: PickupHouse, guest: Guest) -> None:
    """She has not logged in since; nobody needs her keys to take the content away."""
    house.of_alice()
    house.log_in(NAME, guest.code)
    assert house.row(guest).pickup_mid == ""
    (told,) = house.of_alice()
    assert secrets_in(told) == []


def test_it_is_done_once_however_many_log_in(house: PickupHouse, guest: Guest) -> None:
    """Two workers, neither of which has seen the other's commit when it begins."""
    logins = [house.log_in(NAME, guest.code) for _ in range(2)]
    assert len(house.letters(logins[0])) == 1
    again = house.first_session()
    run(again.opened(logins[1]))
    assert len(house.letters(logins[0])) == 1
    assert house.kinds(guest) == [Kind.DEVICE, Kind.RECOVERY, Kind.PICKUP]


def test_a_race_lost_leaves_nothing_behind(house: PickupHouse, guest: Guest) -> None:
    other = house.first_session()
    stale = house.row(guest)
    login = house.log_in(NAME, guest.code)
    assert not run(other._open(login, stale))
    assert len(house.letters(login)) == 1
    assert house.kinds(guest) == [Kind.DEVICE, Kind.RECOVERY, Kind.PICKUP]


def test_a_code_that_was_used_does_not_die_of_age(house: PickupHouse, guest: Guest) -> None:
    login = house.log_in(NAME, guest.code)
    run(house.engine.write(lambda txn: None))
    house.clock.advance(100 * 86_400)
    assert run(house.gatekeeper.is_valid(login))
    assert house.log_in(NAME, guest.code).kind is Kind.PICKUP


def test_the_first_use_of_the_password_kills_the_code_and_ends_its_sessions(house: PickupHouse, guest: Guest) -> None:
    password = first_password(house, guest)
    by_code = house.log_in(NAME, guest.code)
    login = house.log_in(NAME, password)
    assert not run(house.gatekeeper.is_valid(by_code))
    assert run(house.gatekeeper.is_valid(login))
    with pytest.raises(LogInRefused):
        house.log_in(NAME, guest.code)
    assert house.kinds(guest) == [Kind.DEVICE, Kind.RECOVERY]
    row = house.row(guest)
    assert (row.joined_s, row.welcome_mid) == (int(house.clock.seconds()), "")
    (tombstone,) = house.letters(login)
    assert tombstone["Subject"] == "Your own password is in use"
    assert secrets_in(tombstone) == []
    house.log_in(NAME, password)
    assert house.audited()[-3:] == ["device made", "guest opened", "guest joined"]
    assert len(house.letters(login)) == 1


def test_who_has_deleted_the_message_gets_no_tombstone(house: PickupHouse, guest: Guest) -> None:
    login = house.log_in(NAME, guest.code)
    password, _ = secrets_in(house.letters(login)[-1])
    mailbox = house.opened(login)
    inbox = run(mailbox.folders()).by_name("INBOX")
    assert inbox is not None
    run(mailbox.store_flags(inbox.box_id, ALL_UIDS, FlagOp.ADD, Flags(SystemFlag.DELETED)))
    run(mailbox.expunge(inbox.box_id))
    mailbox.close()
    assert house.letters(house.log_in(NAME, password)) == []


def test_mail_of_others_is_out_of_sight_until_then(house: PickupHouse, guest: Guest) -> None:
    write(house, guest, "of the inviter")
    write(house, guest, "of others", ServiceFolder.LATER)
    login = house.log_in(NAME, guest.code)
    assert subjects(house, login)[0] == "of the inviter"
    mailbox = house.opened(login)
    names = [folder.name for folder in run(mailbox.folders())]
    assert "Later" not in names
    assert "Later" not in run(mailbox.folders()).subscriptions
    for name in ("Later", "Later/below"):
        with pytest.raises(FolderExists):
            run(mailbox.create_folder(name))
        with pytest.raises(FolderExists):
            run(mailbox.rename_folder("Archive", name))
        with pytest.raises(FolderMissing):
            run(mailbox.delete_folder(name))
        with pytest.raises(FolderMissing):
            run(mailbox.rename_folder(name, "Mine"))
        with pytest.raises(FolderMissing):
            run(mailbox.set_subscribed(name, True))
    mailbox.close()
    password, _ = secrets_in(house.letters(login)[-1])
    mine = house.log_in(NAME, password)
    # The tombstone arrives as everything does, so it comes behind what was out of sight.
    assert sorted(subjects(house, mine)) == ["Your own password is in use", "of others", "of the inviter"]
    mailbox = house.opened(mine)
    assert "Later" not in [folder.name for folder in run(mailbox.folders())]
    mailbox.close()
    write(house, guest, "filed while he joined", ServiceFolder.LATER)
    house.letters(mine)
    assert "filed while he joined" in subjects(house, house.log_in(NAME, password))


# Recovery.


def test_a_recovery_code_shows_the_devices_and_one_new_password(house: PickupHouse) -> None:
    login = house.log_in("alice", house.alice.recovery_code)
    (shown,) = house.letters(login)
    assert [str(one["Subject"]) for one in house.letters(login, "Devices")] == ["A new password"]
    (password,) = secrets_in(shown)
    mailbox = house.opened(login)
    assert [folder.name for folder in run(mailbox.folders())] == ["INBOX", "Devices"]
    inbox = run(mailbox.folders()).by_name("inbox")
    assert inbox is not None
    for refused in (
        mailbox.create_folder("Mine"),
        mailbox.delete_folder("Devices"),
        mailbox.rename_folder("Devices", "Mine"),
        mailbox.set_subscribed("Devices", False),
        mailbox.append(inbox.box_id, []),
        mailbox.copy(inbox.box_id, ALL_UIDS, inbox.box_id),
        mailbox.move(inbox.box_id, ALL_UIDS, inbox.box_id),
    ):
        with pytest.raises(NotByThisCode):
            run(refused)
    mailbox.close()
    with pytest.raises(LogInRefused):
        house.log_in("alice", house.alice.recovery_code, Service.SUBMISSION)
    house.log_in("alice", house.alice.recovery_code, Service.POP3)
    assert len(house.letters(login)) == 1
    assert [str(one["Subject"]) for one in house.of_alice()] == ["Your recovery code was used"]
    assert house.log_in("alice", password).kind is Kind.DEVICE
    run(house.engine.write(lambda txn: None))
    house.log_in("alice", house.alice.recovery_code)
    assert len([one for one in house.of_alice() if one["Subject"] == "Your recovery code was used"]) == 2
    stored = run(house.engine.read(lambda txn: read_credential(txn, house.alice.user_id, number_of(password))))
    assert stored is not None
