"""help@, status@ and settings@ over the real daemon, and a stranger who tries to command by somebody's reply."""

import smtplib
from collections.abc import Iterator

import pytest
from clients_support import SENDER
from daemon import Account, Daemon
from services_support import Reader, ask, password_in, subjects, text_of, uid_of


@pytest.fixture(scope="module")
def ann(daemon: Daemon) -> Account:
    return daemon.add_user("ann.services", service_folders=True)


@pytest.fixture
def reader(daemon: Daemon, ann: Account) -> Iterator[Reader]:
    with Reader(daemon, ann) as reader:
        yield reader


def answer(daemon: Daemon, ann: Account, reader: Reader, service: str, subject: str, text: str = "") -> str:
    """What comes back, on one line."""
    ask(daemon, ann, f"{service}@example.com", subject, text)
    found = reader.wait_for("INBOX", lambda messages: f"Re: {subject}" in subjects(messages))
    return " ".join(text_of(found[int(uid_of(found, f"Re: {subject}"))]).split())


def test_help_status_and_settings_answer(daemon: Daemon, ann: Account, reader: Reader) -> None:
    assert "To devices@example.com add phone" in answer(daemon, ann, reader, "help", "What now?")
    status = answer(daemon, ann, reader, "status", "How am I?")
    assert ann.address in status and "Nothing of yours waits" in status and "Devices: " in status
    assert "folder Sent" in answer(daemon, ann, reader, "settings", "sent copies server")
    ask(daemon, ann, ann.address, "kept by the server")
    reader.wait_for("Sent", lambda messages: "kept by the server" in subjects(messages))
    assert "auditor" in answer(daemon, ann, reader, "status", "audit")
    daemon.command("user", "set", ann.address, "--role", "auditor")
    assert "account changed" in answer(daemon, ann, reader, "status", f"audit {ann.address}")


def test_a_stranger_commands_nothing_by_a_reply(daemon: Daemon, ann: Account, reader: Reader) -> None:
    """He writes with Reply-To: devices@ and a command as subject; she answers him with a word of thanks."""
    ask(daemon, ann, "devices@example.com", "add phone")
    found = reader.wait_for("INBOX", lambda messages: "Re: add phone" in subjects(messages))
    phone = Account(ann.address, password_in(found[int(uid_of(found, "Re: add phone"))]), "")
    content = (
        f"From: {SENDER}\r\nReply-To: devices@example.com\r\nTo: {ann.address}\r\nMessage-ID: <evil@x.example>\r\n"
        "Subject: revoke phone\r\n\r\nrevoke phone\r\n"
    )
    with smtplib.SMTP("localhost", daemon.ports["smtp"], timeout=60) as smtp:
        smtp.starttls(context=daemon.tls_context())
        smtp.sendmail(SENDER, [ann.address], content)
    reader.wait_for("INBOX", lambda messages: "revoke phone" in subjects(messages))
    reply = "In-Reply-To: <evil@x.example>\r\nReferences: <evil@x.example>\r\n"
    for subject, text in (
        ("Re: revoke phone", "Thank you!\r\n\r\nOn Monday Eve wrote:\r\n> revoke phone"),
        ("AW: revoke phone", "> revoke phone\r\n\r\nThank you!"),
    ):
        ask(daemon, ann, "devices@example.com", subject, text, header=reply)
    found = reader.wait_for("INBOX", lambda messages: subjects(messages).count("Re: revoke phone") == 2)
    assert all(
        text_of(message).startswith("Nothing was done")
        for message in found.values()
        if message["Subject"] == "Re: revoke phone"
    )
    with Reader(daemon, phone) as used:
        ask(daemon, ann, "devices@example.com", "Re: New device: phone", "revoke phone", header=reply)
        used.imap.sock.settimeout(10)
        assert used.imap.readline().startswith(b"* BYE")


def test_a_device_made_by_the_command_is_told_of(daemon: Daemon, ann: Account, reader: Reader) -> None:
    daemon.command("device", "add", ann.address, "van", stdin=ann.password + "\n")
    found = reader.wait_for("INBOX", lambda messages: "New device: van" in subjects(messages))
    assert "on the server itself" in text_of(found[int(uid_of(found, "New device: van"))])
    assert "    revoke van" in text_of(found[int(uid_of(found, "New device: van"))])
