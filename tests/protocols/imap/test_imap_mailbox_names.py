"""Folder names: modified UTF-7, UTF-8, wildcards."""

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.mailbox_names import (
    MAX_NAME,
    Pattern,
    decode_utf7,
    encode_utf7,
    format_mailbox_name,
    parse_mailbox_name,
)
from certmaild.protocols.imap.grammar.tokens import Cursor

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_modified_utf7_reads_back(name: str) -> None:
    assert decode_utf7(encode_utf7(name)) == name


@given(NAMES, st.booleans())
def test_names_read_back(name: str, utf8: bool) -> None:
    wire = format_mailbox_name(name, utf8=utf8)
    cursor = Cursor((b"", wire.partition(b"\r\n")[2]) if wire.startswith(b"{") else (wire,))
    read = parse_mailbox_name(cursor.astring(), utf8=utf8)
    again = parse_mailbox_name(encode_utf7(read), utf8=False)
    assert read == again


@given(st.binary(max_size=30), st.booleans())
def test_garbage_raises_grammar_errors_only(garbage: bytes, utf8: bool) -> None:
    for parse in (lambda: parse_mailbox_name(garbage, utf8=utf8), lambda: decode_utf7(garbage)):
        with contextlib.suppress(GrammarError):
            parse()


def test_examples() -> None:
    """RFC 3501 section 5.1.3."""
    assert decode_utf7(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-") == "~peter/mail/台北/日本語"
    assert encode_utf7("台北 & Co") == b"&U,BTFw- &- Co"
    assert encode_utf7("") == b""
    assert parse_mailbox_name(b"inBox", utf8=False) == "INBOX"
    assert parse_mailbox_name(b"a&-b", utf8=False) == "a&b"
    assert parse_mailbox_name(b"a&-b", utf8=True) == "a&-b"
    assert parse_mailbox_name(b"R&D", utf8=False) == "R&D"
    assert parse_mailbox_name("Entwürfe".encode(), utf8=False) == "Entwürfe"
    assert parse_mailbox_name("u\u0308".encode(), utf8=True) == "ü"


@pytest.mark.parametrize("octets", [b"a&b", b"&A-", b"&/A-", b"\xc3", b"&2AA-", b"&AAA==-", b"&AGG&-"])
def test_bad_utf7(octets: bytes) -> None:
    with pytest.raises(GrammarError):
        decode_utf7(octets)


@pytest.mark.parametrize("octets", [b"a\0b", b"a\nb", b"&AAA-", b"\xc2\x85", b"\xff", b"x" * (MAX_NAME + 1)])
def test_bad_names(octets: bytes) -> None:
    with pytest.raises(GrammarError):
        parse_mailbox_name(octets, utf8=False)


@given(st.text("ab/*%", max_size=8), st.text("ab/", max_size=8))
def test_wildcards_match_as_a_regular_expression(pattern: str, name: str) -> None:
    expression = "".join({"*": ".*", "%": "[^/]*"}.get(character, character) for character in pattern)
    assert Pattern(pattern).matches(name) == bool(re.fullmatch(expression, name))


def test_inbox_matches_in_any_case() -> None:
    assert Pattern("inbox").matches("INBOX")
    assert Pattern("inbox/%").matches("INBOX/a")
    assert not Pattern("INBOX/a").matches("INBOX/A")
    assert Pattern("%").matches("INBOX")


def test_matching_is_linear() -> None:
    """PROTOCOLS lesson 3: no pattern is slow."""
    began = time.perf_counter()
    assert not Pattern("*a%" * 1000).matches("a" * 900 + "b")
    assert time.perf_counter() - began < 1
