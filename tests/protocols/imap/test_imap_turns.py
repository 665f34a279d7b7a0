"""The IMAP server under load: back-pressure, and whose turn it is."""

import pytest
from imap_support import House
from twisted.internet.defer import Deferred

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.registry import AFTER_LOGIN, COMMANDS, Spec
from certmaild.protocols.limits import Limits
from certmaild.protocols.turns import TURN_S


def test_a_client_that_does_not_read_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(context: Context, command: Command) -> None:
        for number in range(3):
            context.write(b"* %d x\r\n" % number)
            await context.flush()
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"LONG", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    line.producer.pauseProducing()
    assert line.send(b"a LONG\r\n") == b"* 0 x\r\n"
    line.producer.resumeProducing()
    assert line.take() == b"* 1 x\r\n* 2 x\r\na OK Completed.\r\n"
    line.producer.pauseProducing()
    line.send(b"b LONG\r\n")
    line.producer.stopProducing()
    line.hang_up()
    assert house.gate.sessions == 0


def test_large_output_goes_out_in_records(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    async def run(context: Context, command: Command) -> None:
        for _ in range(5):
            context.write(b"x" * 5000)
            sizes.append(len(line.written))
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"LONG", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    assert line.send(b"a LONG\r\n").endswith(b"a OK Completed.\r\n")
    assert sizes == [0, 0, 0, 20000, 20000]


def test_a_client_that_sends_on_is_paused(house: House, hung: "Deferred[None]") -> None:
    line = house.log_in()
    line.send(b"a HANG\r\n")
    line.send(b"b NOOP\r\n" * (Limits().commands_in_flight - 1))
    assert not line.reading_paused
    line.send(b"b NOOP\r\n")
    assert line.reading_paused
    hung.callback(None)
    for _ in range(5):
        house.clock.advance(0)
    assert line.take().count(b"b OK") == Limits().commands_in_flight
    assert not line.reading_paused


def test_pipelined_commands_let_others_have_their_turn(house: House) -> None:
    line, other = house.log_in(), house.log_in()
    house.clock.look_s = TURN_S / 40
    first = line.send(b"a NOOP\r\n" * 200).count(b"a OK")
    assert 1 < first < 50
    # Both wait; the one who has just come goes before the one who sent a flood, but behind a share of his.
    assert other.send(b"b NOOP\r\n") == b""
    house.clock.advance(0)
    assert other.take() == b"b OK Completed.\r\n"
    second = line.take().count(b"a OK")
    assert 0 < second < 200 - first
    for _ in range(20):
        house.clock.advance(0)
    assert first + second + line.take().count(b"a OK") == 200


def test_a_flood_that_waits_for_its_turn_is_not_read_on(house: House) -> None:
    line = house.log_in()
    house.clock.look_s = TURN_S / 10
    line.send(b"a NOOP\r\n" * 200)
    assert line.reading_paused
    for _ in range(100):
        house.clock.advance(0)
    assert not line.reading_paused


def test_slow_pipelined_commands_share_their_turn_by_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(context: Context, command: Command) -> None:
        house.clock.rightNow += 0.003
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"SLOW", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    assert line.send(b"a SLOW\r\n" * 4).count(b"a OK") == 2
    house.clock.advance(0)
    assert line.take().count(b"a OK") == 2


@pytest.mark.parametrize("refused", [False, True])
def test_thousands_of_literals_let_others_have_their_turn(
    house: House, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    async def run(context: Context, command: Command) -> None:
        assert command.stream is not None
        if refused:
            house.clock.rightNow += 0.005
            raise No(b"Refused.")
        while command.stream.more:
            house.clock.rightNow += 0.005
            await command.stream.next_text()
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"APPEND", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    assert line.send(b"a APPEND INBOX" + b" {1+}\r\nx" * 10 + b"\r\n") == b""
    for _ in range(20):
        house.clock.advance(0)
    assert line.take() == (b"a NO Refused.\r\n" if refused else b"a OK Completed.\r\n")
    line.send(b"a APPEND INBOX" + b" {1+}\r\nx" * 10 + b"\r\n")
    line.hang_up()
    for _ in range(20):
        house.clock.advance(0)
    assert house.gate.sessions == 0


def test_a_long_response_lets_others_have_their_turn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(context: Context, command: Command) -> None:
        for _ in range(3):
            house.clock.rightNow += 0.005
            await context.flush()
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"LONG", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    assert line.send(b"a LONG\r\n") == b""
    for _ in range(3):
        house.clock.advance(0)
    assert line.take() == b"a OK Completed.\r\n"
    line.send(b"a LONG\r\n")
    line.hang_up()
    house.clock.advance(0)
    assert house.gate.sessions == 0


def test_many_folders_are_listed_with_back_pressure(house: House) -> None:
    line = house.log_in()
    for number in range(70):
        line.send(b"a CREATE f%d\r\n" % number)
    for command in (b"LIST", b"XLIST"):
        line.producer.pauseProducing()
        first = line.send(b"a " + command + b' "" *\r\n')
        assert first.count(b"* ") < 3
        line.producer.resumeProducing()
        assert first.count(b"* ") + line.take().count(b"* ") == 76
