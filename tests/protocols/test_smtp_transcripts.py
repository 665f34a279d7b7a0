"""SMTP conversations of `tests/transcripts/smtp`, whole and cut into single bytes.

``C:`` lines are sent together with the ones after them, CRLF added; ``C!`` sends Python escapes as they are. ``S:`` is
a line expected; ``S*`` a beginning of one; ``S~`` any number of lines that begin so. ``X`` is the close, ``M:`` a
message taken (escapes). The first line names the listener.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from smtp_support import Wire, inbound, submission

FILES = sorted((Path(__file__).parent.parent / "transcripts" / "smtp").glob("*.txt"))
LISTENERS = {
    "inbound clear": lambda: inbound(in_tls=False),
    "inbound offered": lambda: inbound(in_tls=False, require_tls=False),
    "inbound tls": lambda: inbound(),
    "submission clear": lambda: submission(in_tls=False),
    "submission tls": lambda: submission(),
    "submission authenticated": lambda: submission(log_in=True),
}


def unescape(text: str) -> bytes:
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1")


def steps(lines: list[str]) -> Iterator[tuple[bytes, list[str]]]:
    """What the client sends, and the lines that must follow."""
    sent, expected = b"", list[str]()
    for line in lines:
        kind, rest = line[:2], line[3:]
        if kind in ("C:", "C!"):
            if expected:
                yield sent, expected
                sent, expected = b"", []
            sent += rest.encode() + b"\r\n" if kind == "C:" else unescape(rest)
        elif line and not line.startswith("#"):
            expected.append(line)
    yield sent, expected


def pattern(reply: str) -> str:
    """What matches the lines that ``reply`` stands for."""
    text = re.escape(reply[3:])
    return {"S:": rf"{text}\n", "S*": rf"{text}.*\n", "S~": rf"(?:{text}.*\n)*?"}[reply[:2]]


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_transcript(path: Path, cut: str) -> None:
    first, *lines = path.read_text("utf-8").splitlines()
    wire: Wire = LISTENERS[first.removeprefix("# listener: ")]()
    for sent, expected in steps(lines):
        pieces = [sent] if cut == "whole" else [sent[at : at + 1] for at in range(len(sent))]
        taken = len(wire.messages)
        said = b"".join(wire.send(piece) for piece in pieces).decode().split("\r\n")[:-1]
        replies = [line for line in expected if line[0] == "S"]
        assert re.fullmatch("".join(map(pattern, replies)), "".join(line + "\n" for line in said)), (
            sent,
            said,
            replies,
        )
        assert [unescape(line[3:]) for line in expected if line.startswith("M:")] == wire.messages[taken:]
        assert wire.closed == ("X" in expected), sent
