"""`certmaild setup`: what a person is told to type."""

import subprocess
from pathlib import Path

import pytest
from command_support import Line, make_line

from certmaild.client_setup.programs import KEYS
from certmaild.config import load
from certmaild.mailbox.account_lists import show_account
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.guests import write_guest
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.setup import opened

SECRETS = ("device_password", "recovery_code")


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return make_line(tmp_path, hostname="mail.example.com", ports="imaps = 993\npop3s = 995\nsubmissions = 465")


def test_each_program_has_every_server_and_no_password(line: Line) -> None:
    made = line.json("user", "add", "ann@example.com")
    shown = line.json("setup", "ann@example.com")
    assert shown["user_name"] == "ann@example.com" and shown["ordinary_address"] is None
    assert [(one["protocol"], one["port"]) for one in shown["servers"]] == [("IMAP", 993), ("POP3", 995), ("SMTP", 465)]
    assert len(shown["programs"]) == len(KEYS)
    for program in shown["programs"]:
        values = " ".join(program["fields"].values())
        assert "mail.example.com" in values and "ann@example.com" in values
        assert "993" in values and "465" in values
    text = line.run("setup", "ann@example.com").stdout
    assert "User name: ann@example.com" in text and "Thunderbird" in text and "Outlook (classic)" in text
    assert str(line.config.parent / "data" / "ca.pem") in text
    assert "finds all this by itself" in text
    line.config.write_text(line.config.read_text().replace("imaps = 993", "imaps = 1993"))
    assert "finds all this by itself" not in line.run("setup", "ann@example.com").stdout
    assert not any(made[one] in text for one in SECRETS)


def test_one_program_and_pop3(line: Line) -> None:
    line.run("user", "add", "ann@example.com")
    shown = line.json("setup", "ann@example.com", "--program", "outlook", "--pop3")
    (program,) = shown["programs"]
    assert program["fields"]["Account type"] == "POP" and program["fields"]["Incoming mail: Port"] == "995"
    line.config.write_text(line.config.read_text().replace("pop3s = 995", ""))
    assert "does not speak POP3" in line.run("setup", "ann@example.com", "--pop3", status=1).stderr


def test_aliases_guests_and_strangers(line: Line) -> None:
    for words in (("user", "add", "ann@example.com"), ("alias", "add", "info@example.com", "ann@example.com")):
        line.run(*words)
    assert line.json("setup", "info@example.com")["user_name"] == "ann@example.com"
    assert "Nobody has this address" in line.run("setup", "eve@example.com", status=1).stderr
    with opened(load(line.config)) as (driver, engine, secrets):

        async def invite() -> None:
            user_id = (await show_account(engine, secrets, canonical("ann@example.com"))).user_id
            row = GuestRow(ordinary="ann@gmail.example", inviter="bob@example.com", inviter_id="", invited_s=1)
            await engine.write(lambda txn: write_guest(txn, secrets, user_id, row))

        driver.run(invite())
    assert line.json("setup", "ann@example.com")["ordinary_address"] == "ann@gmail.example"
    assert "may also be ann@gmail.example" in line.run("setup", "ann@example.com").stdout


def test_the_profile_is_signed_and_has_no_password(line: Line, tmp_path: Path) -> None:
    made = line.json("user", "add", "ann@example.com")
    path = tmp_path / "ann.mobileconfig"
    line.run("setup", "ann@example.com", "--profile", str(path))
    command = ["openssl", "cms", "-verify", "-inform", "DER", "-purpose", "any", "-in", str(path)]
    done = subprocess.run([*command, "-CAfile", str(tmp_path / "data" / "ca.pem")], capture_output=True, check=True)
    assert b"<string>ann@example.com</string>" in done.stdout
    assert b"Password</key>\n\t\t\t<string>" not in done.stdout
    assert not any(made[one].encode() in done.stdout for one in SECRETS)
