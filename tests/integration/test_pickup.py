"""Guests' codes beside the real daemon: log-in, renewal, recovery, guessing, and what the disk holds."""

import os
import smtplib
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from email.message import EmailMessage
from itertools import count
from pathlib import Path
from typing import BinaryIO

import pytest
from daemon import Daemon
from enrol import Idle, Pickup, first_log_in, invite, is_let_in, join, own_password, pickup_of
from person import DEVICE_PASSWORD, PICKUP_CODE, Person, reply_to, text_of
from server import Account

PATIENCE_S = 20
SCRIPT = """#!/bin/sh
{ cat; printf '%s\\n' "$@"; env; tr '\\0' ' ' < /proc/$$/cmdline; } > "$0.new.$2"
mv "$0.new.$2" "$0.$2"
case $2 in broken*) exit 3;; esac
"""
TABLES = """
[invite]
domain = "guest.example.com"
when = "always"
code_command = ["{script}", "first"]
[resolver]
addresses = ["127.0.0.1#1"]
"""
_numbers = count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("pickup")
    script = folder / "carry"
    script.write_text(SCRIPT)
    script.chmod(stat.S_IRWXU)
    made = Daemon(folder, workers=2, tables=TABLES.format(script=script)).set_up()
    made.config.write_text(made.config.read_text().replace('["example.com"]', '["example.com", "other.example"]'))
    with made.start() as running:
        yield running


@pytest.fixture(scope="module")
def ann(house: Daemon) -> Person:
    return Person(house, house.add_user("ann"))


@pytest.fixture(scope="module")
def zoe(house: Daemon) -> Person:
    """Of another domain."""
    return Person(house, house.add_user("zoe@other.example"))


@pytest.fixture
def pickup(ann: Person) -> Pickup:
    """A new guest of ann's."""
    return invite(ann, f"bob{next(_numbers)}@ordinary.example")


def subjects(messages: list[EmailMessage]) -> list[str]:
    return [str(one["Subject"]) for one in messages]


def words(message: EmailMessage) -> str:
    return " ".join(text_of(message).split())


@contextmanager
def logging_in(house: Daemon, source: str, name: str, password: str) -> Iterator[BinaryIO]:
    """A connection from that address on which LOGIN was sent."""
    plain = socket.create_connection(("127.0.0.1", house.ports["imaps"]), PATIENCE_S, (source, 0))
    with house.tls_context().wrap_socket(plain, server_hostname="localhost") as tls, tls.makefile("rwb") as file:
        file.readline()
        file.write(f'a LOGIN "{name}" "{password}"\r\n'.encode())
        file.flush()
        yield file


def log_in_from(house: Daemon, source: str, name: str, password: str) -> str:
    """The answer to LOGIN."""
    with logging_in(house, source, name, password) as file:
        return next((line.decode() for line in file if line.startswith((b"a ", b"* BYE"))), "")


def test_the_code_opens_and_the_first_password_ends_it(ann: Person, zoe: Person, pickup: Pickup) -> None:
    zoe.submit(pickup.ordinary, Subject="Of others")
    guest = first_log_in(ann, pickup)
    by_ordinary = Person(guest.server, Account(pickup.ordinary, pickup.code.lower().replace("-", " ")))
    assert subjects(by_ordinary.messages_by_pop3()) == ["Your results", "Your own password: please type it now"]
    assert subjects(guest.messages()) == ["Your results", "Your own password: please type it now"]
    assert "Later" not in guest.folders()
    guest.submit(ann.address, Subject="By the code")
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="password of their own"):
        guest.submit("devices@guest.example.com", Subject="add phone")
    told = ann.wait_for(lambda one: one["Subject"] == f"Opened: the mailbox of {pickup.ordinary}")
    assert "by pickup code, which the sender knows" in words(told)
    own = guest.with_password(own_password(guest))
    idle = Idle(guest)
    began = time.monotonic()
    assert sorted(subjects(own.messages_by_pop3())) == ["Of others", "Your own password is in use", "Your results"]
    assert idle.await_end() - began < 2
    assert not is_let_in(guest)
    assert not any(DEVICE_PASSWORD.search(text_of(one)) for one in own.messages())
    assert "Later" not in own.folders()
    assert not any(pickup.code in text_of(one) for one in ann.messages())


def test_one_welcome_however_many_come_in_at_once(ann: Person, pickup: Pickup) -> None:
    guest = first_log_in(ann, pickup)
    with ThreadPoolExecutor(6) as together:
        found = list(together.map(lambda _: guest.messages(), range(6)))
    for messages in found:
        assert subjects(messages).count("Your own password: please type it now") == 1
    assert len({DEVICE_PASSWORD.findall(text_of(messages[-1]))[0] for messages in found}) == 1


def test_a_reply_renews_and_ends_the_old_code(ann: Person, pickup: Pickup) -> None:
    to = str(pickup.message["Reply-To"])
    ann.submit(to, body="new code\n\n> Code: old\n", **reply_to(pickup.message))
    ann.wait_for(lambda one: "Done: the new code" in words(one) and pickup.ordinary in words(one))
    (renewed,) = [one for one in map(pickup_of, ann.messages()) if one and one.ordinary == pickup.ordinary]
    assert renewed.code != pickup.code
    assert not is_let_in(first_log_in(ann, pickup))
    assert is_let_in(first_log_in(ann, renewed))
    ann.submit(to, body="new code\n", Subject="Once more")
    ann.wait_for(lambda one: "was opened with the code" in words(one))


def test_who_cannot_renew_is_told_no_names(ann: Person, zoe: Person, pickup: Pickup) -> None:
    zoe.submit(pickup.ordinary, Subject="Of others")
    note = zoe.wait_for(lambda one: one["Subject"] == f"Waiting for {pickup.ordinary}")
    assert "ann@" not in text_of(note)
    zoe.submit(str(note["Reply-To"]), body="new code\n", **reply_to(note))
    answer = zoe.wait_for(lambda one: "given out to somebody else" in words(one))
    assert "ann@" not in text_of(answer)
    assert is_let_in(first_log_in(ann, pickup))


def test_guessing_from_many_addresses_slows_no_guest(house: Daemon, ann: Person, pickup: Pickup) -> None:
    """Each wrong code comes from an address of its own and has a right check letter."""
    wrong = invite(ann, f"other{next(_numbers)}@ordinary.example").code
    with ThreadPoolExecutor(4) as together:
        sources = [f"127.0.1.{n}" for n in range(1, 21)]
        answers = together.map(lambda source: log_in_from(house, source, pickup.account, wrong), sources)
        assert {answer[:4] for answer in answers} == {"a NO"}
    with ExitStack() as held:
        for n in range(1, 9):
            held.enter_context(logging_in(house, f"127.0.2.{n}", pickup.account, wrong))
        seconds = []
        for n in range(1, 4):
            began = time.monotonic()
            assert log_in_from(house, f"127.0.3.{n}", pickup.account, pickup.code).startswith("a OK")
            seconds.append(time.monotonic() - began)
    # Another wrong one would wait for 32 s by now.
    assert min(seconds) < 2
    warning = ann.wait_for(lambda one: one["Subject"] == f"Wrong codes for {pickup.ordinary}")
    assert "the right code works as before" in words(warning)


def test_refusals_say_the_same_of_everybody(house: Daemon, ann: Person, pickup: Pickup) -> None:
    wrong = invite(ann, f"other{next(_numbers)}@ordinary.example").code
    names = [pickup.account, pickup.ordinary, ann.address, "nobody@guest.example.com", "nobody@ordinary.example"]
    assert len({log_in_from(house, f"127.1.0.{n + 1}", name, wrong) for n, name in enumerate(names)}) == 1


def test_a_recovery_code_shows_devices_and_gives_one_password(ann: Person, pickup: Pickup) -> None:
    guest = first_log_in(ann, pickup)
    shown = guest.wait_for(lambda one: DEVICE_PASSWORD.search(text_of(one)))
    password, recovery = DEVICE_PASSWORD.findall(text_of(shown))
    own, lost = guest.with_password(password), guest.with_password(recovery)
    own.messages()
    assert [one for one in subjects(lost.messages_by_pop3()) if one == "A new password"] == ["A new password"]
    assert sorted(set(lost.folders())) == ["Devices", "INBOX"]
    with lost.imap("INBOX") as client:
        assert client.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n")[0] == "NO"
        assert client.create("Mine")[0] == "NO"
    fresh = [one for one in lost.messages("Devices") if one["Subject"] == "A new password"]
    assert len(fresh) == 1
    found = own.with_password(DEVICE_PASSWORD.findall(text_of(fresh[0]))[0])
    lost.remove(lambda one: one["Subject"] == "A new password", "INBOX")
    assert "Your recovery code was used" in subjects(own.messages())
    assert "Your results" in subjects(found.messages())
    with pytest.raises(smtplib.SMTPAuthenticationError):
        lost.submit(ann.address)


def test_the_operators_program_gets_the_code_on_its_standard_input(house: Daemon, pickup: Pickup, ann: Person) -> None:
    carried = house.folder / f"carry.{pickup.ordinary}"
    until = time.monotonic() + PATIENCE_S
    while not carried.exists():
        assert time.monotonic() < until
        time.sleep(0.02)  # another program's file gives no event to wait on
    code, *rest = carried.read_text().splitlines()
    assert code == pickup.code
    assert rest[:4] == ["first", pickup.ordinary, pickup.account, ann.address]
    assert pickup.code not in "\n".join(rest)


def test_the_sender_hears_when_the_operators_program_fails(ann: Person) -> None:
    broken = invite(ann, f"broken{next(_numbers)}@ordinary.example")
    told = ann.wait_for(lambda one: one["Subject"] == f"Not sent: the code for {broken.ordinary}")
    assert broken.code not in text_of(told)


def test_codes_stand_in_no_file(house: Daemon, ann: Person, pickup: Pickup) -> None:
    guest = join(ann, pickup)
    secrets = [text.encode() for text in (pickup.code, guest.account.password)]
    files = [path for path in [house.log, *house.data.rglob("*")] if path.is_file() and not path.name.endswith(".pem")]
    assert len(files) > 5
    for path in files:
        octets = path.read_bytes() if path.stat().st_size < 1 << 30 else _mapped(path)
        assert not any(secret in octets for secret in secrets), path
    assert not PICKUP_CODE.search(house.log.read_text())


def _mapped(path: Path) -> bytes:
    """What a sparse file holds."""
    with path.open("rb") as file:
        return os.pread(file.fileno(), path.stat().st_blocks * 512, 0)
