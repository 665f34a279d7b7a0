"""The POP3 server over a mailbox in memory: retrieval, removal, limits, endings."""

from pathlib import Path

import pytest
from pop3_support import LOG_IN, MAIL, Line, PopHouse
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, eventAsText

from certmaild.mailbox.changes import ChangeKind
from certmaild.mailbox.content import Content
from certmaild.mailbox.errors import Damaged, StoreUnavailable
from certmaild.mailbox.opened import OpenMailbox
from certmaild.protocols.interfaces import Login
from certmaild.protocols.pop3.server import CLOSING_S
from certmaild.protocols.turns import TURN_S


@pytest.fixture
def house(tmp_path: Path) -> PopHouse:
    return PopHouse(tmp_path)


def test_octets_announced_are_octets_sent(house: PopHouse) -> None:
    dotted = b"Subject: dots\r\n\r\n.\r\n..two\r\n.end"
    house.deliver(MAIL, dotted, b"")
    line = house.log_in()
    sizes = [len(MAIL), len(dotted) + 2, 2]
    assert line.send(b"STAT\r\n") == b"+OK 3 %d\r\n" % sum(sizes)
    assert line.send(b"RETR 1\r\n") == b"+OK %d octets\r\n%b.\r\n" % (sizes[0], MAIL)
    sent = b"Subject: dots\r\n\r\n..\r\n...two\r\n..end\r\n"
    assert line.send(b"RETR 2\r\n") == b"+OK %d octets\r\n%b.\r\n" % (sizes[1], sent)
    assert line.send(b"RETR 3\r\n") == b"+OK 2 octets\r\n\r\n.\r\n"
    assert line.send(b"TOP 2 1\r\n") == b"+OK\r\nSubject: dots\r\n\r\n..\r\n.\r\n"
    assert line.send(b"TOP 1 0\r\n") == b"+OK\r\n" + MAIL[: MAIL.index(b"body")] + b".\r\n"


def test_a_large_message_is_sent_at_the_pace_of_its_reader(house: PopHouse) -> None:
    large = b"Subject: large\r\n\r\n" + b"." * 70 + b"\r\n" + (b"x" * 98 + b"\r\n") * 20_000
    house.deliver(large)
    line = house.log_in()
    line.slow = True
    got = line.send(b"RETR 1\r\nNOOP\r\n")
    assert got.startswith(b"+OK %d octets" % len(large)) and len(got) < 600_000
    pieces = [got]
    for _ in range(100):
        line.server.resumeProducing()
        pieces.append(line.take())
        if pieces[-1].endswith(b"+OK Nothing done\r\n"):
            break
        assert len(pieces[-1]) < 600_000
    content = b"".join(pieces).partition(b"\r\n")[2]
    assert content.removesuffix(b".\r\n+OK Nothing done\r\n").replace(b"\n..", b"\n.") == large


def test_deletions_happen_at_quit_and_only_there(house: PopHouse) -> None:
    house.deliver(MAIL, MAIL, MAIL)
    line = house.log_in()
    line.send(b"DELE 1\r\nDELE 3\r\n")
    line.hang_up()
    assert len(house.uids()) == 3
    line = house.log_in()
    assert line.send(b"DELE 1\r\nDELE 3\r\nQUIT\r\n").endswith(b"+OK Bye\r\n") and line.closed
    assert house.uids() == [2]
    assert house.gate.sessions == 0 and house.door.inside == 0


def test_unique_ids_stay_the_same(house: PopHouse) -> None:
    house.deliver(MAIL, MAIL)
    first = house.log_in().send(b"UIDL\r\n")
    house.deliver(MAIL)
    second = house.log_in().send(b"UIDL\r\n").split(b"\r\n")
    assert first.split(b"\r\n")[1:3] == second[1:3]
    assert len(set(second[1:4])) == 3 and len(second[1].split()[1]) == 32


def test_a_message_gone_meanwhile_and_one_that_came(house: PopHouse) -> None:
    house.deliver(MAIL)
    line = house.log_in()
    house.deliver(MAIL)
    assert line.send(b"STAT\r\n").startswith(b"+OK 1 ")
    house.expunge_all()
    assert line.send(b"RETR 1\r\n") == b"-ERR No such message any more\r\n"
    assert line.send(b"DELE 1\r\nQUIT\r\n").endswith(b"+OK Bye\r\n")


def test_refused_log_ins(house: PopHouse) -> None:
    line = house.connect()
    line.take()
    assert line.send(b"USER joe\r\nPASS no\r\n").endswith(b"-ERR [AUTH] Wrong name or password\r\n")
    house.gate.unavailable = True
    assert line.send(LOG_IN).endswith(b"-ERR [SYS/TEMP] later\r\n")
    house.gate.unavailable, house.gate.full = False, True
    assert line.send(LOG_IN).endswith(b"-ERR [SYS/TEMP] Too many sessions, please try again later\r\n")
    house.gate.full, house.gate.forbids = False, True
    assert line.send(LOG_IN).endswith(b"-ERR [AUTH] Use another program.\r\n")
    house.gate.forbids = False
    assert line.send(LOG_IN).endswith(b"+OK Logged in\r\n")
    assert house.door.logged_in == 1


def test_a_fault_of_the_store_is_no_wrong_password(house: PopHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(login: Login) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(house.gate, "open_mailbox", fails)
    line = house.connect()
    assert b"-ERR [SYS/TEMP] The mailbox" in line.send(LOG_IN)
    assert house.gate.sessions == 0


def test_a_reader_removes_nothing(house: PopHouse) -> None:
    house.deliver(MAIL)
    house.gate.read_only = True
    assert house.log_in().send(b"DELE 1\r\n") == b"-ERR This password may only read\r\n"


def test_times(house: PopHouse) -> None:
    line = house.connect()
    house.clock.advance(59)
    assert not line.closed
    house.clock.advance(1)
    assert line.take().endswith(b"-ERR Too long without log-in\r\n") and line.closed
    line = house.log_in()
    house.clock.advance(599)
    line.send(b"NOOP\r\n")
    house.clock.advance(599)
    assert not line.closed
    house.clock.advance(1)
    assert line.take().startswith(b"-ERR Too long") and line.closed


def test_a_reader_that_stalls_is_cut_off(house: PopHouse) -> None:
    house.deliver(b"x: y\r\n\r\n" + b"z" * 600_000)
    line = house.log_in()
    line.slow = True
    line.send(b"RETR 1\r\n")
    house.clock.advance(601)
    house.clock.advance(601)
    assert line.aborted and house.gate.sessions == 0


def test_a_revoked_credential_ends_the_session(house: PopHouse) -> None:
    line = house.log_in()
    house.announce(ChangeKind.ACCOUNT)
    assert not line.closed
    house.gate.valid = False
    house.announce(ChangeKind.ACCOUNT)
    assert line.take() == b"-ERR [SYS/TEMP] This log-in is no longer valid\r\n" and line.closed


def test_too_many_connections_and_eviction(house: PopHouse) -> None:
    house.door.open = False
    assert house.connect().take() == b"-ERR [SYS/TEMP] Too many connections from your address\r\n"
    house.door.open = True
    line = house.connect()
    line.server.evict()
    assert b"-ERR [SYS/TEMP] The server is busy" in line.take() and line.closed


def test_shut_down_waits_for_the_command_in_flight(house: PopHouse) -> None:
    house.deliver(b"x: y\r\n\r\n" + b"z" * 600_000)
    idle, busy = house.log_in(), house.log_in()
    busy.slow = True
    busy.send(b"RETR 1\r\n")
    gone = house.factory.connections.shut_down()
    assert idle.take() == b"-ERR [SYS/TEMP] The server is shutting down\r\n" and idle.closed and not busy.closed
    busy.slow = False
    busy.server.resumeProducing()
    assert busy.take().endswith(b".\r\n-ERR [SYS/TEMP] The server is shutting down\r\n") and busy.closed
    assert gone.called


def test_a_client_that_does_not_close_is_cut_off(house: PopHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    line = house.connect()
    monkeypatch.setattr(Line, "loseConnection", lambda self: None)
    line.send(b"QUIT\r\n")
    assert not line.aborted
    house.clock.advance(CLOSING_S)
    assert line.aborted


def test_a_flood_of_commands_waits(house: PopHouse) -> None:
    line = house.log_in()
    house.clock.look_s = TURN_S / 10
    answer = line.send(b"NOOP\r\n" * 20_000)
    assert line.reading_paused
    assert answer.count(b"+OK") < 1000
    for _ in range(400):
        house.clock.advance(0)
    assert not line.reading_paused
    answer += line.send(b"STAT\r\n")
    assert answer.count(b"+OK") == 20_001


def test_damage_is_answered_and_logged(house: PopHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    async def damaged(*_: object) -> None:
        raise Damaged("frame")

    house.deliver(b"Subject: secret\r\n\r\n")
    line = house.log_in()
    monkeypatch.setattr(Content, "read", damaged)
    with capturedLogs() as logged:
        assert line.send(b"RETR 1\r\n") == b"-ERR [SYS/PERM] The message cannot be read\r\n"
    assert [event["log_failure"].type for event in logged] == [Damaged]
    assert "secret" not in eventAsText(logged[0])
    assert line.send(b"NOOP\r\n").startswith(b"+OK")


def test_the_unexpected_is_an_internal_error(house: PopHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    house.deliver(MAIL)
    line = house.log_in()
    monkeypatch.setattr(OpenMailbox, "content", lambda self, card: 1 / 0)
    assert line.send(b"RETR 1\r\n") == b"-ERR [SYS/TEMP] Internal error, please try again later\r\n"
    assert not line.closed


def test_who_leaves_during_his_log_in_keeps_his_place_until_it_is_answered(house: PopHouse) -> None:
    house.gate.answer = answer = Deferred()
    line = house.connect()
    line.send(b"USER somebody\r\nPASS guess\r\n")
    line.hang_up()
    assert house.door.inside == 1
    answer.callback(None)
    assert house.door.inside == 0
