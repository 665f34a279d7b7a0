"""Message commands: streaming with back-pressure, exact octets, grammatical junk, quota, faults on the way."""

import base64
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imap_support import House, Line
from twisted.logger import capturedLogs

from certmaild.mailbox.errors import Damaged, MessageGone, StoreUnavailable
from certmaild.mailbox.mime_header import pick_fields
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.values import Quota
from certmaild.protocols.imap.sections import MessageReader
from certmaild.protocols.limits import Limits


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
INNER = b"--b\r\nContent-Type: message/rfc822\r\n\r\n"


@pytest.mark.parametrize(
    ("limits", "content", "known", "count"),
    [
        (Limits(mime_parts=3), MIXED + b"--b\r\n\r\nx\r\n" * 2, b'"TEXT"', 2),
        (Limits(mime_parts=3), MIXED + b"--b\r\n\r\nx\r\n" * 3, b'"TEXT"', 2),
        (Limits(mime_depth=2), MIXED + b"--b\r\n\r\nx\r\n", b'"APPLICATION"', 0),
        (Limits(mime_depth=2), MIXED + INNER + b"\r\nx\r\n", b'"APPLICATION"', 1),
        (Limits(header_block=len(MIXED) - 4), MIXED + b"--b\r\n\r\nx\r\n", b'"BOUNDARY" "b"', 1),
        (Limits(header_block=len(MIXED) - 5), MIXED + b"--b\r\n\r\nx\r\n", b'"BOUNDARY" "b"', 0),
    ],
)
def test_an_appended_message_is_looked_into_within_the_limits_that_were_set(
    tmp_path: Path, limits: Limits, content: bytes, known: bytes, count: int
) -> None:
    """Each at its limit and one past it; the octets stay whole in any case."""
    line = House(tmp_path, limits).select()
    assert b"APPENDUID" in append(line, content)
    answer = line.send(b"f FETCH 1 (BODYSTRUCTURE BODY.PEEK[])\r\n")
    assert content in answer
    assert answer[: answer.index(b"BODY[]")].count(known) == count


@pytest.mark.parametrize("at", [0, 30_000, 600_000])
def test_nul_goes_out_in_literal8_and_comes_in_nowhere(house: House, at: int) -> None:
    """RFC 3516: BODY[] has no octet for it, so what is stored holds none; decoding may bring one up."""
    line = house.select()
    content = b"x" * at + b"\0" + b"y" * 10
    head = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: "
    refused = append(line, head + b"binary\r\n\r\n" + content)
    assert refused == b"p NO [UNKNOWN-CTE] Messages with NUL are not stored; encode the part.\r\n"
    assert b"APPENDUID" in append(line, head + b"base64\r\n\r\n" + base64.encodebytes(content).replace(b"\n", b"\r\n"))
    assert b"BINARY[1] ~{%d}\r\n" % len(content) + content in fetch(line, b"BINARY.PEEK[1]")
    assert b"BINARY[1]<0> {5}" in fetch(line, b"BINARY.PEEK[1]<0.5>") or at == 0
    whole = fetch(line, b"BODY.PEEK[]")
    assert b"BODY[] {" in whole
    assert b"\0" not in whole


def append(line: Line, octets: bytes, folder: bytes = b"INBOX") -> bytes:
    return line.send(b"p APPEND %s ~{%d+}\r\n%s\r\n" % (folder, len(octets), octets))


def literal(answer: bytes) -> bytes:
    """The first literal of an answer."""
    found = re.search(rb"\{(\d+)\}\r\n", answer)
    assert found, answer[:200]
    return answer[found.end() : found.end() + int(found[1])]


def fetch(line: Line, items: bytes, number: int = 1) -> bytes:
    answer = line.send(b"f FETCH %d %s\r\n" % (number, items))
    assert answer.endswith(b"f OK Completed.\r\n"), answer[-200:]
    return answer


def test_a_large_message_waits_for_the_client(house: House) -> None:
    """A client that stops reading holds the response, and gets every octet once it goes on."""
    message = b"Subject: large\r\n\r\n" + os.urandom(1 << 20).hex().encode() * 2 + b"\r\n"
    house.deliver(message)
    line = house.select()
    line.producer.pauseProducing()
    first = line.send(b"f FETCH 1 BODY.PEEK[]\r\n")
    assert 0 < len(first) < 600_000
    assert b"f OK" not in first
    line.producer.resumeProducing()
    rest = line.take()
    assert literal(first + rest) == message
    assert rest.endswith(b")\r\nf OK Completed.\r\n")


def test_a_client_that_leaves_ends_the_response(house: House) -> None:
    house.deliver(b"\r\n" + bytes(range(1, 256)) * 8000)
    line = house.select()
    line.producer.pauseProducing()
    line.send(b"f FETCH 1 BODY.PEEK[]\r\n")
    line.hang_up()
    assert house.gate.sessions == 0


def test_a_large_attachment_is_decoded_as_it_goes(house: House) -> None:
    attachment = os.urandom(1_500_000)
    header = b"Content-Type: application/x-zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    house.deliver(header + base64.encodebytes(attachment).replace(b"\n", b"\r\n"))
    line = house.select()
    assert literal(fetch(line, b"BINARY.PEEK[1]")) == attachment
    assert literal(fetch(line, b"BINARY.PEEK[1]<700000.5000>")) == attachment[700_000:705_000]
    assert b"BINARY.SIZE[1] 1500000)" in fetch(line, b"BINARY.SIZE[1]")


def test_partial_fetches_make_the_whole(house: House) -> None:
    """Lesson 7: chunk after chunk, as Thunderbird and iOS ask."""
    message = b"Subject: x\r\n\r\n" + os.urandom(300_000).hex().encode() + b"\r\n"
    house.deliver(message)
    line = house.select()
    taken = b""
    while len(taken) < len(message):
        answer = fetch(line, b"BODY.PEEK[]<%d.65536>" % len(taken))
        assert b"BODY[]<%d> {" % len(taken) in answer
        piece = literal(answer)
        assert len(piece) == min(65536, len(message) - len(taken))
        taken += piece
    assert taken == message


def read_values(text: bytes) -> list[object]:
    """A strict reader of parenthesised values: lists, strings, numbers, NIL."""
    token = re.compile(rb'\(|\)| |"((?:[^"\\\r\n\x00\x80-\xff]|\\["\\])*)"|\{(\d+)\}\r\n|NIL|\d+')
    stack: list[list[object]] = [[]]
    at = 0
    while at < len(text):
        found = token.match(text, at)
        assert found, text[at : at + 80]
        at = found.end()
        if found[0] == b"(":
            stack.append([])
        elif found[0] == b")":
            done = stack.pop()
            stack[-1].append(done)
        elif found[2]:
            stack[-1].append(text[at : at + int(found[2])])
            at += int(found[2])
        elif found[0] != b" ":
            stack[-1].append(found[1] if found[1] is not None else None if found[0] == b"NIL" else int(found[0]))
    assert len(stack) == 1
    return stack[0]


LINES = st.sampled_from(
    [
        b"From: a@b",
        b"From: =?x?q?y?= <\xff@\xfe>, group: a@b, c;",
        b"Subject: \xc3\xa4\x01",
        b"To: ;;,,<>",
        b"Content-Type: multipart/mixed; boundary=x",
        b"Content-Type: multipart/alternative",
        b"Content-Type: message/rfc822",
        b"Content-Type: /;;=",
        b"Content-Type: text/html; charset*=utf-8''%e2",
        b"Content-Transfer-Encoding: base64",
        b'Content-Disposition: attachment; filename="a\\"b\xff"',
        b"--x",
        b"--x--",
        b"",
        b" folded",
        b"text \x01\xff",
        b"bare\rcr\nlf",
    ]
)


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("house"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(junk=st.lists(LINES, min_size=1, max_size=12))
def test_junk_gives_grammatical_responses_and_exact_sizes(shared_house: House, junk: list[bytes]) -> None:
    """Lesson 6, on octets that are no mail at all."""
    message = b"\r\n".join(junk) + b"\r\n"
    house = shared_house
    line = house.log_in()
    answer = append(line, message)
    uid = int(re.search(rb"APPENDUID \d+ (\d+)", answer)[1])  # type: ignore[index]
    line.send(b"s SELECT INBOX\r\n")
    answer = line.send(b"f UID FETCH %d (RFC822.SIZE BODY.PEEK[])\r\n" % uid)
    assert literal(answer) == message
    assert b"RFC822.SIZE %d " % len(message) in answer
    for item in (b"ENVELOPE", b"BODY", b"BODYSTRUCTURE"):
        answer = line.send(b"f UID FETCH %d (%s)\r\n" % (uid, item))
        text = answer[answer.index(item) + len(item) + 1 : answer.rindex(b")\r\nf OK")]
        (value,) = read_values(text)
        assert isinstance(value, list)
        if item == b"ENVELOPE":
            assert len(value) == 10
    line.hang_up()


def test_fetch_of_bodies_sets_seen_once(house: House) -> None:
    house.deliver(b"\r\n1\r\n", b"\r\n2\r\n")
    line, other = house.select(), house.select()
    assert fetch(line, b"BODY[]").count(b"\\Seen") == 1
    assert b"\\Seen" not in fetch(line, b"BODY[]")
    assert other.send(b"a NOOP\r\n") == b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\na OK Completed.\r\n"
    assert line.send(b"a NOOP\r\n") == b"a OK Completed.\r\n"
    assert b"\\Seen" in fetch(line, b"(FLAGS BODY[TEXT])", 2)


def test_a_read_only_password_changes_nothing(house: House) -> None:
    house.deliver(b"\r\n1\r\n")
    house.gate.read_only = True
    line = house.log_in()
    assert b"s OK [READ-ONLY]" in line.send(b"s SELECT INBOX\r\n")
    assert b"FLAGS" not in fetch(line, b"BODY[]")
    for command in (b"STORE 1 +FLAGS (\\Seen)", b"COPY 1 Trash", b"MOVE 1 Trash", b"EXPUNGE", b"UID EXPUNGE 1"):
        assert line.send(b"x " + command + b"\r\n") == b"x NO [NOPERM] This password may only read.\r\n"
    assert line.send(b"x APPEND Sent {5}\r\n") == b"x NO [NOPERM] This password may only read.\r\n"


@pytest.mark.parametrize("quota", [Quota(0, 4, 0, None), Quota(0, None, 10, 10)])
def test_quota_is_looked_at_before_the_literal(house: House, quota: Quota, monkeypatch: pytest.MonkeyPatch) -> None:
    async def told(_: OpenMailbox) -> Quota:
        return quota

    monkeypatch.setattr(OpenMailbox, "quota", told)
    line = house.log_in()
    assert line.send(b"x APPEND Sent {5}\r\n") == b"x NO [OVERQUOTA] The quota of the mailbox would be exceeded.\r\n"
    assert line.send(b"x NOOP\r\n") == b"x OK Completed.\r\n"


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Damaged("frame"), b"f NO [SERVERBUG] Stored data is damaged; the administrator has been told.\r\n"),
        (
            StoreUnavailable("lmdb"),
            b"f NO [UNAVAILABLE] The mailbox is not available at the moment; try again later.\r\n",
        ),
        (MessageGone("frame"), b"f NO [EXPUNGEISSUED] Some of the messages no longer exist.\r\n"),
    ],
)
def test_faults_before_the_literal_are_answered(
    house: House, error: Exception, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lesson 9: a fault of ours is never taken for something else."""

    async def fails(*_: object) -> bytes:
        raise error

    house.deliver(b"\r\n1\r\n")
    line = house.select()
    monkeypatch.setattr(MessageReader, "read", fails)
    with capturedLogs() as logged:
        assert line.send(b"f FETCH 1 BODY.PEEK[]\r\n") == answer
    # The administrator is told of damage, as the client reads.
    damages = [error] if isinstance(error, Damaged) else []
    assert [event["log_failure"].value for event in logged if "log_failure" in event] == damages
    assert line.send(b"x NOOP\r\n") == b"x OK Completed.\r\n"


def test_a_fault_inside_a_literal_ends_the_session(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    read = MessageReader.read

    async def fails_later(self: MessageReader, start: int, end: int) -> bytes:
        if start > 100_000:
            raise Damaged("frame")
        return await read(self, start, end)

    house.deliver(b"\r\n" + b"x" * 900_000)
    line = house.select()
    monkeypatch.setattr(MessageReader, "read", fails_later)
    with capturedLogs() as logged:
        answer = line.send(b"f FETCH 1 BODY.PEEK[]\r\n")
    assert b"f OK" not in answer
    assert line.aborted
    assert [event["log_format"] for event in logged] == ["{command} broken off"]


def test_header_fields() -> None:
    header = b"From: a\r\n b\r\nTO : c\r\nX: d\r\nno colon\r\n\r\n"
    assert pick_fields(header, [b"from"], wanted=True) == b"From: a\r\n b\r\n\r\n"
    assert pick_fields(header, [b"From", b"x"], wanted=False) == b"TO : c\r\nno colon\r\n\r\n"
    assert pick_fields(header, [b"To"], wanted=True) == b"TO : c\r\n\r\n"
    assert pick_fields(b"", [b"To"], wanted=True) == b"\r\n"
    assert pick_fields(b"To: x", [b"To"], wanted=True) == b"To: x\r\n\r\n"
    assert pick_fields(b"To: x\nCc: y\n\n", [b"To"], wanted=True) == b"To: x\n\r\n"


def test_one_long_fetch_lets_others_have_their_turn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.deliver(*[b"Subject: x\r\n\r\nx\r\n"] * 200)
    line = house.select()
    now = [house.clock.seconds()]

    def seconds() -> float:
        now[0] += 0.003
        return now[0]

    monkeypatch.setattr(house.clock, "seconds", seconds)
    answer = line.send(b"f FETCH 1:* ENVELOPE\r\n")
    assert b"f OK" not in answer
    monkeypatch.undo()
    for _ in range(20):
        house.clock.advance(1)
        answer += line.take()
    assert answer.endswith(b"f OK Completed.\r\n")
    assert answer.count(b" FETCH ") == 200
