"""The MIME scanner: offsets, any chunking, and grammatical output for any octets."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certmaild.mailbox.decoding import Base64Counter, Base64Decoder, QuotedPrintableDecoder, base64_lines
from certmaild.mailbox.mime import Scanner
from certmaild.mailbox.mime_envelope import parse_addresses
from certmaild.mailbox.mime_header import header_fields, parameter, parse_media_type
from certmaild.mailbox.mime_parts import Scan, part_of
from certmaild.mailbox.mime_structure import for_rev1, strip_extensions


def scan(message: bytes, cut: int = 0, **limits: int) -> Scan:
    scanner = Scanner(**limits)
    if cut:
        for at in range(0, len(message), cut):
            scanner.feed(message[at : at + cut])
    else:
        scanner.feed(message)
    return scanner.finish()


def read_value(text: bytes, at: int = 0):
    """A strict reader of values; returns nested tuples and where the value ends."""
    stack: list[list[object]] = [[]]
    while True:
        if text[at : at + 1] == b"(":
            stack.append([])
            at += 1
            continue
        if text[at : at + 1] == b")":
            done = tuple(stack.pop())
            stack[-1].append(done)
            at += 1
        elif (m := re.compile(rb'"((?:[^"\\\r\n\0]|\\["\\])*)"').match(text, at)) is not None:
            m[1].decode("utf-8")
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", m[1]))
            at = m.end()
        elif (m := re.compile(rb"\{(\d+)\}\r\n").match(text, at)) is not None:
            value = text[m.end() : m.end() + int(m[1])]
            assert b"\0" not in value
            assert len(value) == int(m[1])
            stack[-1].append(value)
            at = m.end() + int(m[1])
        elif (m := re.compile(rb"NIL").match(text, at)) is not None:
            stack[-1].append(None)
            at = m.end()
        else:
            m = re.compile(rb"\d+").match(text, at)
            assert m is not None, text[at : at + 40]
            stack[-1].append(int(m[0]))
            at = m.end()
        if len(stack) == 1:
            return stack[0][0], at
        if text[at : at + 1] == b" ":
            at += 1
            assert text[at : at + 1] not in (b" ", b")", b"")
        else:
            assert text[at : at + 1] in (b")", b"("), text[max(at - 40, 0) : at + 40]


def nstring(value: object) -> None:
    assert value is None or isinstance(value, bytes)


def check_parameters(value: object) -> None:
    assert value is None or (len(value) % 2 == 0 and value and all(isinstance(one, bytes) for one in value))


def check_envelope(value) -> None:
    assert len(value) == 10
    for n in (0, 1, 8, 9):
        nstring(value[n])
    for addresses in value[2:8]:
        assert addresses is None or addresses
        for address in addresses or ():
            assert len(address) == 4
            for one in address:
                nstring(one)


def check_extension(value) -> None:
    disposition, language, location = value
    if disposition is not None:
        assert isinstance(disposition[0], bytes)
        check_parameters(disposition[1])
    assert language is None or (language and all(isinstance(tag, bytes) for tag in language))
    nstring(location)


def check_body(top, extended: bool) -> None:
    todo = [top]
    while todo:
        body = todo.pop()
        if isinstance(body[0], tuple):
            parts = [one for one in body if isinstance(one, tuple) and isinstance(one[0], (bytes, tuple))]
            count = next(n for n, one in enumerate(body) if isinstance(one, bytes))
            assert count and len(parts) >= count
            todo += body[:count]
            if not extended:
                assert len(body) == count + 1
                continue
            check_parameters(body[count + 1])
            check_extension(body[count + 2 :])
            continue
        kind, subtype, parameters, content_id, description, encoding, octets, *rest = body
        assert isinstance(kind, bytes) and isinstance(subtype, bytes) and isinstance(encoding, bytes)
        assert kind and subtype and encoding
        check_parameters(parameters)
        nstring(content_id)
        nstring(description)
        assert isinstance(octets, int)
        if kind == b"MESSAGE" and subtype in (b"RFC822", b"GLOBAL"):
            check_envelope(rest[0])
            todo.append(rest[1])
            assert isinstance(rest[2], int)
            rest = rest[3:]
        elif kind == b"TEXT":
            assert isinstance(rest[0], int)
            rest = rest[1:]
        if extended:
            nstring(rest[0])
            check_extension(rest[1:])
        else:
            assert not rest


def check(found: Scan, message: bytes) -> None:
    for text in (found.envelope, for_rev1(found.envelope)):
        value, end = read_value(text)
        assert end == len(text)
        check_envelope(value)
    basic = strip_extensions(found.structure)
    for text, extended in ((found.structure, True), (basic, False), (for_rev1(basic), False)):
        value, end = read_value(text)
        assert end == len(text)
        check_body(value, extended)
    assert found.size == len(message)
    assert found.lines == message.count(b"\n")
    for part in found.parts:
        assert 0 <= part.header_offset <= part.body_offset <= part.body_offset + part.octets <= len(message)
        assert part.body_offset <= part.text_offset <= part.body_offset + part.octets
        body = message[part.body_offset : part.body_offset + part.octets]
        assert part.lines == body.count(b"\n")
        decoder = {b"BASE64": Base64Decoder, b"QUOTED-PRINTABLE": QuotedPrintableDecoder}.get(part.encoding)
        if decoder and not part.is_multipart and not part.is_message:
            one = decoder()
            assert part.decoded_octets == len(one.feed(body) + one.finish())


NESTED = (
    b'From: Ann <ann@example.org>\r\nTo: b@example.org, "C, D" <c@example.org>\r\nSubject: hello\r\n'
    b"Message-ID: <1@x>\r\nReferences: <a@x> <b@x>\r\n"
    b'Content-Type: multipart/mixed; boundary="outer"\r\n\r\npreamble\r\n--outer\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n--outer\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n"
    b"--in\r\n\r\none\r\n--in\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"<b>=C3=A9=\r\n</b>\r\n--in--\r\nepilogue\r\n--outer\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: plain\r\n\r\ninside\r\n\r\n--outer\r\n"
    b'Content-Type: application/pdf; name="x.pdf"\r\nContent-Disposition: attachment; filename="x.pdf"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\nAw==\r\n--outer--\r\n"
)


def body_of(message: bytes, found: Scan, *path: int) -> bytes:
    part = part_of(found.parts, path)
    assert part is not None
    return message[part.body_offset : part.body_offset + part.octets]


def test_offsets_of_a_nested_message() -> None:
    found = scan(NESTED)
    check(found, NESTED)
    assert body_of(NESTED, found, 1) == b"hello"
    assert body_of(NESTED, found, 2, 1) == b"one"
    assert body_of(NESTED, found, 2, 2) == b"<b>=C3=A9=\r\n</b>"
    assert body_of(NESTED, found, 3, 1) == b"inside\r\n"
    assert body_of(NESTED, found, 4) == b"AAEC\r\nAw=="
    assert part_of(found.parts, (4,)).decoded_octets == 4
    inner = part_of(found.parts, (2,))
    assert NESTED[inner.body_offset : inner.text_offset].startswith(b"Subject: inner")
    assert NESTED[inner.text_offset :].startswith(b"--in\r\n")
    assert [part.path for part in found.parts] == [(), (1,), (2,), (2, 1), (2, 2), (3,), (3, 1), (4,)]
    assert NESTED[: found.header_octets].endswith(b"\r\n\r\n")
    assert found.message_id == b"1@x" and len(found.references) == 3 and found.final_crlf


def test_a_plain_message_has_part_1() -> None:
    message = b"Subject: x\r\n\r\nbody\r\n"
    found = scan(message)
    assert [part.path for part in found.parts] == [(), (1,)]
    assert body_of(message, found, 1) == b"body\r\n"
    assert found.structure == b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 6 1 NIL NIL NIL NIL)'


def test_body_without_extensions() -> None:
    plain = scan(b"\r\nbody\r\n").structure
    assert strip_extensions(plain) == b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 6 1)'
    found = scan(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n")
    assert strip_extensions(found.structure) == b'(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1 0) "MIXED")'


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64])
def test_any_chunking_of_the_nested_message(cut: int) -> None:
    assert scan(NESTED, cut) == scan(NESTED)


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"--",
        b"a",
        b"--a",
        b"--a--",
        b" ",
        b"\t",
        b"=",
        b"=41",
        b"QUJD",
        b"\x00",
        b"\xff",
        b"\xc3\xa9",
        b"Content-Type: multipart/mixed; boundary=a\r\n",
        b"Content-Type: multipart/digest; boundary=b\r\n",
        b"--b",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b'"',
        b"(",
        b")",
        b"<",
        b">",
        b"@",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"\r\n--a\r\n",
        b"\r\n--b--\r\n",
        b"\r\n\r\n",
        b"From: ",
        b"To:",
        b"Content-Disposition: attachment; filename*0*=utf-8''a; filename*1=b\r\n",
        b";",
        b":",
        b",",
        b"\\",
        b"[",
        b"Cc:",
    ]
)
MESSAGES = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=60).map(b"".join))


@settings(max_examples=300, deadline=None)
@given(MESSAGES, st.integers(1, 40))
@example(b"\n\r\n", 1)
@example(b"A: b\n\n\r\nx", 1)
def test_anything_is_grammatical_however_cut(message: bytes, cut: int) -> None:
    found = scan(message)
    check(found, message)
    assert scan(message, cut) == found
    assert scan(message, cut, max_parts=3, max_depth=2, max_header=40) == scan(
        message, max_parts=3, max_depth=2, max_header=40
    )
    check(scan(message, max_parts=3, max_depth=2, max_header=40), message)


@settings(max_examples=200, deadline=None)
@given(MESSAGES, st.integers(1, 40))
def test_header_fields_cover_the_header(message: bytes, cut: int) -> None:
    at = 0
    for _name, start, end in header_fields(message):
        assert start == at < end
        at = end


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"a@b", [(None, None, b"a", b"b")]),
        (b"Ann B. <a@b>", [(b"Ann B.", None, b"a", b"b")]),
        (b'"Ann, B" <a.c@b.org>, d@e', [(b"Ann, B", None, b"a.c", b"b.org"), (None, None, b"d", b"e")]),
        (b"a@b (Ann (of) B)", [(b"Ann (of) B", None, b"a", b"b")]),
        (
            b"Team: a@b, C <c@d>;",
            [(None, None, b"Team", None), (None, None, b"a", b"b"), (b"C", None, b"c", b"d"), (None,) * 4],
        ),
        (b"undisclosed-recipients:;", [(None, None, b"undisclosed-recipients", None), (None,) * 4]),
        (b"<@x,@y:a@b>", [(None, b"@x,@y", b"a", b"b")]),
        (b'"john smith"@b', [(None, None, b"john smith", b"b")]),
        (b"a . b @ c . d", [(None, None, b"a.b", b"c.d")]),
        (b"a@[127.0.0.1]", [(None, None, b"a", b"[127.0.0.1]")]),
        (b"", []),
        (b",, ,a@b,", [(None, None, b"a", b"b")]),
        (b"=?utf-8?q?Ann?= <a@b>", [(b"=?utf-8?q?Ann?=", None, b"a", b"b")]),
        (b"J\xc3\xb6rg <j@b>", [(b"J\xc3\xb6rg", None, b"j", b"b")]),
    ],
)
def test_addresses(field: bytes, expected: list[tuple[bytes | None, ...]]) -> None:
    assert [tuple(one) for one in parse_addresses(field)] == expected


def test_limits_of_parts_and_depth() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    message = head + b"--b\r\n\r\nx\r\n" * 1500
    found = scan(message)
    assert len(found.parts) == 1000
    check(found, message)
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(300))
    found = scan(deep)
    check(found, deep)
    assert max(len(part.path) for part in found.parts) == 99


@pytest.mark.parametrize(("parts", "kept"), [(4, 5), (5, 5)])
def test_parts_at_and_past_a_limit_that_was_set(parts: int, kept: int) -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * parts
    assert len(scan(message, max_parts=5).parts) == kept


@pytest.mark.parametrize(("depth", "kept"), [(4, b"MIXED"), (5, b"OCTET-STREAM")])
def test_depth_at_and_past_a_limit_that_was_set(depth: int, kept: bytes) -> None:
    """The innermost container of so many: looked into, or one part that nobody looks into."""
    message = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth))
    found = scan(message + b"\r\nx\r\n", max_depth=5)
    check(found, message + b"\r\nx\r\n")
    innermost = max(found.parts, key=lambda part: len(part.path))
    assert len(innermost.path) == 4
    assert (kept == b"OCTET-STREAM") == (b'"OCTET-STREAM"' in found.structure)


def test_header_at_and_past_a_limit_that_was_set() -> None:
    message = b"Subject: a\r\nTo: ann@example.com\r\n\r\nbody"
    size = message.index(b"\r\n\r\n")
    assert b'"ann" "example.com"' in scan(message, max_header=size).envelope
    past = scan(message, max_header=size - 1)
    assert b'"ann" "example.co"' in past.envelope
    assert past.header_octets == size + 4 and past.size == len(message)


def test_header_beyond_the_limit_is_counted_only() -> None:
    message = b"Subject: a\r\n" + b"X: " + b"y" * 4000 + b"\r\nTo: a@b\r\n\r\nbody"
    found = scan(message, max_header=1000)
    assert b"Subject" not in found.envelope and found.subject == b"a"
    assert found.header_octets == len(message) - 4
    assert b'"b"' not in found.envelope
    for cut in (1, 10, 999):
        assert scan(message, cut, max_header=1000) == found


FLOODS = [
    b"(",
    b";",
    b"; ",
    b'"',
    b",",
    b"@",
    b"<",
    b"a ",
    b"a . ",
    b":",
    b"[a",
    b"<@",
    b'"(',
    b"a: b@c; ",
    b"\\",
    b"\r\n b",
]


@pytest.mark.parametrize("piece", FLOODS)
def test_a_header_of_one_piece_over_and_over_costs_linear_time(piece: bytes) -> None:
    def cost(count: int) -> float:
        message = b"".join(name + piece * count + b"\r\n" for name in (b"To: ", b"Content-Type: ", b"References: "))
        start = time.process_time()
        check_body(read_value(scan(message + b"\r\n").structure)[0], True)
        return time.process_time() - start

    cost(1000)
    assert cost(80_000) < 16 * max(min(cost(20_000), cost(20_000)), 0.02)


@pytest.mark.parametrize("line", [b"\n--", b"\n--bX", b"\n--b" + b" " * 900 + b"x"])
def test_lines_that_look_like_delimiters_cost_little(line: bytes) -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + line * (4_000_000 // len(line)) + b"\n--b\n\nx"
    start = time.process_time()
    found = scan(message)
    assert time.process_time() - start < 2
    assert body_of(message, found, 1) == b"x"
    small = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + line * 80 + b"\n--b\n\nx"
    assert scan(small, 7) == scan(small) == scan(small, 100)
    assert body_of(small, scan(small), 1) == b"x"


def test_recipients_of_repeated_fields_are_joined_and_others_are_not() -> None:
    envelope = scan(b"To: a@b\r\nTo: c@d\r\nSubject: 1\r\nSubject: 2\r\n\r\n").envelope
    assert b'((NIL NIL "a" "b")(NIL NIL "c" "d"))' in envelope and b'"1"' in envelope and b'"2"' not in envelope


def test_junk_is_grammatical_as_the_lesson_demands() -> None:
    found = scan(b"Content-Type: multipart/mixed\r\nFrom: a@b\r\n\r\nno parts")
    assert found.structure.startswith(b'(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 0 0 ')
    assert found.envelope.count(b'((NIL NIL "a" "b"))') == 3
    assert b'"7BIT"' in scan(b"Content-Type: ///\r\nContent-Transfer-Encoding: \r\n\r\n").structure
    assert b"{3}\r\n\xff\xfea" in scan(b"Subject: \xff\xfea\r\n\r\n").envelope
    eight = scan('Subject: é"\r\n\r\n'.encode()).envelope
    assert b'"\xc3\xa9\\""' in eight and b'{3}\r\n\xc3\xa9" ' in for_rev1(eight)


@pytest.mark.parametrize(
    ("value", "boundary"),
    [
        (b"multipart/mixed; boundary*0=ab; boundary*1=cd", b"abcd"),
        (b"multipart/mixed; boundary*=us-ascii'en'a%20b", b"a b"),
        (b'multipart/mixed (; boundary=no) ; (x) boundary = "a\\"b"', b'a"b'),
        (b"multipart/mixed; boundary*x=no", None),
        (b"multipart/mixed; boundary*1=no", None),
        (b'multipart/mixed; "x"; boundary=a', b"a"),
        (b'"("multipart/mixed', None),
        (b"multipart; boundary=a", None),
        (b"multipart/; boundary=a", None),
    ],
)
def test_parameters(value: bytes, boundary: bytes | None) -> None:
    parsed = parse_media_type(value)
    assert (parameter(parsed[2], b"BOUNDARY") if parsed else None) == boundary


def test_at_most_64_parameters_are_read() -> None:
    parsed = parse_media_type(b"text/plain" + b"".join(b"; a%d=b" % n for n in range(65)))
    assert parsed is not None and len(parsed[2]) == 64


def test_at_most_2000_addresses_are_read() -> None:
    assert len(parse_addresses(b"a@b, " * 2000)) == 2000
    assert len(parse_addresses(b"a@b, " * 2001)) == 2000


@given(st.lists(st.sampled_from([b"A", b"bC", b"9+/", b"=", b"\r\n", b"\r", b"\n", b"-", b"AAAA\r\nBBBB\r\nCCCC\r\n"])))
def test_regular_base64_is_told_from_all_else(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    lines = base64_lines(octets)
    if lines is not None:
        assert octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r") == lines
        counter = Base64Counter()
        counter.feed(octets)
        assert len(octets) - 2 * lines == counter._digits


def test_regular_base64() -> None:
    line = b"QUJD" * 19 + b"\r\n"
    for octets in (line * 5, line[7:] + line * 3 + line[:9], line[-2:] + line * 2):
        assert base64_lines(octets) == octets.count(b"\n")
    for octets in (b"", line, line * 3 + b"==", line + line[1:] + line, line[-1:] + line * 3, line * 3 + b"\r"):
        assert base64_lines(octets) is None
