"""Header edit, authors, Received: what only this server may say is removed, and nothing else changes."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.interfaces import Hop, Listener, TlsFacts
from certmaild.trace import (
    HeaderCollector,
    format_date,
    format_prefix,
    format_received,
    parse_authors,
    read_header,
)

ID = b"mx.example.com"


def edited(header: bytes) -> bytes:
    return read_header(header, authserv_id=ID).header


@pytest.mark.parametrize(
    "field",
    [
        b"Return-Path: <x@y.example>\r\n",
        b"RETURN-PATH : <x@y.example>\r\n",
        b"Delivered-To: ann@example.com\r\n",
        b"Certmaild-Verified: yes,\r\n\tvery much\r\n",
        b"certmaild-x: y\r\n",
        b"Bcc: secret@example.com,\r\n more@example.com\r\n",
        b"Resent-Bcc: secret@example.com\r\n",
        b"Authentication-Results: mx.example.com; dkim=pass\r\n",
        b"Authentication-Results: (by (a) fool) MX.Example.Com 1;\r\n spf=pass\r\n",
        b'Authentication-Results: "mx.example.com"; dkim=pass\r\n',
        b"Authentication-Results:\r\n mx.exa(x)mple.com; none\r\n",
        b"Authentication-Results: (unclosed mx.other; none\r\n",
        b"Authentication-Results: mx.other" + b" " * 1000 + b"; none\r\n",
    ],
)
def test_what_only_we_may_say_is_removed(field: bytes) -> None:
    assert edited(b"Subject: a\r\n" + field + b"To: b\r\n") == b"Subject: a\r\nTo: b\r\n"
    assert edited(field) == b""
    assert edited(field + field + b"X: y\r\n") == b"X: y\r\n"


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mx.partner.example; dkim=pass (said to mx.example.com)\r\n",
        b"X-Return-Path: <x@y.example>\r\n",
        b"Subject: hello\r\n Bcc: not a field\r\n",
        b"Certmaild : no tail, no dash\r\n",
    ],
)
def test_other_fields_stay(field: bytes) -> None:
    assert edited(b"From: a\r\n" + field) == b"From: a\r\n" + field


def test_facts() -> None:
    facts = read_header(
        b"Received: a\r\nreceived: b\r\n\tc\r\nFrom: A <a@b.example>,\r\n b@b.example\r\nSENDER: c@b.example\r\n"
        b"Date: x\r\nMessage-Id: <y>\r\n",
        authserv_id=ID,
    )
    assert (facts.received, facts.has_date, facts.has_message_id) == (2, True, True)
    assert facts.authors == (b" A <a@b.example>,\r\n b@b.example\r\n", b" c@b.example\r\n")


def test_content_without_fields_becomes_body() -> None:
    assert edited(b"hello\r\nworld\r\n") == b"\r\nhello\r\nworld\r\n"
    assert edited(b"From ann Mon Nov 23\r\nTo: b\r\n") == b"From ann Mon Nov 23\r\nTo: b\r\n"
    assert edited(b"") == b""


@given(st.lists(st.sampled_from([b"Subject: x\r\n", b" folded\r\n", b"Bcc: x\r\n", b"\r\n", b"body"]), max_size=12))
def test_collector_is_the_same_however_cut(lines: list[bytes]) -> None:
    content = b"".join(lines)
    results = set()
    for size in (1, 2, 3, 5, 1000):
        collector = HeaderCollector(lambda header: header.replace(b"Bcc: x\r\n", b""), limit=10_000)
        out = b"".join(collector.feed(content[at : at + size]) for at in range(0, len(content), size))
        results.add(out + collector.finish())
    assert len(results) == 1
    header, blank, body = content.partition(b"\r\n\r\n")
    if content.startswith(b"\r\n"):
        assert results == {content}
    elif blank:
        assert results == {(header + b"\r\n").replace(b"Bcc: x\r\n", b"") + b"\r\n" + body}


def test_header_at_and_past_its_limit() -> None:
    header = b"X: " + b"y" * 95 + b"\r\n"
    assert len(header) == 100
    for cut in (1, 7, 1000):
        for limit, is_refused in ((100, False), (99, True)):
            collector = HeaderCollector(lambda header: header, limit=limit)
            content = header + b"\r\nbody"
            try:
                out = b"".join(collector.feed(content[at : at + cut]) for at in range(0, len(content), cut))
            except Refusal as refusal:
                assert is_refused
                assert (refusal.code, refusal.enhanced) == (552, "5.3.4")
            else:
                assert not is_refused
                assert out == content


def test_a_megabyte_by_single_octets_is_linear() -> None:
    collector = HeaderCollector(lambda header: header, limit=1 << 20)
    begun = time.process_time()
    for _ in range(300_000):
        collector.feed(b"x")
    assert time.process_time() - begun < 3


@pytest.mark.parametrize(
    ("value", "authors"),
    [
        (b" ann@example.com\r\n", ["ann@example.com"]),
        (b" Ann <ann@example.com>\r\n", ["ann@example.com"]),
        (b' "A, <x@y.z>" <ann@example.com> (work)\r\n', ["ann@example.com"]),
        (
            b" a@example.com, (c (d)) <b@example.com>,\r\n\tc@example.com\r\n",
            ["a@example.com", "b@example.com", "c@example.com"],
        ),
        (b" us: a@example.com, b@example.com;\r\n", ["a@example.com", "b@example.com"]),
        (b" nobody:;\r\n", []),
        (b"\r\n", []),
        (b' "a b"@example.com\r\n', ['"a b"@example.com']),
        (b" =?utf-8?q?x?= <\xc3\xa4@example.com>\r\n", ["\u00e4@example.com"]),
        (b" a @ example.com\r\n", ["a@example.com"]),
        (b' "a\\"b" (c\\)d) <a@example.com>\r\n', ["a@example.com"]),
    ],
)
def test_authors(value: bytes, authors: list[str]) -> None:
    assert parse_authors(value) == authors


@pytest.mark.parametrize(
    "value",
    [
        b" Ann\r\n",
        b" <ann@example.com> <bob@example.com>\r\n",
        b" <ann@example.com> bob@example.com\r\n",
        b' "unclosed <ann@example.com>\r\n',
        b" (unclosed ann@example.com\r\n",
        b" <ann@example.com\r\n",
        b" ann@example.com)\r\n",
        b" <ann>\r\n",
        b" <<ann@example.com>>\r\n",
        b" a\\b@example.com\r\n",
        b' <"a>b"@example.com>\r\n',
    ],
)
def test_authors_that_two_readers_may_read_differently_are_refused(value: bytes) -> None:
    with pytest.raises(Refusal, match="cannot be read"):
        parse_authors(value)


@given(st.binary(max_size=60))
def test_authors_raise_refusals_only(value: bytes) -> None:
    try:
        authors = parse_authors(value)
    except Refusal:
        return
    assert all("@" in author for author in authors)


def test_hostile_headers_are_read_in_linear_time() -> None:
    begun = time.process_time()
    edited(b"Bcc:" + b"\r\n " * 300_000 + b"x\r\n")
    edited(b"Authentication-Results: " + b"(" * 500_000 + b"\r\n")
    for flood in (b"From:\r\n" * 100_000, b"Bcc:\r\n" * 2001):
        with pytest.raises(Refusal, match="too many fields"):
            edited(flood)
    edited(b"Bcc:\r\n" * 2000)
    with pytest.raises(Refusal):
        parse_authors(b"(" * 500_000)
    parse_authors(b"a@b," * 100_000)
    assert time.process_time() - begun < 5


def test_authors_at_and_past_their_length() -> None:
    whole = b"From: " + b"a@b.example, " * 200 + b"\r\n"
    padding = b" " * (4 * 1024 - len(whole) + 5)
    assert read_header(b"From:" + padding + whole[5:], authserv_id=ID).froms
    for header in (b"From:" + padding + b" " + whole[5:], whole + b"Sender:" + whole[5:]):
        with pytest.raises(Refusal, match="too long"):
            read_header(header, authserv_id=ID)


HOP = Hop("s", Listener.INBOUND, "2001:db8::1", "partner.example", True, TlsFacts("TLSv1.3", "AES"), None)


def test_received() -> None:
    received = format_received(HOP, hostname="mx.example.com", queue_id="q1", utf8=False)
    assert received == (
        b"Received: from partner.example ([IPv6:2001:db8::1])\r\n\tby mx.example.com with ESMTPS (TLSv1.3 AES) id q1"
    )
    assert format_prefix("bob@partner.example", "ann+x@example.com", received, format_date(0)) == (
        b"Return-Path: <bob@partner.example>\r\nDelivered-To: ann+x@example.com\r\n"
        + received
        + b"\r\n\tfor <ann+x@example.com>; Thu, 01 Jan 1970 00:00:00 +0000\r\n"
    )


def test_received_says_how_it_came() -> None:
    for esmtp, tls, utf8, word in (
        (False, None, False, b"SMTP"),
        (True, None, False, b"ESMTP"),
        (True, HOP.tls, True, b"UTF8SMTPS"),
    ):
        hop = Hop("s", Listener.INBOUND, "192.0.2.1", "p", esmtp, tls, None)
        assert b" with " + word + b" " in format_received(hop, hostname="h", queue_id="q", utf8=utf8)


def test_received_of_a_submission_names_no_client() -> None:
    login: object = object()
    hop = Hop("s", Listener.SUBMISSION, "192.0.2.1", "phone", True, HOP.tls, login)  # type: ignore[arg-type]
    received = format_received(hop, hostname="mx.example.com", queue_id="q1", utf8=True)
    assert received == b"Received: by mx.example.com with UTF8SMTPSA (TLSv1.3 AES) id q1"
    told = format_received(hop, hostname="mx.example.com", queue_id="q1", utf8=True, privacy=False)
    assert told.startswith(b"Received: from phone ([192.0.2.1])\r\n")


@given(
    content=st.lists(st.sampled_from([b"A: b\r\n", b"\r\n", b"x", b"\r", b"\n"]), max_size=12).map(b"".join),
    cuts=st.lists(st.integers(0, 30), max_size=8),
)
def test_the_body_is_what_follows_the_first_blank_line_however_it_comes(content: bytes, cuts: list[int]) -> None:
    headers: list[bytes] = []
    body: list[bytes] = []

    def edit(header: bytes) -> bytes:
        headers.append(header)
        return header

    collector = HeaderCollector(edit, limit=1000, body=body.append)
    places = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    passed = b"".join(collector.feed(content[start:end]) for start, end in pairwise(places)) + collector.finish()
    assert passed == content
    has_blank = content.startswith(b"\r\n") or b"\r\n\r\n" in content
    header, _, rest = (b"", b"", content[2:]) if content.startswith(b"\r\n") else content.partition(b"\r\n\r\n")
    assert b"".join(body) == (rest if has_blank else b"")
    assert headers == [header + b"\r\n" if has_blank and header else b"" if has_blank else content]
