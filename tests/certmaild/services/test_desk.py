"""The desk and its clerks for help, status and settings, over a memory engine."""

from pathlib import Path
from typing import Any

import pytest
from delivery_support import NOW, House
from support import memory_engine, run

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import read_account
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.audit_log import note
from certmaild.mailbox.guests import read_guest, write_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout_accounts import Option, Role, SentCopies
from certmaild.mailbox.layout_guests import AuditRow, GuestRow
from certmaild.partners.book import PartnerBook
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.errors import Refusal
from certmaild.routing import Service
from certmaild.services.clerks import HelpClerk, SettingsClerk
from certmaild.services.desk import Desk
from certmaild.services.interfaces import Answer, Request
from certmaild.services.status import StatusClerk

MESSAGE = b"From: ann@example.com\r\nSubject: hi\r\n\r\nHello.\r\n"


class Counter:
    """A clerk who understands nothing."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def answer(self, request: Request) -> Answer | None:
        self.requests.append(request)
        return None


class Office:
    """A house, and a desk for ann and bob in it."""

    def __init__(self, directory: Path) -> None:
        self.house = House(memory_engine(), ServerSecrets.create(directory / "secrets"), partners=PartnerBook([]))
        self.limits = Limits(service_requests=3)
        self.counter = Counter()
        house = self.house
        self.desk = Desk(
            house.engine,
            house.secrets,
            house.correspondence.mail,
            house.in_thread,
            {
                "help": HelpClerk(),
                "status": StatusClerk(house.engine, house.secrets, house.correspondence.spool, lambda: house.seconds),
                "settings": SettingsClerk(house.engine, house.secrets),
                "devices": self.counter,
            },
            limits=lambda: self.limits,
            seconds=lambda: house.seconds,
        )
        house.add("ann", octets_limit=1 << 30)
        house.add("bob")

    def ask(self, name: str, service: str, subject: str, text: str = "", header: str = "") -> str:
        """Write to a service; the answer's own words, on one line."""
        before = len(self.house.mail_of(name))
        self.take(name, service, f"From: {name}@example.com\r\n{header}Subject: {subject}\r\n\r\n{text}\r\n")
        mail = self.house.mail_of(name)
        assert len(mail) == before + 1
        return " ".join(mail[-1].content.partition(b"\r\n\r\n")[2].decode().split())

    def take(self, name: str, service: str, content: str) -> None:
        to = Service(name=service, address=canonical(f"{service}@example.com"), tag=None)
        run(self.desk.take(self.house.login(name), to, content.encode()))

    def account(self, name: str) -> Any:
        user_id = UserId(self.house.users[name].user_id)
        return run(self.house.engine.read(lambda txn: read_account(txn, self.house.secrets, user_id)))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_help_says_what_can_be_asked_whatever_is_written(office: Office) -> None:
    text = office.ask("ann", "help", "add phone")
    assert "devices@example.com add phone" in text and "To settings@example.com list" in text


def test_requests_at_and_past_the_limit(office: Office) -> None:
    for _ in range(office.limits.service_requests):
        office.ask("ann", "help", "help")
    with pytest.raises(Refusal, match="3 times an hour") as caught:
        office.ask("ann", "devices", "list")
    assert (caught.value.code, caught.value.enhanced) == (450, "4.7.1")
    assert office.counter.requests == []
    office.ask("bob", "help", "help")
    office.house.seconds += 3600
    office.ask("ann", "help", "help")


def test_settings_are_listed_and_changed(office: Office) -> None:
    office.limits = Limits()
    assert "sent copies client" in office.ask("ann", "settings", "list")
    assert "puts what you send into the folder Sent" in office.ask("ann", "settings", "Sent copies: server")
    assert office.account("ann").sent_copies is SentCopies.SERVER
    office.ask("ann", "settings", "RETR marks seen on")
    assert Option.RETRIEVE_MARKS_SEEN in office.account("ann").options
    text = office.ask("ann", "settings", "hello")
    assert "sent copies server" in text and "retr marks seen on" in text and "language" not in text
    office.ask("ann", "settings", "", "Gesendete Kopien Programm\r\n")
    office.ask("ann", "settings", "Abruf markiert gelesen aus")
    assert office.account("ann").sent_copies is SentCopies.CLIENT
    assert Option.RETRIEVE_MARKS_SEEN not in office.account("ann").options
    assert office.account("bob").sent_copies is SentCopies.CLIENT


def test_a_strangers_subject_changes_no_setting(office: Office) -> None:
    """Somebody writes with ``Reply-To: settings@example.com``; ann answers him."""
    text = office.ask("ann", "settings", "Re: sent copies server", "Thank you!", "In-Reply-To: <1@far.example>\r\n")
    assert "sent copies client" in text
    assert office.account("ann").sent_copies is SentCopies.CLIENT
    office.ask("ann", "settings", "Re: your settings", "sent copies server", "In-Reply-To: <1@far.example>\r\n")
    assert office.account("ann").sent_copies is SentCopies.SERVER


def test_the_language_of_notices(office: Office) -> None:
    office.limits, house = Limits(), office.house
    assert "your account has none" in office.ask("ann", "settings", "language de")
    user_id = UserId(house.users["bob"].user_id)
    guest = GuestRow(ordinary="bob@far.example", inviter="ann@example.com", inviter_id="", invited_s=1)
    run(house.engine.write(lambda txn: write_guest(txn, house.secrets, user_id, guest)))
    assert "is not set yet" in office.ask("bob", "settings", "list")
    assert "none of the languages here" in office.ask("bob", "settings", "Sprache xx")
    office.ask("bob", "settings", "Sprache de")
    row = run(house.engine.read(lambda txn: read_guest(txn, house.secrets, user_id)))
    assert row is not None and row.language == "de"
    assert "language de" in office.ask("bob", "settings", "list")


def test_status_tells_the_quota_and_what_waits(office: Office) -> None:
    assert "Nothing of yours waits" in office.ask("ann", "status", "?")
    queue_id = office.house.send("joe@far.example", sender="ann", content=MESSAGE)
    text = office.ask("ann", "status", "?")
    assert "of 1.0 GiB" in text and f"Message {queue_id}" in text and "to joe@far.example" in text
    assert "1 of your messages waits" in text
    assert queue_id not in office.ask("bob", "status", "?")


@pytest.mark.parametrize("how", ["subject", "text", "quoted", "enclosed"])
def test_status_of_one_message_is_for_its_sender_alone(office: Office, how: str) -> None:
    queue_id = office.house.send("joe@far.example", sender="ann", content=MESSAGE)
    subject, text, header = "?", "", ""
    if how == "subject":
        subject = f"message {queue_id}"
    elif how == "text":
        text = f"What of {queue_id}?"
    elif how == "quoted":
        subject, text = "Fwd: not delivered", f"> Received: by mx id {queue_id}\r\n"
    else:
        header = "Content-Type: multipart/mixed; boundary=b\r\n"
        text = f"--b\r\n\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nReceived: x id {queue_id}\r\n\r\n--b--\r\n"
    found = office.ask("ann", "status", subject, text, header)
    assert f"Message {queue_id}" in found and "Devices" not in found and "is sent as soon as may be" in found
    of_bob = office.ask("bob", "status", subject, text, header)
    assert "joe@far.example" not in of_bob
    if how == "quoted":
        return
    nobodys = office.ask("bob", "status", *(one.replace(queue_id, "0" * 12) for one in (subject, text, header)))
    assert of_bob.replace(queue_id, "0" * 12) == nobodys


def test_the_audit_log_is_for_auditors(office: Office) -> None:
    house = office.house
    office.limits = Limits()
    house.add("vera", role=Role.AUDITOR)
    rows = [AuditRow(at_s=int(NOW), by="server", act="device revoked", whom=whom) for whom in ("ann", "bob", "ann")]

    def work(txn: Any) -> None:
        for row in rows:
            note(txn, house.secrets, row)

    run(house.engine.write(work))
    assert "Of 3 rows" in office.ask("vera", "status", "audit")
    text = office.ask("vera", "status", "Audit ANN")
    assert "Of 2 rows in the audit log the last 2" in text and "3 2026-" in text and "bob" not in text
    assert "No row of the audit log is about it" in office.ask("vera", "status", "audit zoe")
    refused = office.ask("ann", "status", "audit")
    assert "for accounts with the role auditor" in refused and "revoked" not in refused


def test_what_no_clerk_understands_is_answered_with_how_to(office: Office) -> None:
    assert "Nothing was done" in office.ask("ann", "devices", "hello")
    assert office.counter.requests[0].lines == ["hello"]
    assert "the subject of a reply counts for nothing" in office.ask("ann", "devices", "Re: list", "Thank you!")
    assert office.counter.requests[1].lines == ["Thank you!"]
