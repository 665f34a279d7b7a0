"""Devices by mail, over the real daemon: added, told of, used, revoked by deleting a message; who may not command."""

import re
import smtplib
import time
from io import BytesIO
from itertools import count

import pytest
import segno
from clients_support import SENDER, log_in
from daemon import Account, Daemon
from services_support import Reader, ask, password_in, subjects, text_of, uid_of

from certmaild.client_setup.scanned import scanned
from certmaild.client_setup.settings import settings_for
from certmaild.config import load

numbers = count(1)
INSTRUCTION = "Your devices: how to add one, how to take one away"
DEVICES = "devices@example.com"
REFUSED = r"550, b'5\.7\.1"


@pytest.fixture
def owner(daemon: Daemon) -> Account:
    """A new member as `certmaild user add` makes him."""
    return daemon.add_user(f"owner{next(numbers)}", service_folders=True)


def add(daemon: Daemon, owner: Account, name: str, reader: Reader) -> Account:
    """Add a device by mail."""
    ask(daemon, owner, DEVICES, f"add {name}")
    found = reader.wait_for("INBOX", lambda messages: f"Re: add {name}" in subjects(messages))
    answer = found[int(uid_of(found, f"Re: add {name}"))]
    return Account(owner.address, password_in(answer), "")


def test_a_device_is_added_by_mail_used_and_revoked_by_deleting_its_message(daemon: Daemon, owner: Account) -> None:
    with Reader(daemon, owner) as reader:
        reader.wait_for("Devices", lambda messages: len(messages) == 2)
        phone = add(daemon, owner, "phone", reader)
        inbox = reader.wait_for("INBOX", lambda messages: "New device: phone" in subjects(messages))
        answer = inbox[int(uid_of(inbox, "Re: add phone"))]
        assert "User name: " + owner.address in text_of(answer)
        (picture,) = [part for part in answer.walk() if part.get_content_type() == "image/png"]
        drawn = BytesIO()
        text = scanned(settings_for(load(daemon.config), owner.address), phone.password)
        segno.make(text, error="l", micro=False).save(drawn, kind="png", scale=4, border=4)
        assert picture.get_payload(decode=True) == drawn.getvalue(), "Thunderbird for Android reads the account from it"
        assert answer["In-Reply-To"] and answer["From"].endswith(f"<{DEVICES}>")

        with Reader(daemon, phone) as used:
            used.imap.xatom("ID", '("name" "Phonebird" "version" "7.1")')
            # The first use: the message shows the password no longer, and the folder says by what program.
            inbox = reader.wait_for("INBOX", lambda messages: "Re: add phone" not in subjects(messages))
            assert "The password that stood here is gone" in subjects(inbox)
            assert not any(phone.password in text_of(message) for message in inbox.values())
            folder = reader.wait_for("Devices", lambda messages: any("Phonebird" in str(m) for m in messages.values()))
            text = text_of(folder[int(uid_of(folder, "phone"))])
            assert "Phonebird 7.1" in text and "127.0.0.0/24" in text

            used.imap.select("INBOX")
            used.idle()
            reader.imap.select("Devices")
            reader.imap.uid("STORE", uid_of(folder, "phone"), "+FLAGS", "(\\Deleted)")
            begun = time.monotonic()
            reader.imap.expunge()
            used.imap.sock.settimeout(10)
            assert used.imap.readline().startswith(b"* BYE")
            assert used.imap.readline() == b""
            assert time.monotonic() - begun < 1
        with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
            log_in(daemon, phone)


def test_the_last_device_s_message_and_the_instruction_come_back(daemon: Daemon, owner: Account) -> None:
    with Reader(daemon, owner) as reader:
        folder = reader.wait_for("Devices", lambda messages: len(messages) == 2)
        reader.imap.select("Devices")
        assert reader.imap.uid("MOVE", "1:*", "Trash")[0] == "OK"
        folder = reader.wait_for("Devices", lambda messages: len(messages) == 2)
        assert INSTRUCTION in subjects(folder)
        (back,) = [text_of(one) for one in folder.values() if one["Subject"] != INSTRUCTION]
        assert back.startswith("This message came back") and re.search(rf"{DEVICES}:\s+revoke \w{{4}}\s", back)
        assert subjects(reader.wait_for("Trash", lambda messages: not messages)) == []
        assert reader.imap.delete("Devices")[0] == "NO"
        assert reader.imap.rename("Devices", "Other")[0] == "NO"


def test_only_people_who_are_logged_in_command(daemon: Daemon, owner: Account) -> None:
    content = f"From: {owner.address}\r\nTo: {DEVICES}\r\nSubject: add phone\r\n\r\n".encode()
    with smtplib.SMTP("localhost", daemon.ports["smtp"], timeout=60) as smtp:
        smtp.starttls(context=daemon.tls_context())
        for sender in (SENDER, owner.address):
            with pytest.raises(smtplib.SMTPRecipientsRefused, match=REFUSED):
                smtp.sendmail(sender, [DEVICES], content)
    app = daemon.add_user(f"app{next(numbers)}")
    daemon.command("user", "set", app.address, "--role", "app")
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=REFUSED):
        ask(daemon, app, DEVICES, "add phone")
    forged = Account(app.address, owner.password, "")
    with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context(), timeout=60) as smtp:
        smtp.login(owner.address, owner.password)
        for header in (f"From: {forged.address}", f"From: {owner.address}\r\nSender: {forged.address}"):
            with pytest.raises(smtplib.SMTPDataError, match=REFUSED):
                smtp.sendmail(owner.address, [DEVICES], f"{header}\r\nSubject: add phone\r\n\r\n")
        with pytest.raises(smtplib.SMTPDataError, match=REFUSED):
            smtp.sendmail(owner.address, [DEVICES], f"From: {owner.address}\r\nAuto-Submitted: auto-replied\r\n\r\n")
        with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPServerDisconnected), match="64 KiB"):
            smtp.sendmail(owner.address, [DEVICES], f"From: {owner.address}\r\n\r\n" + "x" * 65_000 + "\r\n" * 500)
    with Reader(daemon, owner) as reader:
        assert reader.wait_for("INBOX", lambda messages: True) == {}
