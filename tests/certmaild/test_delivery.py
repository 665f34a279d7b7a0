"""Delivery into the memory engine: what each recipient can open afterwards, and what is refused with which reply."""

import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from delivery_support import BOB, CONTENT, NOW, House
from support import memory_engine, run
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import ownership
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.blobs import BlobWriter
from certmaild.mailbox.errors import StoreFull, StoreUnavailable
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout import Use
from certmaild.mailbox.layout_accounts import SentCopies, State
from certmaild.mailbox.values import SpecialUse, SystemFlag
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import NULL_PATH
from certmaild.protocols.smtp.grammar import Path as SmtpPath
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments
from certmaild.routing import Hold
from certmaild.unfinished import Unfinished


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(memory_engine(), ServerSecrets.create(tmp_path / "secrets"))
    house.add("ann")
    house.add("bob", sent_copies=SentCopies.SERVER)
    house.add("carl", state=State.DISABLED)
    return house


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_message_arrives_sealed_with_its_own_trace(house: House, cut: int) -> None:
    queue_id = house.send("ann+x", "Bob", cut=cut)
    (to_ann,) = house.mail_of("ann")
    (to_bob,) = house.mail_of("bob")
    assert to_ann.content == CONTENT.replace(b"Return-Path: <forged@x.example>\r\n", b"") == to_bob.content
    assert house.blobs() == 1
    lines = to_ann.prefix.split(b"\r\n")
    assert lines[:2] == [b"Return-Path: <bob@partner.example>", b"Delivered-To: ann+x@example.com"]
    assert lines[2] == b"Received: from client.example ([192.0.2.7])"
    assert lines[3] == b"\tby mx.example.com with ESMTPS (TLSv1.3 AES) id " + queue_id.encode()
    assert lines[4].startswith(b"\tfor <ann+x@example.com>; Mon, 21 Sep 2026 ")
    assert b"ann" not in to_bob.prefix
    assert (to_ann.card.internal_date, to_ann.card.special_use, to_ann.card.flags) == (int(NOW), 0, 0)
    assert to_ann.card.reverse_path == b"bob@partner.example"
    assert b'"hi"' in to_ann.card.envelope
    use = run(house.engine.read(lambda txn: ownership.read_use(txn, house.secrets, UserId(house.users["ann"].user_id))))
    assert use == Use(len(to_ann.content) + len(to_ann.prefix), 1)
    assert house.delivery.unfinished.total == 0


def test_the_same_mailbox_twice_gets_one_copy(house: House) -> None:
    house.alias("sales", "ann")
    house.send("ann", "sales", "ANN+y")
    assert len(house.mail_of("ann")) == 1


def test_a_null_sender_is_taken(house: House) -> None:
    house.send("ann", mail=MailArguments(NULL_PATH))
    assert house.mail_of("ann")[0].prefix.startswith(b"Return-Path: <>\r\n")
    house.send("ann", sender="bob", content=b"From: bob@example.com\r\n\r\n", mail=MailArguments(NULL_PATH))


@pytest.mark.parametrize(
    ("to", "sender", "reply"),
    [
        ("nobody", None, "550 5.1.1"),
        ("carl", None, "550 5.2.1"),
        ("x@elsewhere.example", None, "550 5.7.1"),
        ("x@elsewhere.example", "bob", "550 5.7.1"),
        ("a..b", None, "553 5.1.3"),
    ],
)
def test_refused_recipients(house: House, to: str, sender: str | None, reply: str) -> None:
    assert house.refusal(to, sender=sender) == reply


def test_outside_recipients_are_refused_in_words(house: House) -> None:
    with pytest.raises(Refusal, match="does not send to other domains"):
        house.send("x@elsewhere.example", sender="bob")
    with pytest.raises(Refusal, match="Relaying denied"):
        house.send("x@elsewhere.example")


def test_quota_counts_what_is_declared(house: House) -> None:
    house.add("dora", octets_limit=2000)
    assert house.refusal("dora", mail=MailArguments(BOB, size=2001)) == "452 4.2.2"
    house.send("dora", mail=MailArguments(BOB, size=2000))
    # Once accepted it is taken, even over the limit; then the mailbox is full.
    house.send("dora", content=b"\r\n" + b"x" * 5000)
    assert house.refusal("dora") == "452 4.2.2"


def test_message_count_quota(house: House) -> None:
    house.add("dora", messages_limit=1)
    house.send("dora")
    assert house.refusal("dora") == "452 4.2.2"


def test_postmaster_and_abuse_always_reach_somebody(house: House) -> None:
    house.send("postmaster", "abuse")
    house.send("Postmaster@example.org")
    assert len(house.mail_of("ann")) == 2
    house.alias("postmaster", "bob")
    house.send("postmaster")
    assert len(house.mail_of("bob")) == 1
    house.alias("abuse", "carl")
    house.send("abuse")
    assert len(house.mail_of("ann")) == 3


def test_postmaster_without_domain(house: House) -> None:
    async def work() -> None:
        transaction = await house.delivery.begin(house.hop(), MailArguments(BOB))
        await transaction.add_recipient(RcptArguments(SmtpPath("postmaster", "")))
        transaction.write(CONTENT)
        await transaction.finish()

    run(work())
    assert len(house.mail_of("ann")) == 1


def test_a_store_without_members_has_no_postmaster(tmp_path: Path) -> None:
    house = House(memory_engine(), ServerSecrets.create(tmp_path / "secrets"))
    assert house.refusal("postmaster") == "550 5.1.1"


def test_submission_completes_the_header_and_removes_bcc(house: House) -> None:
    content = b"From: ann@example.com\r\nTo: bob@example.com\r\nBcc: carl@example.com\r\n\r\nx\r\n"
    house.send("bob", sender="ann", content=content)
    (arrived,) = house.mail_of("bob")
    assert re.fullmatch(
        rb"Date: Mon, 21 Sep 2026 [0-9:]{8} \+0000\r\nMessage-ID: <[0-9a-f]{32}@mx\.example\.com>\r\n"
        rb"From: ann@example\.com\r\nTo: bob@example\.com\r\n\r\nx\r\n",
        arrived.content,
    )
    assert b"192.0.2.7" not in arrived.prefix
    assert b"client.example" not in arrived.prefix
    assert b"with ESMTPSA " in arrived.prefix
    whole = b"Date: x\r\nMESSAGE-ID: <y>\r\nFrom: ann@example.com\r\n\r\n"
    house.send("bob", sender="ann", content=whole)
    assert house.mail_of("bob")[1].content == whole
    house.send("bob", sender="ann", content=b"no header at all\r\n")
    assert house.mail_of("bob")[2].content.endswith(b">\r\n\r\nno header at all\r\n")
    house.send("bob", sender="ann", content=b"Resent-From: ann@example.com\r\n\r\nx\r\n")
    assert house.mail_of("bob")[3].content.startswith(b"From: ann@example.com\r\nDate: ")


def test_senders_are_ones_own(house: House) -> None:
    house.alias("boss", "ann")
    house.send("bob", sender="ann", content=b"From: X <boss+a@example.com>\r\nSender: ann@example.com\r\n\r\n")
    for header in (
        b"From: bob@example.com\r\n",
        b"From: ann@example.com, bob@example.com\r\n",
        b"From: ann@example.com\r\nFrom: bob@example.com\r\n",
        b"From: ann@example.com\r\nSender: x@elsewhere.example\r\n",
        b"From: ann@example.com\r\nSENDER : <a..b@example.com>\r\n",
        b"From: unreadable\r\n",
    ):
        assert house.refusal("bob", sender="ann", content=header + b"\r\nx\r\n") == "550 5.7.1"
    assert house.refusal("bob", sender="ann", mail=MailArguments(SmtpPath("bob", "example.com"))) == "550 5.7.1"
    assert len(house.mail_of("bob")) == 1


def test_the_server_keeps_the_sent_copy_where_the_account_says_so(house: House) -> None:
    house.send("ann", sender="bob", content=b"From: bob@example.com\r\n\r\nx\r\n")
    (sent,) = house.mail_of("bob")
    assert (sent.card.special_use, sent.card.flags, sent.prefix) == (SpecialUse.SENT, SystemFlag.SEEN, b"")
    assert sent.content == house.mail_of("ann")[0].content
    assert house.blobs() == 1
    house.send("bob", sender="ann", content=b"From: ann@example.com\r\n\r\nx\r\n")
    assert len(house.mail_of("ann")) == 1


def test_a_message_in_circles_is_refused(house: House) -> None:
    house.send("ann", content=b"Received: x\r\n" * 100 + b"\r\n")
    assert house.refusal("ann", content=b"Received: x\r\n" * 101 + b"\r\n") == "554 5.4.6"


def test_header_at_and_past_a_limit_that_was_set(tmp_path: Path) -> None:
    house = House(memory_engine(), ServerSecrets.create(tmp_path / "secrets"), replace(Limits(), header_block=100))
    house.add("ann")
    house.send("ann", content=b"Subject: " + b"y" * 89 + b"\r\n\r\nbody\r\n")
    assert house.refusal("ann", content=b"Subject: " + b"y" * 90 + b"\r\n\r\nbody\r\n") == "552 5.3.4"


def test_header_past_its_limit_is_refused(house: House) -> None:
    assert house.refusal("ann", content=b"X: " + b"y" * (1 << 20) + b"\r\n\r\n") == "552 5.3.4"


def test_large_headers_are_parsed_in_a_thread(house: House) -> None:
    """Also those of messages inside; a hostile one would hold the reactor for half a second."""
    worked: list[object] = []

    async def in_thread(work):  # type: ignore[no-untyped-def]
        worked.append(work)
        return work()

    def pieces(content: bytes) -> int:
        worked.clear()
        house.send("ann", content=content, cut=16384)
        assert house.mail_of("ann")[-1].content == content
        return len(worked)

    house.delivery.in_thread = in_thread
    large = b"To: " + b",\r\n ".join([b"a@b.example"] * 40_000) + b"\r\n"
    body = b"line\r\n" * 100_000
    assert pieces(b"Subject: x\r\n\r\n" + body[:100_000]) == 0
    assert pieces(b"Subject: x\r\n\r\n" + body) == 1
    assert pieces(large[:140_000].rpartition(b",")[0] + b"\r\n\r\nbody\r\n") == 1
    assert pieces(large + b"\r\n" + body) == 1
    inside = b"Content-Type: message/rfc822\r\n\r\n" + large
    assert pieces(inside + b"\r\n" + body) > 10
    assert pieces(inside) > 10
    assert getattr(worked[-1], "__name__", "") == "finish"


def test_many_recipients_are_sealed_by_slices(house: House) -> None:
    names = [f"u{number}" for number in range(60)]
    for name in names:
        house.add(name)
    house.send(*names)
    assert all(len(house.mail_of(name)) == 1 for name in names)
    assert house.blobs() == 1


def test_a_large_message_streams(house: House) -> None:
    body = Random(1).randbytes(9_000_000)
    house.send("ann", content=b"Subject: big\r\n\r\n" + body, cut=16384)
    (arrived,) = house.mail_of("ann")
    assert arrived.content == b"Subject: big\r\n\r\n" + body


def test_free_disk_is_not_asked_for_every_message(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.send("ann")
    monkeypatch.setattr(house.engine, "free_octets", lambda: 0)
    house.send("ann")


def test_the_log_says_when_room_ends_and_when_there_is_some_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certmaild.delivery.ROOM_TIME", 0)
    with capturedLogs() as said:
        house.send("ann")
        with monkeypatch.context() as full:
            full.setattr(house.engine, "free_octets", lambda: 0)
            assert house.refusal("ann") == house.refusal("ann") == "452 4.3.1"
        house.send("ann")
        house.send("ann")
    words = [one["log_format"].split(":")[0] for one in said if one["log_namespace"] == "certmaild.delivery"]
    assert words == ["new mail is refused", "new mail is taken again"]


def test_no_room_is_said_at_mail(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.engine, "free_octets", lambda: 1000)
    assert house.refusal("ann", mail=MailArguments(BOB, size=1000)) == "452 4.3.1"
    house.send("ann", mail=MailArguments(BOB, size=999))


@pytest.mark.parametrize(("error", "reply"), [(StoreFull(), "452 4.3.1"), (StoreUnavailable(), "451 4.3.0")])
def test_a_failed_commit_is_temporary(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception, reply: str
) -> None:
    def fail(*_: object, **__: object) -> "Deferred[None]":
        failed: Deferred[None] = Deferred()
        failed.errback(error)
        return failed

    monkeypatch.setattr(house.engine, "write", fail)
    assert house.refusal("ann") == reply
    assert house.refusal("ann", content=b"X: y\r\n\r\n" + Random(1).randbytes(12_000_000), cut=1 << 20) == reply


def test_a_store_that_fails_at_once_while_content_streams(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreFull

    monkeypatch.setattr(BlobWriter, "write", fail)
    assert house.refusal("ann") == "452 4.3.1"
    assert house.refusal("ann", content=b"no header\r\n") == "452 4.3.1"


def test_a_route_that_is_not_built_yet_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def route(*_: object, **__: object) -> Hold:
        return Hold(canonical("ann@example.com"), "wait")

    monkeypatch.setattr(house.delivery.router, "route", route)
    assert house.refusal("ann") == "550 5.7.1"


def test_a_sender_that_is_no_address_is_not_ones_own(house: House) -> None:
    assert house.refusal("bob", sender="ann", mail=MailArguments(SmtpPath("a..b", "example.com"))) == "550 5.7.1"


def test_any_sender_may_write_from_outside(house: House) -> None:
    house.send("ann", mail=MailArguments(SmtpPath(".odd..", "docomo.example")))
    assert house.mail_of("ann")[0].prefix.startswith(b"Return-Path: <.odd..@docomo.example>\r\n")


def test_unfinished_content_at_and_past_its_limits() -> None:
    unfinished = Unfinished(replace(Limits(), unfinished_per_address=100, unfinished=250))
    unfinished.take("a", 100)
    with pytest.raises(Refusal, match="452"):
        unfinished.take("a", 1)
    unfinished.take("b", 100)
    unfinished.take(None, 50)
    with pytest.raises(Refusal, match="452"):
        unfinished.take(None, 1)
    unfinished.give_back("a", 100)
    unfinished.take(None, 100)
    unfinished.give_back("b", 40)
    unfinished.give_back("b", 60)
    unfinished.give_back(None, 150)
    assert unfinished.total == 0


def test_unfinished_content_of_one_address(tmp_path: Path) -> None:
    limits = replace(Limits(), unfinished_per_address=200)
    house = House(memory_engine(), ServerSecrets.create(tmp_path / "secrets"), limits)
    house.add("ann")

    async def work() -> None:
        first = await house.delivery.begin(house.hop(), MailArguments(BOB))
        await first.add_recipient(RcptArguments(SmtpPath("ann", "example.com")))
        first.write(b"Subject: x\r\n\r\n" + b"y" * 150)
        second = await house.delivery.begin(house.hop(), MailArguments(BOB))
        with pytest.raises(Refusal, match=r"452 4\.3\.1"):
            second.write(b"z" * 50)
        second.abort()
        await first.finish()

    run(work())
    house.send("ann", content=b"\r\n" + b"x" * 198)
    with pytest.raises(Refusal):
        house.send("ann", content=b"\r\n" + b"x" * 199)


def test_aborting_twice_and_writing_after_it(house: House) -> None:
    async def work() -> None:
        transaction = await house.delivery.begin(house.hop(), MailArguments(BOB))
        transaction.write(CONTENT)
        transaction.abort()
        transaction.abort()
        with pytest.raises(Refusal):
            transaction.write(CONTENT)

    run(work())
    assert house.delivery.unfinished.total == 0
