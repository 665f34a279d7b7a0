"""Marks by which a sender has a message sealed."""

import base64
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.guests.marks import ASTERISK, FIELD, MAX_FIELDS, MAX_SUBJECT, TAG, read_marks
from certmaild.protocols.smtp.errors import Refusal


@pytest.mark.parametrize(
    ("header", "kept", "reason"),
    [
        (b"Subject: results\r\n", b"Subject: results\r\n", ""),
        (b"Subject: *results\r\n", b"Subject: results\r\n", ASTERISK),
        (b"SUBJECT:  *  results\r\nTo: x\r\n", b"SUBJECT: results\r\nTo: x\r\n", ASTERISK),
        (b"Subject:\r\n *\r\n results\r\n", b"Subject: results\r\n", ASTERISK),
        (b"Subject: re: *results\r\n", b"Subject: re: *results\r\n", ""),
        (b"Subject: Re: [Secure] results\r\n", b"Subject: Re: [Secure] results\r\n", TAG),
        (b"Subject: =?utf-8?q?=5Bsecure=5D_x?=\r\n", b"Subject: =?utf-8?q?=5Bsecure=5D_x?=\r\n", TAG),
        (b"A: 1\r\nCertmaild: seal\r\nB: 2\r\n", b"A: 1\r\nB: 2\r\n", FIELD),
        (b"certmaild :  SEAL \r\n", b"", FIELD),
        (b"X-Subject: *no\r\nSubjects: *no\r\n", b"X-Subject: *no\r\nSubjects: *no\r\n", ""),
        (b"To: a\r\n Subject: *folded into To\r\n", b"To: a\r\n Subject: *folded into To\r\n", ""),
        (b"\r\nSubject: *body\r\n", b"\r\nSubject: *body\r\n", ""),
    ],
)
def test_marks(header: bytes, kept: bytes, reason: str) -> None:
    marked = read_marks(header)
    assert (marked.header, marked.reason) == (kept, reason)


@pytest.mark.parametrize("words", ["*Gerät", "* Befund für Frau Ö", "*" + "ü" * 300])
def test_an_asterisk_in_an_encoded_subject(words: str) -> None:
    header = b"Subject: =?utf-8?b?" + base64.b64encode(words.encode()) + b"?=\r\nTo: x\r\n"
    marked = read_marks(header)
    assert marked.reason == ASTERISK
    subject = marked.header.decode("ascii").partition("To:")[0].removeprefix("Subject:")
    assert str(make_header(decode_header(subject.replace("\r\n", "")))).strip() == words[1:].lstrip()
    assert all(len(line) <= 76 for line in marked.header.splitlines())


def test_a_field_that_says_something_else_is_refused() -> None:
    for value in (b"sealed", b"", b"seal, please"):
        with pytest.raises(Refusal, match="may only say"):
            read_marks(b"Certmaild: " + value + b"\r\n")


def test_subjects_at_and_past_their_limits() -> None:
    longest = b" *" + b"x" * (MAX_SUBJECT - 4) + b"\r\n"
    assert read_marks(b"Subject:" + longest).reason == ASTERISK
    assert read_marks(b"Subject: *a\r\n" * MAX_FIELDS).reason == ASTERISK
    for header in (b"Subject:" + b" " + longest, b"Subject: a\r\n" * (MAX_FIELDS + 1)):
        with pytest.raises(Refusal) as caught:
            read_marks(header)
        assert (caught.value.code, caught.value.enhanced) == (554, "5.6.0")


@given(st.lists(st.sampled_from([b"Subject:", b"Certmaild:", b"To:", b"\r\n", b" ", b"*", b"x", b"seal", b"=?"])))
def test_nothing_but_marks_is_taken_away(pieces: list[bytes]) -> None:
    header = b"".join(pieces) + b"\r\n"
    try:
        marked = read_marks(header)
    except Refusal:
        return
    if not marked.reason:
        assert marked.header == header
    # What was marked is not marked once more: each mark is taken away, or says what it said before.
    again = read_marks(marked.header)
    assert again.reason in ("", TAG, ASTERISK)
