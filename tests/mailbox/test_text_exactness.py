"""SEARCH by text finds what reading finds, whatever the messages and the needles are."""

import base64
import quopri
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mailbox_support import make_house
from text_support import (
    build,
    expected,
    found,
    texts_of,
)

from certmaild.mailbox import searching, text_frames
from certmaild.mailbox.search import (
    And,
    BodyHas,
    HasFlags,
    HasUid,
    HeaderHas,
    Not,
    Or,
    SearchKey,
    TextHas,
)
from certmaild.mailbox.values import Flags, SystemFlag

# Messages and needles over an alphabet so small that needles are met, and so odd that folding and joining matter.

ALPHABET = (
    "aAbB eE.,<>@:-=?_ \t\0\x01\r\n\u00e9\u0301\u0345\u00df\u017f\ufb01\u0130\u0131\u212b\u00c5\u03a9\u2126\u1fb3"
)
ALPHABET += "\uff41\u3042\u30a2\uff76\uff9e\u0416\u0436\u4e2d\u00ff\u00fe\U0001f600\U00010400\u00ad\u200d"
texts = st.text(ALPHABET, max_size=24)
CHARSETS = ["utf-8", "iso-8859-1", "utf-16", "utf-7", "iso-2022-jp", "koi8-r", "shift_jis", "gb2312", "nonsense", ""]
NAMES = [b"Subject", b"X-Subject", b"From", b"To", b"Cc", b"X-\xe9\xff", b"X-Spam", b"Received"]


def in_charset(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset or "utf-8", "replace")
    except LookupError:
        return text.encode("utf-8")


@st.composite
def header_values(draw: Any) -> bytes:
    text, charset = draw(texts), draw(st.sampled_from(CHARSETS))
    octets = in_charset(text, charset)
    match draw(st.integers(0, 4)):
        case 0:
            return b"=?%b?B?%b?=" % (charset.encode(), base64.b64encode(octets))
        case 1:
            word = quopri.encodestring(octets, header=True).replace(b"=\n", b"").replace(b"?", b"=3F")
            return b"=?%b?q?%b?= tail" % (charset.encode(), word.replace(b" ", b"_"))
        case 2:
            return draw(st.binary(max_size=20)).replace(b"\r", b"").replace(b"\n", b"")
        case 3:
            return b"folded\r\n " + octets.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n\tagain"
        case _:
            return octets.replace(b"\r", b"").replace(b"\n", b"")


@st.composite
def parts(draw: Any, depth: int = 0) -> bytes:
    """An entity: header fields of its content, a blank line, content."""
    kind = draw(st.integers(0, 5 if depth < 2 else 2))
    if kind <= 2:
        charset = draw(st.sampled_from(CHARSETS))
        octets = in_charset(draw(texts), charset) if kind else draw(st.binary(max_size=40))
        encoding = draw(st.sampled_from([b"7bit", b"8bit", b"base64", b"quoted-printable", b"odd"]))
        if encoding == b"base64":
            octets = base64.encodebytes(octets).replace(b"\n", b"\r\n")
        elif encoding == b"quoted-printable":
            octets = quopri.encodestring(octets).replace(b"\n", b"\r\n")
        media = draw(st.sampled_from([b"text/plain", b"text/html", b"application/pdf", b"", b"nonsense"]))
        return b"Content-Type: %b; charset=%b; name=aab\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n" % (
            media,
            charset.encode(),
            encoding,
            octets,
        )
    if kind == 3:
        return b"Content-Type: message/rfc822\r\n\r\n" + draw(messages(depth + 1))
    inner = draw(st.lists(parts(depth + 1), max_size=3))
    boundary = b"b%d" % depth
    body = b"".join(b"--" + boundary + b"\r\n" + one + b"\r\n" for one in inner)
    return b"Content-Type: multipart/mixed; boundary=%b\r\n\r\naB\r\n%b--%b--\r\n" % (boundary, body, boundary)


@st.composite
def messages(draw: Any, depth: int = 0) -> bytes:
    fields = draw(st.lists(st.tuples(st.sampled_from(NAMES), header_values()), max_size=4))
    header = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    match draw(st.integers(0, 9)):
        case 0:
            return draw(st.binary(max_size=60))
        case 1:
            return header
    return header + draw(parts(depth))


def leaves(needles: st.SearchStrategy[str]) -> st.SearchStrategy[SearchKey]:
    names = st.sampled_from(["Subject", "from", "x-\u00e9\u00ff", "X-SPAM", "received", "missing", "content-type"])
    return st.one_of(
        needles.map(BodyHas),
        needles.map(TextHas),
        st.builds(HeaderHas, names, needles | st.just("")),
        st.builds(HasUid, st.lists(st.builds(range, st.integers(1, 4), st.integers(4, 9)), max_size=2)),
        st.just(HasFlags(SystemFlag.SEEN)),
    )


def programs(needles: st.SearchStrategy[str]) -> st.SearchStrategy[SearchKey]:
    return st.recursive(
        leaves(needles),
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, max_size=3).map(lambda keys: And(tuple(keys))),
            st.lists(inner, max_size=3).map(lambda keys: Or(tuple(keys))),
        ),
        max_leaves=5,
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_column_finds_what_reading_finds(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Frames of a few messages, and some messages that are only named.
        patch.setattr(text_frames, "FRAME_TEXT_OCTETS", data.draw(st.sampled_from([40, 300, 1 << 18])))
        patch.setattr(text_frames, "MESSAGE_TEXT_OCTETS", data.draw(st.sampled_from([50, 1 << 20])))
        patch.setattr(text_frames, "BUILD_MESSAGES", data.draw(st.sampled_from([1, 3, 128])))
        patch.setattr(searching, "WORTH_BUILDING", data.draw(st.sampled_from([1, 64])))
        house = make_house(tmp_path_factory.mktemp("house"))
        octets = data.draw(st.lists(messages(), min_size=1, max_size=8))
        half = len(octets) // 2
        house.append(*octets[:half], flags=Flags(SystemFlag.SEEN)) if half else None
        build(house)
        house.append(*octets[half:])
        if data.draw(st.booleans()):
            build(house)
        known = "".join(texts_of(house))
        pieces = st.builds(
            lambda at, size: known[at : at + size], st.integers(0, max(0, len(known) - 1)), st.integers(1, 9)
        )
        needles = (texts | pieces).filter(bool)
        for key in data.draw(st.lists(programs(needles), min_size=1, max_size=6)):
            assert found(house, key) == expected(house, key), key
        house.mailbox.close()


def test_no_match_over_the_border_of_two_messages(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    house.append(*[b"Subject: one\r\nX-Name: two\r\n\r\nred"] * 3)
    build(house)
    for border in ("redred", "red\x00red", "onex-name", "one two", "subject: one", "twosubject"):
        assert found(house, TextHas(border)) == [] == expected(house, TextHas(border))
    assert found(house, TextHas("name")) == [1, 2, 3]
    assert found(house, HeaderHas("name", "two")) == []
