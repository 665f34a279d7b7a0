"""The IMAP session without I/O: commands and literals out of octets, within limits."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.errors import StateError
from certmaild.protocols.imap.errors import Bye
from certmaild.protocols.imap.events import (
    NEED_DATA,
    PAUSED,
    CommandReady,
    LiteralChunk,
    LiteralDone,
    LiteralStarted,
    Reply,
    TextBehind,
)
from certmaild.protocols.imap.session import BUFFER_OCTETS, Session, parse_head, split_literal
from certmaild.protocols.imap.states import TRANSITIONS, Move, State
from certmaild.protocols.limits import Limits

LIMITS = Limits(command_line_before_login=40, command_line=80, literal_before_login=10, literal=20, message_size=100)


def make(*, logged_in: bool = True, limits: Limits = LIMITS) -> Session:
    session = Session(limits)
    if logged_in:
        session.move(Move.LOG_IN)
    return session


def events_of(session: Session, *pieces: bytes) -> Iterator[object]:
    """Feed pieces; accept every literal and finish every command at once."""
    for piece in pieces:
        session.receive_data(piece)
        while (event := session.next_event()) is not NEED_DATA:
            yield event
            if isinstance(event, Reply) and event.close:
                return
            if isinstance(event, CommandReady | TextBehind):
                if event.literal is not None and session.has_offer:
                    session.accept_literal()
                elif not session.streaming:
                    session.command_done()


def one(session: Session, data: bytes) -> object:
    (event,) = events_of(session, data)
    return event


def test_a_command_is_tag_name_and_arguments() -> None:
    ready = one(make(), b"a1 fetch 1 FLAGS\r\n")
    assert isinstance(ready, CommandReady)
    assert (ready.command.tag, ready.command.name, ready.command.arguments) == (b"a1", b"FETCH", (b"1 FLAGS",))
    assert not ready.command.by_uid


def test_uid_commands_keep_their_prefix() -> None:
    ready = one(make(), b"a uid Fetch 1 FLAGS\r\n")
    assert isinstance(ready, CommandReady)
    assert (ready.command.name, ready.command.arguments) == (b"UID FETCH", (b"1 FLAGS",))
    assert ready.command.by_uid


def test_synchronizing_literal_is_asked_for_and_stands_in_place() -> None:
    session = make()
    assert list(events_of(session, b"a LOGIN {3}\r\n")) == [Reply(b"+ OK\r\n")]
    ready = one(session, b"joe {0+}\r\n x\r\n")
    assert isinstance(ready, CommandReady)
    assert ready.command.arguments == (b"", b"joe", b" ", b"", b" x")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"a",
        b"a ",
        b" a NOOP",
        b"* NOOP",
        b"+ NOOP",
        b"a+ NOOP",
        b"a(b NOOP",
        b"\xc3\xa4 NOOP",
        b"a NO{OP",
        b"a UID",
        b"a UID 1",
        b"x" * 256 + b" NOOP",
        b"a " + b"X" * 33,
        b"a {3}",
        b"a NOOP\0",
        b"a NOOP\rx",
        b"a NOOP\n b NOOP",
    ],
)
def test_what_is_no_command_is_answered_with_bad(line: bytes) -> None:
    session = make(limits=Limits())
    replies = list(events_of(session, line + b"\r\n"))
    assert replies
    for reply in replies[:1] if b"\n" in line else replies:
        assert isinstance(reply, Reply)
        assert b" BAD " in reply.data
        assert not reply.close


def test_a_bare_line_feed_ends_no_command() -> None:
    assert one(make(), b"a NOOP\n") == Reply(b"a BAD This is not a command.\r\n")


def test_text_behind_a_literal_is_checked_too() -> None:
    events = list(events_of(make(), b"a LOGIN {1+}\r\nx \0\r\n"))
    assert events == [Reply(b"a BAD This is not a command.\r\n")]


def test_bad_head_with_a_literal_that_comes_anyway_swallows_it() -> None:
    events = list(events_of(make(), b"( {8+}\r\na NOOP\r\n\r\nb NOOP\r\n"))
    assert events[0] == Reply(b"* BAD This is not a command.\r\n")
    assert isinstance(events[1], CommandReady)
    assert events[1].command.tag == b"b"


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST /x HTTP/1.0", b"Host: example.com", b"PRI * HTTP/2.0"])
def test_what_looks_like_http_is_closed_without_a_word(line: bytes) -> None:
    assert one(make(logged_in=False), line + b"\r\n") == Reply(b"", close=True)


# Limits


def test_line_before_login_at_the_limit_and_past_it() -> None:
    at = b"a NOOP ".ljust(40, b"x")
    assert isinstance(one(make(logged_in=False), at + b"\r\n"), CommandReady)
    too_long = Reply(b"* BYE [TOOBIG] Command line too long.\r\n", close=True)
    assert one(make(logged_in=False), at + b"x\r\n") == too_long
    assert one(make(logged_in=False), at + b"xx") == too_long
    waiting = make(logged_in=False)
    assert list(events_of(waiting, at + b"x")) == []


def test_line_after_login_at_the_limit_and_past_it() -> None:
    at = b"a NOOP ".ljust(80, b"x")
    assert isinstance(one(make(), at + b"\r\n"), CommandReady)
    session = make()
    assert one(session, at + b"x\r\n") == Reply(b"a BAD [TOOBIG] Command line too long.\r\n")
    assert isinstance(one(session, b"b NOOP\r\n"), CommandReady)


def test_a_long_line_is_passed_over_in_pieces() -> None:
    session = make()
    events = list(events_of(session, b"a NOOP " + b"x" * 100, b"y" * 100, b"z\r\nb NOOP\r\n"))
    assert events[0] == Reply(b"a BAD [TOOBIG] Command line too long.\r\n")
    assert isinstance(events[1], CommandReady)


def test_a_long_line_without_end_is_cut_off() -> None:
    events = list(events_of(make(), *[b"x" * 80] * 30))
    assert events == [Reply(b"* BYE [TOOBIG] Command line too long.\r\n", close=True)]


@pytest.mark.parametrize(("mark", "closes"), [(b"{5}", False), (b"{5+}", True)])
def test_a_long_line_that_announces_a_literal(mark: bytes, closes: bool) -> None:
    (event,) = events_of(make(), b"a NOOP " + b"x" * 100 + mark + b"\r\n")
    assert isinstance(event, Reply)
    assert event.close is closes


def test_the_limit_counts_all_text_of_a_command() -> None:
    session = make()
    assert list(events_of(session, b"a X {1}\r\n")) == [Reply(b"+ OK\r\n")]
    assert one(session, b"1" + b"x" * 74 + b"\r\n") == Reply(b"a BAD [TOOBIG] Command line too long.\r\n")


@pytest.mark.parametrize(("logged_in", "limit"), [(False, 10), (True, 20)])
def test_literal_at_the_limit_and_past_it(logged_in: bool, limit: int) -> None:
    assert list(events_of(make(logged_in=logged_in), b"a LOGIN {%d}\r\n" % limit)) == [Reply(b"+ OK\r\n")]
    refused = list(events_of(make(logged_in=logged_in), b"a LOGIN {%d}\r\nb NOOP\r\n" % (limit + 1)))
    assert refused[0] == Reply(b"a NO [TOOBIG] Literal too large.\r\n")
    assert isinstance(refused[1], CommandReady)
    events = list(events_of(make(logged_in=logged_in), b"a LOGIN {%d+}\r\n" % (limit + 1)))
    assert events == [Reply(b"* BYE [TOOBIG] Literal too large.\r\n", close=True)]


def test_the_limit_counts_all_literals_of_a_command() -> None:
    session = make()
    events = list(events_of(session, b"a SEARCH {20+}\r\n" + b"x" * 20 + b" {1}\r\n"))
    assert events == [Reply(b"a NO [TOOBIG] Literal too large.\r\n")]


def test_literal_past_the_limit_with_a_bad_head_is_answered_untagged() -> None:
    session = make()
    events = list(events_of(session, b"( {1+}\r\nx {100}\r\n"))
    assert events == [Reply(b"* BAD This is not a command.\r\n")]


@pytest.mark.parametrize(("logged_in", "limit"), [(False, 3), (True, 20)])
def test_bad_commands_at_the_limit_close(logged_in: bool, limit: int) -> None:
    session = make(logged_in=logged_in)
    events = list(events_of(session, b"?\r\n" * (limit + 1)))
    assert len(events) == limit
    assert all(isinstance(event, Reply) and not event.close for event in events[:-1])
    assert events[-1] == Reply(b"* BAD This is not a command.\r\n* BYE Too many bad commands.\r\n", close=True)


def test_commands_wait_for_the_one_that_runs() -> None:
    session = make()
    session.receive_data(b"a NOOP\r\nb NOOP\r\n")
    assert isinstance(session.next_event(), CommandReady)
    assert session.next_event() is PAUSED
    assert session.has_input
    session.command_done()
    assert isinstance(session.next_event(), CommandReady)


def test_unread_input_at_the_limit_asks_for_a_pause() -> None:
    session = make()
    session.receive_data(b"x" * (BUFFER_OCTETS - 1))
    assert not session.wants_pause
    session.receive_data(b"x")
    assert session.wants_pause


def test_commands_in_flight_at_the_limit_ask_for_a_pause() -> None:
    session = make()
    session.receive_data(b"a NOOP\r\n" * (LIMITS.commands_in_flight - 1))
    assert not session.wants_pause
    session.receive_data(b"a NOOP\r\n")
    assert session.wants_pause


# Lines for the command that runs


def test_lines_for_a_running_command() -> None:
    session = make()
    assert isinstance(one(session, b"a IDLE\r\n"), CommandReady)
    assert session.next_line(4) is None
    session.receive_data(b"DONE\r\nDO")
    assert session.next_line(4) == b"DONE"
    assert session.next_line(4) is None
    session.receive_data(b"NE!\r\n")
    with pytest.raises(Bye):
        session.next_line(4)
    session.receive_data(b"x" * 5)
    with pytest.raises(Bye):
        session.next_line(4)


# Streamed literals


def test_append_streams_its_messages() -> None:
    session = make()
    session.receive_data(b"a APPEND {5+}\r\nDraft (\\Seen) ~{6+}\r\nabc")
    ready = session.next_event()
    assert isinstance(ready, CommandReady)
    assert ready.command.arguments == (b"", b"Draft", b" (\\Seen) ")
    assert ready.literal == LiteralStarted(6, True, False)
    assert session.next_event() is PAUSED
    assert session.accept_literal() == b""
    assert session.next_event() == LiteralChunk(b"abc")
    assert session.next_event() is NEED_DATA
    session.receive_data(b"def {2}\r\n")
    assert session.next_event() == LiteralChunk(b"def")
    assert session.next_event() == LiteralDone()
    assert session.next_event() == TextBehind(b" ", LiteralStarted(2, False, True))
    assert session.streaming
    assert session.has_offer
    assert session.accept_literal() == b"+ OK\r\n"
    session.receive_data(b"xy\r")
    assert session.next_event() == LiteralChunk(b"xy")
    assert session.next_event() == LiteralDone()
    assert session.next_event() is NEED_DATA
    session.receive_data(b"\n")
    assert session.next_event() == TextBehind(b"", None)
    assert not session.streaming


def test_append_before_login_is_not_streamed() -> None:
    assert one(make(logged_in=False), b"a APPEND x {5}\r\n") == Reply(b"+ OK\r\n")


def test_refused_literals() -> None:
    session = make()
    session.receive_data(b"a APPEND x {5}\r\n")
    session.next_event()
    session.refuse_literal()
    assert not session.streaming
    with pytest.raises(StateError):
        session.accept_literal()
    session.command_done()
    session.receive_data(b"a APPEND x {2+}\r\nab\r\n")
    session.next_event()
    session.refuse_literal()
    assert [session.next_event() for _ in range(3)] == [LiteralChunk(b"ab"), LiteralDone(), TextBehind(b"", None)]


def test_message_at_the_limit_and_past_it() -> None:
    assert isinstance(one(make(), b"a APPEND x {100}\r\n"), CommandReady)
    assert one(make(), b"a APPEND x {101}\r\n") == Reply(b"a NO [TOOBIG] Literal too large.\r\n")
    past = one(make(), b"a APPEND x {101+}\r\n")
    assert past == Reply(b"* BYE [TOOBIG] Literal too large.\r\n", close=True)


def test_second_message_past_the_limit() -> None:
    session = make()
    events = list(events_of(session, b"a APPEND x {1}\r\n", b"y {101}\r\n"))
    assert events[-1] == TextBehind(b" ", LiteralStarted(101, False, True))
    assert not session.streaming
    events = list(events_of(make(), b"a APPEND x {1+}\r\ny {101+}\r\n"))
    assert events[-1] == Reply(b"* BYE [TOOBIG] Literal too large.\r\n", close=True)


@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_text_behind_a_message_has_the_limit_too(end: bytes) -> None:
    events = list(events_of(make(), b"a APPEND x {1+}\r\ny" + b"z" * 75 + end))
    assert events[-1] == Reply(b"* BYE [TOOBIG] Command line too long.\r\n", close=True)


# Pieces


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"x", (b"x", None)),
        (b"x}", (b"x}", None)),
        (b"x {}", (b"x {}", None)),
        (b"x {+}", (b"x {+}", None)),
        (b"x {-1}", (b"x {-1}", None)),
        (b"x {1-}", (b"x {1-}", None)),
        (b"x {" + b"1" * 50 + b"}", (b"x {" + b"1" * 50 + b"}", None)),
        (b"x {12}", (b"x ", LiteralStarted(12, False, True))),
        (b"x ~{12+}", (b"x ", LiteralStarted(12, True, False))),
        (b"x {" + b"9" * 19 + b"+}", (b"x ", LiteralStarted(10**18, False, False))),
    ],
)
def test_split_literal(line: bytes, expected: object) -> None:
    assert split_literal(line) == expected


@given(st.binary(max_size=60))
def test_parse_head_takes_anything(line: bytes) -> None:
    head, _ = parse_head(line)
    if head is not None:
        assert head[1] == head[1].upper()


SCRIPTS = st.lists(
    st.sampled_from(
        [
            b"a NOOP\r\n",
            b"b LOGIN {3+}\r\nabc x\r\n",
            b"c APPEND x (\\Seen) {4+}\r\nab\r\n\r\n",
            b"d APPEND {1+}\r\nx {2+}\r\nab {0+}\r\n\r\n",
            b"? x\r\n",
            b"e UID FETCH 1:* FLAGS\r\n",
            b"f FETCH 1\0\r\n",
            b"g NOOP\n",
            b"h " + b"x" * 100 + b"\r\n",
            b"i SEARCH {21}\r\n",
            b"{9+}\r\n",
            b"\r\n",
        ]
    ),
    max_size=8,
)


def flat(session: Session, pieces: list[bytes]) -> list[object]:
    """Events with the chunks of a literal joined, and a closing reply as the last."""
    found: list[object] = []
    for event in events_of(session, *pieces):
        if isinstance(event, LiteralChunk) and found and isinstance(found[-1], LiteralChunk):
            found[-1] = LiteralChunk(found[-1].data + event.data)
        else:
            found.append(event)
    return found


@given(SCRIPTS)
def test_any_chunking_gives_the_same_events(script: list[bytes]) -> None:
    data = b"".join(script)
    whole = flat(make(), [data])
    assert flat(make(), [data[at : at + 1] for at in range(len(data))]) == whole


@given(st.binary(max_size=200))
def test_garbage_raises_nothing(data: bytes) -> None:
    for logged_in in (False, True):
        list(events_of(make(logged_in=logged_in), data + b"\r\n"))


def test_states_move_by_the_table_only() -> None:
    for state in State:
        for move in Move:
            session = make(logged_in=False)
            session.state = state
            if (state, move) in TRANSITIONS:
                session.move(move)
                assert session.state is TRANSITIONS[state, move]
            else:
                with pytest.raises(StateError):
                    session.move(move)


@pytest.mark.parametrize("logged_in", [False, True])
def test_a_command_of_thousands_of_empty_literals_nests_no_calls(logged_in: bool) -> None:
    session = make(logged_in=logged_in, limits=Limits())
    count = 1500 if not logged_in else 12_000
    (ready,) = events_of(session, b"a LOGIN" + b" {0+}\r\n" * count + b"\r\n")
    assert isinstance(ready, CommandReady)
    assert len(ready.command.arguments) == 2 * count + 1


def test_endless_empty_literals_meet_the_limit_of_the_line() -> None:
    (reply,) = events_of(make(logged_in=False, limits=Limits()), b"a LOGIN" + b" {0+}\r\n" * 200_000)
    assert reply == Reply(b"* BYE [TOOBIG] Command line too long.\r\n", close=True)
