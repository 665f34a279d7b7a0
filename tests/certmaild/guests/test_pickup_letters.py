"""The message with the code: what stands in it, for a person and for programs, and the way it takes."""

from pathlib import Path
from typing import Any

import pytest
from delivery_support import House
from support import memory_engine, run

from certmaild.guests.code_command import CodeCommand
from certmaild.guests.interfaces import Guest, Sender, Waiting
from certmaild.guests.pickup import PickupLetters, Shown
from certmaild.keystore.codes import new_pickup_code
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.outbound.values import RouteKind
from certmaild.reports.links import link_in

CODE = new_pickup_code()
ROW = GuestRow(ordinary="bob@far.example", inviter="ann@example.com", inviter_id="", invited_s=0, code_expires_s=86_400)
GUEST = Guest(UserId(bytes(16)), "bob.far.example@guest.example.com", canonical("bob@far.example"), ROW)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(memory_engine(), ServerSecrets.create(tmp_path / "secrets"))


def letters(house: House, *command: str) -> PickupLetters:
    def later(after_s: float, work: Any) -> None:
        """Nothing is waited for."""

    return PickupLetters(
        house.engine, house.secrets, house.correspondence.mail, CodeCommand(lambda: command, house.in_thread), later
    )


@pytest.mark.parametrize("command", [(), ("sms",)])
def test_what_stands_in_it(house: House, command: tuple[str, ...]) -> None:
    letter = letters(house, *command).letter(Shown(GUEST, CODE, "ann@example.com", "the reason"))
    text = letter.get_content()
    assert letter["Certmaild-Invite"] == "bob@far.example"
    assert {f"Code: {CODE.text}", "Account: bob.far.example@guest.example.com"} <= set(text.splitlines())
    assert ("set up for it was asked to pass the code on" in " ".join(text.split())) == bool(command)
    for part in ("2 January 1970 at 00:00 UTC", "the reason", "by pickup code, which the sender knows", "    new code"):
        assert part.strip() in " ".join(text.split())
    assert link_in(text) is None
    assert CODE.text not in str(letter["Subject"]) + str(letter["Reply-To"]) + str(letter["Message-ID"])
    assert max(map(len, text.splitlines())) <= 80


def test_a_sender_elsewhere_gets_it_by_tls_that_is_proven_all_the_way(house: House) -> None:
    work = run(letters(house).prepare(GUEST, Waiting(Sender("eve@partner.example"), "the reason"), CODE))
    run(house.engine.write(work))
    (queued,) = house.queued()
    assert queued.envelope.require_tls
    assert str(queued.envelope.reverse_path) in ("", "<>")
    ((recipient, destination, _),) = queued.recipients
    assert str(recipient.path) == "eve@partner.example"
    assert destination.kind is RouteKind.SERVICE
