"""POP3 lines to values and back: commands, SASL responses, byte-stuffed content (RFC 1939, RFC 5034)."""

import binascii
from dataclasses import dataclass
from typing import Final

from certmaild.protocols.pop3.errors import BadCommand

MAX_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Command:
    """A keyword in upper case, and what follows the first space as it stands."""

    keyword: bytes
    argument: bytes | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client logs in with."""

    username: bytes
    password: bytes

    def __repr__(self) -> str:
        return "Credentials(...)"


def parse_line(line: bytes) -> bytes:
    """A received line, LF included, without its CRLF. Raises `BadCommand` for a bare LF, bare CR or NUL."""
    if not line.endswith(b"\r\n"):
        raise BadCommand("Lines end in CRLF")
    line = line[:-2]
    if b"\r" in line or b"\0" in line:
        raise BadCommand("Bare CR or NUL in a command")
    return line


def parse_command(line: bytes) -> Command:
    """A command line without CRLF (RFC 1939 section 3). Raises `BadCommand`."""
    keyword, space, argument = line.partition(b" ")
    keyword = keyword.upper()
    if not 3 <= len(keyword) <= 12 or not keyword.isalnum():
        raise BadCommand("Unknown command")
    return Command(keyword, argument if space else None)


def parse_number(text: bytes) -> int:
    """A decimal number of at most 10 digits. Raises `BadCommand`."""
    if not text.isdigit() or len(text) > MAX_DIGITS:
        raise BadCommand("A number is expected")
    return int(text)


def parse_numbers(argument: bytes | None, count: int) -> list[int]:
    """Exactly ``count`` numbers. Raises `BadCommand`."""
    words = (argument or b"").split()
    if len(words) != count:
        raise BadCommand("Wrong number of arguments")
    return [parse_number(word) for word in words]


def parse_base64(text: bytes) -> bytes:
    """A SASL response; a lone ``=`` is an empty one (RFC 5034 section 4). Raises `BadCommand`."""
    if text == b"=":
        return b""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise BadCommand("Not base64") from None


def parse_plain(message: bytes) -> Credentials:
    """SASL PLAIN (RFC 4616); the authorization identity is empty or equal. Raises `BadCommand`."""
    pieces = message.split(b"\0")
    if len(pieces) != 3 or not pieces[1] or pieces[0] not in (b"", pieces[1]):
        raise BadCommand("Bad PLAIN response")
    return Credentials(pieces[1], pieces[2])


class Stuffer:
    """Content on its way out: a dot more where a line begins with one, and a final CRLF if there was none.

    A line begins after any LF: a client that takes a bare LF for a line's end must not see a lone dot either.
    """

    def __init__(self) -> None:
        self._tail = b"\r\n"
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """The same octets, stuffed."""
        if not data:
            return b""
        starts_line = self._tail.endswith(b"\n")
        self._tail = data[-2:] if len(data) > 1 else self._tail[-1:] + data
        self._begun = True
        if b"." in data:
            data = data.replace(b"\n.", b"\n..")
        return b"." + data if starts_line and data.startswith(b".") else data

    def finish(self) -> bytes:
        """What ends the answer. Content without a final CRLF, empty content too, gets one."""
        return b".\r\n" if self._begun and self._tail == b"\r\n" else b"\r\n.\r\n"


class LineLimit:
    """Lets through all octets up to an offset, then a number of lines (TOP)."""

    def __init__(self, header_octets: int, lines: int) -> None:
        self._header_left = header_octets
        self._lines_left = lines

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What of these octets goes out, and whether more is wanted."""
        at = min(self._header_left, len(data))
        self._header_left -= at
        if self._header_left:
            return data, True
        count = data.count(b"\n", at)
        if count < self._lines_left:
            self._lines_left -= count
            return data, True
        for _ in range(self._lines_left):
            at = data.index(b"\n", at) + 1
        self._lines_left = 0
        return data[:at], False
