"""Messages to people without a mailbox here: who becomes a guest, what is written for whom, what is refused."""

from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from email.policy import default as policy
from pathlib import Path

import pytest
from delivery_support import NOW, House
from msgspec.structs import replace
from support import memory_engine, run

from certmaild.config_values import InviteDomain, Invites, When
from certmaild.inbound.inspection import NOT_LOOKED_AT, Verdict
from certmaild.keystore.codes import parse_pickup_code
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.tls_values import Level
from certmaild.keystore.users import KeyRing
from certmaild.mailbox import account_rows, audit_log, ways_in
from certmaild.mailbox.accounts import Accounts
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.cards import Card
from certmaild.mailbox.directory import Directory, RecipientFacts
from certmaild.mailbox.guests import has_heard, read_bequest, write_guest
from certmaild.mailbox.identifiers import CredentialId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table, decode_in_row
from certmaild.mailbox.layout_accounts import Kind, Option, Role, SentCopies
from certmaild.mailbox.layout_guests import AuditRow, GuestRow
from certmaild.mailbox.ownership import read_use
from certmaild.mailbox.values import ServiceFolder
from certmaild.outbound.values import Notify, Problem, RouteKind, SelfProof
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import PartnerRecord
from certmaild.protocols.interfaces import Login
from certmaild.protocols.smtp.grammar import NULL_PATH
from certmaild.protocols.smtp.grammar import Path as SmtpPath
from certmaild.protocols.smtp.parameters import MailArguments

BOB = "bob@far.example"
ACCOUNT = "bob.far.example@guest.example.com"
PLAIN = b"From: Ann <ann@example.com>\r\nTo: bob@far.example\r\nSubject: hi\r\n\r\nHello.\r\n"
STARRED = PLAIN.replace(b"Subject: hi", b"Subject: * hi")
TAGGED = PLAIN.replace(b"Subject: hi", b"Subject: hi [secure]")
SEALED = PLAIN.replace(b"Subject: hi", b"Subject: hi\r\nCertmaild: seal")
DEFERRED = Problem(False, 451, "4.4.3", "DNS could not be asked for slow.example: no answer.")
NOWHERE = Problem(True, 550, "5.1.2", "There is no domain no.example. Please check the address.")


def make(folder: Path, invites: Invites) -> House:
    book = PartnerBook(
        [
            PartnerRecord("partner.example", route=("mx.partner.example:25",)),
            PartnerRecord("clear.example", level=Level.MAY),
        ]
    )
    secrets = ServerSecrets.create(folder / "secrets")
    proofs: dict[str, SelfProof | Problem] = {
        "proven.example": SelfProof(True, "proven.example proves itself by DANE"),
        "slow.example": DEFERRED,
        "no.example": NOWHERE,
    }
    house = House(memory_engine(), secrets, partners=book, invites=invites, proofs=proofs)
    house.add("ann")
    house.add("eve")
    return house


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make(tmp_path, Invites("guest.example.com"))


def facts(house: House, address: str) -> RecipientFacts | None:
    return run(Directory(house.engine, house.secrets).recipient(canonical(address)))


def guest(house: House, address: str = BOB) -> RecipientFacts:
    found = facts(house, address)
    assert found is not None
    assert found.guest is not None
    return found


def letters(house: House, name: str) -> list[Message]:
    return [message_from_bytes(one.content, policy=policy) for one in house.mail_of(name)]


def line(letter: Message, name: str) -> str:
    (found,) = [one for one in letter.get_content().splitlines() if one.startswith(name)]  # type: ignore[attr-defined]
    return str(found).removeprefix(name)


def arrivals(house: House, who: RecipientFacts) -> int:
    return run(
        house.engine.read(lambda txn: sum(1 for _ in txn.scan(Table.IN, who.user_id, who.user_id + b"\xff" * 9)))
    )


def audit(house: House) -> list[AuditRow]:
    return [row for _, row in run(house.engine.read(lambda txn: list(audit_log.entries(txn, house.secrets))))]


def routes(house: House) -> list[tuple[str, RouteKind]]:
    return [(str(to.path), to.route) for message in house.queued() for to, _, _ in message.recipients]


def test_a_guest_is_made_with_the_message_in_his_mailbox(house: House) -> None:
    house.send("Bob+work@Far.example", sender="ann", content=PLAIN)
    found = guest(house)
    assert found.address == ACCOUNT
    assert facts(house, "BOB+other@far.EXAMPLE") == facts(house, ACCOUNT) == found
    assert (found.role, found.sent_copies) == (Role.GUEST, SentCopies.SERVER)
    assert (found.octets_left, found.messages_left) == (2**30 - found_octets(house, found), 9_999)
    row = found.guest
    assert isinstance(row, GuestRow)
    assert (row.ordinary, row.inviter) == ("Bob@far.example", "ann@example.com")
    assert row.inviter_id == house.users["ann"].user_id.hex()
    assert (row.invited_s, row.code_expires_s) == (int(NOW), int(NOW) + 14 * 86_400)
    account = run(house.engine.read(lambda txn: account_rows.read_account(txn, house.secrets, found.user_id)))
    assert account is not None
    assert account.options == Option.SERVICE_FOLDERS
    assert routes(house) == []
    (entry,) = audit(house)
    assert (entry.at_s, entry.by, entry.act, entry.whom) == (
        int(NOW),
        "ann@example.com",
        "guest invited",
        "Bob@far.example",
    )
    assert entry.detail == "far.example proves itself neither by DANE nor by MTA-STS"
    assert house.references() == [1, 1]


def found_octets(house: House, who: RecipientFacts) -> int:
    return run(house.engine.read(lambda txn: read_use(txn, house.secrets, who.user_id))).octets


def test_the_code_opens_the_mailbox_and_nothing_else_does(house: House) -> None:
    house.send(BOB, sender="ann", content=PLAIN)
    found = guest(house)
    (letter,) = letters(house, "ann")
    assert letter["Certmaild-Invite"] == BOB
    assert line(letter, "Account: ") == ACCOUNT
    code = line(letter, "Code: ")

    def keyed(txn: ReadTxn) -> ways_in.Keyed:
        ((credential, _),) = account_rows.credentials_of(txn, found.user_id)
        one = ways_in.read_keyed(txn, house.secrets, found.user_id, credential, kinds=frozenset({Kind.PICKUP}))
        assert one is not None
        return one

    way = run(house.engine.read(keyed))
    parsed = parse_pickup_code(code.lower().encode())
    assert parsed is not None
    opened = ways_in.open_root(house.secrets, way, ways_in.material_for(way.credential.head, parsed.material))
    assert opened is not None
    bequest = run(house.engine.read(lambda txn: read_bequest(txn, found.user_id)))
    assert bequest is not None
    assert house.users["ann"].keys.open_bequest(found.user_id, bequest).reveal() == opened.reveal()


def test_where_a_message_goes_by_the_proof_of_its_destination(house: House) -> None:
    house.send("dan@proven.example", "eva@partner.example", "fay@clear.example", sender="ann", content=PLAIN)
    assert routes(house) == [
        ("dan@proven.example", RouteKind.VERIFIED_TLS),
        ("eva@partner.example", RouteKind.PARTNER),
        ("fay@clear.example", RouteKind.PLAIN),
    ]
    assert house.asked == ["proven.example"]
    (message,) = house.queued()
    assert message.recipients[0][0].reason == "proven.example proves itself by DANE"
    assert facts(house, "dan@proven.example") is None


@pytest.mark.parametrize("content", [STARRED, TAGGED, SEALED], ids=["asterisk", "secure", "field"])
@pytest.mark.parametrize("when", list(When))
def test_a_marked_message_never_goes_without_a_partners_line(tmp_path: Path, content: bytes, when: When) -> None:
    house = make(tmp_path, Invites("guest.example.com", when))
    house.send("dan@proven.example", "eva@partner.example", "fay@clear.example", "eve", sender="ann", content=content)
    assert routes(house) == [("eva@partner.example", RouteKind.PARTNER)]
    assert house.asked == []
    for name in ("dan@proven.example", "fay@clear.example"):
        assert arrivals(house, guest(house, name)) == 1
    (arrived,) = house.mail_of("eve")
    subject = b"Subject: hi [secure]\r\n" if content == TAGGED else b"Subject: hi\r\n"
    assert subject in arrived.content
    assert b"Certmaild:" not in arrived.content


def test_when_says_who_is_invited(tmp_path: Path) -> None:
    for number, (when, invited) in enumerate([(When.ALWAYS, True), (When.UNPROVEN, False), (When.MARKED, False)]):
        house = make(tmp_path / str(number), Invites("guest.example.com", when))
        house.send("dan@proven.example", sender="ann", content=PLAIN)
        assert (facts(house, "dan@proven.example") is not None) is invited
    assert house.asked == []
    house.send(BOB, sender="ann", content=PLAIN)
    assert facts(house, BOB) is None


def test_without_guests_all_is_as_before_but_a_mark_is_kept_to(tmp_path: Path) -> None:
    house = make(tmp_path, Invites())
    house.send("dan@proven.example", BOB, sender="ann", content=PLAIN)
    assert routes(house) == [("dan@proven.example", RouteKind.VERIFIED_TLS), (BOB, RouteKind.VERIFIED_TLS)]
    assert house.refusal("dan@proven.example", sender="ann", content=STARRED) == "550 5.7.1"
    house.send("eva@partner.example", "eve", sender="ann", content=STARRED)


def test_what_dns_does_not_answer_defers_the_whole_message(house: House) -> None:
    assert house.refusal("dan@proven.example", BOB, "x@slow.example", sender="ann", content=PLAIN) == "451 4.4.3"
    assert facts(house, BOB) is None
    assert routes(house) == []
    house.proofs["slow.example"] = SelfProof(False, "no")
    house.send("x@slow.example", sender="ann", content=PLAIN)
    guest(house, "x@slow.example")


def test_who_cannot_be_reached_is_reported_and_all_together_are_refused(house: House) -> None:
    assert house.refusal("x@no.example", sender="ann", content=PLAIN) == "550 5.1.2"
    assert house.refusal("x@[192.0.2.1]", sender="ann", content=STARRED) == "550 5.7.1"
    house.send("x@no.example", "eve", sender="ann", content=PLAIN)
    (report,) = house.mail_of("ann")
    assert b"Action: failed" in report.content
    assert b"Final-Recipient: rfc822; x@no.example" in report.content
    assert b"There is no domain" in report.content
    assert len(house.mail_of("eve")) == 1
    house.send("x@no.example", "eve", sender="ann", content=PLAIN, notify=frozenset({Notify.NEVER}))
    assert len(house.mail_of("ann")) == 1


def test_reports_and_read_receipts_make_nobody_a_guest(house: House) -> None:
    assert house.refusal(BOB, sender="ann", content=PLAIN, mail=MailArguments(NULL_PATH)) == "550 5.7.1"
    house.send("dan@proven.example", sender="ann", content=PLAIN, mail=MailArguments(NULL_PATH))


def test_a_success_report_says_why_a_message_went_this_way(house: House) -> None:
    house.send(BOB, sender="ann", content=STARRED, notify=frozenset({Notify.SUCCESS}))
    _, report = sorted(house.mail_of("ann"), key=lambda one: b"multipart/report" in one.content)
    assert b"Why this way: a new mailbox here: the subject begins with *." in report.content
    assert b"Final-Recipient: rfc822; bob@far.example" in report.content


def test_the_second_message_finds_the_mailbox(house: House) -> None:
    house.send(BOB, sender="ann", content=PLAIN)
    house.send("bob+x@far.example", sender="ann", content=PLAIN)
    house.send(ACCOUNT, sender="ann", content=PLAIN)
    assert arrivals(house, guest(house)) == 3
    assert len(house.mail_of("ann")) == 1
    assert len(audit(house)) == 1
    assert house.asked == ["far.example"]


def test_a_later_sender_hears_once_that_there_is_a_code(house: House) -> None:
    house.add("far", address="far@other.example", display="far@other.example")
    house.send(BOB, sender="ann", content=PLAIN)
    for _ in range(2):
        house.send(BOB, sender="eve", content=PLAIN.replace(b"ann@", b"eve@"))
    (note,) = letters(house, "eve")
    text = note.get_content()  # type: ignore[attr-defined]
    assert "has been given out already" in text
    assert "ann@example.com" in text
    assert "Code:" not in text
    assert len(house.mail_of("ann")) == 1


def test_until_he_has_joined_he_sees_mail_of_the_inviters_domain(house: House) -> None:
    house.send(BOB, sender="ann", content=PLAIN)
    found = guest(house)
    assert folders(house, found) == [0]
    row = found.guest
    assert row is not None
    run(
        house.engine.write(
            lambda txn: write_guest(txn, house.secrets, found.user_id, replace(row, inviter="zed@other.example"))
        )
    )
    house.send(BOB, sender="ann", content=PLAIN)
    assert folders(house, found) == [0, int(ServiceFolder.LATER)]
    run(house.engine.write(lambda txn: write_guest(txn, house.secrets, found.user_id, replace(row, joined_s=1))))
    house.send(BOB, sender="ann", content=PLAIN)
    assert folders(house, found) == [0, int(ServiceFolder.LATER), 0]


def folders(house: House, who: RecipientFacts) -> list[int]:
    """Where his messages go, by the keys that only his code opens."""

    def keys(txn: ReadTxn) -> KeyRing:
        bequest = read_bequest(txn, who.user_id)
        assert bequest is not None
        root = house.users["ann"].keys.open_bequest(who.user_id, bequest)
        ((credential, _),) = account_rows.credentials_of(txn, who.user_id)
        one = ways_in.read_keyed(txn, house.secrets, who.user_id, credential, kinds=frozenset(Kind))
        assert one is not None
        return ways_in.open_keys(one, root)

    ring = run(house.engine.read(keys))
    rows = run(house.engine.read(lambda txn: list(txn.scan(Table.IN, who.user_id, who.user_id + b"\xff" * 9))))
    found = []
    for _, value in rows:
        row = decode_in_row(value)
        found.append(Card(row.mid, ring.open_arrival(row.kid, row.info(who.user_id), row.sealed)).special_use)
    return found


def test_many_new_people_of_one_message_and_names_that_collide(house: House) -> None:
    wanted = ["a.b@c.example", "a@b.c.example", BOB, "bob@far.example", "Bob+x@far.example"]
    house.send(*wanted, sender="ann", content=PLAIN)
    names = {guest(house, one).address for one in wanted}
    assert ACCOUNT in names
    assert "a.b.c.example@guest.example.com" in names
    assert len(names) == 3
    assert len(audit(house)) == 3
    assert len(house.mail_of("ann")) == 3
    assert all(arrivals(house, guest(house, one)) == 1 for one in wanted)


def test_a_race_for_an_address_files_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    other = house.delivery.filing._invitations
    assert other is not None
    prepare, raced = other.prepare, []

    async def while_somebody_else(*given: object) -> object:
        made = await prepare(*given)  # type: ignore[arg-type]
        if not raced:
            raced.append(True)
            monkeypatch.setattr(other, "prepare", prepare)
            first = await prepare(*given)  # type: ignore[arg-type]
            await house.engine.write(first.write)
        return made

    monkeypatch.setattr(other, "prepare", while_somebody_else)
    house.send(BOB, "new@far.example", sender="ann", content=PLAIN)
    assert raced
    assert arrivals(house, guest(house)) == 1
    assert arrivals(house, guest(house, "new@far.example")) == 1
    # The race made both, so the message's own are never written.
    assert len(audit(house)) == 2


def test_invitations_of_one_sender_at_the_limit_and_past_it(tmp_path: Path) -> None:
    house = make(tmp_path, Invites("guest.example.com", When.ALWAYS, invitations_per_sender=3))
    house.send("a@far.example", "b@far.example", sender="ann", content=PLAIN)
    assert house.refusal("c@far.example", "d@far.example", sender="ann", content=PLAIN) == "450 4.7.1"
    assert facts(house, "c@far.example") is None
    house.send("c@far.example", sender="ann", content=PLAIN)
    house.send("a@far.example", sender="ann", content=PLAIN)
    assert house.refusal("d@far.example", sender="ann", content=PLAIN) == "450 4.7.1"
    house.send("d@far.example", sender="eve", content=PLAIN.replace(b"ann@", b"eve@"))
    house.seconds = NOW + 24 * 3600
    house.send("e@far.example", sender="ann", content=PLAIN)


def test_a_name_is_never_given_twice(house: House) -> None:
    house.send(BOB, sender="ann", content=PLAIN)
    run(Accounts(house.engine, house.secrets).remove(canonical(BOB)))
    assert facts(house, BOB) is None
    assert facts(house, ACCOUNT) is None
    house.send(BOB, sender="ann", content=PLAIN)
    second = guest(house).address
    assert second != ACCOUNT
    assert second.startswith("bob.far.example-")
    assert house.refusal(ACCOUNT, sender="ann", content=PLAIN) == "550 5.1.1"


def test_domains_whose_unknown_addresses_get_accounts(tmp_path: Path) -> None:
    domains = (
        InviteDomain("example.org", Role.MEMBER, ("ann@example.com",), ""),
        InviteDomain("branch.example", Role.GUEST, ("@example.com",), "de"),
        InviteDomain("closed.example", Role.GUEST, ("@example.org",), "de"),
    )
    house = make(tmp_path, Invites("guest.example.com", When.MARKED, domains=domains))
    names = [f"e{number}@example.org" for number in range(5)]
    house.send(*names, "x@branch.example", "x@closed.example", sender="ann", content=PLAIN)
    for name in names:
        found = guest(house, name)
        assert (found.address, found.role, found.octets_left) == (name, Role.MEMBER, None)
        assert found.guest is not None
        assert found.guest.ordinary == ""
        assert arrivals(house, found) == 1
    branch = guest(house, "x@branch.example")
    assert (branch.address, branch.role) == ("x.branch.example@guest.example.com", Role.GUEST)
    assert branch.guest is not None
    assert branch.guest.language == "de"
    assert routes(house) == [("x@closed.example", RouteKind.VERIFIED_TLS)]
    due = run(house.engine.read(lambda txn: [key for key, _ in txn.scan(Table.QDUE, b"") if key[:1] == b"\x04"]))
    assert len([one for one in due if branch.user_id in one]) <= 1
    assert len(house.mail_of("ann")) == 6
    assert house.refusal("new@example.org", sender="eve", content=PLAIN.replace(b"ann@", b"eve@")) == "550 5.1.1"
    assert house.refusal("new@example.org") == "550 5.1.1"


def test_what_is_held_comes_to_a_new_guest_when_its_time_has_come(house: House) -> None:
    sender = MailArguments(SmtpPath("ann", "example.com"), hold_for_s=3600)
    house.send(BOB, sender="ann", content=PLAIN, mail=sender)
    found = guest(house)
    assert arrivals(house, found) == 0
    (message,) = house.queued()
    ((to, _, _),) = message.recipients
    assert (str(to.path), to.route) == (ACCOUNT, RouteKind.SEALED)


def test_without_a_login_nobody_is_invited_and_guests_are_not_told_of(house: House) -> None:
    house.send(BOB, sender="ann", content=PLAIN)
    for to in (BOB, "nobody@far.example"):
        assert house.refusal(to) == "550 5.7.1"
    for to in (ACCOUNT, "nobody@guest.example.com"):
        assert house.refusal(to) == "550 5.7.1"


def test_who_is_told_that_guests_heard(house: House) -> None:
    house.send(BOB, sender="ann", content=PLAIN)
    found = guest(house)
    for address, expected in (("ann@example.com", True), ("eve@example.com", False)):
        one = canonical(address)
        assert (
            run(house.engine.read(lambda txn, one=one: has_heard(txn, house.secrets, found.user_id, one))) is expected
        )


def test_a_failed_transaction_leaves_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(txn: WriteTxn, *_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("certmaild.filing.write_arrivals", broken)
    with pytest.raises(RuntimeError):
        house.send(BOB, sender="ann", content=PLAIN)
    assert facts(house, BOB) is None
    assert audit(house) == []
    assert run(house.engine.read(lambda txn: list(txn.scan(Table.GUEST, b"")))) == []


class Proven:
    """An inspector, and his inspection, of a partner's mail."""

    proves_partner = True

    def begin(self, *_: object) -> "Proven":
        return self

    def check_recipient(self, *_: object) -> None: ...

    take_header = take_body = cancel = check_recipient

    async def finish(self, *_: object) -> Verdict:
        return NOT_LOOKED_AT

    def partner_addresses(self, *_: object) -> list[Address]:
        return [canonical("eva@partner.example")]


def test_a_guest_writes_back_to_a_proven_partner_under_his_account_name(house: House) -> None:
    house.send(BOB, sender="ann", content=PLAIN)
    found = guest(house)
    user = house.users["ann"]
    house.users["bob.far.example"] = user
    login = Login(found.user_id, ACCOUNT, CredentialId(1), False, user.keys)
    house.login = lambda name: login  # type: ignore[method-assign]
    own = MailArguments(SmtpPath("bob.far.example", "guest.example.com"))
    content = f"From: <{ACCOUNT}>\r\nSubject: hi\r\n\r\nHello.\r\n".encode()
    assert house.refusal("eva@partner.example", sender="bob", content=content, mail=own) == "550 5.7.1"
    house.delivery.inspector = Proven()  # type: ignore[assignment]
    house.send(ACCOUNT, content=b"From: eva@partner.example\r\n\r\nHello.\r\n")
    assert folders(house, found) == [0, int(ServiceFolder.LATER)]
    house.send("Eva@partner.example", sender="bob", content=content, mail=own)
    assert routes(house) == [("Eva@partner.example", RouteKind.PARTNER)]
    assert house.refusal("dan@partner.example", sender="bob", content=content, mail=own) == "550 5.7.1"
    ordinary = content.replace(ACCOUNT.encode(), BOB.encode())
    assert house.refusal("eva@partner.example", sender="bob", content=ordinary, mail=own) == "550 5.7.1"
    as_bob = MailArguments(SmtpPath("bob", "far.example"))
    assert house.refusal("eva@partner.example", sender="bob", content=content, mail=as_bob) == "550 5.7.1"
    house.send("ann", sender="bob", content=ordinary, mail=as_bob)


def test_a_long_header_is_read_beside_the_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    in_thread: list[int] = []

    async def counted(work: Callable[[], object]) -> object:
        in_thread.append(1)
        return work()

    monkeypatch.setattr(house.delivery.filing, "_in_thread", counted)
    house.send(BOB, sender="ann", content=PLAIN)
    assert not in_thread
    house.send(BOB, sender="ann", content=b"X: y\r\n" * 4000 + PLAIN)
    assert in_thread
