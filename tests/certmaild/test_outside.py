"""Submitted messages for other domains: what is queued, in the same transaction as the copies that stay here."""

import email
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import date
from email.policy import default
from pathlib import Path
from random import Random
from typing import Any

import dkim
import pytest
from delivery_support import NOW, House
from support import memory_engine, run

from certmaild.config import default as configuration
from certmaild.dkim.key_files import KeyFiles
from certmaild.filing import held_until
from certmaild.held_mail import CourierWithMailboxes, PlannerWithMailboxes
from certmaild.inbound.inspection import Verdict
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.tls_values import Level
from certmaild.mailbox import daily_counts, ownership
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Role, SentCopies
from certmaild.mailbox.layout_guests import Counted
from certmaild.mailbox.layout_queue import TaskState
from certmaild.outbound.interfaces import CourierConnection, News, Occasion, QueuedMessage, Terms
from certmaild.outbound.values import (
    Delivered,
    Destination,
    Envelope,
    Fate,
    Notify,
    OutgoingMessage,
    Plan,
    Problem,
    Recipient,
    RouteKind,
)
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import PartnerRecord
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import NULL_PATH
from certmaild.protocols.smtp.grammar import Path as SmtpPath
from certmaild.protocols.smtp.parameters import BodyKind, DeliverBy, MailArguments
from certmaild.reports.service_mail import NotWritable
from certmaild.welcome import deliver_welcome

ANN = SmtpPath("ann", "example.com")
OWN = (
    b"From: Ann <ann@example.com>\r\nBcc: eve@hidden.example\r\nReturn-Path: <x@y.example>\r\n"
    b"Subject: hi\r\n\r\nHello.\r\n"
)


@pytest.fixture
def house(tmp_path: Path) -> House:
    book = PartnerBook(
        [
            PartnerRecord("partner.example", subdomains=True, route=("mx.partner.example:25",)),
            PartnerRecord("clear.example", level=Level.MAY),
        ]
    )
    house = House(memory_engine(), ServerSecrets.create(tmp_path / "secrets"), partners=book)
    house.add("ann")
    house.add("bob", sent_copies=SentCopies.SERVER)
    house.add("gus", role=Role.GUEST)
    return house


def mail(**fields: object) -> MailArguments:
    return MailArguments(ANN, **fields)  # type: ignore[arg-type]


def test_one_transaction_for_who_is_here_and_who_is_not(house: House) -> None:
    queue_id = house.send(
        "bob", "Dan@Other.Example", "eva@a.partner.example", "fay@clear.example", sender="ann", content=OWN
    )
    (message,) = house.queued()
    assert message.queue_id == queue_id
    assert message.sender == UserId(house.users["ann"].user_id)
    assert [(str(to.path), place, state) for to, place, state in message.recipients] == [
        ("Dan@other.example", Destination(RouteKind.VERIFIED_TLS, "other.example"), TaskState.READY),
        ("eva@a.partner.example", Destination(RouteKind.PARTNER, "partner.example"), TaskState.READY),
        ("fay@clear.example", Destination(RouteKind.PLAIN, "clear.example"), TaskState.READY),
    ]
    assert [to.reason.split(",")[0] for to, _, _ in message.recipients] == [
        "other.example is no partner: the default",
        "partner partner.example",
        "partner clear.example",
    ]
    assert message.envelope == Envelope(ANN, body=BodyKind.SEVEN_BIT)
    assert len(house.mail_of("bob")) == 1 and not house.mail_of("ann")
    assert house.references() == [2]
    header, _, body = message.content.partition(b"\r\n\r\n")
    assert body == b"Hello.\r\n"
    lines = header.split(b"\r\n")
    assert lines[0] == b"Received: by mx.example.com with ESMTPSA (TLSv1.3 AES) id " + queue_id.encode() + b";"
    assert lines[1].startswith(b"\tMon, 21 Sep 2026 ")
    assert b"192.0.2.7" not in header and b"hidden.example" not in header and b"Return-Path" not in header
    assert b"dan" not in header.lower()
    assert {name.partition(b":")[0] for name in lines[2:]} == {b"Date", b"Message-ID", b"From", b"Subject"}


def test_only_outside(house: House) -> None:
    house.send("dan@other.example", "DAN@other.example", sender="ann", content=OWN)
    (message,) = house.queued()
    assert len(message.recipients) == 1
    assert house.references() == [1]


def test_a_sent_copy_beside_the_queue(house: House) -> None:
    house.send("dan@other.example", sender="bob", content=OWN.replace(b"Ann <ann@", b"Bob <bob@"))
    assert house.references() == [2]
    (copy,) = house.mail_of("bob")
    assert b"Received" not in copy.prefix + copy.content


@pytest.mark.parametrize("cut", [0, 7, 65536])
def test_large_content_is_queued_as_it_came(house: House, cut: int) -> None:
    line = Random(5).randbytes(36).hex().encode() + b"\r\n"
    content = OWN.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + line * ((5 * 2**20 if cut != 7 else 2**16) // len(line))
    house.send("dan@other.example", "bob", sender="ann", content=content, cut=cut)
    (message,) = house.queued()
    assert message.content.partition(b"\r\n\r\n")[2] == content.partition(b"\r\n\r\n")[2]
    assert house.references() == [2]
    assert run(house.engine.read(lambda txn: list(txn.scan(Table.STAGE, b"")))) == []


def test_nothing_is_kept_when_the_commit_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise Refusal(451, "4.3.0", "no")

    monkeypatch.setattr(house.correspondence.spool, "enqueue", fail)
    content = OWN + b"x" * 70 * 1024 + b"\r\n" + Random(1).randbytes(3 * 2**20).hex().encode() + b"\r\n"
    assert house.refusal("bob", "dan@other.example", sender="ann", content=content, cut=65536) == "451 4.3.0"
    assert not house.mail_of("bob") and not house.queued()
    for table in (Table.BLOB, Table.REF, Table.STAGE):
        assert run(house.engine.read(lambda txn, table=table: list(txn.scan(table, b"")))) == []


def test_what_the_content_says(house: House) -> None:
    def envelope(content: bytes, to: str = "dan@other.example", **fields: object) -> Envelope:
        before = {message.queue_id for message in house.queued()}
        house.send(to, sender="ann", content=content, mail=mail(**fields))
        return next(message.envelope for message in house.queued() if message.queue_id not in before)

    assert envelope(OWN, body=BodyKind.EIGHT_BIT).body is BodyKind.SEVEN_BIT
    eight = envelope(OWN + "Größe\r\n".encode())
    assert (eight.body, eight.needs_utf8) == (BodyKind.EIGHT_BIT, False)
    late = envelope(OWN + b"x" * 300_000 + b"\r\n\xe4\r\n")
    assert late.body is BodyKind.EIGHT_BIT
    subject = OWN.replace(b"hi", "Größe".encode())
    assert envelope(subject, utf8=True).needs_utf8
    assert not envelope(subject).needs_utf8
    assert envelope(OWN, "jörg@other.example", utf8=True).needs_utf8
    assert not envelope(OWN, "dan@bücher.example", utf8=True).needs_utf8
    assert envelope(b"TLS-Required: No\r\n" + OWN).tls_optional
    assert not envelope(b"TLS-Required: maybe\r\n" + OWN).tls_optional
    assert not envelope(b"TLS-Required: No\r\nTLS-Required: No\r\n" + OWN).tls_optional


def test_what_mail_asked_for(house: House) -> None:
    house.send(
        "dan@other.example",
        sender="ann",
        content=OWN,
        mail=mail(
            require_tls=True,
            returns_full=True,
            envid=b"Q1",
            priority=4,
            deliver_by=DeliverBy(60, returns=True, traces=True),
            body=BodyKind.EIGHT_BIT,
        ),
        notify=frozenset({Notify.NEVER}),
        orcpt=b"rfc822;Dan@other.example",
    )
    (message,) = house.queued()
    assert message.envelope == Envelope(
        ANN,
        BodyKind.SEVEN_BIT,
        require_tls=True,
        envid=b"Q1",
        returns_headers_only=False,
        priority=4,
        deliver_by_s=int(NOW) + 60,
        by_mode="RT",
    )
    ((to, _, _),) = message.recipients
    assert (to.notify, to.orcpt) == (frozenset({Notify.NEVER}), b"rfc822;Dan@other.example")


def test_what_is_refused(house: House) -> None:
    assert house.refusal("dan@other.example") == "550 5.7.1"
    assert house.refusal("dan@other.example", sender="gus", content=OWN, mail=MailArguments(NULL_PATH)) == "550 5.7.1"
    assert house.refusal("fay@clear.example", sender="ann", mail=mail(require_tls=True)) == "550 5.7.30"
    assert house.refusal("dan@other.example", sender="ann") == "550 5.7.1"  # CONTENT is From bob@partner.example
    assert not house.queued()


def test_a_message_is_held_for_all_alike(house: House) -> None:
    house.send("bob", "dan@other.example", sender="ann", content=OWN, mail=mail(hold_for_s=3600))
    (message,) = house.queued()
    assert message.envelope.hold_until_s == int(NOW) + 3600
    assert {(str(to.path), place.kind, state) for to, place, state in message.recipients} == {
        ("bob@example.com", RouteKind.SEALED, TaskState.WAITING),
        ("dan@other.example", RouteKind.VERIFIED_TLS, TaskState.WAITING),
    }
    assert not house.mail_of("bob")
    house.send("bob", sender="ann", content=OWN, mail=mail(hold_until_s=int(NOW) - 1))
    assert len(house.mail_of("bob")) == 1


def test_hold_time_at_and_past_its_limit(house: House) -> None:
    longest = house.limits.hold_time
    house.send("bob", sender="ann", content=OWN, mail=mail(hold_for_s=longest))
    house.send("bob", sender="ann", content=OWN, mail=mail(hold_until_s=int(NOW) + longest))
    assert house.refusal("bob", sender="ann", mail=mail(hold_for_s=longest + 1)) == "501 5.5.4"
    assert house.refusal("bob", sender="ann", mail=mail(hold_until_s=int(NOW) + longest + 1)) == "501 5.5.4"


def test_recipients_elsewhere_at_and_past_the_limit(house: House) -> None:
    house.delivery.settings = replace(house.delivery.settings, limits=replace(house.limits, recipients_elsewhere=3))
    house.send("dan@other.example", "eva@a.partner.example", "bob", sender="ann", content=OWN)
    assert house.refusal("x@other.example", "y@other.example", "bob", sender="ann", content=OWN) == "450 4.7.1"
    assert (len(house.queued()), len(house.mail_of("bob"))) == (1, 1)
    house.send("x@other.example", sender="ann", content=OWN)
    assert house.refusal("y@other.example", sender="ann", content=OWN) == "450 4.7.1"
    # Others, and mail that stays in the house, are not counted.
    house.send("dan@other.example", sender="bob", content=OWN.replace(b"ann@", b"bob@"))
    house.send("bob", sender="ann", content=OWN)
    user = UserId(house.users["ann"].user_id)

    def counted(now: float) -> int:
        return run(house.engine.read(lambda txn: daily_counts.count(txn, house.secrets, user, Counted.SENT, int(now))))

    assert (counted(NOW), counted(NOW + 23 * 3600 - 1), counted(NOW + 24 * 3600)) == (3, 3, 0)


def verified(content: bytes, records: dict[str, str]) -> bool:
    """Whether the RSA signature holds (dkimpy needs another library for Ed25519)."""

    def answer(name: bytes | str, timeout: float = 5) -> bytes | None:
        found = records.get((name.decode() if isinstance(name, bytes) else name).rstrip("."))
        return None if found is None else found.encode()

    kinds = re.findall(rb"^DKIM-Signature: v=1; a=([a-z0-9-]+);", content, re.MULTILINE)
    assert sorted(kinds) == [b"ed25519-sha256", b"rsa-sha256"]
    try:
        return bool(dkim.DKIM(content).verify(kinds.index(b"rsa-sha256"), dnsfunc=answer))
    except dkim.ValidationError:
        return False


@pytest.mark.parametrize("cut", [0, 1000])
def test_what_leaves_is_signed_and_what_stays_is_not(house: House, tmp_path: Path, cut: int) -> None:
    pair = KeyFiles(tmp_path).make(date(2026, 9, 1))
    records = dict(pair.records("example.com"))
    house = House(house.engine, house.secrets, partners=house.partners, data=str(tmp_path), users=house.users)
    long = OWN + b"line of a longer message\r\n" * 20_000
    for content in (OWN, long):
        house.send("bob", "dan@other.example", sender="ann", content=content, cut=cut)
    for message in house.queued():
        assert message.content.startswith(b"Received: by mx.example.com")
        assert verified(message.content, records)
        assert not verified(message.content + b"more\r\n", records)
    assert all(b"DKIM-Signature" not in arrived.prefix + arrived.content for arrived in house.mail_of("bob"))
    assert report(house, sender=SmtpPath("eve", "far.example"), to=DAN)
    (service,) = [message for message in house.queued() if message.sender is None]
    assert verified(service.content, records)


# Reports.


def read(content: bytes) -> tuple[email.message.Message, str, str]:
    """A report: the message, its words on one line, and its status part."""
    message = email.message_from_bytes(content, policy=default)
    return message, " ".join(message.get_payload(0).get_content().split()), message.get_payload(1).as_string()


UNKNOWN = Problem(True, 550, "5.1.1", "There is no such mailbox.", "mx.other.example", "550 5.1.1 Unknown")


def report(
    house: House,
    *,
    sender: SmtpPath,
    to: Recipient,
    occasion: Occasion = Occasion.FAILED,
    fate: Fate = UNKNOWN,
    by_mode: str = "",
    owner: str | None = None,
) -> bool:
    """Have a report filed; whether there is one."""
    user_id = None if owner is None else UserId(house.users[owner].user_id)

    async def header() -> bytes:
        return OWN.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    async def work() -> bool:
        envelope = Envelope(sender, require_tls=True, by_mode=by_mode)
        queued = QueuedMessage("00" * 6, envelope, user_id, int(NOW) - 60, 100, header)
        filed = await house.correspondence.reporter.prepare(queued, [News(to, occasion, fate, 1, int(NOW))])
        if filed is not None:
            await house.engine.write(filed)
        return filed is not None

    return run(work())


DAN = Recipient(SmtpPath("dan", "other.example"), RouteKind.VERIFIED_TLS, "the default")


def test_a_member_reads_in_his_own_mailbox_what_became_of_it(house: House) -> None:
    assert report(house, sender=SmtpPath("ann+list", "example.com"), to=DAN)
    (arrived,) = house.mail_of("ann")
    assert arrived.prefix.startswith(b"Return-Path: <>\r\nDelivered-To: ann+list@example.com\r\n")
    assert arrived.card.reverse_path == b""
    message, words, status = read(arrived.content)
    assert message["To"] == "ann+list@example.com"
    assert words.startswith("Your message was not delivered") and "Its subject is: hi" in words
    assert "Action: failed" in status
    assert not house.queued() and b"hidden.example" not in arrived.content
    assert house.references() == [1]


def test_who_sent_from_elsewhere_hears_by_the_queue(house: House) -> None:
    assert report(house, sender=SmtpPath("eve", "far.example"), to=DAN)
    (message,) = house.queued()
    ((to, place, _),) = message.recipients
    assert (str(to.path), to.route, to.notify) == ("eve@far.example", RouteKind.SERVICE, {Notify.NEVER})
    assert place == Destination(RouteKind.SERVICE, "far.example")
    assert message.envelope == Envelope(NULL_PATH, BodyKind.SEVEN_BIT, require_tls=True)
    assert message.sender is None
    assert message.content.startswith(b"Received: by mx.example.com id " + message.queue_id.encode())
    assert "Its subject is" not in read(message.content)[1]


def test_a_member_hears_although_the_address_was_taken_from_him(house: House) -> None:
    assert report(house, sender=SmtpPath("former", "example.com"), to=DAN, owner="ann")
    (arrived,) = house.mail_of("ann")
    assert b"\r\nDelivered-To: former@example.com\r\n" in arrived.prefix


def test_who_gets_no_report(house: House) -> None:
    assert not report(house, sender=NULL_PATH, to=DAN)
    assert not report(house, sender=SmtpPath("gone", "example.com"), to=DAN)
    for notify in (Notify.NEVER, Notify.SUCCESS, Notify.DELAY):
        to = Recipient(DAN.path, DAN.route, DAN.reason, frozenset({notify}))
        assert not report(house, sender=ANN, to=to)
    for occasion, notify in (
        (Occasion.DELAYED, Notify.FAILURE),
        (Occasion.WARNED, Notify.FAILURE),
        (Occasion.RELAYED, Notify.DELAY),
    ):
        to = Recipient(DAN.path, DAN.route, DAN.reason, frozenset({notify}))
        assert not report(house, sender=ANN, to=to, occasion=occasion)
    assert not house.mail_of("ann") and not house.queued()


class Vouching:
    """An inspector, and his inspection, who knows the sender."""

    def begin(self, *_: object) -> "Vouching":
        return self

    def check_recipient(self, *_: object) -> None: ...

    take_header = take_body = check_recipient
    proves_partner = False

    def partner_addresses(self, *_: object) -> list[Address]:
        return []

    async def finish(self, *_: object) -> Verdict:
        return Verdict(sender_is_proven=True)

    def cancel(self) -> None: ...


def test_success_is_reported_with_the_message_itself(house: House) -> None:
    asked = {"notify": frozenset({Notify.SUCCESS})}
    house.send("bob", sender="ann", content=OWN, mail=mail(envid=b"Q7"), **asked)
    assert len(house.mail_of("bob")) == 1
    (arrived,) = house.mail_of("ann")
    _, words, status = read(arrived.content)
    assert words.startswith("Your message lies in the recipient's mailbox. To bob@example.com")
    assert "Action: delivered" in status and "Original-Envelope-Id: Q7" in status and "Remote-MTA" not in status
    # Anybody may write anybody's address into MAIL FROM: who is written there hears nothing of it.
    house.send("bob", **asked)
    assert not house.queued()
    house.delivery.inspector = Vouching()  # type: ignore[assignment]
    house.send("bob", **asked)
    (to_partner,) = house.queued()
    assert str(to_partner.recipients[0][0].path) == "bob@partner.example"
    house.send("bob", mail=MailArguments(NULL_PATH), **asked)
    assert len(house.queued()) == 1


# Letters.


def letter(text: str) -> email.message.EmailMessage:
    made = email.message.EmailMessage()
    made["Subject"] = "A notice"
    made.set_content(text)
    return made


def test_the_server_writes_to_somebody_here_and_elsewhere(house: House) -> None:
    mailer = house.correspondence.mail
    run(mailer.write(letter("Grüße.\n"), "postmaster"))
    (arrived,) = house.mail_of("ann")
    made = email.message_from_bytes(arrived.content, policy=default)
    assert made["From"] == "certmaild <postmaster@example.com>" and made["To"] == "postmaster@example.com"
    assert made["Auto-Submitted"] == "auto-generated" and made["Date"] and made["Message-ID"]
    assert made.get_content() == "Grüße.\r\n" or made.get_content() == "Grüße.\n"
    run(mailer.write(letter("Hello.\n"), "postmaster@partner.example"))
    (message,) = house.queued()
    assert message.recipients[0][1] == Destination(RouteKind.SERVICE, "partner.example")
    assert re.search(rb"\r\nTo: postmaster@partner\.example\r\n", message.content)
    assert b"\n" not in message.content.replace(b"\r\n", b"")


def test_who_cannot_be_written_to(house: House) -> None:
    mailer = house.correspondence.mail
    for to in ("nobody@example.com", "bad..@other.example"):
        with pytest.raises(NotWritable):
            run(mailer.write(letter("x"), to))
    assert not house.queued()


def test_a_letter_over_quota_is_read_all_the_same(house: House) -> None:
    house.add("dora", octets_limit=10)
    run(house.correspondence.mail.write(letter("x"), "dora@example.com"))
    assert len(house.mail_of("dora")) == 1


# What was held comes in time.


def outgoing(house: House) -> OutgoingMessage:
    """The oldest in the queue, for its recipients here."""
    message = house.queued()[0]
    here = tuple(to for to, _, _ in message.recipients if to.route is RouteKind.SEALED)

    async def content() -> AsyncIterator[bytes]:
        yield message.content[:100]
        yield message.content[100:]

    return OutgoingMessage(message.envelope, here, len(message.content), content, message.queue_id)


async def held_connection(house: House) -> CourierConnection:
    """What the runner gets for a destination here."""
    nothing_outside: Any = object()
    plan = await PlannerWithMailboxes(nothing_outside).plan(Destination(RouteKind.SEALED, "example.com"), Terms.NORMAL)
    assert isinstance(plan, Plan)
    connection = await CourierWithMailboxes(nothing_outside, house.delivery).connect(plan)
    assert not isinstance(connection, Problem)
    return connection


def test_what_was_held_comes_into_the_mailboxes_in_its_time(house: House) -> None:
    house.add("dora", octets_limit=2000)
    asked = {"notify": frozenset({Notify.SUCCESS})}
    house.send("bob", "dora", sender="ann", content=OWN, mail=mail(hold_for_s=60), **asked)
    dora = UserId(house.users["dora"].user_id)
    run(house.engine.write(lambda txn: ownership.add_use(txn, house.secrets, dora, 2000, 1)))
    ends: list[str] = []

    async def carry() -> Mapping[Recipient, Fate]:
        connection = await held_connection(house)
        fates = await connection.send(outgoing(house), lambda: ends.append("end"))
        assert connection.is_open
        await connection.close()
        return fates

    fates = {str(to.path): fate for to, fate in run(carry()).items()}
    assert isinstance(fates["bob@example.com"], Delivered)
    full = fates["dora@example.com"]
    assert isinstance(full, Problem) and not full.permanent and full.words == "The mailbox is full."
    (arrived,) = house.mail_of("bob")
    assert arrived.content.startswith(b"Received: by mx.example.com with ESMTPSA")
    assert arrived.prefix.startswith(b"Return-Path: <ann@example.com>\r\nDelivered-To: bob@example.com\r\n")
    assert not house.mail_of("dora") and ends == ["end"]


def test_what_was_held_is_not_filed_by_who_lost_the_lead(house: House) -> None:
    house.send("bob", sender="ann", content=OWN, mail=mail(hold_for_s=60))

    def lost() -> None:
        raise ZeroDivisionError

    async def carry() -> None:
        await (await held_connection(house)).send(outgoing(house), lost)

    with pytest.raises(ZeroDivisionError):
        run(carry())
    assert not house.mail_of("bob") and house.delivery.unfinished.total == 0


def test_a_report_says_of_what_was_held_that_it_is_delivered(house: House) -> None:
    to = Recipient(SmtpPath("bob", "example.com"), RouteKind.SEALED, "a mailbox here", frozenset({Notify.SUCCESS}))
    assert report(house, sender=ANN, to=to, occasion=Occasion.RELAYED, fate=Delivered("", "250 2.0.0 Ok", None))
    _, words, status = read(house.mail_of("ann")[0].content)
    assert words.startswith("Your message lies in the recipient's mailbox") and "Action: delivered" in status


def test_a_trace_is_reported_at_each_relay(house: House) -> None:
    taken = Delivered("mx.other.example", "250 Ok", None)
    assert not report(house, sender=ANN, to=DAN, occasion=Occasion.RELAYED, fate=taken)
    assert report(house, sender=ANN, to=DAN, occasion=Occasion.RELAYED, fate=taken, by_mode="NT")
    never = Recipient(DAN.path, DAN.route, DAN.reason, frozenset({Notify.NEVER}))
    assert not report(house, sender=ANN, to=never, occasion=Occasion.RELAYED, fate=taken, by_mode="NT")


def test_a_newcomer_is_welcomed_without_a_link(house: House) -> None:
    config = replace(configuration("/nonexistent"), hostname="mx.example.com", domains=("example.com",))
    run(deliver_welcome(house.engine, house.secrets, config, "ann@example.com"))
    (arrived,) = house.mail_of("ann")
    made = email.message_from_bytes(arrived.content, policy=default)
    assert made["Subject"] == "Welcome to your sealed mailbox"
    assert made["From"] == "certmaild <postmaster@example.com>"
    text = made.get_content()
    assert "certmaild device add ann@example.com --name phone" in text
    assert b"=\n" not in arrived.content.replace(b"\r", b""), "curl shows it as it is stored"
    assert not re.search(r"://|www\.|mailto:|href", text, re.IGNORECASE)


def test_what_is_held_is_held_no_second_less() -> None:
    assert held_until(mail(hold_for_s=3), 10.9) == 14
    assert held_until(mail(hold_for_s=3), 10.0) == 13
    assert held_until(mail(hold_until_s=12), 10.9) == 12
