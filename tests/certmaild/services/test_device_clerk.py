"""What devices@ does: names, limits, and what it takes to revoke the last device."""

from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from services_support import password_in, text_of
from steward_support import Home, make_home
from support import run

from certmaild.config import default
from certmaild.config_values import Devices
from certmaild.keystore.codes import parse_device_password
from certmaild.mailbox.identifiers import CredentialId, Mid
from certmaild.mailbox.layout_accounts import Kind
from certmaild.mailbox.layout_guests import Service
from certmaild.protocols.interfaces import Login
from certmaild.protocols.smtp.errors import Refusal
from certmaild.services.devices import DeviceClerk
from certmaild.services.interfaces import Answer, Request


class Desk:
    """The clerk, asked by whoever logged in with a device."""

    def __init__(self, folder: Path) -> None:
        self.home: Home = make_home(folder)
        house = self.home.house
        self.config = replace(default(str(folder)), devices=Devices(most=3))
        self.own = self.home.add("desk")
        self.clerk = DeviceClerk(
            house.engine,
            house.secrets,
            self.home.correspondence.mail,
            lambda: self.config,
            _at_once,
            self.home.clock.seconds,
        )

    def prepare(self, line: str, by: CredentialId | None = None) -> EmailMessage | Answer:
        house = self.home.house
        login = Login(house.user_id, "joe@example.com", by or self.own, False, house.keys, Kind.DEVICE)
        request = Request(login, "devices", "example.com", None, line, "", None, None)
        answer = run(self.clerk.answer(request))
        assert answer is not None
        return answer

    def carry_out(self, answer: Answer) -> None:
        run(self.home.house.engine.write(lambda txn: answer.also(txn, Mid(bytes(16)))))

    def ask(self, line: str) -> EmailMessage:
        answer = self.prepare(line)
        if isinstance(answer, Answer):
            self.carry_out(answer)
            return answer.letter
        return answer

    def says(self, line: str) -> str:
        return " ".join(text_of(self.ask(line)).split())


async def _at_once(work: Any) -> Any:
    return work()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_new_device_has_the_password_that_is_shown(desk: Desk) -> None:
    letter = desk.ask("add phone")
    code = parse_device_password(password_in(letter).encode())
    assert code is not None and code.credential_id in desk.home.devices
    (mark,) = desk.home.marks.values()
    assert (mark.kind, mark.number) == (Service.PASSWORD, code.credential_id)
    assert list(desk.home.texts("INBOX")) == ["New device: phone"]


def test_as_many_devices_as_there_may_be_and_one_more(desk: Desk) -> None:
    desk.ask("add phone")
    desk.ask("add tablet")
    assert len(desk.home.devices) == 3
    assert desk.says("add watch").startswith("Nothing was done: your mailbox has 3 devices")
    assert len(desk.home.devices) == 3
    desk.ask("revoke phone")
    desk.ask("add watch")
    assert len(desk.home.devices) == 3


def test_two_at_once_do_not_pass_the_limit_nor_does_who_was_revoked_meanwhile(desk: Desk) -> None:
    desk.ask("add phone")
    first, second = desk.prepare("add tablet"), desk.prepare("add watch")
    assert isinstance(first, Answer) and isinstance(second, Answer)
    desk.carry_out(first)
    with pytest.raises(Refusal, match="451"):
        desk.carry_out(second)
    assert len(desk.home.devices) == 3
    desk.ask("revoke phone")
    late = desk.prepare("add watch")
    assert isinstance(late, Answer)
    desk.ask("revoke desk")
    with pytest.raises(Refusal, match="451"):
        desk.carry_out(late)


def test_names_are_taken_once_and_changed(desk: Desk) -> None:
    desk.ask("add phone")
    assert "called PHONE already" in desk.says("add PHONE")
    assert desk.says("rename phone to old phone") == "phone is called old phone from now on."
    assert "no device called phone" in desk.says("revoke phone")
    assert "called desk already" in desk.says("rename old phone to desk")
    assert desk.says("rename old phone").startswith("Nothing was done")
    assert "old phone" in desk.says("list")
    assert "void" in desk.says("revoke old phone")
    assert desk.home.devices == [desk.own]


def test_the_last_device_goes_only_by_a_yes(desk: Desk) -> None:
    assert desk.says("revoke desk").startswith("Nothing was done: desk is your last device")
    assert desk.home.devices == [desk.own]
    assert "void" in desk.says("revoke desk yes")
    assert desk.home.devices == []


def test_what_is_no_command_is_answered_with_how_to(desk: Desk) -> None:
    assert "no command was found" in desk.says("hello")
    assert "needs a name" in desk.says("add")
    assert desk.home.devices == [desk.own]


def test_who_names_no_device_revokes_none(desk: Desk) -> None:
    desk.home.add()
    before = desk.home.devices
    for line in ("revoke", "remove my device", "delete yes", "revoke .", "löschen"):
        assert desk.says(line).startswith("Nothing was done"), line
    assert desk.home.devices == before


def test_whose_device_is_revoked_while_he_asks_commands_nothing(desk: Desk) -> None:
    desk.ask("add phone")
    phone = next(one for one in desk.home.devices if one != desk.own)
    late = [desk.prepare("revoke phone"), desk.prepare("revoke phone yes"), desk.prepare("rename phone to mine")]
    desk.ask("revoke desk")
    for one in late:
        assert isinstance(one, Answer)
        with pytest.raises(Refusal, match="451"):
            desk.carry_out(one)
    assert desk.home.devices == [phone]
