"""Body hashes made piece by piece are those that dkimpy makes of the whole."""

import base64
import hashlib
from itertools import pairwise

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import example, given
from hypothesis import strategies as st

from certmaild.dkim.body_hash import BodyHash

PIECES = st.lists(st.sampled_from([b"a", b"bc", b" ", b"\t", b"\r\n", b"\r\n\r\n", b"\r", b"  \t"]), max_size=30)
FORMS = [(True, Relaxed), (False, Simple)]


def hashed(body: bytes, cuts: list[int], *, relaxed: bool) -> BodyHash:
    made = BodyHash(relaxed=relaxed)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    for start, end in pairwise(places):
        made.feed(body[start:end])
    made.finish()
    return made


@pytest.mark.parametrize(("relaxed", "form"), FORMS)
@given(pieces=PIECES, cuts=st.lists(st.integers(0, 60), max_size=20))
@example(pieces=[], cuts=[])
@example(pieces=[b"\r\n"], cuts=[1])
@example(pieces=[b"a", b" ", b"\t", b"\r\n"], cuts=[1, 2, 3, 4])
@example(pieces=[b"a", b"\r\n", b"\r\n", b"b", b"\r\n\r\n"], cuts=[2, 3, 4])
def test_any_chunking_gives_what_dkimpy_makes_of_the_whole(
    relaxed: bool, form: type, pieces: list[bytes], cuts: list[int]
) -> None:
    body = b"".join(pieces)
    canonical = form.canonicalize_body(body)  # type: ignore[attr-defined]
    made = hashed(body, cuts, relaxed=relaxed)
    assert made.digest == hashlib.sha256(canonical).digest()
    assert made.length == len(canonical)


def test_the_empty_bodies_of_rfc_6376() -> None:
    assert base64.b64encode(hashed(b"", [], relaxed=False).digest) == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
    assert base64.b64encode(hashed(b"", [], relaxed=True).digest) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_white_space_costs_time_in_proportion() -> None:
    """dkimpy's own expressions take minutes for this."""
    body = (b" \t" * 500_000 + b"x") * 2 + b"\r\n" * 500_000 + b"end\r\n"
    made = hashed(body, list(range(0, len(body), 65536)), relaxed=True)
    expected = b" x x" + b"\r\n" * 500_000 + b"end\r\n"
    assert made.digest == hashlib.sha256(expected).digest()
