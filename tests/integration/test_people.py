"""People beside the real daemon: roles, devices with limits, clouds of mail programs."""

import base64
import json
import signal
import smtplib
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from clients_support import log_in, read_all
from daemon import Account, Daemon

CLOUD = "127.0.0.2"
SETTINGS = '[relays]\npolicy = "{}"\nnetworks = ["127.0.0.2/32"]\nprograms = ["acme"]\n'


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One process that takes 127.0.0.2 for a cloud."""
    with Daemon(tmp_path_factory.mktemp("people"), tables=SETTINGS.format("warn")) as running:
        yield running


class Talk:
    """Lines over TLS, from any address of this machine."""

    def __init__(self, daemon: Daemon, listener: str, source: str = "127.0.0.1") -> None:
        plain = socket.create_connection(("127.0.0.1", daemon.ports[listener]), 30, (source, 0))
        self._socket = daemon.tls_context().wrap_socket(plain, server_hostname="localhost")
        self._file = self._socket.makefile("rwb")
        self._file.readline()

    def say(self, line: str, *ends: str) -> str:
        """The first answer that begins so; "" when the server ends it."""
        self._file.write(line.encode() + b"\r\n")
        self._file.flush()
        while answer := self._file.readline().decode():
            if answer.startswith(ends):
                return answer.rstrip()
        return ""

    def imap(self, account: Account) -> str:
        return self.say(f"a LOGIN {account.address} {account.password}", "a ", "* BYE")

    def pop3(self, account: Account) -> str:
        self.say(f"USER {account.address}", "+OK", "-ERR")
        return self.say(f"PASS {account.password}", "+OK", "-ERR")

    def submission(self, account: Account) -> str:
        words = base64.b64encode(f"\0{account.address}\0{account.password}".encode()).decode()
        self.say("EHLO client.example", "250 ")
        return self.say(f"AUTH PLAIN {words}", "235", "5", "4")

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.close()


def answers(daemon: Daemon, account: Account, source: str) -> list[str]:
    """What a log-in is answered, by IMAP, POP3 and SMTP."""
    found = []
    for listener, name in (("imaps", "imap"), ("pop3s", "pop3"), ("submissions", "submission")):
        with Talk(daemon, listener, source) as talk:
            found.append(getattr(talk, name)(account))
    return found


def test_clouds_are_warned_of_and_then_refused(own: Daemon) -> None:
    ann = own.add_user("ann")
    assert [one[:6] for one in answers(own, ann, CLOUD)] == ["a OK [", "+OK Lo", "235 2."]
    (letter,) = read_all(own, ann)
    assert b"Your mail passes through" in letter
    assert b"://" not in letter
    with Talk(own, "imaps") as talk:
        talk.imap(ann)
        assert talk.say('b ID ("name" "Acme Mail")', "b ", "* BYE").startswith("b OK")
    assert len(read_all(own, ann)) == 1, "told once of the same cloud"
    own.config.write_text(own.config.read_text().replace('policy = "warn"', 'policy = "refuse"'))
    assert own.process is not None
    own.process.send_signal(signal.SIGHUP)
    for _ in range(500):
        refused = answers(own, ann, CLOUD)
        if not refused[0].startswith("a OK"):
            break
    by_imap, by_pop3, by_smtp = refused
    assert by_imap.startswith("a NO [CONTACTADMIN] ")
    assert by_pop3.startswith("-ERR [AUTH] ")
    assert by_smtp.startswith("535 5.7.1 ")
    assert all("Thunderbird" in one for one in refused)
    with Talk(own, "imaps") as talk:
        talk.imap(ann)
        assert talk.say('b ID ("name" "Acme Mail")', "b ", "* BYE").startswith("* BYE [ALERT] ")
    with Talk(own, "imaps") as talk:
        talk.say('b ID ("vendor" "acme")', "b ")
        assert talk.imap(ann).startswith("a NO [CONTACTADMIN] ")
    assert len(read_all(own, ann)) == 2
    acts = [one["act"] for one in json.loads(own.command("audit", "--whom", ann.address, "--json"))]
    assert acts == ["account made", "cloud log-in", "cloud log-in refused"]
    (device,) = [one for one in json.loads(own.command("device", "list", ann.address, "--json")) if one["cloud"]]
    assert device["kind"] == "device"


def test_a_program_submits_and_reads_nothing(own: Daemon) -> None:
    made = json.loads(own.command("user", "add", "bot@example.com", "--role", "app", "--json"))
    bot = Account("bot@example.com", made["device_password"], made["recovery_code"])
    wrong = Account("bot@example.com", "wrong", "")
    by_imap, by_pop3, by_smtp = answers(own, bot, "127.0.0.1")
    assert (by_imap, by_pop3) == tuple(answers(own, wrong, "127.0.0.1")[:2])
    assert by_smtp.startswith("235")


def test_a_device_for_one_network(own: Daemon) -> None:
    team = own.add_user("team")
    words = ("device", "add", team.address, "desk", "--network", "127.0.0.3/32", "--scope", "submit", "--json")
    text = json.loads(own.command(*words, stdin=team.password + "\n"))["device_password"]
    desk = Account(team.address, text, "")
    assert [one[:3] for one in answers(own, desk, "127.0.0.3")] == ["a N", "-ER", "235"]
    assert answers(own, desk, "127.0.0.1")[2].startswith("535 5.7.8")


def test_a_member_who_becomes_a_program_is_logged_out(own: Daemon) -> None:
    carl = own.add_user("carl")
    with log_in(own, carl) as imap:
        imap.select()
        imap.send(b"x IDLE\r\n")
        assert imap.readline().startswith(b"+")
        own.command("user", "set", carl.address, "--role", "app")
        assert imap.readline().startswith(b"* BYE")
        with suppress(OSError):
            imap.shutdown()
        imap.logout = lambda: ("BYE", [b""])  # type: ignore[method-assign]
    with smtplib.SMTP_SSL("localhost", own.ports["submissions"], context=own.tls_context(), timeout=60) as smtp:
        smtp.login(carl.address, carl.password)
