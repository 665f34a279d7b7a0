"""A member and a partner write to each other, with the programs that people use: msmtp, mbsync, curl and Postfix."""

import re
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import tls_support
from clients_support import run
from daemon import Account
from home_support import HOST, Home, home
from postfix import Postfix, service, why_not
from receiving_support import open_folder

Find = Callable[[str], str]
PARTNER, THERE = "mx.partner.example", "192.0.2.50"
BOB, GONE = "bob@partner.example", "gone@partner.example"
PATIENCE_S = 60
SETTINGS = """
[[partner]]
domain = "partner.example"
ca = "{ca}"
names = ["{host}"]
networks = ["{there}"]
"""
MSMTP = """\
account default
host localhost
port {port}
tls on
tls_starttls off
tls_trust_file {ca}
auth plain
user {user}
password {password}
from {user}
"""
MBSYNC = """\
IMAPAccount home
Host localhost
Port {port}
User {user}
Pass {password}
SSLType IMAPS
SystemCertificates no
CertificateFile {ca}

IMAPStore far
Account home

MaildirStore near
SubFolders Verbatim
Path {folder}/mail/
Inbox {folder}/mail/INBOX

Channel all
Far :far:
Near :near:
Patterns *
Create Near
SyncState *
"""


class Person:
    """A member at her own machine."""

    def __init__(self, house: Home, account: Account, program: Find, folder: Path) -> None:
        self.house, self.account, self.program, self.folder = house, account, program, folder
        ports = house.daemon.ports
        words = {"ca": house.ca_file, "user": account.address, "password": account.password, "folder": folder}
        for name, text, port in (("msmtprc", MSMTP, "submissions"), ("mbsyncrc", MBSYNC, "imaps")):
            (folder / name).write_text(text.format(port=ports[port], **words))
            (folder / name).chmod(0o600)
        (folder / "mail").mkdir()

    def write(self, to: str, subject: str, text: str) -> None:
        mail = f"From: {self.account.address}\nTo: {to}\nSubject: {subject}\n\n{text}\n"
        words = (self.program("msmtp"), "-C", str(self.folder / "msmtprc"), to)
        run(*words, home=self.folder, stdin=mail.encode())

    def fetch(self, subject: str) -> Message:
        """The message with this in its subject, which mbsync brings sooner or later."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            run(self.program("mbsync"), "-c", str(self.folder / "mbsyncrc"), "all", home=self.folder)
            messages = [message_from_bytes(path.read_bytes()) for path in (self.folder / "mail/INBOX").glob("*/*,*")]
            found = [one for one in messages if subject in str(one["Subject"])]
            if found:
                assert len(found) == 1
                return found[0]
            assert time.monotonic() < give_up, self.house.daemon.log.read_text()[-3000:]
            time.sleep(0.5)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    if reason := why_not():
        pytest.skip(reason)
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def authority(folder: Path) -> tls_support.Authority:
    made = tls_support.authority("The partner's")
    made.write_pem(folder, "partner")
    shown = made.issue(PARTNER, purposes=(tls_support.SERVER, tls_support.CLIENT))
    (folder / "shown.pem").write_bytes(shown.key_pem + shown.chain_pem)
    return made


@pytest.fixture(scope="module")
def house(folder: Path, authority: tls_support.Authority) -> Iterator[Home]:
    tables = SETTINGS.format(ca=folder / "partner.pem", host=PARTNER, there=THERE)
    zones = {"partner.example": f'@ MX 10 mx\nmx A {THERE}\n@ TXT "v=spf1 mx -all"\n'}
    with home(folder, THERE, tables=tables, zones=zones) as running:
        yield running


@pytest.fixture(scope="module")
def partner(house: Home, folder: Path) -> Iterator[Postfix]:
    """Its people have one mailbox, a file; one of them is gone."""
    box = folder / "box"
    box.mkdir(mode=0o777)
    box.chmod(0o777)
    (folder / "access").write_text(f"{GONE} 550 5.1.1 Nobody of this name works here any more\n")
    settings = (
        f"myhostname = {PARTNER}",
        f"inet_interfaces = {THERE}",
        "virtual_mailbox_domains = partner.example",
        "virtual_mailbox_maps = static:all",
        f"virtual_mailbox_base = {box}",
        "virtual_uid_maps = static:8",
        "virtual_gid_maps = static:8",
        "virtual_minimum_uid = 1",
        f"smtpd_recipient_restrictions = check_recipient_access texthash:{folder}/access, reject_unauth_destination",
        "smtpd_tls_security_level = encrypt",
        f"smtpd_tls_chain_files = {folder}/shown.pem",
        "smtpd_tls_loglevel = 1",
        "smtp_tls_security_level = verify",
        f"smtp_tls_chain_files = {folder}/shown.pem",
        f"smtp_tls_CAfile = {house.ca_file}",
        f"smtp_bind_address = {THERE}",
        "smtp_host_lookup = dns",
        "smtp_tls_loglevel = 1",
    )
    with Postfix(folder / "postfix", settings, [service(f"{THERE}:25")], house.wrapper) as running:
        yield running


@pytest.fixture
def anna(house: Home, program: Find, tmp_path: Path) -> Person:
    return Person(house, house.daemon.add_user("anna"), program, tmp_path)


def test_a_question_an_answer_and_a_bounce(
    house: Home, partner: Postfix, folder: Path, anna: Person, program: Find
) -> None:
    address = anna.account.address
    anna.write(BOB, "A question", "Shall we meet?")
    log = partner.await_log(f"to=<{BOB}>")
    assert "status=sent" in log and "TLS connection established from" in log
    question = message_from_bytes((folder / "box" / "all").read_bytes())
    assert (question["Subject"], question.get_payload().strip()) == ("A question", "Shall we meet?")
    assert question["Message-ID"] and question["Date"]

    answer = f"From: {BOB}\nTo: {address}\nSubject: Re: A question\nIn-Reply-To: {question['Message-ID']}\n\nGladly.\n"
    partner.send(BOB, answer.encode(), address)
    received = anna.fetch("Re: A question")
    assert "Verified TLS connection established to mx.example.com[192.0.2.1]:25" in partner.log
    assert received.get_payload().strip() == "Gladly."
    said = [" ".join(one.split()) for one in received["Authentication-Results"].split(";")]
    assert said == [
        HOST,
        "spf=pass smtp.mailfrom=partner.example",
        "dkim=none",
        "x-partner=pass (client certificate by his authority from his network) policy.partner=partner.example",
        "dmarc=none header.from=partner.example",
    ]

    anna.write(GONE, "And you?", "Shall we meet too?")
    bounce = anna.fetch("Not delivered")
    words, status, back = bounce.get_payload()
    text = " ".join(words.get_payload(decode=True).decode().split())
    assert GONE in text and "Nobody of this name works here any more" in text
    fields = status.get_payload()[1]
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    assert fields["Remote-MTA"] == f"dns; {PARTNER}"
    assert "And you?" in back.as_string()
    # What another program on another device reads is the same.
    curl = run(
        *(program("curl"), "-sS", "--cacert", str(house.ca_file), "-u", f"{address}:{anna.account.password}"),
        *(f"imaps://localhost:{house.daemon.ports['imaps']}/INBOX", "-X", "SEARCH ALL"),
        home=anna.folder,
    )
    assert re.search(r"SEARCH 1 2\s", curl)
