"""Thunderbird's own wizard finds our servers: nothing is typed but name, address and password (issue 5, tests 1 and 2).

In a network of its own, with the zone that `certmaild dns --zone` prints. Without the responder nothing listens on port
443 and the servers are found by guessing names; with it, by Autoconfig.
"""

import json
import re
import smtplib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from clients_support import deliver, make_mail, read_all
from home_support import ADDRESS, HOST, Home, home
from thunderbird_support import GET_MESSAGES, SEND, running_thunderbird
from wizard_support import EXPORTED, Gone, Wizard

from certmaild.client_setup.scanned import scanned
from certmaild.client_setup.settings import Speaks, settings_for
from certmaild.config import default
from certmaild.config_values import Listen

PORTS = {"imaps": 993, "pop3s": 995, "submission": 587, "submissions": 465}
GUESSED = {"imap": ["imap.example.com", "993"], "pop3": ["pop3.example.com", "995"]}
FETCHED = {"imap": "993", "pop3": "995"}
TLS = 3
"""As Thunderbird counts kinds of connection security."""


@pytest.fixture(autouse=True)
def programs(program: Callable[[str], str]) -> None:
    for name in ("thunderbird", "Xvfb", "nsd", "unbound"):
        program(name)


@contextmanager
def world(folder: Path, *, https: bool, tables: str = "") -> Iterator[Home]:
    """The server at its standard ports; without ``https`` nothing listens on 443."""
    with home(folder, tables=tables, ports={**PORTS, "https": 443} if https else PORTS) as made:
        with socket.socket() as line:
            assert (line.connect_ex((ADDRESS, 443)) == 0) is https
        yield made


def reads_and_writes(here: Home, address: str, password: str, kind: str, subject: str, to: str) -> Gone:
    """Set up by the wizard, read a message, write one."""
    with running_thunderbird(here.folder / "thunderbird", here.wrapper) as thunderbird:
        gone = Wizard(thunderbird, here.ca_file, here.folder).go("Some One", address, password, kind)
        assert subject in thunderbird.run(GET_MESSAGES, gone.made["server"], 1)["subjects"]
        sent = thunderbird.run(SEND, gone.made["identity"], gone.made["account"], to, "An answer", "Thank you.")
        assert sent["failed"] == ""
        gone.exported = thunderbird.run(EXPORTED, gone.made["account"])["data"]
    return gone


def goes_through(here: Home, kind: str) -> Gone:
    """All of it, for a member."""
    daemon = here.daemon
    ann = daemon.add_user("ann")
    deliver(daemon, ann.address, make_mail("Laboratory results", "All is well.\r\n", to=ann.address))
    gone = reads_and_writes(here, ann.address, ann.password, kind, "Laboratory results", ann.address)
    gone.password = ann.password
    assert any(b"Subject: An answer" in one for one in read_all(daemon, ann))
    return gone


@pytest.mark.parametrize("kind", ["imap", pytest.param("pop3", marks=pytest.mark.long)])
def test_by_guessing_names_with_443_closed(tmp_path: Path, kind: str) -> None:
    with world(tmp_path, https=False) as here:
        gone = goes_through(here, kind)
    assert gone.servers == {
        "kinds": ["imap", "pop3"],
        "incoming": GUESSED[kind],
        "outgoing": ["smtp.example.com", "465"],
    }
    assert "trying common server names" in gone.notice
    assert (gone.made["kind"], gone.made["security"], gone.made["outgoing_security"]) == (kind, TLS, TLS)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_by_autoconfig_of_the_responder(tmp_path: Path, kind: str) -> None:
    with world(tmp_path, https=True) as here:
        gone = goes_through(here, kind)
    assert gone.servers == {"kinds": ["imap", "pop3"], "incoming": [HOST, FETCHED[kind]], "outgoing": [HOST, "465"]}
    assert "found at email provider" in gone.notice
    assert gone.made["user"] == gone.made["outgoing_user"] == "ann@example.com"
    config = replace(default(tmp_path), hostname=HOST, listen=Listen((), **PORTS))
    ours = scanned(settings_for(config, "ann@example.com"), gone.password, name="Some One", by=Speaks[kind.upper()])
    assert gone.exported == json.loads(ours), "the QR code for a telephone is as Thunderbird writes it"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_a_guest_by_account_name_and_code(tmp_path: Path, kind: str) -> None:
    """The names of the guests' domain are guessed as well; the user name is the part before @, which is enough."""
    with world(tmp_path, https=False, tables='[invite]\ndomain = "guest.example.com"\nwhen = "always"\n') as here:
        daemon = here.daemon
        ann = daemon.add_user("ann")
        with smtplib.SMTP_SSL("localhost", PORTS["submissions"], context=daemon.tls_context()) as line:
            line.login(ann.address, ann.password)
            line.sendmail(ann.address, ["bob@gmail.example"], letter(ann.address))
        pickup = next(one for one in read_all(daemon, ann) if b"Certmaild-Invite" in one).decode()
        code, account = (re.findall(rf"^{word}: (\S+)", pickup, re.MULTILINE)[0] for word in ("Code", "Account"))
        gone = reads_and_writes(here, account, code, kind, "Laboratory results", ann.address)
        assert any(b"Subject: An answer" in one for one in read_all(daemon, ann))
        assert b"log-in refused" not in daemon.log.read_bytes(), "what it tries first is right"
    assert account == "bob.gmail.example@guest.example.com"
    assert gone.made["user"] == gone.made["outgoing_user"] == "bob.gmail.example"


def letter(sender: str) -> bytes:
    """To somebody who has no mailbox anywhere here."""
    written = make_mail("Laboratory results", "All is well.\r\n", to="bob@gmail.example").decode()
    return re.sub(r"^From: .*$", f"From: {sender}", written, flags=re.MULTILINE).encode()
