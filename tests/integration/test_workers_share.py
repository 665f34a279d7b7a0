"""What holds for all workers together: changes, limits, throttles, settings."""

import imaplib
import os
import re
import select
import signal
import smtplib
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients_support import deliver, log_in, make_mail
from daemon import Account, Daemon
from worker_support import await_workers, log_in_at_each, status_of, wait_for, workers_of

LIMITS = """
[limits]
sessions_per_credential = 3
connections_per_address = 8
unfinished_per_address = "1MiB"
[passwords]
rounds = 64
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Two workers with low limits."""
    with Daemon(tmp_path_factory.mktemp("workers"), workers=2, tables=LIMITS) as running:
        await_workers(running, 2)
        yield running


def idle(imap: imaplib.IMAP4_SSL) -> None:
    imap.send(b"i IDLE\r\n")
    assert imap.readline().startswith(b"+")


def await_line(imap: imaplib.IMAP4_SSL, pattern: bytes) -> None:
    while not re.search(pattern, line := imap.readline()):
        assert line


def test_changes_reach_a_session_of_another_worker(shared: Daemon) -> None:
    account = shared.add_user("idle")
    sessions = log_in_at_each(shared, account)
    watching, acting = sessions[1], sessions[2]
    deliver(shared, account.address, make_mail("first", to=account.address))
    assert watching.select()[1] == acting.select()[1] == [b"1"]
    idle(watching)
    waits = []
    for n in range(20):
        assert acting.store("1", "-FLAGS" if n % 2 else "+FLAGS", r"(\Flagged)")[0] == "OK"
        began = time.monotonic()
        await_line(watching, rb"FETCH (?!.*Flagged)" if n % 2 else rb"FETCH .*Flagged")
        waits.append(time.monotonic() - began)
    print("flags across workers, ms:", [round(1000 * one) for one in waits])
    assert statistics.median(waits) < 0.03
    deliver(shared, account.address, make_mail("second", to=account.address))
    began = time.monotonic()
    await_line(watching, rb"2 EXISTS")
    assert time.monotonic() - began < 1
    acting.store("1", "+FLAGS", r"(\Deleted)")
    assert acting.expunge()[0] == "OK"
    await_line(watching, rb"1 EXPUNGE")
    watching.send(b"DONE\r\n")
    for imap in sessions.values():
        imap.shutdown()


def test_sessions_of_one_credential_and_what_a_dead_worker_held(shared: Daemon) -> None:
    account = shared.add_user("many")
    sessions = log_in_at_each(shared, account)
    third = log_in(shared, account)
    with pytest.raises(imaplib.IMAP4.error, match="LIMIT"):
        log_in(shared, account)
    third.logout()
    third = log_in(shared, account)
    with pytest.raises(imaplib.IMAP4.error, match="LIMIT"):
        log_in(shared, account)
    signal_worker(shared, 1, signal.SIGKILL)
    sessions[2].noop()
    again = [log_in(shared, account)]
    for imap in (sessions[2], *again):
        imap.logout()


def signal_worker(daemon: Daemon, slot: int, number: signal.Signals) -> None:
    """Send it a signal that ends it, and wait for the next one."""
    pid = workers_of(daemon)[slot]
    os.kill(pid, number)
    wait_for(lambda: workers_of(daemon).get(slot, pid) != pid)


def test_connections_of_one_address(shared: Daemon) -> None:
    waiting = [socket.create_connection(("127.0.0.1", shared.ports["smtp"]), timeout=30) for _ in range(8)]
    assert all(one.recv(1000).startswith(b"220") for one in waiting)
    assert all(one["connections"] for one in status_of(shared).values()), "all at one worker"
    with socket.create_connection(("127.0.0.1", shared.ports["smtp"]), timeout=30) as ninth:
        assert ninth.recv(1000).startswith(b"421")
    waiting.pop().close()

    def has_place() -> bool:
        with socket.create_connection(("127.0.0.1", shared.ports["smtp"]), timeout=30) as one:
            return one.recv(1000).startswith(b"220")

    wait_for(has_place)
    for one in waiting:
        one.close()


def test_unfinished_content_of_one_address(shared: Daemon) -> None:
    account = shared.add_user("large")

    def send(octets: int) -> socket.socket:
        smtp = smtplib.SMTP("localhost", shared.ports["smtp"], timeout=30)
        smtp.starttls(context=shared.tls_context())
        smtp.ehlo()
        assert smtp.mail("bob@partner.example")[0] == smtp.rcpt(account.address)[0] == 250
        assert smtp.docmd("DATA")[0] == 354
        smtp.send(b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * (octets // 78))
        smtps.append(smtp)
        return smtp.sock

    smtps: list[smtplib.SMTP] = []
    for _ in range(4):
        send(220_000)
    assert all(one["connections"] for one in status_of(shared).values()), "all at one worker"
    answered = send(250_000)
    answered.settimeout(30)
    smtps[-1].send(b".\r\n")
    assert answered.recv(1000).startswith(b"452")
    for smtp in smtps[:2]:
        smtp.close()

    def has_room() -> bool:
        code = send(250_000) and smtps[-1].docmd(".")[0]
        smtps.pop().close()
        return code == 250

    wait_for(has_room)
    for smtp in smtps:
        smtp.close()


def test_wrong_passwords_are_delayed_whichever_worker_hears_them(shared: Daemon) -> None:
    account = shared.add_user("bob", password="correct horse battery staple")

    def attempt() -> float:
        began = time.monotonic()
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            log_in(shared, Account(account.address, "wrong", ""))
        return time.monotonic() - began

    times = [attempt() for _ in range(8)]
    heard = set(re.findall(r"\[worker (\d) certmaild.gatekeeper#info\] log-in refused", shared.log.read_text()))
    assert heard == {"1", "2"}
    print("attempts, s:", [round(one, 2) for one in times])
    # Five at once in all, and then 1, 2 and 4 s.
    assert times[5] >= 1
    assert times[6] >= 2
    assert times[7] >= 4


def test_connections_in_all(tmp_path: Path) -> None:
    with Daemon(tmp_path, workers=2, tables="[limits]\nconnections = 6\n") as own:
        await_workers(own, 2)
        account = own.add_user("ann")
        imap = log_in(own, account)
        waiting = []
        for _ in range(15):
            waiting.append(socket.create_connection(("127.0.0.1", own.ports["submission"]), timeout=30))
            assert waiting[-1].recv(1000).startswith(b"220"), "a new one finds a place"
        # Each worker has the one give way that has waited longest there.
        wait_for(lambda: len(select.select(waiting, [], [], 0)[0]) == 10)
        for one in select.select(waiting, [], [], 0)[0]:
            assert one.recv(1000) == b"421 4.7.0 Too many connections\r\n"
        assert imap.noop()[0] == "OK"
        for one in waiting:
            one.close()
        imap.logout()


@pytest.mark.parametrize("workers", [0, 2])
def test_sighup_takes_settings_and_keeps_sessions(tmp_path: Path, workers: int) -> None:
    with Daemon(tmp_path, workers=workers) as own:
        account = own.add_user("ann")
        imap = log_in(own, account)

        def greeted_as() -> tuple[str, str]:
            with smtplib.SMTP("localhost", own.ports["smtp"], timeout=30) as smtp:
                return smtp.ehlo()[1].split()[0].decode(), smtp.esmtp_features["size"]

        before = greeted_as()
        text = own.config.read_text().replace('hostname = "localhost"', 'hostname = "mx.example.com"')
        text = text.replace(f"workers = {workers}", "workers = 7") + '[limits]\nmessage_size_port_25 = "1MiB"\n'
        own.config.write_text(text)
        assert own.process is not None
        own.process.send_signal(signal.SIGHUP)
        wait_for(lambda: [greeted_as() for _ in range(8)] == 8 * [("mx.example.com", "1048576")])
        assert before == ("localhost", str(150 * 2**20))
        assert imap.noop()[0] == "OK"
        said = own.log.read_text()
        assert "workers changed: it counts only after a restart" in said
        assert said.count("counts only after a restart") == 1
        own.config.write_text(text + "[limits]\nrecipients = 0\n")
        own.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "not reloaded" in own.log.read_text())
        assert greeted_as()[0] == "mx.example.com"
        imap.logout()
