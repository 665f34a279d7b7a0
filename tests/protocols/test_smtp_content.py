"""DATA and BDAT content: the same result however it is cut, and a reference written line by line."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.smtp.content import ChunkContent, ContentFault, DataContent, with_crlf

PIECES = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"\0", b"a", b"\r\n.", b"\r\n.\r\n", b"text"]), max_size=30
)
CUTS = st.lists(st.integers(1, 7), min_size=1, max_size=40)


def cut(text: bytes, sizes: list[int]) -> list[bytes]:
    """``text`` in pieces of these sizes, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def run_data(pieces: list[bytes], *, normalise: bool) -> tuple[bytes | None, ContentFault | None, bytes | None]:
    content, out, rest = DataContent(normalise=normalise), b"", b""
    for piece in pieces:
        if content.rest is None:
            out += content.feed(piece)
        else:
            rest += piece
    fault = content.fault
    return (None if fault else out), fault, None if content.rest is None else content.rest + rest


def reference_data(text: bytes, *, normalise: bool) -> tuple[bytes, bool] | None:
    """Content and whether it is at fault; None without an end."""
    found = re.match(rb"(?s)(.*?\r\n)\.\r\n", b"\r\n" + text)
    if found is None:
        return None
    body = b"".join(
        line[1:] if line.startswith(b".") else line for line in re.split(rb"(?<=\r\n)", found[1][2:]) if line
    )
    at_fault = b"\0" in body or bool(re.search(rb"\r(?!\n)|(?<!\r)\n", body))
    if normalise:
        body = re.sub(rb"\r\n|\r|\n", b"\r\n", body).replace(b"\0", b"")
    return body, at_fault


@given(PIECES, CUTS, st.booleans())
def test_data_is_the_same_however_cut(parts: list[bytes], sizes: list[int], normalise: bool) -> None:
    text = b"".join(parts) + b"\r\n.\r\nNOOP\r\n"
    whole = run_data([text], normalise=normalise)
    assert run_data(cut(text, sizes), normalise=normalise)[::2] == whole[::2]
    reference = reference_data(text, normalise=normalise)
    assert reference is not None
    body, at_fault = reference
    assert whole[0] == (None if at_fault and not normalise else body)
    assert whole[2] is not None
    assert text.endswith(whole[2])
    assert whole[2].endswith(b"NOOP\r\n")


@given(st.binary(max_size=300))
def test_normalised_content_is_clean(body: bytes) -> None:
    content = run_data([body + b"\r\n.\r\n"], normalise=True)[0]
    assert content is not None
    assert b"\0" not in content
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content)


@given(PIECES, CUTS)
def test_chunks_are_the_same_however_cut(parts: list[bytes], sizes: list[int]) -> None:
    text = b"".join(parts)
    content, out = ChunkContent(), b""
    for piece in cut(text, sizes):
        out += content.feed(piece)
    out += content.finish()
    if b"\0" in text:
        assert content.fault is ContentFault.NUL
        return
    clean = re.sub(rb"\r\n|\r|\n", b"\r\n", text)
    assert out == (clean if clean.endswith(b"\r\n") or not clean else clean + b"\r\n")


@pytest.mark.parametrize("end", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n"])
def test_only_crlf_dot_crlf_ends(end: bytes) -> None:
    for normalise in (False, True):
        content = DataContent(normalise=normalise)
        content.feed(b"a" + end + b"MAIL FROM:<x@y.example>")
        assert content.rest is None
        content.feed(b"\r\n.\r\n")
        assert content.rest == b""


def test_with_crlf_keeps_what_is_right() -> None:
    text = b"a\r\nb\r\n"
    assert with_crlf(text) is text
