"""IMAP conversations of `tests/transcripts/imap`, whole and cut into single bytes, on the real mailbox.

``C:`` lines are sent together with the ones after them, CRLF added; ``C!`` sends Python escapes as they are. ``S:`` is
a line expected, all of them in order, in which ``…`` stands for any text. ``C2:``, ``S2:`` and so on are other
connections of the same user. Directives: ``@1 connect``, ``@1 login``, ``@1 select FOLDER`` (which says nothing of
its own), ``@deliver FOLDER [COUNT]``, ``@wait SECONDS``, ``@1 closed``, ``@1 open``.
"""

import re
from pathlib import Path

import pytest
from imap_support import MAIL, House, Line

FILES = sorted((Path(__file__).parent.parent.parent / "transcripts" / "imap").glob("*.txt"))
STEP = re.compile(r"([CS])(\d?)([:!]) ?(.*)")


def unescape(text: str) -> bytes:
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1")


class Play:
    """One transcript being played."""

    def __init__(self, house: House, cut: bool) -> None:
        self.house = house
        self.cut = cut
        self.lines: dict[str, Line] = {}
        self.sending: dict[str, bytes] = {}
        self.said: dict[str, list[str]] = {}

    def send_pending(self) -> None:
        for number, data in self.sending.items():
            pieces = [data[at : at + 1] for at in range(len(data))] if self.cut else [data]
            self.hear(number, b"".join([self.lines[number].send(piece) for piece in pieces]))
            self.house.clock.advance(0)
        self.sending.clear()
        for number, line in self.lines.items():
            self.hear(number, line.take())

    def hear(self, number: str, data: bytes) -> None:
        self.said.setdefault(number, []).extend(data.decode("utf-8").split("\r\n")[:-1])

    def directive(self, words: list[str]) -> None:
        self.send_pending()
        match words:
            case [number, "connect"]:
                self.lines[number] = self.house.connect()
            case [number, "login"]:
                self.lines[number] = self.house.log_in()
            case [number, "select", name]:
                self.lines[number] = self.house.select(name.encode())
            case [number, "closed"]:
                assert self.lines[number].closed
            case [number, "open"]:
                assert not self.lines[number].closed
            case ["deliver", folder, *count]:
                self.house.deliver(*[MAIL] * int(count[0] if count else 1), folder=folder)
            case ["wait", seconds]:
                self.house.clock.advance(float(seconds))
            case _:
                raise AssertionError(words)
        self.send_pending()

    def play(self, script: str) -> None:
        for text in script.splitlines():
            if text.startswith("@"):
                self.directive(text[1:].split())
                continue
            step = STEP.fullmatch(text)
            if step is None:
                assert not text or text.startswith("#"), text
                continue
            side, number, kind, rest = step.groups()
            number = number or "1"
            if side == "C":
                # What the client has not been expected to hear before it speaks again was not written down.
                assert number in self.sending or not self.said.get(number), self.said
                sent = rest.encode() + b"\r\n" if kind == ":" else unescape(rest)
                self.sending[number] = self.sending.get(number, b"") + sent
            else:
                self.send_pending()
                self.expect(number, rest)
        self.send_pending()
        assert not any(self.said.values()), self.said

    def expect(self, number: str, wanted: str) -> None:
        said = self.said.get(number)
        assert said, f"nothing said where {wanted!r} was expected"
        pattern = ".*".join(re.escape(part) for part in wanted.split("…"))
        assert re.fullmatch(pattern, said[0]), (said, wanted)
        del said[0]


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_transcript(path: Path, cut: str, tmp_path: Path) -> None:
    Play(House(tmp_path), cut == "bytes").play(path.read_text("utf-8"))
