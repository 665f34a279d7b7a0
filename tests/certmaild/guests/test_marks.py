"""Marks in a header: what is seen, what is taken away, what is left as it was."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.guests.marks import ASTERISK, FIELD, MAX_FIELDS, MAX_SUBJECT, TAG, read_marks
from certmaild.mailbox.text import decode_header
from certmaild.protocols.smtp.errors import Refusal


@pytest.mark.parametrize(
    ("given_", "left", "reason"),
    [
        (b"Subject: *hi\r\nX: y\r\n", b"Subject: hi\r\nX: y\r\n", ASTERISK),
        (b"subject :  * \t hi\r\n", b"subject : hi\r\n", ASTERISK),
        (b"Subject:\r\n *\r\n hi\r\n", b"Subject: hi\r\n", ASTERISK),
        (b"Subject: *\r\n", b"Subject: \r\n", ASTERISK),
        (b"Subject: **hi\r\n", b"Subject: *hi\r\n", ASTERISK),
        ("Subject: *ö\r\n".encode(), "Subject: ö\r\n".encode(), ASTERISK),
        (b"Subject: Re: hi [SeCure]\r\n", b"Subject: Re: hi [SeCure]\r\n", TAG),
        (b"Subject: =?utf-8?Q?=5Bsecure=5D?=\r\n", b"Subject: =?utf-8?Q?=5Bsecure=5D?=\r\n", TAG),
        (b"A: b\r\nCERTMAILD: Seal\r\nSubject: hi\r\n", b"A: b\r\nSubject: hi\r\n", FIELD),
        (b"Certmaild:\r\n seal\r\nSubject: * hi\r\n", b"Subject: hi\r\n", FIELD),
        (b"Subject: 5 * 3\r\n", b"Subject: 5 * 3\r\n", ""),
        (b"Subject: Re: * hi\r\n", b"Subject: Re: * hi\r\n", ""),
        (b"X-Subject: *\r\nComments: [secure]\r\n", b"X-Subject: *\r\nComments: [secure]\r\n", ""),
        (b"\r\nSubject: * a line of the body\r\n", b"\r\nSubject: * a line of the body\r\n", ""),
        (b"", b"", ""),
    ],
)
def test_marks(given_: bytes, left: bytes, reason: str) -> None:
    found = read_marks(given_)
    assert (found.header, found.reason) == (left, reason)


def test_an_encoded_subject_loses_its_asterisk() -> None:
    found = read_marks(b"Subject: =?utf-8?B?KiBmw7bDtg==?=\r\n =?utf-8?Q?_bar?=\r\nA: b\r\n")
    assert found.reason == ASTERISK
    value = found.header.removeprefix(b"Subject:").partition(b"\r\nA: b")[0]
    assert decode_header(value.replace(b"\r\n", b"").strip()) == "föö bar"


@pytest.mark.parametrize("value", [b"sael", b"", b"seal please", b"no"])
def test_a_field_that_says_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        read_marks(b"Certmaild: " + value + b"\r\nSubject: hi\r\n")
    assert caught.value.code == 550


@given(st.text(alphabet=st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60))
def test_a_subject_without_a_mark_stays_as_it_is(text: str) -> None:
    header = b"Subject: x" + text.encode() + b"\r\n"
    found = read_marks(header)
    assert found.header == header
    if "[" not in text and "=?" not in text:
        assert found.reason == ""


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


def test_many_long_subjects_hold_nobody_up() -> None:
    header = (b"Subject: =?utf-8?q?*a?= " + b"=?utf-8?b?w6nDqcOpw6nDqcOpw6nDqcOpw6nDqcOp?= " * 1200 + b"\r\n") * 15
    began = time.process_time()
    with pytest.raises(Refusal, match="too many Subject"):
        read_marks(header + b"\r\n")
    assert time.process_time() - began < 0.05
