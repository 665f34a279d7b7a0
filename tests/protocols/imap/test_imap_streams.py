"""The IMAP server and what flows through it: literals of APPEND, and COMPRESS."""

import zlib
from pathlib import Path

import pytest
from imap_append_support import serve_append
from imap_support import House, Line
from twisted.internet.defer import Deferred

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.registry import AFTER_LOGIN, COMMANDS, Spec
from certmaild.protocols.limits import Limits


@pytest.mark.parametrize("cut", [False, True])
def test_append_reads_its_literals(house: House, monkeypatch: pytest.MonkeyPatch, cut: bool) -> None:
    taken: list[bytes] = []
    serve_append(monkeypatch, taken)
    line = house.log_in()
    sent = b"a APPEND x (\\Seen) {5+}\r\nab\r\nc {0+}\r\n {3}\r\nxyz)\r\nb NOOP\r\n"
    pieces = [sent[at : at + 1] for at in range(len(sent))] if cut else [sent]
    answer = b"".join(line.send(piece) for piece in pieces)
    assert answer == b"+ OK\r\na OK Completed.\r\nb OK Completed.\r\n"
    assert taken == [b"ab\r\nc", b" ", b"", b" ", b"xyz", b")"]


def test_append_that_refuses_before_the_literal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_append(monkeypatch, [], fail_after=0)
    line = house.log_in()
    refused = b"a NO [TRYCREATE] Refused.\r\n"
    assert line.send(b"a APPEND x {5}\r\nb NOOP\r\n") == refused + b"b OK Completed.\r\n"
    assert line.send(b"a APPEND x {5+}\r\nab") == b""
    assert line.send(b"\r\nx {3+}\r\na") == b""
    assert line.send(b"bc {9}\r\nb NOOP\r\n") == refused + b"b OK Completed.\r\n"


def test_append_that_refuses_after_a_literal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_append(monkeypatch, [], fail_after=1)
    line = house.log_in()
    sent = b"a APPEND x {2+}\r\nab {2+}\r\ncd\r\nb NOOP\r\n"
    assert line.send(sent) == b"a NO Refused.\r\nb OK Completed.\r\n"


def test_second_literal_past_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, Limits(message_size=10))
    serve_append(monkeypatch, [])
    line = house.log_in()
    answer = line.send(b"a APPEND x {2+}\r\nab {11}\r\nb NOOP\r\n")
    assert answer == b"a NO [TOOBIG] Literal too large.\r\nb OK Completed.\r\n"
    assert line.send(b"a APPEND x {2+}\r\nab {11+}\r\n") == b"* BYE [TOOBIG] Literal too large.\r\n"
    assert line.closed


def test_past_the_limit_while_passing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, Limits(message_size=10))
    serve_append(monkeypatch, [], fail_after=0)
    line = house.log_in()
    assert line.send(b"a APPEND x {2+}\r\nab {11+}\r\n") == b"* BYE [TOOBIG] Literal too large.\r\n"
    assert line.closed


def test_a_client_that_leaves_within_a_literal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_append(monkeypatch, [])
    line = house.log_in()
    line.send(b"a APPEND x {5+}\r\nab")
    line.hang_up()
    assert house.gate.sessions == 0


class Deflated:
    """The client's side of a compressed connection."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.out = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.into = zlib.decompressobj(-15)
        assert line.send(b"c COMPRESS DEFLATE\r\n") == b"c OK Completed.\r\n"

    def pack(self, data: bytes) -> bytes:
        return self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH)

    def send(self, data: bytes) -> bytes:
        return self.into.decompress(self.line.send(self.pack(data)))

    def take(self) -> bytes:
        return self.into.decompress(self.line.take())


def test_compress(house: House) -> None:
    client = Deflated(house.log_in())
    assert client.send(b"a NOOP\r\n") == b"a OK Completed.\r\n"
    assert b"COMPRESS=DEFLATE" not in client.send(b"b CAPABILITY\r\n")
    assert client.send(b"c COMPRESS DEFLATE\r\n").startswith(b"c NO [COMPRESSIONACTIVE] ")
    assert client.send(b"d IDLE\r\n") == b"+ idling\r\n"
    house.clock.advance(120)
    assert client.take() == b"* OK Still here\r\n"
    assert client.send(b"DONE\r\n") == b"d OK Completed.\r\n"


def test_messages_share_no_compression_context(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    async def run(context: Context, command: Command) -> None:
        for _ in range(3):
            before = len(line.written)
            context.write(bytes(range(33, 127)) * 5)
            context.separate()
            sizes.append(len(line.written) - before)
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"LONG", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    client = Deflated(line)
    client.send(b"a LONG\r\n")
    assert len(set(sizes)) == 1
    assert sizes[0] > 90


def test_a_small_bomb_is_inflated_piece_by_piece(house: House, hung: "Deferred[None]") -> None:
    client = Deflated(house.log_in())
    client.send(b"a HANG\r\n")
    bomb = client.pack(b"x" * (70 << 20))
    client.line.send(bomb)
    assert client.line.reading_paused
    hung.callback(None)
    for _ in range(2000):
        house.clock.advance(0)
    assert client.take().endswith(b"* BYE [TOOBIG] Command line too long.\r\n")
    assert client.line.closed


def test_what_is_not_deflated_ends_the_session(house: House) -> None:
    client = Deflated(house.log_in())
    assert client.into.decompress(client.line.send(b"\xff\xff\xff\xff")) == b"* BYE The compressed data is damaged.\r\n"
    client = Deflated(house.log_in())
    assert (
        client.into.decompress(client.line.send(client.out.flush(zlib.Z_FINISH)))
        == b"* BYE The compressed data has ended.\r\n"
    )


def test_nothing_may_follow_compress(house: House) -> None:
    line = house.log_in()
    answer = line.send(b"c COMPRESS DEFLATE\r\nd NOOP\r\n")
    assert answer == b"c OK Completed.\r\n* BYE Nothing may follow COMPRESS before its answer.\r\n"
    assert line.closed


def test_reading_on_behind_the_end_of_a_literal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    async def run(context: Context, command: Command) -> None:
        stream = command.stream
        assert stream is not None
        seen.extend([stream.size, stream.binary, await stream.next_text(), await stream.read(), stream.size])
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"APPEND", Spec(run, AFTER_LOGIN))
    line = house.log_in()
    assert line.send(b"a APPEND x ~{3+}\r\nabc\r\n") == b"a OK Completed.\r\n"
    assert seen == [3, True, b"", b"", 0]
