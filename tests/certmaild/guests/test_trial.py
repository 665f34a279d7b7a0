"""Mailboxes to try: who gets one, what he is sent and by what way, what he may do, and how it ends."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import Message
from email.policy import default as policy
from pathlib import Path

import pytest
from delivery_support import NOW, House
from msgspec import structs
from support import memory_engine, run

from certmaild.config import default
from certmaild.config_values import Invites
from certmaild.guests.trial import ANSWER_S, MESSAGES, OCTETS, Asked, Trials
from certmaild.guests.trial_end import TrialEnds
from certmaild.inbound.inspection import NOT_LOOKED_AT, Verdict
from certmaild.keystore.codes import parse_pickup_code
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import account_rows, audit_log, ownership
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.directory import RecipientFacts
from certmaild.mailbox.guests import write_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Role
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.outbound.values import RouteKind
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import PartnerRecord
from certmaild.protocols.interfaces import Login
from certmaild.protocols.smtp.errors import Refusal
from certmaild.reports.links import link_in
from certmaild.services.interfaces import Request
from certmaild.services.trial_clerk import ECHOES, TrialClerk

DAY_S = 86_400
BOB = "bob@far.example"
ACCOUNT = "bob.far.example@guest.example.com"
TRY = canonical("try@example.com")
RESULTS = b"From: ann@example.com\r\nTo: bob@far.example\r\nSubject: results\r\n\r\nnormal\r\n"
PROVEN = Verdict(sender_is_proven=True)
VOUCHED = Verdict(vouched=frozenset({"far.example"}))


@dataclass
class AtOnce:
    """A clock on which every wait is over at once, and noted."""

    seconds: Callable[[], float]
    waits: list[float] = field(default_factory=list)

    def callLater(self, delay: float, work: Callable[..., object], *args: object) -> None:
        self.waits.append(delay)
        work(*args)


@dataclass
class TrialHouse(House):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.add("ann")
        self.clock = AtOnce(lambda: self.seconds)
        assert self.partners is not None
        correspondence = self.correspondence
        self.trials = Trials(
            self.engine,
            self.secrets,
            correspondence.mail,
            correspondence.directory,
            self.partners,
            lambda: replace(default("/nonexistent"), domains=("example.com",), invite=self.invites),
            self.clock,  # type: ignore[arg-type]
            self.in_thread,
        )
        self.ends = TrialEnds(self.engine, self.secrets, correspondence.mail, self.clock)  # type: ignore[arg-type]

    def ask(
        self,
        address: str = BOB,
        verdict: Verdict = PROVEN,
        *,
        reverse_path: str | None = None,
        author: str | None = None,
        more: str = "",
    ) -> None:
        reverse_path = address if reverse_path is None else reverse_path
        value = f" Bob <{author or address}>\r\n"
        header = f"From:{value}Message-ID: <1@far.example>\r\nSubject: let me try\r\n{more}".encode()
        self.trials.check(reverse_path)
        run(self.trials.take(Asked(TRY, reverse_path, header, [value.encode()], verdict)))

    def refused(self, *args: object, **how: object) -> str:
        with pytest.raises(Refusal) as caught:
            self.ask(*args, **how)  # type: ignore[arg-type]
        return str(caught.value)

    def facts(self, address: str = BOB) -> RecipientFacts | None:
        return run(self.correspondence.directory.recipient(canonical(address)))

    def guest(self, address: str = BOB) -> tuple[UserId, GuestRow]:
        found = self.facts(address)
        assert found is not None
        assert found.guest is not None
        return found.user_id, found.guest

    def letters(self) -> list[tuple[str, RouteKind, Message]]:
        """What was sent to ordinary addresses, notices first."""
        found = [
            (str(to.path), to.route, message_from_bytes(message.content, policy=policy))
            for message in self.queued()
            for to, _, _ in message.recipients
        ]
        return sorted(found, key=lambda one: one[1].value)

    def told(self) -> list[tuple[str, RouteKind, Message]]:
        """Letters that say that there is a mailbox already."""
        return [one for one in self.letters() if one[2]["Subject"] == "You have a mailbox here"]

    def arrivals(self, user_id: UserId) -> int:
        last = user_id + b"\xff" * 9
        return run(self.engine.read(lambda txn: sum(1 for _ in txn.scan(Table.IN, user_id, last))))

    def look(self) -> None:
        run(self.ends.look())

    def audited(self) -> list[str]:
        return [row.act for _, row in run(self.engine.read(lambda txn: list(audit_log.entries(txn, self.secrets))))]

    def due(self) -> int:
        return run(self.engine.read(lambda txn: sum(1 for _ in txn.scan(Table.QDUE, b"\x06", b"\x07"))))

    def opened(self, *, joined: bool = False) -> UserId:
        """As the guest's first log-in leaves it."""
        user_id, row = self.guest()
        row = structs.replace(row, opened_s=int(NOW), joined_s=int(NOW) if joined else 0)
        run(self.engine.write(lambda txn: write_guest(txn, self.secrets, user_id, row)))
        return user_id


@pytest.fixture
def house(tmp_path: Path) -> TrialHouse:
    book = PartnerBook([PartnerRecord("partner.example", subdomains=True)])
    invites = Invites("guest.example.com", trial_days=30, trials_per_day=3)
    return TrialHouse(memory_engine(), ServerSecrets.create(tmp_path / "secrets"), partners=book, invites=invites)


def text_of(letter: Message) -> str:
    """Its lines as they are, and then as one."""
    words = str(letter.get_content())  # type: ignore[attr-defined]
    return words.replace("\r\n", "\n") + " ".join(words.split())


@pytest.mark.parametrize("verdict", [PROVEN, VOUCHED], ids=["spf", "dmarc"])
def test_a_proven_sender_gets_a_mailbox_that_ends(house: TrialHouse, verdict: Verdict) -> None:
    house.ask("Bob+x@far.example", verdict)
    found = house.facts()
    assert found is not None
    assert (found.address, found.role) == (ACCOUNT, Role.GUEST)
    assert house.facts(ACCOUNT) == found
    user_id, row = house.guest()
    assert (row.ordinary, row.inviter, row.inviter_id) == ("Bob@far.example", "postmaster@example.com", "")
    assert row.trial_until_s == int(NOW) + 30 * DAY_S
    assert row.code_expires_s == int(NOW) + 14 * DAY_S
    account = run(house.engine.read(lambda txn: account_rows.read_account(txn, house.secrets, user_id)))
    assert account is not None
    assert (account.octets_limit, account.messages_limit) == (OCTETS, MESSAGES)
    assert house.arrivals(user_id) == 1
    assert house.audited() == ["trial began"]
    assert run(house.engine.read(lambda txn: txn.get(Table.BEQUEST, user_id))) is None


def test_two_letters_go_to_the_proven_address_and_only_one_holds_the_code(house: TrialHouse) -> None:
    house.ask()
    (to, kind, notice), (also_to, code_kind, code) = house.letters()
    assert to == also_to == BOB
    # The code leaves by what [outbound] demands, a notice by whatever the destination allows.
    assert (kind, code_kind) == (RouteKind.NOTICE, RouteKind.SERVICE)
    shown = next(line for line in text_of(code).splitlines() if line.startswith("Code: "))
    assert parse_pickup_code(shown.removeprefix("Code: ").encode()) is not None
    assert shown.removeprefix("Code: ") not in text_of(notice)
    for letter in (notice, code):
        assert letter["From"] == "certmaild <try@example.com>"
        assert letter["In-Reply-To"] == letter["References"] == "<1@far.example>"
        assert letter["Auto-Submitted"] == "auto-replied"
        assert link_in(text_of(letter)) is None
        assert ACCOUNT in text_of(letter)
    assert "came by ordinary mail" in text_of(code)
    assert f"Account: {ACCOUNT}" in text_of(code)
    assert "User name: " in text_of(notice)
    assert "trial" in text_of(notice)


@pytest.mark.parametrize("address", ["bob+tag@far.example", "bj\u00f8rn@far.example"])
def test_letters_go_to_the_very_address_that_was_proven(house: TrialHouse, address: str) -> None:
    house.ask(address)
    assert [to for to, _, _ in house.letters()] == [address] * 2
    assert house.facts(address) is not None


def test_who_is_made_a_member_is_not_on_trial_any_more(house: TrialHouse) -> None:
    house.ask()
    user_id, _ = house.guest()

    def work(txn: WriteTxn) -> None:
        account = account_rows.read_account(txn, house.secrets, user_id)
        assert account is not None
        account_rows.write_account(txn, house.secrets, user_id, replace(account, role=Role.MEMBER))

    run(house.engine.write(work))
    house.send(ACCOUNT, sender="ann", content=RESULTS)
    house.send(BOB, sender="ann", content=RESULTS)
    assert house.arrivals(user_id) == 3
    house.seconds = NOW + 40 * DAY_S
    house.look()
    assert house.guest()[0] == user_id
    assert house.due() == 0


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"verdict": NOT_LOOKED_AT}, "proves itself"),
        ({"verdict": replace(PROVEN, is_junk=True)}, "proves itself"),
        ({"verdict": Verdict(vouched=frozenset({"other.example"}))}, "proves itself"),
        # SPF vouches for who sends, and not for whom he names as author.
        ({"reverse_path": "eve@other.example"}, "proves itself"),
        ({"reverse_path": ""}, "Automatic"),
        ({"more": "Auto-Submitted: auto-replied\r\n"}, "Automatic"),
        ({"more": "Precedence: bulk\r\n"}, "Automatic"),
        ({"more": "List-Id: <list.far.example>\r\n"}, "Automatic"),
        ({"author": "a@far.example>, <b@far.example"}, "one address"),
        ({"address": "joe@example.com"}, "You have a mailbox here"),
        ({"address": "joe@guest.example.com"}, "You have a mailbox here"),
        ({"address": "joe@sub.partner.example"}, "partner"),
        ({"address": "joe@[192.0.2.1]"}, "domain name"),
        ({"address": '"a b"@far.example'}, "Nothing can be written"),
    ],
)
def test_who_gets_none(house: TrialHouse, how: dict[str, object], words: str) -> None:
    said = house.refused(**how)
    assert said.startswith("550 5.7.1")
    assert words in said
    assert house.letters() == []
    assert house.facts() is None
    assert house.audited() == []


def test_a_person_may_say_that_he_is_one(house: TrialHouse) -> None:
    house.ask(more="Auto-Submitted: no\r\nPrecedence: normal\r\n")
    assert house.facts() is not None


def test_the_limit_of_a_day_is_everybody_s_together(house: TrialHouse) -> None:
    for number in range(3):
        house.ask(f"bob{number}@far.example")
    assert house.refused("bob3@far.example").startswith("450 4.7.1")
    # Neither does it tell who has a mailbox.
    assert house.refused("bob0@far.example").startswith("450 4.7.1")
    house.seconds += DAY_S + 3600
    house.ask("bob3@far.example")
    assert house.facts("bob3@far.example") is not None


def test_who_asks_again_within_a_day_hears_nothing_more(house: TrialHouse) -> None:
    for _ in range(5):
        house.ask()
    assert len(house.letters()) == 2
    assert house.audited() == ["trial began"]


def test_a_mailbox_that_was_never_opened_gives_way_to_another(house: TrialHouse) -> None:
    house.ask()
    before, _ = house.guest()
    house.seconds += DAY_S + 3600
    house.ask()
    after, row = house.guest()
    assert after != before
    assert row.trial_until_s == int(house.seconds) + 30 * DAY_S
    found = house.facts()
    assert found is not None
    # The name of the first is never anybody's again.
    assert found.address.startswith("bob.far.example-")
    assert house.facts(ACCOUNT) is None
    house.look()
    assert run(house.engine.read(lambda txn: txn.get(Table.ACCT, before))) is None


def test_who_has_opened_his_is_told_of_it_at_his_address(house: TrialHouse) -> None:
    house.ask()
    user_id = house.opened()
    house.seconds += DAY_S + 3600
    for _ in range(2):
        house.ask()
    assert house.guest()[0] == user_id
    ((to, kind, letter),) = house.told()
    assert len(house.letters()) == 3
    assert (to, kind) == (BOB, RouteKind.NOTICE)
    assert "It is on trial until" in text_of(letter)


def test_a_guest_of_a_member_is_told_and_keeps_his_mailbox(house: TrialHouse) -> None:
    house.send(BOB, sender="ann", content=RESULTS)
    before = house.guest()
    house.ask()
    house.ask()
    assert house.guest() == before
    ((_, _, letter),) = house.told()
    assert "on trial until" not in text_of(letter)


def test_the_reply_takes_the_same_time_whoever_has_a_mailbox(house: TrialHouse) -> None:
    house.ask()
    house.ask()
    house.ask("eve@far.example")
    assert house.clock.waits == [ANSWER_S] * 3


def test_mail_of_others_is_never_sealed_to_a_mailbox_on_trial(house: TrialHouse) -> None:
    house.ask()
    trial, _ = house.guest()
    assert house.refusal(ACCOUNT, sender="ann") == "550 5.1.1"
    house.send(BOB, sender="ann", content=RESULTS)
    invited, row = house.guest()
    assert invited != trial
    assert (row.trial_until_s, row.inviter) == (0, "ann@example.com")
    assert house.arrivals(trial) == 1
    assert house.arrivals(invited) == 1
    # Nobody opens the old one any more.
    assert run(house.engine.read(lambda txn: list(account_rows.credentials_of(txn, trial)))) == []
    assert house.facts(ACCOUNT) is None
    house.look()
    assert run(house.engine.read(lambda txn: txn.get(Table.ACCT, trial))) is None
    assert house.guest()[0] == invited
    assert run(house.engine.read(lambda txn: ownership.read_use(txn, house.secrets, invited))).messages == 1


def test_it_ends_after_its_days_and_is_told_of_three_days_before(house: TrialHouse) -> None:
    house.ask()
    user_id, _ = house.guest()
    house.seconds = NOW + 27 * DAY_S - 1
    house.look()
    assert house.arrivals(user_id) == 1
    house.seconds += 1
    house.look()
    house.look()
    assert house.arrivals(user_id) == 2
    assert house.guest()[1].trial_told_s == int(house.seconds)
    house.seconds = NOW + 30 * DAY_S - 1
    house.look()
    assert house.guest()[0] == user_id
    assert house.due() == 1
    house.seconds += 1
    house.look()
    house.look()
    assert house.facts() is None
    assert house.due() == 0
    for table in (Table.ACCT, Table.GUEST, Table.CRED, Table.OWN, Table.IN):
        assert run(house.engine.read(lambda txn, table=table: list(txn.scan(table, user_id, user_id + b"\xff")))) == []  # type: ignore[misc]
    assert house.audited() == ["trial began", "trial ended"]
    # The address may try once more, under another account name.
    house.ask()
    found = house.facts()
    assert found is not None
    assert found.address != ACCOUNT


def test_a_short_one_is_told_of_at_once(house: TrialHouse) -> None:
    house.invites = replace(house.invites, trial_days=2)
    house.ask()
    user_id, row = house.guest()
    assert row.code_expires_s == row.trial_until_s == int(NOW) + 2 * DAY_S
    house.look()
    assert house.arrivals(user_id) == 2


def test_an_answer_is_written_to_what_a_guest_writes_up_to_a_limit(house: TrialHouse) -> None:
    house.ask()
    user_id, _ = house.guest()
    clerk = TrialClerk(house.engine, house.secrets, lambda: house.seconds)
    login = Login(user_id, ACCOUNT, house.login("ann").credential_id, False, house.users["ann"].keys)
    request = Request(login, "try", "example.com", None, "Hello", "line one\nline two", None, None)
    for _ in range(ECHOES):
        answer = run(clerk.answer(request))
    assert answer is not None
    assert "> line two" in answer.get_content()
    assert "on trial until" in answer.get_content()
    with pytest.raises(Refusal, match="50 answers in 24 hours"):
        run(clerk.answer(request))
    house.seconds += DAY_S + 3600
    assert run(clerk.answer(request)) is not None
