"""The client's grammar and session: limits at and past each, garbage, what cannot be said, our own server opposite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_support import Wire, inbound

from certmaild.protocols.errors import GrammarError, StateError
from certmaild.protocols.smtp.client import grammar
from certmaild.protocols.smtp.client.content import CheckedContent, ContentUnfit, StuffedContent
from certmaild.protocols.smtp.client.events import NEED_DATA, Closed, ContentWanted, Decided, Event, Over, TlsReady
from certmaild.protocols.smtp.client.grammar import Credentials, Offers, Reply, ReplyReader
from certmaild.protocols.smtp.client.session import CHUNK, Session
from certmaild.protocols.smtp.content import DataContent
from certmaild.protocols.smtp.grammar import NULL_PATH, Path
from certmaild.protocols.smtp.parameters import (
    BodyKind,
    DeliverBy,
    Extension,
    MailArguments,
    Notify,
    RcptArguments,
    parse_mail,
    parse_rcpt,
)

ANN, BOB = Path("ann", "example.com"), Path("bob", "p.example")
HELLO = b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 REQUIRETLS\r\n"


def read(octets: bytes) -> list[Reply]:
    reader = ReplyReader()
    reader.feed(octets)
    found = []
    while (reply := reader.next_reply()) is not None:
        found.append(reply)
    return found


def events(session: Session, octets: bytes = b"") -> list[Event]:
    """What the session tells of this input."""
    session.receive_data(octets)
    told: list[Event] = []
    while not isinstance(event := session.next_event(), type(NEED_DATA)):
        told.append(event)
    return told


def talking(hello: bytes = HELLO, recipients: int = 1) -> Session:
    """A session in a transaction whose envelope was taken."""
    session = Session("mx.example.com")
    events(session, hello)
    session.send(MailArguments(ANN), [RcptArguments(BOB)] * recipients)
    told = events(session, b"250 Ok\r\n" * (1 + recipients))
    assert told[-1:] == [ContentWanted()] or not session.by_chunks
    session.take_output()
    return session


# Replies


def test_reply_line_at_and_past_its_limit() -> None:
    line = b"250 " + b"x" * (grammar.MAX_LINE - 6) + b"\r\n"
    assert len(line) == grammar.MAX_LINE
    assert len(read(line)) == 1
    for cut in (line[:-2] + b"x\r\n", line[:-2] + b"xx"):
        with pytest.raises(GrammarError, match="too long"):
            read(cut)


def test_lines_of_a_reply_at_and_past_the_limit() -> None:
    (reply,) = read(b"250-x\r\n" * (grammar.MAX_LINES - 1) + b"250 x\r\n")
    assert len(reply.lines) == grammar.MAX_LINES
    assert len(str(reply)) < grammar.MAX_TEXT
    with pytest.raises(GrammarError, match="too many lines"):
        read(b"250-x\r\n" * grammar.MAX_LINES)


@pytest.mark.parametrize(
    "octets",
    [b"199 x\r\n", b"600 x\r\n", b"25 x\r\n", b"250x\r\n", b"\r\n", b"250 a\nb\r\n", b"250 a\rb\r\n", b"250 \0\r\n"],
)
def test_what_is_no_reply(octets: bytes) -> None:
    with pytest.raises(GrammarError):
        read(octets)


def test_a_reply_keeps_its_code() -> None:
    with pytest.raises(GrammarError, match="changes its code"):
        read(b"250-a\r\n550 b\r\n")


def test_what_is_kept_of_a_reply_is_printable() -> None:
    (reply,) = read("550-5.1.1 Gr\u00fc\u00dfe\t\x1b[2J\r\n550 5.1.1 \u202eabc\r\n".encode() + b"")
    assert reply == Reply(550, "5.1.1", ("Gr\u00fc\u00dfe??[2J", "?abc"))
    assert str(reply) == "550 5.1.1 Gr\u00fc\u00dfe??[2J ?abc"
    assert read(b"250 5.1.1 not its class\r\n") == [Reply(250, "", ("5.1.1 not its class",))]
    assert read(b"250 \xff\r\n250\r\n550 5.7.1\r\n") == [Reply(250, "", ("\ufffd",)), Reply(250), Reply(550, "5.7.1")]
    assert len(str(Reply(250, "", ("x" * 2000,)))) == grammar.MAX_TEXT


def test_offers() -> None:
    (reply,) = read(
        b"250-mx hello\r\n250-SIZE 1000\r\n250-auth plain\r\n250-AUTH=LOGIN\r\n250-LIMITS RCPTMAX=20 MAILMAX=3 X=1\r\n"
        b"250-DELIVERBY 60\r\n250-8bitmime\r\n250-DSN\r\n250-MT-PRIORITY MIXER\r\n250--\r\n250 SMTPUTF8\r\n"
    )
    assert grammar.parse_offers(reply) == Offers(
        esmtp=True,
        size=1000,
        has_size=True,
        mechanisms=frozenset({"PLAIN", "LOGIN"}),
        rcpt_max=20,
        mail_max=3,
        deliver_by=True,
        deliver_by_minimum=60,
        eight_bit=True,
        dsn=True,
        priority=True,
        utf8=True,
    )
    (reply,) = read(b"250-mx\r\n250-SIZE " + b"9" * 20 + b"\r\n250 LIMITS RCPTMAX=0\r\n")
    assert grammar.parse_offers(reply) == Offers(esmtp=True, has_size=True)


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"250", b"-", b" ", b"\r\n", b"5.1.1 ", b"\r", b"x"])).map(b"".join)
)
def test_garbage_raises_grammar_errors_only_and_cuts_do_not_matter(octets: bytes) -> None:
    def outcome(pieces: list[bytes]) -> list[object]:
        reader, told = ReplyReader(), list[object]()
        for piece in pieces:
            reader.feed(piece)
            try:
                while (reply := reader.next_reply()) is not None:
                    told.append(reply)
            except GrammarError as fault:
                return [*told, str(fault)]
        return told

    assert outcome([octets]) == outcome([octets[at : at + 1] for at in range(len(octets))])


SAID = st.sampled_from(
    [
        b"220 x\r\n",
        b"250 x\r\n",
        b"250-PIPELINING\r\n",
        b"250-CHUNKING\r\n",
        b"354 x\r\n",
        b"421 x\r\n",
        b"450 x\r\n",
        b"550 x\r\n",
    ]
)


@given(st.lists(SAID, max_size=20), st.lists(st.integers(1, 40), max_size=10), st.booleans(), st.booleans())
def test_whatever_a_server_says(said: list[bytes], cuts: list[int], is_lmtp: bool, is_long: bool) -> None:
    """Each recipient is decided once at most; nothing but `GrammarError` comes out; cuts do not matter."""

    def run(pieces: list[bytes]) -> tuple[list[object], bytes]:
        session, told, output = Session("mx.example.com", is_lmtp=is_lmtp), list[object](), b""
        for piece in pieces:
            session.receive_data(piece)
            try:
                while (event := session.next_event()) is not NEED_DATA:
                    told.append(event)
                    match event:
                        case ContentWanted():
                            session.write(b".x\r\n" * (CHUNK if is_long else 1))
                            session.finish()
                        case Over():
                            return told, output + session.take_output()
                        case _ if "Hello" in repr(event):
                            session.send(MailArguments(ANN), [RcptArguments(BOB), RcptArguments(ANN)])
                    output += session.take_output()
            except GrammarError as fault:
                told.append(str(fault))
                break
        return told, output + session.take_output()

    octets = b"".join(said)
    whole = run([octets])
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(octets[at : at + cut])
        at += cut
    assert run([*pieces, octets[at:]]) == whole
    decided = [event.index for event in whole[0] if isinstance(event, Decided)]
    assert len(decided) == len(set(decided))
    if Over() in whole[0]:
        assert sorted(decided) == [0, 1]


# Content

LINES = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"a", b".\r\n"])).map(b"".join)


@given(LINES, st.lists(st.integers(1, 9)))
def test_stuffed_content_is_what_our_server_reads(content: bytes, cuts: list[int]) -> None:
    stuffed, sent, at = StuffedContent(), b"", 0
    for cut in cuts:
        sent += stuffed.feed(content[at : at + cut])
        at += cut
    sent += stuffed.feed(content[at:]) + stuffed.finish()
    reading = DataContent(normalise=False)
    assert reading.feed(sent) == content + (b"" if content.endswith(b"\r\n") or not content else b"\r\n")
    assert reading.fault is None
    assert reading.rest == b""


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\0", b".", b"\r\n"]), max_size=12))
def test_no_content_smuggles(pieces: list[bytes]) -> None:
    """What has a bare CR, LF or NUL is refused, however it is cut, and nothing else is."""
    content = b"".join(pieces)
    is_fit = not any(octet in content.replace(b"\r\n", b"") for octet in (b"\r", b"\n", b"\0"))
    for cuts in ([content], pieces, [content[at : at + 1] for at in range(len(content))]):
        checked, given_out = CheckedContent(), b""
        try:
            for piece in cuts:
                given_out += checked.feed(piece)
            given_out += checked.finish()
        except ContentUnfit:
            assert not is_fit
            rest = given_out.replace(b"\r\n", b"")
            assert not any(octet in rest for octet in (b"\r", b"\n", b"\0"))
        else:
            assert is_fit
            assert given_out == content + (b"" if content.endswith(b"\n") or not content else b"\r\n")


# Sessions


def test_octets_behind_starttls() -> None:
    session = Session("mx.example.com")
    events(session, b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n")
    session.start_tls()
    with pytest.raises(GrammarError, match="behind"):
        events(session, b"220 Go\r\n250 ")
    session = Session("mx.example.com")
    events(session, b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n")
    session.start_tls()
    assert events(session, b"220 Go\r\n") == [TlsReady()]
    # What comes now belongs to the handshake.
    assert events(session, b"250 x\r\n") == []


def test_a_long_message_goes_in_chunks_and_stops_when_one_is_refused() -> None:
    session = talking(recipients=2)
    session.write(b"x\r\n" * (CHUNK // 3 + 1))
    session.write(b"y\r\n" * (CHUNK // 3 + 1))
    session.write(b"z\r\n")
    output = session.take_output()
    assert output.startswith(b"BDAT 262146\r\nx\r\n")
    assert output.count(b"BDAT") == 2
    assert events(session, b"250 Ok\r\n") == []
    no = Reply(452, "", ("Full",))
    assert events(session, b"452 Full\r\n") == [Decided(0, no), Decided(1, no)]
    assert not session.wants_content
    with pytest.raises(StateError):
        session.write(b"more")
    assert session.take_output() == b"RSET\r\n"
    assert events(session, b"250 Ok\r\n") == [Over()]


def test_a_chunk_that_is_refused_while_others_are_under_way() -> None:
    session = talking()
    session.write(b"x\r\n" * CHUNK)
    session.write(b"y\r\n" * CHUNK)
    session.take_output()
    assert events(session, b"452 Full\r\n") == [Decided(0, Reply(452, "", ("Full",)))]
    assert session.take_output() == b""
    assert events(session, b"503 What\r\n") == []
    assert session.take_output() == b"RSET\r\n"
    session = talking()
    session.write(b"x\r\n" * CHUNK)
    session.finish()
    session.take_output()
    assert events(session, b"452 Full\r\n") == [Decided(0, Reply(452, "", ("Full",)))]
    assert events(session, b"503 What\r\n") == []
    assert session.take_output() == b"RSET\r\n"


def test_a_refusal_while_no_chunk_is_due_closes() -> None:
    session = talking()
    assert events(session, b"452 Full\r\n") == [Closed(Reply(452, "", ("Full",)))]


def test_commands_out_of_order_are_our_own_mistake() -> None:
    session = Session("mx.example.com")
    for command in (session.start_tls, session.quit, session.finish):
        with pytest.raises(StateError):
            command()
    events(session, b"220 mx\r\n250-mx\r\n250-AUTH PLAIN\r\n250-LIMITS RCPTMAX=2\r\n250 SIZE\r\n")
    session.take_output()
    for mail, count in (
        (MailArguments(ANN, utf8=True), 1),
        (MailArguments(ANN, require_tls=True), 1),
        (MailArguments(ANN), 3),
        (MailArguments(ANN), 0),
    ):
        with pytest.raises(StateError):
            session.send(mail, [RcptArguments(BOB)] * count)
    assert session.take_output() == b""


def test_no_password_without_proof() -> None:
    hello = b"220 mx\r\n250-mx\r\n250 AUTH PLAIN\r\n"
    session = Session("mx.example.com")
    events(session, hello)
    with pytest.raises(StateError):
        session.log_in(Credentials("ann", "secret"))
    session = Session("mx.example.com", may_log_in=True)
    events(session, b"220 mx\r\n250-mx\r\n250 AUTH CRAM-MD5\r\n")
    with pytest.raises(StateError):
        session.log_in(Credentials("ann", "secret"))
    assert "secret" not in repr(Credentials("ann", "secret"))


EVIL = [
    Path("a\r\nRCPT TO:<x", "y"),
    Path("a", "b>\r\nDATA"),
    Path("a b", "c"),
    Path("a", "b> SIZE=1"),
    Path("", "x"),
    Path("\u00fc", "p.example"),
]


@pytest.mark.parametrize("path", EVIL, ids=repr)
def test_no_address_ends_its_line(path: Path) -> None:
    offers = Offers(esmtp=True)
    with pytest.raises(ValueError, match="address"):
        grammar.format_rcpt(RcptArguments(path), offers, utf8=False)
    with pytest.raises(ValueError, match="address"):
        grammar.format_mail(MailArguments(path), offers)


def test_no_parameter_ends_its_line() -> None:
    for envid in (b"a b", b"", b"a\r\nQUIT", b"a=b"):
        with pytest.raises(ValueError, match="parameter"):
            grammar.format_mail(MailArguments(NULL_PATH, envid=envid), EVERYTHING)
    with pytest.raises(ValueError, match="parameter"):
        grammar.format_rcpt(RcptArguments(BOB, orcpt=b"rfc822;a b"), EVERYTHING, utf8=False)
    with pytest.raises(ValueError, match="host name"):
        grammar.format_hello("EHLO", "mx\r\nQUIT")


EVERYTHING = Offers(
    esmtp=True, has_size=True, eight_bit=True, utf8=True, dsn=True, require_tls=True, priority=True, deliver_by=True
)
LOCAL = st.sampled_from(["ann", '"a b"', "a.b+c", "\u00fc"])
PATHS = st.builds(Path, LOCAL, st.sampled_from(["example.com", "[192.0.2.1]", "b\u00fccher.example"]))
XTEXT = st.text(st.sampled_from("aB0-/"), min_size=1, max_size=9).map(lambda text: text.encode() + b"+2B")
MAIL = st.builds(
    MailArguments,
    st.just(NULL_PATH) | PATHS,
    st.integers(0, 10**12),
    st.just(True),
    st.just(BodyKind.EIGHT_BIT) | st.none(),
    st.booleans(),
    st.booleans(),
    st.none() | XTEXT,
    st.integers(-9, 9),
    st.none() | st.builds(DeliverBy, st.integers(1, 99999), st.booleans(), st.booleans()),
)
NOTIFY = st.sets(st.sampled_from([Notify.SUCCESS, Notify.FAILURE, Notify.DELAY]), min_size=1) | st.just({Notify.NEVER})
RCPT = st.builds(RcptArguments, PATHS, NOTIFY.map(frozenset), st.none() | XTEXT.map(lambda text: b"rfc822;" + text))


@given(MAIL, RCPT)
def test_our_server_reads_what_our_client_says(mail: MailArguments, rcpt: RcptArguments) -> None:
    line = grammar.format_mail(mail, EVERYTHING)
    assert parse_mail(line.removeprefix(b"MAIL ").removesuffix(b"\r\n"), tuple(Extension)) == mail
    line = grammar.format_rcpt(rcpt, EVERYTHING, utf8=True)
    assert parse_rcpt(line.removeprefix(b"RCPT ").removesuffix(b"\r\n"), tuple(Extension), utf8=True) == rcpt


# Both engines, back to back


def carry(client: Session, server: Wire) -> list[Event]:
    told = []
    while True:
        said = server.send(client.take_output())
        new = events(client, said)
        told += new
        if not new and not said:
            return told


@pytest.mark.parametrize("content", [b"", b"Subject: x\r\n\r\n.\r\n..\r\nbody", b"x" * 2000 + b"\r\n."])
def test_our_client_and_our_server(content: bytes) -> None:
    server, client = inbound(require_tls=False), Session("mx.example.org")
    events(client, b"220 mx.example.com ESMTP\r\n")
    assert carry(client, server)
    assert client.by_chunks
    for path in (Path("ann", "example.com"), Path("unknown", "example.com")):
        client.send(
            MailArguments(BOB, size=len(content)), [RcptArguments(path), RcptArguments(Path("bob", "example.com"))]
        )
        assert carry(client, server)[-1] == ContentWanted()
        client.write(content)
        client.finish()
        told = carry(client, server)
        assert told[-1] == Over()
        assert isinstance(told[-2], Decided)
        assert told[-2].index == 1
        assert told[-2].reply.is_positive
    taken = content + (b"" if content.endswith(b"\n") or not content else b"\r\n")
    assert server.messages == [taken] * 2
