"""What `finder` finds is what `bytes.find` finds, by whichever way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.mailbox import finding

small = st.binary(max_size=300) | st.text("ab\0", max_size=300).map(str.encode)


@pytest.mark.parametrize("way", ["memmem", "bytes"])
@given(text=small, needle=small.filter(bool), start=st.integers(0, 310))
def test_it_finds_what_bytes_find(way: str, text: bytes, needle: bytes, start: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if way == "bytes":
            patch.setattr(finding, "_MEMMEM", None)
        find = finding.finder(bytearray(text))
        for one in (needle, needle[:2], text[start : start + 7] or needle):
            assert find(one, start) == text.find(one, start)


def test_the_text_cannot_change_its_length_meanwhile() -> None:
    text = bytearray(b"some text")
    find = finding.finder(text)
    if finding._MEMMEM is not None:
        with pytest.raises(BufferError):
            text.clear()
    del find
    text.clear()
