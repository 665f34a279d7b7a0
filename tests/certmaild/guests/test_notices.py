"""When guests are told that mail waits: at once, not too often, not while they come by themselves; and who is told when
a notice does not arrive."""

import email
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from email.policy import default as policy
from pathlib import Path
from typing import Any

import pytest
from delivery_support import House, Queued
from support import memory_engine, run
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from certmaild.config import default
from certmaild.config_values import Config, Invites, Listen
from certmaild.correspondence import Correspondence
from certmaild.guests.notice_round import NoticeRound
from certmaild.guests.notices import SETTLING_S, UNUSED_DAYS, Notices
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import read_account, write_account
from certmaild.mailbox.guests import read_guest, write_guest
from certmaild.mailbox.identifiers import CredentialId, QueueId, UserId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Role, State, credential_key, encode_day
from certmaild.mailbox.layout_guests import GuestRow, WriterRow
from certmaild.mailbox.queue import Queue
from certmaild.outbound.interfaces import News, Occasion
from certmaild.outbound.spool import described
from certmaild.outbound.values import Delivered, Destination, Problem, RouteKind
from certmaild.reports.links import link_in
from certmaild.reports.service_mail import ServiceMail

NOON = 1_800_014_400
HOUR, DAY = 3600, 86_400
ANN = WriterRow("Ann Example", "ann@example.com")
ZOE = WriterRow("", "zoe@example.com")


class World:
    """A store with ann, who writes, and guests; a clock; and who writes notices."""

    def __init__(self, folder: Path, **invite: Any) -> None:
        self.clock = Clock()
        self.clock.advance(NOON)
        self.house = House(memory_engine(), ServerSecrets.create(folder / "secrets"))
        self.engine, self.secrets = self.house.engine, self.house.secrets
        self.config: Config = replace(
            default(folder),
            hostname="mx.example.com",
            domains=("example.com",),
            listen=Listen(imaps=993, pop3s=995, submissions=465),
            invite=Invites(domain="guest.example.com", **invite),
        )
        self.correspondence = Correspondence(
            self.engine, self.secrets, self.config, partners=None, seconds=self.clock.seconds
        )
        self.mail: ServiceMail = self.correspondence.mail
        self.notices = Notices(self.secrets, lambda: self.config.invite, self.clock.seconds)
        self.round = self.make()
        self.ann = replace_id(ANN, self.house.add("ann").user_id)
        run(self.round.start())

    def make(self) -> NoticeRound:
        return NoticeRound(self.engine, self.secrets, self.mail, lambda: self.config, self.clock)

    def guest(self, name: str = "bob", ordinary: str | None = None, **row: Any) -> UserId:
        user_id = UserId(self.house.add(name, role=Role.GUEST).user_id)
        made = GuestRow(
            ordinary=ordinary or f"{name}@elsewhere.example",
            inviter=ANN.address,
            inviter_id=self.ann.user_id,
            invited_s=NOON,
            **row,
        )
        run(self.engine.write(lambda txn: write_guest(txn, self.secrets, user_id, made)))
        return user_id

    def row(self, user_id: UserId) -> GuestRow:
        found = run(self.engine.read(lambda txn: read_guest(txn, self.secrets, user_id)))
        assert found is not None
        return found

    def comes(self, user_id: UserId, writer: WriterRow | None = None, name: str = "bob") -> None:
        """A message to a guest is filed."""
        self.house.send(name)
        run(self.engine.write(self.notices.noted(user_id, writer or self.ann)))
        self.clock.advance(0)

    def fetches(self, user_id: UserId) -> None:
        """He takes what waits."""

        def work(txn: Any) -> None:
            for key, _ in list(txn.scan(Table.IN, user_id, user_id + b"\xff" * 9)):
                txn.delete(Table.IN, key)

        run(self.engine.write(work))

    def logs_in(self, user_id: UserId) -> None:
        """With some device, now."""
        key = credential_key(user_id, CredentialId(7))
        day = encode_day(int(self.clock.seconds()) // DAY)
        run(self.engine.write(lambda txn: txn.put(Table.SEEN, key, self.secrets.seal_row(Table.SEEN, key, day))))

    def goes(self, seconds: float) -> None:
        """Time goes by, a minute at a time."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(60.0, end - self.clock.seconds()))

    @property
    def queued(self) -> list[Queued]:
        return self.house.queued()

    @property
    def addresses(self) -> list[str]:
        return sorted(str(recipient.path) for one in self.queued for recipient, _, _ in one.recipients)

    def letters(self) -> list[EmailMessage]:
        return [parsed(one.content) for one in self.queued]

    def due(self) -> list[bytes]:
        return run(self.engine.read(lambda txn: [key for key, _ in txn.scan(Table.QDUE, b"\x04", b"\x05")]))


def replace_id(row: WriterRow, user_id: bytes) -> WriterRow:
    return WriterRow(row.name, row.address, user_id.hex())


def parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=policy)
    assert isinstance(message, EmailMessage)
    return message


MakeWorld = Callable[..., World]


@pytest.fixture
def world_of(tmp_path: Path) -> MakeWorld:
    return lambda **invite: World(tmp_path, **invite)


@pytest.fixture
def world(world_of: MakeWorld) -> World:
    return world_of()


def test_a_guest_is_told_at_once_by_the_queue(world: World) -> None:
    bob = world.guest()
    world.comes(bob)
    (queued,) = world.queued
    ((recipient, destination, _),) = queued.recipients
    assert str(recipient.path) == "bob@elsewhere.example" and recipient.route is RouteKind.NOTICE
    assert destination == Destination(RouteKind.NOTICE, "elsewhere.example")
    envelope = queued.envelope
    assert str(envelope.reverse_path) == "" and str(envelope.told) == "ann@example.com"
    assert queued.sender is not None and queued.sender.hex() == world.ann.user_id
    (letter,) = world.letters()
    fields = {name: str(value) for name, value in letter.items() if name not in ("Received", "Date", "Message-ID")}
    assert fields == {
        "Subject": "A sealed message is waiting for you",
        "Content-Language": "en",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "7bit",
        "MIME-Version": "1.0",
        "From": "certmaild <postmaster@example.com>",
        "To": "bob@elsewhere.example",
        "Auto-Submitted": "auto-generated",
    }
    text = letter.get_content()
    assert "Ann Example (ann@example.com) has written to you" in text and link_in(text) is None
    row = world.row(bob)
    assert (row.noticed_s, row.notice_due_s, row.writers) == (NOON, 0, ())
    assert world.due() == []


def test_a_work_that_runs_twice_notes_once(world: World) -> None:
    bob = world.guest()
    world.house.send("bob")
    noted = world.notices.noted(bob, world.ann)

    def twice(txn: Any) -> None:
        noted(txn)
        noted(txn)

    run(world.engine.write(twice))
    world.clock.advance(0)
    assert len(world.queued) == 1 and world.due() == []


def test_in_the_quiet_period_nothing_then_one_for_all(world: World) -> None:
    bob = world.guest()
    world.comes(bob)
    for writer in (world.ann, ZOE, world.ann):
        world.goes(HOUR)
        world.comes(bob, writer)
    assert len(world.queued) == 1
    world.goes(21 * HOUR - 60)
    assert len(world.queued) == 1
    world.goes(120)
    _, second = sorted(world.letters(), key=lambda one: str(one["Date"]))
    text = second.get_content()
    assert "zoe@example.com" in text and "Ann Example (ann@example.com)" in text
    assert "4 messages are waiting for you" in text and f"{int(NOON % DAY / HOUR) + 3:02d}:00 (UTC)" in text
    world.goes(3 * DAY)
    assert len(world.queued) == 2 and world.due() == []


def test_who_fetched_meanwhile_hears_nothing_more(world: World) -> None:
    bob = world.guest()
    world.comes(bob)
    world.comes(bob)
    world.fetches(bob)
    world.goes(2 * DAY)
    assert len(world.queued) == 1
    row = world.row(bob)
    assert (row.notice_due_s, row.writers) == (0, ())


def test_none_while_a_device_comes_and_one_after_a_week_without(world: World) -> None:
    bob = world.guest(joined_s=NOON)
    world.logs_in(bob)
    world.comes(bob)
    world.goes(2 * DAY)
    world.logs_in(bob)
    world.goes((UNUSED_DAYS - 1) * DAY)
    assert world.queued == []
    world.goes(2 * DAY)
    (letter,) = world.letters()
    assert "None of your devices has fetched mail for a week" in " ".join(letter.get_content().split())


def test_one_that_is_always_connected_gets_time_to_fetch(world: World) -> None:
    bob = world.guest(joined_s=NOON)
    world.logs_in(bob)
    world.goes(10 * DAY)
    world.comes(bob)
    world.goes(SETTLING_S / 2)
    world.fetches(bob)
    world.goes(DAY)
    assert world.queued == [] and world.due() == []
    world.comes(bob)
    world.goes(SETTLING_S + 60)
    assert len(world.queued) == 1


def test_a_domain_has_so_many_in_an_hour_and_the_others_wait(world_of: MakeWorld) -> None:
    world = world_of(notices_per_domain=2)
    for name in ("bob", "carl", "dora"):
        world.comes(world.guest(name), name=name)
    world.comes(world.guest("emil", "emil@another.example"), name="emil")
    assert world.addresses == ["bob@elsewhere.example", "carl@elsewhere.example", "emil@another.example"]
    world.goes(HOUR + 900)
    assert "dora@elsewhere.example" in world.addresses


def test_a_writer_has_so_many_in_an_hour(world_of: MakeWorld) -> None:
    world = world_of(invitations_per_sender=1)
    world.comes(world.guest("bob", "bob@one.example"), name="bob")
    world.comes(world.guest("carl", "carl@two.example"), name="carl")
    world.comes(world.guest("dora", "dora@three.example"), ZOE, name="dora")
    assert world.addresses == ["bob@one.example", "dora@three.example"]
    world.goes(HOUR + 900)
    assert "carl@two.example" in world.addresses


def test_one_mailbox_is_not_flooded_through_its_tags(world: World) -> None:
    for tag in range(5):
        world.comes(world.guest(f"bob{tag}", f"bob+{tag}@elsewhere.example"), name=f"bob{tag}")
    assert len(world.queued) == 1
    world.goes(HOUR + 900)
    assert len(world.queued) == 2


def test_who_is_gone_or_switched_off_is_not_written_to(world: World) -> None:
    bob, carl = world.guest("bob"), world.guest("carl")
    run(world.round.stop())
    world.comes(bob)
    world.comes(carl, name="carl")

    def work(txn: Any) -> None:
        txn.delete(Table.GUEST, bob)
        account = read_account(txn, world.secrets, carl)
        assert account is not None
        write_account(txn, world.secrets, carl, replace(account, state=State.DISABLED))

    run(world.engine.write(work))
    run(world.make().start())
    world.clock.advance(0)
    assert world.queued == [] and world.due() == []


def test_for_who_is_no_guest_nothing_is_noted(world: World) -> None:
    run(world.engine.write(world.notices.noted(UserId(bytes.fromhex(world.ann.user_id)), ZOE)))
    assert world.due() == []


@pytest.mark.parametrize("ordinary", ["bob@example.com", "no address"])
def test_an_address_of_ours_or_none_gets_no_notice(world: World, ordinary: str) -> None:
    bob = world.guest("bob", ordinary)
    with capturedLogs() as logs:
        world.comes(bob)
    assert world.queued == [] and world.due() == [] and world.row(bob).writers == ()
    assert any("no notice to the guest" in entry["log_format"] for entry in logs)
    assert not any(ordinary in str(entry) for entry in logs)


def test_a_fault_puts_off_and_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = world.guest()
    sound = world.mail.prepare_notice

    async def broken(*args: Any, **kwargs: Any) -> Any:
        raise OSError("disk")

    monkeypatch.setattr(world.mail, "prepare_notice", broken)
    with capturedLogs() as logs:
        world.comes(bob)
    assert any("could not be written" in entry["log_format"] for entry in logs)
    assert world.queued == [] and len(world.due()) == 1
    monkeypatch.setattr(world.mail, "prepare_notice", sound)
    world.goes(HOUR)
    assert len(world.queued) == 1


def test_two_who_work_at_once_send_one(world: World) -> None:
    bob = world.guest()
    run(world.make().start())
    world.comes(bob)
    world.goes(60)
    assert len(world.queued) == 1


def test_many_are_told_in_one_go(world: World) -> None:
    names = [f"guest{number}" for number in range(40)]
    run(world.round.stop())
    for name in names:
        world.comes(world.guest(name), name=name)
    run(world.make().start())
    world.goes(1)
    assert len(world.queued) == 40


def test_in_his_language(world_of: MakeWorld) -> None:
    world = world_of(languages=("en", "it"))
    world.comes(world.guest("bob", "bob@elsewhere.fr"))
    world.comes(world.guest("carl", "carl@elsewhere.com"), name="carl")
    world.comes(world.guest("dora", "dora@elsewhere.com", language="de"), name="dora")
    found = {
        str(one["To"]).split("@")[0]: (str(one["Content-Language"]), str(one["Subject"]).strip())
        for one in world.letters()
    }
    assert found == {
        "bob": ("fr", "Un message scellé vous attend"),
        "carl": ("en, it", "A sealed message is waiting for you / Un messaggio sigillato La attende"),
        "dora": ("de", "Eine versiegelte Nachricht liegt für Sie bereit"),
    }
    assert all(one.content.isascii() for one in world.queued)


def report(world: World, occasion: Occasion, fate: Problem | Delivered) -> EmailMessage | None:
    """What the writer hears of a notice."""
    (queued,) = world.queued
    key = QueueId(bytes.fromhex(queued.queue_id))
    message = run(world.engine.read(lambda txn: Queue(world.secrets.queue).message(txn, key)))
    assert message is not None
    news = [News(queued.recipients[0][0], occasion, fate, 1, NOON)]
    work = run(world.correspondence.reporter.prepare(described(world.engine, key, message), news))
    if work is None:
        return None
    run(world.engine.write(work))
    (arrived,) = world.house.mail_of("ann")
    return parsed(arrived.content)


UNKNOWN = Problem(
    True,
    550,
    "5.1.1",
    "The server there does not know the address.",
    "mx.elsewhere.example",
    "550 5.1.1 see http://x.example",
)


def test_the_writer_hears_that_a_notice_did_not_arrive(world: World) -> None:
    world.comes(world.guest())
    said = report(world, Occasion.FAILED, UNKNOWN)
    assert said is not None and said["Subject"] == "Not notified: bob@elsewhere.example"
    text = " ".join(said.get_payload(0).get_content().split())
    assert text.startswith("Your message waits, sealed, in the recipient's mailbox here. But the notice")
    assert "see whether the address is right" in text and "by telephone" in text
    assert "550 5.1.1 see [link left out]" in text and link_in(text) is None
    assert "A sealed message is waiting" not in text


def test_the_writer_does_not_hear_that_one_arrived(world: World) -> None:
    world.comes(world.guest())
    assert report(world, Occasion.RELAYED, Delivered("mx.elsewhere.example", "250 ok", None)) is None
