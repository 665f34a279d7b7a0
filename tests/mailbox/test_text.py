"""Charsets, encoded words, transfer encodings and what search compares."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.mailbox.decoding import Base64Decoder, QuotedPrintableDecoder, decode_quoted_printable, decoder_for
from certmaild.mailbox.text import PartText, codec_of, decode_header, decode_text, normalise, part_text, searchable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?q?J=C3=B6rg?= <x>", "Jörg <x>"),
        (b"=?ISO-8859-1?Q?a_b?= c =?utf-8?B?w6k=?=", "a b c é"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
        (b"=?gb2312?B?1tDOxA==?=", "中文"),
        (b"=?nonsense?q?abc?=", "abc"),
        (b"=?utf-8*en?q?abc?=", "abc"),
        ("déjà".encode(), "déjà"),
        (b"d\xe9j\xe0", "déjà"),
        (b"=?utf-8?q?broken", "=?utf-8?q?broken"),
    ],
)
def test_headers(value: bytes, text: str) -> None:
    assert decode_header(value) == text


@given(st.binary(max_size=200))
def test_any_header_gives_text(value: bytes) -> None:
    decode_header(b"=?utf-8?q?" + value + b"?=")
    decode_header(value)


def test_charsets() -> None:
    assert codec_of("UTF-8") and codec_of("iso-8859-15") and codec_of("koi8-r") and codec_of("windows-1252")
    for name in ("base64", "rot13", "hex", "idna", "punycode", "unicode_escape", "nonsense", "", "../x", "a" * 99):
        assert codec_of(name) is None
    assert decode_text(b"\x80", "iso-8859-1") == "€"
    assert decode_text(b"\xff", "utf-8") == "�"
    assert decode_text(b"\xff", "nonsense") == "ÿ"


def test_search_form() -> None:
    assert normalise("HeLLo") == "hello"
    assert normalise("STRASSE") == normalise("straße")
    assert normalise("ﬁn") == "fin"
    assert searchable(b"=C3=89t=C3=A9", b"QUOTED-PRINTABLE", "utf-8") == "été"
    assert part_text(b"x" * 200_000, b"7BIT", "us-ascii", limit=100_000) == "x" * 100_000


ENCODINGS = st.sampled_from([b"BASE64", b"QUOTED-PRINTABLE", b"8BIT", b"X-ODD"])


@given(st.binary(max_size=300), st.integers(1, 20), ENCODINGS)
def test_text_of_any_octets_however_cut(data: bytes, cut: int, encoding: bytes) -> None:
    reader = PartText(encoding, "utf-8")
    text = "".join(reader.feed(data[at : at + cut]) for at in range(0, len(data), cut)) + reader.finish()
    assert text == part_text(data, encoding, "utf-8")


@given(st.binary(max_size=300), st.integers(1, 20))
def test_base64_gives_back_what_was_encoded(data: bytes, cut: int) -> None:
    encoded = base64.encodebytes(data).replace(b"\n", b"\r\n")
    decoder = Base64Decoder()
    pieces = [decoder.feed(encoded[at : at + cut]) for at in range(0, len(encoded), cut)]
    assert b"".join(pieces) + decoder.finish() == data


ODD = [b"=", b"=\r\n", b"=41", b"= \r\n", b"\r\n", b"\r", b"\n", b"a", b" ", b"4"]
QUOTED = st.lists(st.sampled_from(ODD), max_size=40)


@given(QUOTED.map(b"".join), st.integers(1, 20))
def test_quoted_printable_however_cut(encoded: bytes, cut: int) -> None:
    decoder = QuotedPrintableDecoder()
    pieces = [decoder.feed(encoded[at : at + cut]) for at in range(0, len(encoded), cut)]
    assert b"".join(pieces) + decoder.finish() == decode_quoted_printable(encoded)


@given(st.binary(max_size=300))
def test_quoted_printable_gives_back_what_was_encoded(data: bytes) -> None:
    # Not as text: `quopri` makes all line endings those of the first line.
    assert decode_quoted_printable(binascii.b2a_qp(data, quotetabs=True, istext=False)) == data


def test_an_unknown_encoding_has_no_decoder() -> None:
    assert decoder_for(b"X-UUENCODE") is None
