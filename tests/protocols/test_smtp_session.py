"""SMTP limits at and past each, ends of a session, and garbage."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_support import Wire, inbound, submission

from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp import grammar, parameters
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.session import Session
from certmaild.protocols.smtp.states import TRANSITIONS, Move, State

BEGIN = b"EHLO c\r\nMAIL FROM:<b@p.example>\r\nRCPT TO:<ann@example.com>\r\n"


def begun(limits: Limits | None = None) -> Wire:
    """Port 25 after MAIL and RCPT."""
    wire = inbound(limits)
    assert wire.send(BEGIN).endswith(b"250 2.1.5 Recipient OK\r\n")
    return wire


def test_line_at_and_past_its_limit() -> None:
    line = b"NOOP " + b"x" * 2041 + b"\r\n"
    assert len(line) == 2048
    assert inbound().send(line) == b"250 2.0.0 OK\r\n"
    for cut in (len(line) + 1, 2048, 1):
        wire = inbound()
        long = line[:-2] + b"x\r\n"
        said = b"".join(wire.send(long[at : at + cut]) for at in range(0, len(long), cut))
        assert said == b"500 5.5.2 Line too long\r\n"
        assert wire.closed


def test_auth_line_at_and_past_its_limit() -> None:
    password = b"A" * (16384 - len(b"AUTH PLAIN \r\n"))
    wire = submission()
    wire.send(b"EHLO c\r\n")
    assert wire.send(b"AUTH PLAIN " + password + b"\r\n").startswith(b"501 5.5.2")
    assert wire.send(b"AUTH PLAIN " + password + b"A\r\n") == b"500 5.5.2 Line too long\r\n"
    assert wire.closed


def test_auth_response_may_be_as_long_as_an_auth_line() -> None:
    wire = submission()
    wire.send(b"EHLO c\r\nAUTH PLAIN\r\n")
    assert wire.send(b"A" * 16382 + b"\r\n").startswith(b"501 5.5.2")


def test_recipients_at_and_past_the_limit() -> None:
    wire = begun(replace(Limits(), recipients=2))
    assert wire.send(b"RCPT TO:<bob@example.com>\r\n") == b"250 2.1.5 Recipient OK\r\n"
    assert wire.send(b"RCPT TO:<carl@example.com>\r\n") == b"452 4.5.3 Too many recipients\r\n"
    assert wire.send(b"DATA\r\n").startswith(b"354")


def test_data_at_and_past_the_size_limit() -> None:
    limits = replace(Limits(), message_size_port_25=100)
    for size, code in ((100, b"250"), (101, b"552"), (300, b"552")):
        wire = begun(limits)
        assert wire.send(b"DATA\r\n").startswith(b"354")
        said = wire.send(b"x" * (size - 2)) + wire.send(b"\r\n.\r\n")
        assert said[:3] == code
        assert bool(wire.messages) == (code == b"250")
        assert not wire.closed


def test_a_submitted_message_at_and_past_the_size_limit() -> None:
    limits = replace(Limits(), message_size=100, message_size_port_25=50)
    begin = b"MAIL FROM:<ann@example.com> SIZE=%d\r\n"
    assert submission(limits, log_in=True).send(begin % 101).startswith(b"552 5.3.4")
    assert inbound(limits).send(b"EHLO c\r\n" + begin % 51).endswith(b"larger than this server accepts\r\n")
    for size, code in ((100, b"250"), (101, b"552")):
        wire = submission(limits, log_in=True)
        wire.send(begin % 100 + b"RCPT TO:<ann@example.com>\r\n")
        said = wire.send(b"DATA\r\n" + b"x" * (size - 2) + b"\r\n.\r\n")
        assert said.splitlines()[-1][:3] == code
        wire = submission(limits, log_in=True)
        wire.send(begin % 100 + b"RCPT TO:<ann@example.com>\r\n")
        assert wire.send(b"BDAT %d LAST\r\n" % size + b"x" * (size - 2) + b"\r\n")[:3] == code


def test_refused_content_that_does_not_end_is_cut_off() -> None:
    wire = begun(replace(Limits(), message_size_port_25=100))
    wire.send(b"DATA\r\n")
    assert wire.send(b"x" * 101) == b""
    assert wire.aborted == 1
    assert wire.send(b"x" * 100) == b""
    assert wire.send(b"x") == b"552 5.3.4 Message is larger than this server accepts\r\n"
    assert wire.closed


def test_a_fault_in_content_that_does_not_end_is_cut_off() -> None:
    wire = begun(replace(Limits(), message_size_port_25=100))
    wire.send(b"DATA\r\n")
    assert wire.send(b"x\ny") == b""
    assert wire.send(b"x" * 101).startswith(b"550 5.6.0")
    assert wire.closed


def test_chunks_at_and_past_the_size_limit() -> None:
    limits = replace(Limits(), message_size_port_25=100)
    wire = begun(limits)
    assert wire.send(b"BDAT 50\r\n" + b"x" * 50).startswith(b"250")
    assert wire.send(b"BDAT 50 LAST\r\n" + b"x" * 48 + b"\r\n").startswith(b"250")
    wire = begun(limits)
    assert wire.send(b"BDAT 50\r\n" + b"x" * 50).startswith(b"250")
    assert wire.send(b"BDAT 51\r\n" + b"\r\n" * 25) == b""
    assert wire.send(b"x").startswith(b"552 5.3.4")
    assert wire.send(b"NOOP\r\n") == b"250 2.0.0 OK\r\n"


def test_the_added_line_end_counts() -> None:
    wire = begun(replace(Limits(), message_size_port_25=100))
    assert wire.send(b"BDAT 100 LAST\r\n" + b"x" * 100).startswith(b"552 5.3.4")


def test_a_long_line_in_data_is_data() -> None:
    wire = begun()
    wire.send(b"DATA\r\n")
    assert wire.send(b"x" * 1_000_000 + b"\r\n.\r\n").startswith(b"250")
    assert len(wire.messages[0]) == 1_000_002


def test_three_bad_commands_before_log_in_and_twenty_after() -> None:
    wire = submission()
    for _ in range(2):
        wire.send(b"X\r\n")
        assert not wire.closed
    assert wire.send(b"X\r\n").endswith(b"421 4.7.0 Too many errors\r\n")
    assert wire.closed
    wire = submission(log_in=True)
    for _ in range(19):
        wire.send(b"X\r\n")
    assert not wire.closed
    wire.send(b"X\r\n")
    assert wire.closed


def test_refused_recipients_and_502_are_not_counted() -> None:
    wire = begun()
    for _ in range(50):
        wire.send(b"RCPT TO:<unknown@example.com>\r\nRCPT TO:<>\r\nEXPN x\r\nAUTH PLAIN\r\n")
    assert not wire.closed


@pytest.mark.parametrize("injected", [b"EHLO c\r\n", b"\0", b"\x16\x03\x01"])
def test_anything_behind_starttls_closes(injected: bytes) -> None:
    wire = inbound(in_tls=False)
    wire.send(b"EHLO c\r\n")
    assert wire.send(b"STARTTLS\r\n" + injected) == b""
    assert wire.closed


def test_nothing_is_read_between_starttls_and_handshake() -> None:
    wire = inbound(in_tls=False)
    old = wire.session
    wire.send(b"STARTTLS\r\n")
    old.receive_data(b"NOOP\r\n")
    old.next_event()
    assert old.take_output() == b""


def test_a_certificate_less_listener_offers_no_starttls() -> None:
    terms = inbound(in_tls=False).terms._replace(offer_starttls=False)
    wire = Wire(terms)
    assert b"STARTTLS" not in wire.send(b"EHLO c\r\n")
    assert wire.send(b"STARTTLS\r\n").startswith(b"502")


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"post /x HTTP/1.0", b"Host: mx.example.com", b"User-Agent: x"])
def test_http_closes_without_a_word(line: bytes) -> None:
    wire = inbound()
    assert wire.send(line + b"\r\nMAIL FROM:<x@y.example>\r\n") == b""
    assert wire.closed


def test_input_is_never_reflected() -> None:
    wire = inbound()
    said = wire.send(b"HELO MARK\r\nMARK\r\nNOOP MARK\r\nVRFY MARK\r\nMAIL FROM:<MARK>\r\nMAIL FROM:<a@b.c> MARK=1\r\n")
    assert b"MARK" not in said


def test_content_refused_by_the_store() -> None:
    wire = begun()
    wire.send(b"DATA\r\n")
    assert wire.send(b"POISON") == b""
    assert wire.send(b"more\r\n.\r\nNOOP\r\n") == b"554 5.6.0 Poison\r\n250 2.0.0 OK\r\n"
    wire.send(b"MAIL FROM:<b@p.example>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\n")
    assert wire.send(b"POISON\r\n.\r\nNOOP\r\n") == b"554 5.6.0 Poison\r\n250 2.0.0 OK\r\n"
    wire.send(b"MAIL FROM:<b@p.example>\r\nRCPT TO:<ann@example.com>\r\n")
    assert wire.send(b"BDAT 6\r\nPOISON") == b"250 2.0.0 Chunk taken\r\n"
    assert wire.send(b"BDAT 4\r\nmore") == b"554 5.6.0 Poison\r\n"
    assert wire.messages == []


def test_refusing_content_outside_content_does_nothing() -> None:
    wire = inbound()
    wire.session.refuse_content(Refusal(554, "5.6.0", "Poison"))
    assert wire.send(b"NOOP\r\n") == b"250 2.0.0 OK\r\n"


def test_close_says_why_once() -> None:
    wire = begun()
    wire.session.close(421, "4.3.2", "Shutting down")
    wire.session.close(421, "4.3.2", "Shutting down")
    assert wire.send(b"NOOP\r\n") == b"421 4.3.2 Shutting down\r\n"
    assert wire.closed


def test_an_answer_after_the_close_is_dropped() -> None:
    session = Session(inbound().terms)
    session.receive_data(b"EHLO c\r\nMAIL FROM:<b@p.example>\r\n")
    session.next_event()
    session.take_output()
    session.close(421, "4.4.2", "Timeout")
    session.answer(None)
    assert session.take_output() == b"421 4.4.2 Timeout\r\n"
    assert session.state is State.CLOSED


def test_facts_for_the_server() -> None:
    wire = begun()
    session = wire.session
    assert (session.helo, session.esmtp, session.in_content, session.buffered) == ("c", True, False, 0)
    wire.send(b"DATA\r\n")
    assert session.in_content
    wire.send(b"hello\r\n.\r\nNOO")
    assert (session.octets, session.buffered) == (7, 3)


def test_every_state_can_close() -> None:
    assert {state for state, move in TRANSITIONS if move is Move.CLOSE} == set(State)


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"EHLO c\r\n", BEGIN, b"DATA\r\n", b"\r\n.\r\n"]))))
def test_garbage_never_breaks_a_session(pieces: list[bytes]) -> None:
    wires = inbound(), submission(log_in=True)
    for piece in pieces:
        for wire in wires:
            for line in wire.send(piece).split(b"\r\n")[:-1]:
                assert line[:3].isdigit()
                assert line.isascii()


@given(st.binary(max_size=80))
def test_grammar_raises_refusals_only(text: bytes) -> None:
    for parse in (parameters.parse_mail, grammar.parse_bdat, grammar.parse_base64, grammar.parse_plain):
        try:
            parse(text)
        except Refusal as refusal:
            assert 500 <= refusal.code < 600
    with contextlib.suppress(Refusal):
        parameters.parse_rcpt(b"TO:" + text, utf8=True)


LOCAL = st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~.\-]{1,64}", fullmatch=True)
DOMAIN = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,10}){1,3}", fullmatch=True)


@given(LOCAL, DOMAIN)
def test_a_path_is_read_as_written(local: str, domain: str) -> None:
    path = grammar.parse_path(f"<{local}@{domain}>".encode(), utf8=False)
    assert str(path) == f"{local}@{domain}"


def test_paths() -> None:
    assert str(grammar.parse_path(b'<"a\\"b c>"@[192.0.2.1]>', utf8=False)) == '"a\\"b c>"@[192.0.2.1]'
    assert parameters.parse_mail(b"FROM:<> SIZE=5").reverse_path == grammar.NULL_PATH
    assert str(parameters.parse_rcpt(b"TO:<Postmaster>", utf8=False).forward_path) == "Postmaster"
    long = b"<" + b"a" * 500 + b"@example.com>"
    with pytest.raises(Refusal, match="Bad address"):
        grammar.parse_path(long, utf8=False)
    with pytest.raises(Refusal):
        parameters.parse_mail(b'FROM:<"unclosed@example.com> SIZE=1')
    with pytest.raises(Refusal):
        parameters.parse_mail(b"FROM:<no end")
    with pytest.raises(Refusal, match="555"):
        parameters.parse_mail(b"FROM:<a@b.example> AUTH")


def test_on_port_25_the_twentieth_bad_command_closes() -> None:
    wire = inbound()
    for _ in range(19):
        wire.send(b"X\r\n")
    assert not wire.closed
    wire.send(b"X\r\n")
    assert wire.closed


def test_line_at_and_past_a_limit_that_was_set() -> None:
    limits = replace(Limits(), smtp_command_line=100)
    assert inbound(limits).send(b"NOOP " + b"x" * 93 + b"\r\n") == b"250 2.0.0 OK\r\n"
    assert inbound(limits).send(b"NOOP " + b"x" * 94 + b"\r\n") == b"500 5.5.2 Line too long\r\n"
