"""The cursor: what it takes, what it refuses, and that nothing but GrammarError comes out of garbage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.tokens import (
    MAX_LIST,
    Cursor,
    decode_utf8,
    format_astring,
    quote,
)

TEXT = st.binary(max_size=40).filter(lambda octets: b"\0" not in octets)


def pieces(wire: bytes) -> tuple[bytes, ...]:
    """One string as formatted, cut at its literal as the session does."""
    if wire.startswith(b"{"):
        return b"", wire.partition(b"\r\n")[2], b""
    return (wire,)


@given(TEXT, st.booleans())
def test_a_quoted_value_reads_back(octets: bytes, utf8: bool) -> None:
    cursor = Cursor(pieces(quote(octets, utf8=utf8)))
    assert cursor.string() == octets
    cursor.end()


@given(TEXT, st.booleans())
def test_an_astring_reads_back(octets: bytes, utf8: bool) -> None:
    cursor = Cursor(pieces(format_astring(octets, utf8=utf8)))
    assert cursor.astring() == octets
    cursor.end()


METHODS = ("atom", "keyword", "word", "number", "number64", "nz_number", "sequence", "literal", "quoted")
METHODS += ("string", "astring", "list_mailbox", "nstring", "space", "end")


@given(st.lists(st.binary(max_size=30), max_size=5), st.lists(st.sampled_from(METHODS), max_size=12))
def test_garbage_raises_grammar_errors_only(garbage: list[bytes], methods: list[str]) -> None:
    cursor = Cursor(garbage)
    for name in methods:
        try:
            getattr(cursor, name)()
        except GrammarError:
            return


def test_a_command_with_literals_is_read_in_order() -> None:
    cursor = Cursor((b'foo "a\\"\\\\b" ', b"lit\r\n", b" (1 2) NIL nil ", b"x", b""))
    assert cursor.atom() == b"foo"
    cursor.space()
    assert cursor.quoted() == b'a"\\b'
    cursor.space()
    assert cursor.at_literal
    assert cursor.peek() == b""
    assert cursor.string() == b"lit\r\n"
    cursor.space()
    assert cursor.items(cursor.number) == [1, 2]
    cursor.space()
    assert cursor.nstring() is None
    cursor.space()
    assert cursor.nstring() is None
    cursor.space()
    assert cursor.list_mailbox() == b"x"
    assert cursor.at_end
    cursor.end()


def test_a_literal_may_end_the_pieces() -> None:
    cursor = Cursor((b"", b"x"))
    assert cursor.astring() == b"x"
    assert cursor.at_end


def test_words() -> None:
    assert Cursor((b"Body[",)).word() == b"BODY"
    assert Cursor((b"flags)",)).keyword() == b"FLAGS"
    assert Cursor((b"a]b(",)).astring() == b"a]b"
    assert Cursor((b"a%*]",)).list_mailbox() == b"a%*]"
    assert Cursor((b'"q"',)).list_mailbox() == b"q"
    assert Cursor((b"1:*,4 ",)).sequence() == b"1:*,4"
    assert Cursor((b"$",)).sequence() == b"$"
    assert not Cursor((b"RETURNS",)).skip_word(b"RETURN")
    assert not Cursor((b"",)).skip_word(b"RETURN")
    assert Cursor((b"return (",)).skip_word(b"RETURN")
    assert Cursor(()).at_end


@pytest.mark.parametrize("text", [b'"a', b'"a\\', b'"a\\x"', b'"a\rb"', b'"\xff"', b"a", b""])
def test_bad_quoted_strings(text: bytes) -> None:
    with pytest.raises(GrammarError):
        Cursor((text,)).quoted()


def test_nul_in_a_literal_is_refused() -> None:
    with pytest.raises(GrammarError):
        Cursor((b"", b"a\0b", b"")).astring()


def test_numbers_have_bounds() -> None:
    assert Cursor((b"4294967295",)).number() == 4294967295
    assert Cursor((b"9223372036854775807",)).number64() == 9223372036854775807
    for text in (b"4294967296", b"1" * 20, b"1" * 21, b"9" * 100_000, b"", b"-1"):
        with pytest.raises(GrammarError):
            Cursor((text,)).number()
    with pytest.raises(GrammarError):
        Cursor((b"9223372036854775808",)).number64()
    with pytest.raises(GrammarError):
        Cursor((b"0",)).nz_number()


def test_lists_have_bounds() -> None:
    cursor = Cursor((b"()",))
    assert cursor.items(cursor.atom, empty=True) == []
    with pytest.raises(GrammarError):
        Cursor((b"()",)).items(cursor.atom)
    cursor = Cursor((b"(" + b"a " * MAX_LIST + b"a)",))
    with pytest.raises(GrammarError):
        cursor.items(cursor.atom)
    cursor = Cursor((b"(a b) c",))
    assert cursor.items(cursor.atom) == [b"a", b"b"]
    with pytest.raises(GrammarError):
        cursor.end()
    with pytest.raises(GrammarError):
        Cursor((b"(a",)).items(Cursor((b"b",)).atom)


def test_utf8() -> None:
    assert Cursor((b'"\xc3\xa4"',)).quoted() == b"\xc3\xa4"
    assert decode_utf8(b"\xc3\xa4") == "ä"
    assert quote(b"\xff", utf8=True) == b"{1}\r\n\xff"
    assert quote(b"\xc3\xa4") == b"{2}\r\n\xc3\xa4"
    assert quote(b"x" * 1025).startswith(b"{1025}\r\n")
    assert format_astring(b"NIL") == b'"NIL"'
    assert format_astring(b"") == b'""'
