"""POP3 by transcript, whole and cut into single bytes, and its limits."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.limits import Limits
from certmaild.protocols.pop3 import grammar
from certmaild.protocols.pop3.errors import BadCommand, Refusal
from certmaild.protocols.pop3.events import Closed, LogIn, Retrieve, Send, Signal, Update
from certmaild.protocols.pop3.grammar import LineLimit, Stuffer
from certmaild.protocols.pop3.maildrop import Maildrop
from certmaild.protocols.pop3.session import Session
from certmaild.protocols.pop3.states import State

TRANSCRIPTS = sorted((Path(__file__).parent.parent / "transcripts" / "pop3").glob("*.txt"))


def three_messages() -> Maildrop:
    drop = Maildrop()
    drop.add(4, b"\1" * 16, 10, final_crlf=True, is_copy=False)
    drop.add(5, b"\2" * 16, 20, final_crlf=False, is_copy=False)
    drop.add(9, b"\2" * 16, 300, final_crlf=True, is_copy=True)
    return drop


class Side:
    """A server without a network."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.session = Session(limits or Limits(), "mail.example.org")
        self.closed: str | None = None
        self.out = b""

    def feed(self, data: bytes, *, cut: bool = False) -> bytes:
        for piece in [data[at : at + 1] for at in range(len(data))] if cut else [data]:
            self.session.receive_data(piece)
            self.turn()
        return self.take()

    def take(self) -> bytes:
        out, self.out = self.out + self.session.take_output(), b""
        return out

    def turn(self) -> None:
        while (event := self.session.next_event()) is Signal.MORE or not isinstance(event, Signal):
            self.out += self.session.take_output()
            match event:
                case Closed():
                    self.closed = self.closed or "closed"
                    return
                case LogIn(credentials):
                    if (credentials.username, credentials.password) == (b"ann@example.org", b"right word"):
                        self.session.accept(three_messages())
                    else:
                        self.session.refuse(Refusal("Wrong name or password", "AUTH"))
                case Send(pieces):
                    self.out += b"".join(pieces)
                    self.session.done()
                case Retrieve():
                    self.out += b"+OK\r\n.\r\n"
                    self.session.done()
                case Update(indexes):
                    self.closed = " ".join(["closed", *map(str, indexes)])
                    self.session.done()


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "bytes"])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, cut: bool) -> None:
    side = Side()
    got = side.take()
    for line in path.read_text().splitlines():
        if line.startswith("C: "):
            assert got == b"", line
            got = side.feed(line[3:].encode() + b"\r\n", cut=cut)
        elif line == "S: closed" or line.startswith("S: closed "):
            assert (got, side.closed) == (b"", line[3:])
        elif line.startswith("S: "):
            want = line[3:].encode() + b"\r\n"
            assert got.startswith(want), (line, got)
            got = got[len(want) :]
    assert got == b""


def logged_in(limits: Limits | None = None) -> Side:
    side = Side(limits)
    side.feed(b"USER ann@example.org\r\nPASS right word\r\n")
    assert side.session.state is State.TRANSACTION
    return side


def test_pipelined_commands_are_all_answered_in_order() -> None:
    out = Side().feed(b"USER ann@example.org\r\nPASS right word\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
    assert [line[:3] for line in out.split(b"\r\n") if line] == [b"+OK"] * 5 + [b".", b"+OK", b"+OK"]


def test_many_pipelined_commands_are_answered_in_turns() -> None:
    side = logged_in()
    side.take()
    assert side.feed(b"NOOP\r\n" * 200).count(b"+OK") == 200
    assert Side().feed(b"QUIT\r\n").endswith(b"+OK Bye\r\n")


def test_the_session_waits_for_an_answer() -> None:
    session = Session(Limits(), "h")
    session.receive_data(b"USER a\r\nPASS b\r\nSTAT\r\n")
    assert isinstance(session.next_event(), LogIn)
    assert session.next_event() is Signal.PAUSED
    session.receive_data(b"x" * 70000)
    assert session.wants_pause


def test_a_line_at_the_limit_and_one_past_it() -> None:
    limits = Limits(command_line_before_login=100, auth_line=200)
    assert b"+OK" in Side(limits).feed(b"USER " + b"a" * 93 + b"\r\n")
    side = Side(limits)
    assert side.feed(b"USER " + b"a" * 94 + b"\r\n").endswith(b"-ERR Line too long\r\n") and side.closed
    side = Side(limits)
    assert b"Not base64" in side.feed(b"AUTH PLAIN " + b"?" * 187 + b"\r\n")
    side = Side(limits)
    assert b"too long" in side.feed(b"AUTH PLAIN " + b"?" * 188 + b"\r\n")
    side = Side(limits)
    side.feed(b"AUTH PLAIN\r\n")
    assert b"Not base64" in side.feed(b"?" * 198 + b"\r\n")
    side = logged_in(Limits(command_line=50))
    assert b"too long" in side.feed(b"N" * 51)
    side.feed(b"more after the end\r\n")
    side.session.end(Refusal("again"))
    assert side.take() == b""


def test_three_bad_commands_before_log_in() -> None:
    side = Side()
    side.take()
    assert b"Too many" not in side.feed(b"XYZZY\r\n" * 2)
    assert side.feed(b"XYZZY\r\n").endswith(b"-ERR Too many bad commands\r\n") and side.closed


def test_twenty_bad_commands_after_log_in() -> None:
    side = logged_in()
    side.take()
    assert b"Too many" not in side.feed(b"XYZZY\r\n" * 19)
    assert side.feed(b"XYZZY\r\n").endswith(b"-ERR Too many bad commands\r\n") and side.closed


@pytest.mark.parametrize("line", [b"NOOP\n", b"NO\rOP\r\n", b"NO\0OP\r\n", b"X" * 13 + b"\r\n", b"\r\n", b"A-B\r\n"])
def test_lines_that_are_refused(line: bytes) -> None:
    side = logged_in()
    side.take()
    assert side.feed(line).startswith(b"-ERR")


@pytest.mark.parametrize(
    "line",
    [
        b"USER",
        b"USER a\r\nPASS",
        b"CAPA x",
        b"UTF8 x",
        b"QUIT x",
        b"AUTH X",
        b"AUTH LOGIN =",
        b"AUTH PLAIN YQ==",
        b"AUTH PLAIN YQBiAGM=",
        b"AUTH PLAIN ====",
        b"USER a\r\nAUTH LOGIN\r\n*\r\nPASS x",
    ],
)
def test_what_is_refused_before_log_in(line: bytes) -> None:
    assert b"-ERR" in Side().feed(line + b"\r\n")


def test_a_failed_update_is_said_and_the_session_ends() -> None:
    session = logged_in().session
    session.receive_data(b"DELE 1\r\nQUIT\r\n")
    assert session.next_event() == Update((0,))
    session.refuse(Refusal("x", "SYS/TEMP"))
    assert session.take_output().endswith(b"-ERR [SYS/TEMP] x\r\n")
    assert isinstance(session.next_event(), Closed)


def test_a_refused_retrieval_leaves_the_session_open() -> None:
    session = logged_in().session
    session.receive_data(b"TOP 1 5\r\n")
    assert session.next_event() == Retrieve(0, 5)
    session.refuse(Refusal("x"))
    assert session.state is State.TRANSACTION and not session.before_login


def test_a_reader_deletes_nothing() -> None:
    side = logged_in()
    side.session.maildrop.read_only = True
    assert side.feed(b"DELE 1\r\n").endswith(b"-ERR This password may only read\r\n")


def test_credentials_are_not_shown() -> None:
    assert "secret" not in repr(grammar.parse_plain(b"\0a\0secret"))


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else(data: bytes) -> None:
    Side().feed(data + b"\r\n")
    logged_in().feed(data + b"\r\n")
    for parse in (
        grammar.parse_line,
        grammar.parse_command,
        grammar.parse_number,
        grammar.parse_base64,
        grammar.parse_plain,
    ):
        with contextlib.suppress(BadCommand):
            parse(data)


CONTENT = st.lists(st.sampled_from([b".", b"\r\n", b"\n", b"a", b"\r", b".."]), max_size=30).map(b"".join)


@given(CONTENT, st.integers(1, 5))
def test_stuffing_is_undone_to_the_same_octets(content: bytes, cut: int) -> None:
    stuffer = Stuffer()
    wire = b"".join(stuffer.feed(content[at : at + cut]) for at in range(0, len(content), cut)) + stuffer.finish()
    assert wire.endswith(b"\r\n.\r\n") or wire == b".\r\n"
    assert b"\n.\r\n" not in wire[:-3]
    assert b"\n.\n" not in wire
    body = wire[:-3]
    undone = (b"\n" + body).replace(b"\n..", b"\n.")[1:]
    expected = content if content.endswith(b"\r\n") else content + b"\r\n"
    assert undone == expected


def test_stuffer_takes_nothing() -> None:
    assert Stuffer().feed(b"") == b""


@given(st.integers(0, 6), st.integers(1, 9))
def test_top_gives_the_header_and_so_many_lines(lines: int, cut: int) -> None:
    header, body = b"A: b\r\nC: d\r\n\r\n", b"1\r\n2\r\n3\r\n4\r\n"
    limit, got = LineLimit(len(header), lines), b""
    for at in range(0, len(header + body), cut):
        piece, more = limit.feed((header + body)[at : at + cut])
        got += piece
        if not more:
            break
    assert got == header + body[: 3 * lines]
