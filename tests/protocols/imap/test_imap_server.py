"""The IMAP server around the session: times, shut-down, faults, streams, back-pressure, COMPRESS."""

import gc
import weakref
from pathlib import Path

import pytest
from imap_append_support import serve_append
from imap_support import House, Line
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from certmaild.mailbox.changes import ChangeKind
from certmaild.mailbox.errors import StoreUnavailable
from certmaild.mailbox.values import Flags, SystemFlag
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import Bad, ConnectionGone
from certmaild.protocols.imap.registry import AFTER_LOGIN, COMMANDS, Spec
from certmaild.protocols.interfaces import ClientId, Login, LogInForbidden, Service
from certmaild.protocols.limits import Limits

# What clients say of themselves


class Watch:
    """Writes down what is said, and forbids one program."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ClientId, str]] = []

    async def entered(self, login: Login, service: Service, peer: str) -> None:
        raise AssertionError("the gatekeeper's business")

    async def told(self, login: Login, client_id: ClientId, peer: str) -> None:
        self.heard.append((login.address, client_id, peer))
        if ("name", "Relay") in client_id:
            raise LogInForbidden("Use another program.")


def test_what_a_client_says_of_itself_is_told_of_who_is_logged_in(house: House) -> None:
    watch = house.factory.watch = Watch()
    line = house.connect()
    line.send(b'a ID ("name" "Mail" "version" NIL)\r\n')
    assert watch.heard == []
    assert b"b OK" in line.send(b"b LOGIN joe@example.com secret\r\n")
    said = ("joe@example.com", (("name", "Mail"), ("version", "")), "192.0.2.1")
    assert watch.heard == [said]
    assert b"c OK" in line.send(b"c ID NIL\r\n")
    assert watch.heard == [said]


def test_a_program_that_is_forbidden_hears_why(house: House) -> None:
    house.factory.watch = Watch()
    before, after = house.connect(), house.log_in()
    assert after.send(b'a ID ("name" "Relay")\r\n') == b"* BYE [ALERT] Use another program.\r\n"
    assert after.closed
    before.send(b'a ID ("name" "Relay")\r\n')
    assert before.send(b"b LOGIN joe@example.com secret\r\n") == b"b NO [CONTACTADMIN] Use another program.\r\n"
    assert house.gate.sessions == 0
    house.gate.forbids = True
    assert before.send(b"c LOGIN joe@example.com secret\r\n") == b"c NO [CONTACTADMIN] Use another program.\r\n"


# Times


def test_log_in_has_a_minute(house: House) -> None:
    line = house.connect()
    line.take()
    house.clock.advance(59.9)
    assert not line.closed
    house.clock.advance(0.1)
    assert line.take() == b"* BYE Too long without log-in.\r\n"
    assert line.closed
    assert house.door.inside == 0
    assert house.clock.getDelayedCalls() == []


def test_silence_after_log_in_has_half_an_hour(house: House) -> None:
    line = house.log_in()
    house.clock.advance(1000)
    line.send(b"a NOOP\r\n")
    house.clock.advance(1799)
    assert line.take() == b""
    house.clock.advance(1)
    assert line.take() == b"* BYE Logged out for inactivity.\r\n"
    assert line.closed


def test_a_word_to_who_idles_comes_when_it_was_set(tmp_path: Path) -> None:
    house = House(tmp_path, Limits(idle_still_here=50))
    line = house.log_in()
    assert line.send(b"a IDLE\r\n") == b"+ idling\r\n"
    for _ in range(3):
        house.clock.advance(49)
        assert line.take() == b""
        house.clock.advance(1)
        assert line.take() == b"* OK Still here\r\n"


def test_idle_is_not_silence(house: House) -> None:
    line = house.log_in()
    assert line.send(b"a IDLE\r\n") == b"+ idling\r\n"
    for _ in range(40):
        house.clock.advance(120)
        assert line.take() == b"* OK Still here\r\n"
    assert line.send(b"done\r\n") == b"a OK Completed.\r\n"
    house.clock.advance(1799)
    assert not line.closed


def test_a_command_that_waits_for_us_is_not_silence(house: House, hung: "Deferred[None]") -> None:
    line = house.log_in()
    line.send(b"a HANG\r\n")
    house.clock.advance(4000)
    assert not line.closed
    hung.callback(None)
    assert line.take() == b"a OK Completed.\r\n"


def test_a_client_that_stops_within_a_literal_is_cut_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_append(monkeypatch, [])
    line = house.log_in()
    assert line.send(b"a APPEND x {9}\r\n") == b"+ OK\r\n"
    house.clock.advance(1800)
    assert line.aborted


# Ends


def test_revoked_credential_ends_idle_and_silence_at_once(house: House) -> None:
    idling, silent = house.log_in(), house.log_in()
    idling.send(b"a IDLE\r\n")
    house.announce(ChangeKind.ACCOUNT)
    assert not idling.closed
    house.gate.valid = False
    house.announce(ChangeKind.ACCOUNT)
    for line in (idling, silent):
        assert line.take() == b"* BYE This log-in is no longer valid.\r\n"
        assert line.closed
    assert house.gate.sessions == 0


def test_revoked_credential_ends_a_command_within_a_second(house: House, hung: "Deferred[None]") -> None:
    line = house.log_in()
    line.send(b"a HANG\r\n")
    house.gate.valid = False
    house.announce(ChangeKind.ACCOUNT)
    assert not line.closed
    house.clock.advance(1)
    assert line.aborted
    assert house.gate.sessions == 1
    hung.callback(None)
    assert house.gate.sessions == 0


def test_shut_down_waits_for_the_command_in_flight(house: House, hung: "Deferred[None]") -> None:
    busy, idling, silent, asking = house.log_in(), house.log_in(), house.log_in(), house.connect()
    asking.take()
    busy.send(b"a HANG\r\nb NOOP\r\n")
    idling.send(b"a IDLE\r\n")
    asking.send(b"a AUTHENTICATE PLAIN\r\n")
    done = house.factory.connections.shut_down()
    bye = b"* BYE The server is shutting down.\r\n"
    assert [line.take() for line in (idling, silent, asking)] == [bye, bye, bye]
    assert not busy.closed
    assert not done.called
    hung.callback(None)
    assert busy.take() == b"a OK Completed.\r\n" + bye
    assert done.called
    assert not house.factory.connections


def test_eviction_and_a_closed_door(house: House) -> None:
    line = house.connect()
    line.take()
    line.server.evict()
    assert line.take() == b"* BYE [UNAVAILABLE] The server is busy; try again later.\r\n"
    house.door.open = False
    line = house.connect()
    assert line.take() == b"* BYE [LIMIT] Too many connections from your address.\r\n"
    assert line.closed


def test_a_client_that_leaves_lets_go_of_everything(house: House, hung: "Deferred[None]") -> None:
    for command in (b"", b"a IDLE\r\n", b"a HANG\r\n", b"a SELECT INB"):
        line = house.log_in()
        line.send(command)
        line.hang_up()
    assert house.gate.sessions == house.door.inside == 1
    hung.callback(None)
    assert house.gate.sessions == 0
    assert house.door.inside == 0
    assert house.clock.getDelayedCalls() == []


def test_who_leaves_during_his_log_in_keeps_his_place_until_it_is_answered(house: House) -> None:
    """Else an address would be counted with none of the log-ins that it has under way."""
    house.gate.answer = answer = Deferred()
    line = house.connect()
    line.send(b"a LOGIN somebody guess\r\n")
    line.hang_up()
    assert house.door.inside == 1
    answer.callback(None)
    assert house.door.inside == 0


# Log-in


def test_faults_of_ours_are_no_wrong_passwords(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    line = house.connect()
    line.take()
    house.gate.unavailable = True
    assert line.send(b"a LOGIN joe@example.com secret\r\n").startswith(b"a NO [UNAVAILABLE] ")
    house.gate.unavailable, house.gate.full = False, True
    assert line.send(b"b LOGIN joe@example.com secret\r\n").startswith(b"b NO [LIMIT] ")
    house.gate.full = False

    async def broken(login: object) -> object:
        raise StoreUnavailable

    monkeypatch.setattr(house.gate, "open_mailbox", broken)
    assert line.send(b"c LOGIN joe@example.com secret\r\n").startswith(b"c NO [UNAVAILABLE] ")
    assert house.gate.sessions == 0
    assert line.send(b'd LOGIN "" secret\r\n').startswith(b"d NO [AUTHENTICATIONFAILED] ")


def test_a_client_that_leaves_during_log_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that we keep waiting: the minute to log in is the client's, not ours."""
    proved: Deferred[None] = Deferred()
    log_in, open_mailbox = house.gate.log_in, house.gate.open_mailbox

    async def slowly(*args: object, **kwargs: object) -> object:
        await proved
        return await log_in(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(house.gate, "log_in", slowly)
    line = house.connect()
    line.send(b"a LOGIN joe@example.com secret\r\n")
    house.clock.advance(60)
    assert not line.closed
    line.hang_up()
    proved.callback(None)
    assert house.gate.sessions == 0
    opened: Deferred[None] = Deferred()

    async def open_slowly(login: object) -> object:
        await opened
        return await open_mailbox(login)  # type: ignore[arg-type]

    monkeypatch.setattr(house.gate, "open_mailbox", open_slowly)
    line = house.connect()
    line.send(b"a LOGIN joe@example.com secret\r\n")
    line.hang_up()
    opened.callback(None)
    assert house.gate.sessions == 0
    assert len(house.pool) == 1


def test_a_credential_that_may_only_read(house: House) -> None:
    house.gate.read_only = True
    line = house.log_in()
    assert line.send(b"a SELECT INBOX\r\n").endswith(b"a OK [READ-ONLY] Selected.\r\n")
    for command in (b"CREATE x", b"DELETE Sent", b"RENAME Sent x", b"SUBSCRIBE Sent"):
        assert line.send(b"b " + command + b"\r\n") == b"b NO [NOPERM] This password may only read.\r\n"


# Faults


def test_an_exception_ends_one_command_of_one_session(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(context: Context, command: Command) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(COMMANDS, b"BREAK", Spec(run, AFTER_LOGIN))
    line, other = house.log_in(), house.log_in()
    with capturedLogs() as events:
        answer = line.send(b"a BREAK\r\nb NOOP\r\n")
    assert answer == b"a NO [SERVERBUG] Internal error; it has been recorded.\r\nb OK Completed.\r\n"
    assert [event["log_failure"].type for event in events] == [ZeroDivisionError]
    assert other.send(b"a NOOP\r\n") == b"a OK Completed.\r\n"


def test_a_fault_of_the_session_itself_ends_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    line = house.log_in()

    def broken(*args: object) -> bool:
        raise ZeroDivisionError

    with capturedLogs() as events:
        monkeypatch.setattr(line.server, "_take_event", broken)
        assert line.send(b"a NOOP\r\n") == b"* BYE Internal error; it has been recorded.\r\n"
    assert line.closed
    assert len(events) == 1
    line = house.log_in()
    with capturedLogs() as events:
        monkeypatch.setattr(line.server, "_answer_failure", broken)
        line.send(b"a FOO\r\n")
    assert line.aborted
    assert len(events) == 1
    assert house.gate.sessions == 0


def test_a_command_that_ends_within_a_literal_closes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(context: Context, command: Command) -> None:
        context.write(b"* 1 FETCH (BODY[] {100}\r\nabc")
        raise ConnectionGone from StoreUnavailable()

    monkeypatch.setitem(COMMANDS, b"BREAK", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    with capturedLogs() as events:
        line.send(b"a BREAK\r\n")
    assert line.aborted
    assert len(events) == 1


@pytest.mark.parametrize("count", [19, 20])
def test_bad_commands_after_log_in(house: House, count: int) -> None:
    line = house.log_in()
    answers = line.send(b"a FOO\r\n" * count)
    house.clock.advance(0)
    answers += line.take()
    assert answers.count(b"a BAD Unknown command.\r\n") == count
    assert line.closed is (count == 20)


def test_a_session_that_idles_in_a_large_folder_keeps_its_uids_folded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certmaild.protocols.imap.view.FOLDED_FROM", 3)
    house.deliver(b"1\r\n", b"2\r\n", b"3\r\n")
    line = house.select()
    view = line.server._context.view
    line.send(b"a IDLE\r\n")
    assert not view._uids
    house.deliver(b"4\r\n")
    assert line.take() == b"* 4 EXISTS\r\n* 4 RECENT\r\n"
    assert not view._uids
    assert line.send(b"DONE\r\nb UID SEARCH ALL\r\n").startswith(b"a OK Completed.\r\n* SEARCH 1 2 3 4\r\n")


def test_idle_takes_nothing_but_done(house: House) -> None:
    line = house.log_in()
    line.send(b"a IDLE\r\n")
    assert line.send(b"b NOOP\r\n") == b"a BAD DONE was expected.\r\n"
    line.send(b"a IDLE\r\n")
    assert line.send(b"x" * 65) == b"* BYE [TOOBIG] Line too long.\r\n"


def test_bad_of_a_command_counts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(context: Context, command: Command) -> None:
        raise Bad(b"No.")

    monkeypatch.setitem(COMMANDS, b"WRONG", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    for _ in range(19):
        line.send(b"a WRONG\r\n")
    assert line.send(b"a WRONG\r\n") == b"a BAD No.\r\n* BYE Too many bad commands.\r\n"


def test_changes_of_other_kinds_wake_nobody(house: House) -> None:
    line = house.select()
    line.send(b"a IDLE\r\n")
    house.announce(ChangeKind.FOLDERS)
    house.announce(ChangeKind.FOLDER)
    house.deliver(b"x\r\n", folder="Sent")
    assert line.take() == b""
    house.deliver(b"x\r\n")
    assert line.take() == b"* 1 EXISTS\r\n* 1 RECENT\r\n"


def test_a_login_that_cannot_be_checked_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(login: object) -> bool:
        raise StoreUnavailable

    monkeypatch.setattr(house.gate, "is_valid", broken)
    line = house.log_in()
    with capturedLogs() as events:
        house.announce(ChangeKind.ACCOUNT)
    assert [event["log_failure"].type for event in events] == [StoreUnavailable]
    assert not line.closed


def test_shut_down_twice_and_in_a_line_not_answered(house: House) -> None:
    line = house.connect()
    line.send(b"a AUTHENTICATE LOGIN\r\n")
    first = house.factory.connections.shut_down()
    assert house.factory.connections.shut_down() is first
    assert line.closed
    assert first.called


def test_a_client_that_does_not_take_our_close_is_cut_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Line, "loseConnection", lambda self: None)
    line = house.log_in()
    line.send(b"a LOGOUT\r\n")
    assert not line.closed
    assert line.send(b"b NOOP\r\n") == b""
    house.clock.advance(10)
    assert line.aborted


def test_pipelined_done_and_commands_behind_idle(house: House) -> None:
    line = house.log_in()
    assert line.send(b"a IDLE\r\nDONE\r\nb NOOP\r\n") == b"+ idling\r\na OK Completed.\r\nb OK Completed.\r\n"


def test_quota_in_units_of_1024(house: House) -> None:
    house.limit(10_000, 5)
    house.deliver(b"x" * 1500 + b"\r\n")
    line = house.log_in()
    answer = line.send(b"a GETQUOTAROOT INBOX\r\n")
    assert answer == b'* QUOTAROOT "INBOX" ""\r\n* QUOTA "" (STORAGE 2 9 MESSAGE 1 5)\r\na OK Completed.\r\n'


def test_deleted_storage(house: House) -> None:
    house.deliver(b"x" * 98 + b"\r\n", flags=Flags(int(SystemFlag.DELETED)))
    house.deliver(b"y\r\n")
    line = house.log_in()
    answer = line.send(b"a STATUS INBOX (DELETED DELETED-STORAGE)\r\n")
    assert answer.startswith(b'* STATUS "INBOX" (DELETED 1 DELETED-STORAGE 100)\r\n')


def test_condstore_is_enabled_by_use_and_said_once(house: House) -> None:
    line = house.select()
    assert b"* OK [HIGHESTMODSEQ 1] " in line.send(b"a STATUS Sent (HIGHESTMODSEQ)\r\n")
    assert b"* OK [HIGHESTMODSEQ" not in line.send(b"b STATUS Sent (HIGHESTMODSEQ)\r\n")
    assert b"* OK [HIGHESTMODSEQ" not in line.send(b"c ENABLE CONDSTORE\r\n")
    other = house.select()
    house.deliver(b"x\r\n")
    line.send(b"d NOOP\r\n")
    other.send(b"a NOOP\r\n")
    other.send(b"b STORE 1 +FLAGS (\\Seen $Work)\r\n")
    answer = line.send(b"e NOOP\r\n")
    assert b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work)\r\n* OK [PERMANENTFLAGS " in answer
    assert b"* 1 FETCH (UID 1 FLAGS (\\Seen $Work \\Recent) MODSEQ (3))\r\n" in answer
    assert line.send(b"f NOOP\r\n") == b"f OK Completed.\r\n"


def test_cut_off_when_shut_down_takes_too_long(house: House, hung: "Deferred[None]") -> None:
    line = house.log_in()
    line.send(b"a HANG\r\n")
    done = house.factory.connections.shut_down()
    assert not done.called
    house.factory.connections.cut_off()
    assert line.aborted
    assert done.called


def test_authenticate_line_at_and_past_its_limit(tmp_path: Path) -> None:
    line = House(tmp_path, Limits(auth_line=100)).connect()
    line.send(b"a AUTHENTICATE PLAIN\r\n")
    assert line.send(b"%" * 100 + b"\r\n").startswith(b"a BAD")
    line.send(b"b AUTHENTICATE PLAIN\r\n")
    assert line.send(b"%" * 101 + b"\r\n") == b"* BYE [TOOBIG] Line too long.\r\n"


@pytest.mark.parametrize("last", [b"", b"a IDLE\r\n", b"a COMPRESS DEFLATE\r\n", b"a LOGOUT\r\n", b"a SELECT INB"])
def test_an_ended_session_is_freed_at_once(house: House, last: bytes) -> None:
    """Left to the collector it would be thousands of objects each time many clients go, and a pause for all others."""
    line = house.select()
    ended = weakref.ref(line.server)
    gc.collect()
    gc.disable()
    try:
        line.send(last)
        line.hang_up()
        del line.server, line.producer
        assert ended() is None
    finally:
        gc.enable()
