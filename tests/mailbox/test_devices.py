"""The folder Devices: a message that leaves it revokes the device it tells of, but for the last and one's own."""

from pathlib import Path
from typing import Any

import pytest
from mailbox_support import ALL, NOW, House, mail, make_house
from support import run

from certmaild.mailbox import audit_log, ownership
from certmaild.mailbox.account_rows import credentials_of, read_account, write_account, write_credential
from certmaild.mailbox.arrivals import queue_order
from certmaild.mailbox.devices import RETURNED, devices_of
from certmaild.mailbox.errors import ServerKeepsFolder
from certmaild.mailbox.identifiers import CredentialId, Mid
from certmaild.mailbox.layout_accounts import Kind, Option
from certmaild.mailbox.layout_guests import Service, ServiceRow
from certmaild.mailbox.service_marks import marks_of, write_mark
from certmaild.mailbox.values import FlagOp, Flags, ServiceFolder, SystemFlag
from certmaild.mailbox.ways_in import new_code

DELETED = Flags(SystemFlag.DELETED)


class Fleet:
    """A mailbox with three devices and a recovery code, and a message for each device in Devices."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.messages: dict[CredentialId, Mid] = {}
        root = house.user.root
        made = [new_code(house.secrets, house.user_id, root, Kind.DEVICE, created=NOW) for _ in range(3)]
        self.recovery = new_code(house.secrets, house.user_id, root, Kind.RECOVERY, created=NOW)

        def work(txn: Any) -> None:
            for one in (*made, self.recovery):
                write_credential(txn, house.user_id, one.credential_id, one.row)

        run(house.engine.write(work))
        self.ids = [one.credential_id for one in made]
        for one in self.ids:
            self.messages[one] = self.tell(Service.DEVICE, one)
        self.instruction = self.tell(Service.INSTRUCTION, ServiceFolder.DEVICES)

    def tell(self, kind: Service, number: int, folder: int = ServiceFolder.DEVICES) -> Mid:
        (mid,) = self.house.deliver(mail(), special_use=folder)
        row = ServiceRow(kind=kind, number=number, made_s=NOW, digest="digest")
        house = self.house
        run(house.engine.write(lambda txn: write_mark(txn, house.secrets, house.user_id, Mid(mid), row)))
        return Mid(mid)

    def uids(self, *which: CredentialId, box: str = "Devices") -> tuple[range, ...]:
        wanted = {self.messages[one] for one in which}
        found = [entry.uid for entry in self.house.entries(box) if entry.mid in wanted]
        return tuple(range(uid, uid + 1) for uid in found)

    def expunge(self, uids: Any, by: CredentialId | None, box: str = "Devices") -> None:
        mailbox, box_id = self.house.mailbox, self.house.box(box)
        run(mailbox.store_flags(box_id, uids, FlagOp.ADD, DELETED))
        run(mailbox.expunge(box_id, uids, by=by))

    @property
    def devices(self) -> list[CredentialId]:
        return run(self.house.engine.read(lambda txn: [one for one, _ in devices_of(txn, self.house.user_id)]))

    @property
    def marks(self) -> dict[Mid, ServiceRow]:
        house = self.house
        return run(house.engine.read(lambda txn: dict(marks_of(txn, house.secrets, house.user_id))))


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(make_house(tmp_path))


def test_deleting_its_message_revokes_a_device(fleet: Fleet) -> None:
    first, second, third = fleet.ids
    fleet.expunge(fleet.uids(second), by=first)
    assert sorted(fleet.devices) == sorted([first, third])
    assert fleet.messages[second] not in fleet.marks and len(fleet.marks) == 3
    house = fleet.house
    rows = run(house.engine.read(lambda txn: list(audit_log.entries(txn, house.secrets))))
    assert [(row.act, row.by, row.whom) for _, row in rows] == [
        ("device revoked", "joe@example.com", "joe@example.com")
    ]


@pytest.mark.parametrize("how", ["move", "copy and expunge"])
def test_as_does_moving_it_anywhere(fleet: Fleet, how: str) -> None:
    first, second, third = fleet.ids
    house = fleet.house
    uids, devices, trash = fleet.uids(second), house.box("Devices"), house.box("Trash")
    if how == "move":
        run(house.mailbox.move(devices, uids, trash, by=first))
    else:
        run(house.mailbox.copy(devices, uids, trash))
        assert len(fleet.devices) == 3
        fleet.expunge(uids, by=first)
    assert sorted(fleet.devices) == sorted([first, third])
    # What lies in Trash means nothing any more.
    fleet.expunge(ALL, by=first, box="Trash")
    assert sorted(fleet.devices) == sorted([first, third])


def test_expunging_a_copy_elsewhere_revokes_nothing(fleet: Fleet) -> None:
    house = fleet.house
    run(house.mailbox.copy(house.box("Devices"), ALL, house.box("Trash")))
    fleet.expunge(ALL, by=fleet.ids[0], box="Trash")
    assert len(fleet.devices) == 3 and set(fleet.messages.values()) <= set(fleet.marks)


def test_one_s_own_device_stays_and_its_message_is_to_come_back(fleet: Fleet) -> None:
    first, second, _ = fleet.ids
    fleet.expunge(ALL, by=second)
    assert fleet.devices == [second]
    marks = fleet.marks
    assert marks[fleet.messages[second]].digest == marks[fleet.instruction].digest == RETURNED
    assert len(marks) == 2
    assert first not in fleet.devices


def test_the_last_device_stays_whoever_does_it(fleet: Fleet) -> None:
    fleet.expunge(ALL, by=fleet.recovery.credential_id)
    (left,) = fleet.devices
    assert fleet.marks[fleet.messages[left]].digest == RETURNED
    kinds = run(
        fleet.house.engine.read(lambda txn: [row.head.kind for _, row in credentials_of(txn, fleet.house.user_id)])
    )
    assert sorted(kinds) == [Kind.DEVICE, Kind.RECOVERY]


def test_who_may_only_have_fetched_them_revokes_nothing(fleet: Fleet) -> None:
    """POP3 with a recovery code: the program removes from its INBOX, which is Devices, what it has fetched."""
    before = fleet.marks
    fleet.expunge(ALL, by=None)
    assert sorted(fleet.devices) == sorted(fleet.ids)
    assert set(fleet.marks) == set(before)
    assert {mark.digest for mark in fleet.marks.values()} == {RETURNED}


def test_a_message_that_shows_a_password_is_forgotten_when_expunged_not_when_moved(fleet: Fleet) -> None:
    shown = fleet.tell(Service.PASSWORD, fleet.ids[0], folder=0)
    house = fleet.house
    run(house.mailbox.copy(house.box("INBOX"), ALL, house.box("Trash")))
    run(house.mailbox.move(house.box("INBOX"), ALL, house.box("Archive"), by=fleet.ids[0]))
    fleet.expunge(ALL, by=fleet.ids[0], box="Trash")
    assert shown in fleet.marks
    fleet.expunge(ALL, by=fleet.ids[0], box="Archive")
    assert shown not in fleet.marks and len(fleet.devices) == 3


def test_the_folder_is_neither_deleted_nor_renamed_while_the_account_wants_it(fleet: Fleet) -> None:
    house = fleet.house

    def want(txn: Any) -> None:
        account = read_account(txn, house.secrets, house.user_id)
        assert account is not None
        object.__setattr__(account, "options", Option.SERVICE_FOLDERS)
        write_account(txn, house.secrets, house.user_id, account)

    run(house.engine.write(want))
    with pytest.raises(ServerKeepsFolder):
        run(house.mailbox.delete_folder("Devices"))
    with pytest.raises(ServerKeepsFolder):
        run(house.mailbox.rename_folder("Devices", "Old"))
    assert len(fleet.devices) == 3 and len(house.entries("Devices")) == 4


@pytest.mark.parametrize("is_absorbed", [True, False])
def test_a_message_that_was_forfeited_is_read_no_more_and_goes_with_the_order(
    tmp_path: Path, is_absorbed: bool
) -> None:
    house = make_house(tmp_path)
    if not is_absorbed:
        house.mailbox.close()
    (mid,) = house.deliver(mail("secret", "the password"))
    other = house.deliver(mail("other"))
    if is_absorbed:
        (entry, _) = house.entries()
        card = run(house.mailbox.card(entry))
        assert card is not None
        run(house.mailbox.copy(house.box(), ALL, house.box("Archive")))

    def forfeit(txn: Any) -> None:
        ownership.forfeit(txn, house.secrets, house.user_id, Mid(mid), NOW)

    run(house.engine.write(forfeit))
    if is_absorbed:
        assert run(house.mailbox.card(entry)) is None
    run(house.engine.write(lambda txn: queue_order(txn, house.secrets, house.user_id, Mid(mid))))
    if not is_absorbed:
        house.mailbox = house.pool.open(house.user_id, "joe@example.com", house.keys)
    assert [entry.mid for entry in house.entries()] == other
    assert mid not in [entry.mid for entry in house.entries("Archive")]
    assert run(house.mailbox.quota()).messages == (2 if is_absorbed else 1)
