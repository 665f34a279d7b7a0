"""Header fields taken apart, and hashed as signatures ask (RFC 6376)."""

import hashlib
import time

import pytest

from certmaild.dkim.fields import CanonicalHeader, Field, TagsUnfit, parse_fields, parse_tags, without_b

HEADER = b"A: X\r\nB : Y\t\r\n\tZ  \r\nnonsense\r\nA: second\r\n"


def test_fields_keep_their_folding_and_what_is_none_is_left_out() -> None:
    assert parse_fields(HEADER) == [
        Field(b"A", b" X\r\n"),
        Field(b"B ", b" Y\t\r\n\tZ  \r\n"),
        Field(b"A", b" second\r\n"),
    ]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        # RFC 6376 section 3.4.5; a name's second mention is the field above, its third is nothing.
        (b"relaxed", b"a:second\r\na:X\r\nb:Y Z\r\nsig:b=; a=1"),
        (b"simple", b"A: second\r\nA: X\r\nB : Y\t\r\n\tZ  \r\nSig: b=; a=1"),
    ],
)
def test_canonical_forms_and_choice_of_fields(form: bytes, expected: bytes) -> None:
    header = CanonicalHeader(parse_fields(HEADER))
    digest = header.digest(form, [b"a", b"a", b"a", b"none", b"b"], Field(b"Sig", b" b=abc\r\n\tdef ; a=1\r\n"))
    assert digest == hashlib.sha256(expected).digest()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" a=1; b=xyz=; bh=abc", b" a=1; b=; bh=abc"),
        (b" bh=abc; b=xyz\r\n", b" bh=abc; b="),
        (b" a=b=c;\r\n b =\r\n x y", b" a=b=c;\r\n b ="),
    ],
)
def test_the_signature_itself_is_taken_out(value: bytes, expected: bytes) -> None:
    assert without_b(value) == expected


def test_tag_lists() -> None:
    assert parse_tags(b" v=1; a = x y ;") == {b"v": b"1", b"a": b"x y"}
    for wrong in (b"v=1; v=2", b"no tags here", b"v=" + b"x" * 20_000):
        with pytest.raises(TagsUnfit):
            parse_tags(wrong)


def test_a_hostile_header_takes_no_longer_than_a_large_one() -> None:
    header = b"".join(b"X-%d: y\r\n" % number for number in range(50_000)) + b"A:" + b" \t" * 100_000 + b"\r\n"
    begun = time.process_time()
    made = CanonicalHeader(parse_fields(header))
    for _ in range(8):
        made.digest(b"relaxed", [b"absent-%d" % number for number in range(1000)], Field(b"S", b"b=" + b"\r\n " * 4000))
    assert time.process_time() - begun < 5
