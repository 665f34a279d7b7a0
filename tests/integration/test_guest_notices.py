"""Notices by the real daemon and a Postfix at the guests' ordinary addresses: what comes, how often, and who hears when
none can come. That Postfix speaks no TLS: a notice goes there all the same, and nothing else does."""

import re
import tempfile
import time
from collections.abc import Iterator
from email.policy import SMTP
from pathlib import Path

import dkim
import pytest
from enrol import URI, first_log_in, invite
from guest_support import GuestHouse, guest_house
from guest_world import GUESTS, ORDINARY, guest_world
from person import PICKUP_CODE, text_of
from postfix import why_not

pytest.importorskip("nacl", reason="dkimpy checks Ed25519 with it")
pytestmark = pytest.mark.integration
GONE = f"gone@{ORDINARY}"
REFUSES = f"smtpd_recipient_restrictions = check_recipient_access inline:{{{{{GONE} = 550 5.1.1 no such user, see http://x.example/help}}}}"


@pytest.fixture(scope="module")
def house() -> Iterator[GuestHouse]:
    if reason := why_not():
        pytest.skip(reason)
    # A short name: Postfix's sockets lie below.
    with (
        tempfile.TemporaryDirectory(prefix="notices", dir="/tmp") as folder,
        guest_world(Path(folder), REFUSES, "smtpd_tls_security_level = none") as world,
    ):
        tables = 'when = "marked"\nlanguages = ["en", "de"]\nnotice_quiet = "2s"\n'
        with guest_house(world, Path(folder) / "certmaild", invite=tables) as made:
            yield made


def test_it_comes_whole_signed_and_without_a_link(house: GuestHouse) -> None:
    printed = house.daemon.command("dkim", "make")
    records = {
        name.encode(): "".join(re.findall(r'"([^"]*)"', text)).encode()
        for name, text in (line.split(" IN TXT ") for line in printed.splitlines() if " IN TXT " in line)
    }
    ordinary = house.stranger("signed")
    sender = f'"Ann Example" <{house.member.address}>'
    house.member.submit(ordinary, Subject="* Secret results", body="They are normal.\n", sender=sender)
    (notice,) = house.post.wait_for(ordinary)
    octets = notice.as_bytes(policy=SMTP)
    assert octets.count(b"DKIM-Signature:") == 2
    for number in range(2):
        assert dkim.DKIM(octets).verify(number, dnsfunc=lambda name, timeout=5: records[name])
    assert notice["Return-Path"] == "<>" and notice["Auto-Submitted"] == "auto-generated"
    assert notice["From"] == "certmaild <postmaster@example.com>" and notice["To"] == ordinary
    assert notice["Reply-To"] is None
    assert notice.get_content_type() == "text/plain" and not notice.is_multipart()
    assert notice["Content-Language"] == "en, de"
    text = text_of(notice)
    account = next(line.split()[-1] for line in text.splitlines() if "E-mail address:" in line)
    assert account.endswith(f"@{GUESTS}")
    assert f"Ann Example ({house.member.address}) has written to you." in text
    assert f"{house.member.address}) hat Ihnen geschrieben." in text
    for protocol in ("imaps", "pop3s", "submissions"):
        assert f" {house.daemon.ports[protocol]}" in text
    assert text.count(account) >= 4
    assert URI.search(text) is None and URI.search(str(notice["Subject"])) is None
    assert PICKUP_CODE.search(octets.decode()) is None
    assert b"normal" not in octets and b"Secret" not in octets


def test_one_for_all_that_comes_in_the_quiet_period(house: GuestHouse) -> None:
    ordinary = house.stranger("quiet")
    house.member.submit(ordinary, Subject="* first")
    house.post.wait_for(ordinary)
    for number in range(3):
        house.member.submit(ordinary, Subject=f"another {number}")
    _, second = house.post.wait_for(ordinary, 2)
    assert "4 messages are waiting for you" in text_of(second)


def test_none_once_a_mail_program_has_come(house: GuestHouse) -> None:
    pickup = invite(house.member, house.stranger("reader"), subject="* Your results")
    house.post.wait_for(pickup.ordinary)
    guest = first_log_in(house.member, pickup)
    assert any("Your results" in str(one["Subject"]) for one in guest.messages())
    house.member.submit(pickup.ordinary, Subject="one more")
    # Others get two, the second after the quiet period.
    other = house.stranger("other")
    house.member.submit(other, Subject="* first")
    house.post.wait_for(other)
    house.member.submit(other, Subject="second")
    house.post.wait_for(other, 2)
    assert len(house.post.received(pickup.ordinary)) == 1


def test_the_writer_hears_that_it_could_not_come(house: GuestHouse) -> None:
    house.member.submit(GONE, Subject="* Your results")
    report = house.member.wait_for(lambda one: str(one["Subject"]).startswith("Not notified: "))
    assert report["Subject"] == f"Not notified: {GONE}"
    text = text_of(report)
    assert text.startswith("Your message waits, sealed, in the recipient's mailbox here.")
    assert "see whether the address is right" in " ".join(text.split()) and "[link left out]" in text
    assert URI.search(text) is None
    assert any(one["Certmaild-Invite"] == GONE for one in house.member.messages())


def test_nothing_else_goes_in_clear(house: GuestHouse) -> None:
    ordinary = house.stranger("plain")
    house.member.submit(ordinary, Subject="not marked")
    give_up = time.monotonic() + 30
    while "Nothing was sent to it." not in (listed := house.daemon.command("queue", "list", "--done")):
        assert time.monotonic() < give_up, listed
        time.sleep(0.1)  # the queue of another process gives no event to wait on
    assert house.post.received(ordinary) == []
    assert " (in clear); " in house.daemon.log.read_text()
