"""Folder names on the wire (RFC 9051 section 5.1): modified UTF-7 or UTF-8, and the wildcards of LIST."""

import binascii
import unicodedata
from collections.abc import Iterator

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.tokens import decode_utf8, quote

MAX_NAME = 4096
"""Octets of a name or pattern on the wire; stored names are at most 1,000."""


def parse_mailbox_name(octets: bytes, *, utf8: bool) -> str:
    """The name in NFC, ``INBOX`` in capitals, of what `decode_mailbox_name` reads."""
    name = unicodedata.normalize("NFC", decode_mailbox_name(octets, utf8=utf8))
    return "INBOX" if name.upper() == "INBOX" else name


def decode_mailbox_name(octets: bytes, *, utf8: bool) -> str:
    """The name as the client spells it. ``utf8``: UTF8=ACCEPT or IMAP4rev2 is enabled, else modified UTF-7.

    A name in modified UTF-7 that is not valid as such, and one that has octets above 127 though they were not enabled,
    is read as UTF-8. Raises `GrammarError` for what is neither, for control characters and for more than 4,096 octets.
    """
    name = _decode(octets, utf8=utf8)
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in name):
        raise GrammarError("control character in a name")
    return name


def _decode(octets: bytes, *, utf8: bool) -> str:
    if len(octets) > MAX_NAME:
        raise GrammarError("name too long")
    if utf8 or not octets.isascii() or b"&" not in octets:
        return decode_utf8(octets)
    try:
        return decode_utf7(octets)
    except GrammarError:
        return octets.decode("ascii")


def format_mailbox_name(name: str, *, utf8: bool) -> bytes:
    """The name as a quoted string (``INBOX`` too), or a literal where it cannot be one."""
    return quote(name.encode("utf-8") if utf8 else encode_utf7(name), utf8=utf8)


def decode_utf7(octets: bytes) -> str:
    """Modified UTF-7 (RFC 3501 section 5.1.3) to text. Raises `GrammarError` on anything not in that form."""
    if not octets.isascii():
        raise GrammarError("8-bit octets in modified UTF-7")
    first, *shifted = octets.split(b"&")
    parts = [first.decode("ascii")]
    for piece in shifted:
        encoded, dash, rest = piece.partition(b"-")
        if not dash:
            raise GrammarError("unclosed shift")
        parts.append(_decode_shift(encoded) if encoded else "&")
        parts.append(rest.decode("ascii"))
    return "".join(parts)


def _decode_shift(encoded: bytes) -> str:
    if b"/" in encoded or len(encoded) % 4 == 1:
        raise GrammarError("shift")
    try:
        octets = binascii.a2b_base64(encoded.replace(b",", b"/") + b"=" * (-len(encoded) % 4), strict_mode=True)
        return octets.decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError):
        raise GrammarError("shift") from None


def encode_utf7(name: str) -> bytes:
    """Text to modified UTF-7. ``name`` holds no lone surrogates."""
    parts: list[bytes] = []
    for plain, run in _runs(name):
        if plain:
            parts.append(run.replace("&", "&-").encode("ascii"))
        else:
            encoded = binascii.b2a_base64(run.encode("utf-16-be"), newline=False).rstrip(b"=")
            parts.append(b"&" + encoded.replace(b"/", b",") + b"-")
    return b"".join(parts)


def _runs(name: str) -> Iterator[tuple[bool, str]]:
    """Runs of printable ASCII (True) and of anything else (False)."""
    start = 0
    for at in range(1, len(name) + 1):
        plain = " " <= name[start] <= "~"
        if at == len(name) or (" " <= name[at] <= "~") != plain:
            yield plain, name[start:at]
            start = at


class Pattern:
    """A LIST pattern: ``*`` matches anything, ``%`` anything but the hierarchy separator (RFC 9051 section 6.3.9).

    Matching is an automaton over sets of positions held as the bits of one integer, so it is linear in the name for
    any pattern, never exponential.
    """

    __slots__ = ("_accept", "_loops", "_loops_in_level", "_marks", "_skips")

    def __init__(self, pattern: str) -> None:
        # Position n means that the first n characters of the pattern are matched.
        self._marks: dict[str, int] = {}
        self._loops = self._loops_in_level = self._skips = 0
        folded = _fewest_wildcards(_fold_inbox(pattern))
        for at, character in enumerate(folded):
            bit = 1 << at
            if character == "*":
                self._loops |= bit
                self._skips |= bit
            elif character == "%":
                self._loops_in_level |= bit
                self._skips |= bit
            else:
                self._marks[character] = self._marks.get(character, 0) | bit
        self._accept = 1 << len(folded)

    def _close(self, states: int) -> int:
        """Add what is reached by letting a wildcard match nothing; no two wildcards are neighbours."""
        return states | (states & self._skips) << 1

    def matches(self, name: str) -> bool:
        """Whether the whole name matches. ``INBOX`` matches in any case."""
        states = self._close(1)
        for character in _fold_inbox(name):
            loops = self._loops if character == "/" else self._loops | self._loops_in_level
            states = self._close((states & loops) | (states & self._marks.get(character, 0)) << 1)
            if not states:
                return False
        return bool(states & self._accept)


def _fewest_wildcards(pattern: str) -> str:
    """The same pattern with one wildcard for each run of them."""
    kept: list[str] = []
    for character in pattern:
        if character in "*%" and kept and kept[-1] in "*%":
            if character == "*":
                kept[-1] = "*"
        else:
            kept.append(character)
    return "".join(kept)


def _fold_inbox(name: str) -> str:
    first, slash, rest = name.partition("/")
    return first.upper() + slash + rest if first.upper() == "INBOX" else name
