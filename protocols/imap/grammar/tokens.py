"""The tokens of RFC 9051 section 9: a `Cursor` over one complete command, its literals in place."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from certmaild.protocols.errors import GrammarError

T = TypeVar("T")

MAX_LIST = 10_000
"""Items of one parenthesised list."""
NUMBER = (1 << 32) - 1
NUMBER64 = (1 << 63) - 1

# Single character classes: nothing to backtrack into.
_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_LIST_MAILBOX = re.compile(rb'[^\x00-\x20\x7f-\xff(){"\\]+')
_WORD = re.compile(rb"[A-Za-z0-9.]+")
_DIGITS = re.compile(rb"[0-9]{1,20}")
_SEQUENCE = re.compile(rb"[0-9:*,]+|\$")
_PLAIN = re.compile(rb'[^\x00\r\n"\\]*')


class Cursor:
    """Reads a command's arguments from left to right.

    Made of pieces as `Command.arguments` has them: text at even places, literal octets at odd ones. Each method takes
    one token or raises `GrammarError`; none looks back, and all are linear in the octets they take.
    """

    __slots__ = ("_at", "_pieces", "_pos", "_text")

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._at = 0
        self._pos = 0
        self._text = pieces[0] if pieces else b""

    # Where it stands

    @property
    def at_end(self) -> bool:
        """Nothing is left."""
        return self._pos == len(self._text) and self._at + 1 >= len(self._pieces)

    @property
    def at_literal(self) -> bool:
        """A literal stands here."""
        return self._pos == len(self._text) and self._at + 1 < len(self._pieces)

    def peek(self) -> bytes:
        """The next octet of text; empty at a literal or the end."""
        return self._text[self._pos : self._pos + 1]

    def end(self) -> None:
        """Nothing may be left."""
        if not self.at_end:
            raise GrammarError("more than expected")

    # Punctuation

    def skip(self, octets: bytes) -> bool:
        """Take these octets if they stand here; whether they did."""
        if self._text.startswith(octets, self._pos):
            self._pos += len(octets)
            return True
        return False

    def skip_word(self, word: bytes) -> bool:
        """Take this word (given in capitals, any case here) if it stands here as a whole atom; whether it did."""
        stop = self._pos + len(word)
        if self._text[self._pos : stop].upper() != word or _ASTRING.match(self._text, stop):
            return False
        self._pos = stop
        return True

    def expect(self, octets: bytes) -> None:
        """These octets must stand here."""
        if not self.skip(octets):
            raise GrammarError("something else expected")

    def space(self) -> None:
        """One space."""
        self.expect(b" ")

    # Atoms and numbers

    def _take(self, pattern: "re.Pattern[bytes]") -> bytes:
        found = pattern.match(self._text, self._pos)
        if found is None:
            raise GrammarError("no such token here")
        self._pos = found.end()
        return found.group()

    def atom(self) -> bytes:
        """``atom``."""
        return self._take(_ATOM)

    def keyword(self) -> bytes:
        """An atom that is a word of the protocol, in capitals."""
        return self._take(_ATOM).upper()

    def word(self) -> bytes:
        """Letters, digits and dots, in capitals: the name of a FETCH item up to its bracket."""
        return self._take(_WORD).upper()

    def number(self, largest: int = NUMBER) -> int:
        """``number``, at most ``largest``."""
        digits = self._take(_DIGITS)
        if self._text[self._pos : self._pos + 1].isdigit():
            raise GrammarError("number too long")
        value = int(digits)
        if value > largest:
            raise GrammarError("number too large")
        return value

    def number64(self) -> int:
        """``number64``: at most 2^63-1."""
        return self.number(NUMBER64)

    def nz_number(self, largest: int = NUMBER) -> int:
        """``nz-number``."""
        value = self.number(largest)
        if not value:
            raise GrammarError("zero")
        return value

    def sequence(self) -> bytes:
        """The text of a ``sequence-set``, for `parse_sequence_set`."""
        return self._take(_SEQUENCE)

    # Strings

    def literal(self) -> bytes:
        """A literal that stands here. NUL in it is refused."""
        if not self.at_literal:
            raise GrammarError("no literal")
        octets = self._pieces[self._at + 1]
        self._at += 2
        self._pos = 0
        self._text = self._pieces[self._at] if self._at < len(self._pieces) else b""
        if b"\0" in octets:
            raise GrammarError("NUL in a literal")
        return octets

    def quoted(self) -> bytes:
        """``quoted``; octets above 127 must be valid UTF-8 (RFC 9051, RFC 9755)."""
        self.expect(b'"')
        parts: list[bytes] = []
        text = self._text
        while True:
            parts.append(self._take(_PLAIN))
            mark = text[self._pos : self._pos + 1]
            if mark == b'"':
                self._pos += 1
                break
            escaped = text[self._pos + 1 : self._pos + 2]
            if mark != b"\\" or escaped not in (b'"', b"\\"):
                raise GrammarError("quoted string")
            parts.append(escaped)
            self._pos += 2
        value = b"".join(parts)
        if not value.isascii():
            decode_utf8(value)
        return value

    def string(self) -> bytes:
        """``string``: quoted or literal."""
        return self.literal() if self.at_literal else self.quoted()

    def astring(self) -> bytes:
        """``astring``: an atom (which may hold ``]``) or a string."""
        if self.at_literal:
            return self.literal()
        return self.quoted() if self.peek() == b'"' else self._take(_ASTRING)

    def list_mailbox(self) -> bytes:
        """``list-mailbox``: as `astring`, wildcards allowed."""
        if self.at_literal:
            return self.literal()
        return self.quoted() if self.peek() == b'"' else self._take(_LIST_MAILBOX)

    def nstring(self) -> bytes | None:
        """``nstring``: a string, or None for ``NIL``."""
        return None if self.skip_word(b"NIL") else self.string()

    # Lists

    def items(self, item: Callable[[], T], *, empty: bool = False, largest: int = MAX_LIST) -> list[T]:
        """``"(" item *(SP item) ")"``; without items only where ``empty``. ``item`` reads one."""
        self.expect(b"(")
        if empty and self.skip(b")"):
            return []
        found = [item()]
        while self.skip(b" "):
            if len(found) >= largest:
                raise GrammarError("list too long")
            found.append(item())
        self.expect(b")")
        return found


def decode_utf8(octets: bytes) -> str:
    """The text; raises `GrammarError` if it is no UTF-8."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise GrammarError("not UTF-8") from None


def quote(octets: bytes, *, utf8: bool = False) -> bytes:
    """A ``string`` of these octets: quoted where that is allowed (UTF-8 only if ``utf8``), else a literal."""
    plain = len(octets) <= 1024 and _PLAIN.fullmatch(octets.translate(None, b'"\\'))
    if plain and (octets.isascii() or (utf8 and _is_utf8(octets))):
        return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"{%d}\r\n" % len(octets) + octets


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def format_astring(octets: bytes, *, utf8: bool = False) -> bytes:
    """An ``astring`` of these octets: an atom where that is possible."""
    return octets if _ASTRING.fullmatch(octets) and octets.upper() != b"NIL" else quote(octets, utf8=utf8)
