"""Transfer encodings undone as octets stream by (RFC 2045 section 6): forgiving, bounded, any chunking."""

import binascii
import re
from typing import Final, Protocol

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64: Final = bytes(sorted(set(range(256)) - set(_ALPHABET)))


def base64_lines(octets: bytes) -> int | None:
    """How many lines end in ``octets``, if it is nothing but base64 digits and a CRLF at each so many octets.

    None for anything else. One pass of 0.5 ns an octet tells all that line checks and counters need of an attachment.
    """
    first = octets.find(b"\n")
    second = octets.find(b"\n", first + 1)
    if first < 1 or second < 0:
        return None
    step = second - first
    count = len(range(first, len(octets), step))
    if octets[first::step] != b"\n" * count or octets[first - 1 :: step] != b"\r" * count:
        return None
    return count if len(octets.translate(None, _ALPHABET)) == 2 * count else None


class Decoder(Protocol):
    """Encoded octets in, decoded octets out."""

    def feed(self, data: bytes) -> bytes:
        """What can be decoded so far."""
        ...

    def finish(self) -> bytes:
        """What was held back."""
        ...


class Identity:
    """7bit, 8bit and binary."""

    def feed(self, data: bytes) -> bytes:
        """The same octets."""
        return data

    def finish(self) -> bytes:
        """Nothing."""
        return b""


class Base64Decoder:
    """Octets outside the alphabet are passed over; the first ``=`` ends the content; a last digit alone is dropped."""

    def __init__(self) -> None:
        self._held = b""
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        """All whole groups of four digits."""
        if self._ended:
            return b""
        end = data.find(b"=")
        if end >= 0:
            self._ended = True
            data = data[:end]
        digits = self._held + data.translate(None, _NOT_BASE64)
        whole = len(digits) & ~3
        self._held = digits[whole:]
        return binascii.a2b_base64(digits[:whole])

    def finish(self) -> bytes:
        """The one or two octets of an unfinished group."""
        held, self._held = self._held, b""
        return binascii.a2b_base64(held + b"=" * (4 - len(held))) if len(held) > 1 else b""


class Base64Counter:
    """How many octets `Base64Decoder` would give."""

    def __init__(self) -> None:
        self._digits = 0
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Count."""
        if self._ended:
            return
        end = data.find(b"=")
        if end >= 0:
            self._ended = True
            data = data[:end]
        self._digits += len(data.translate(None, _NOT_BASE64))

    def count(self, digits: int) -> None:
        """Count so many digits, between which stood nothing but line ends (`base64_lines`)."""
        if not self._ended:
            self._digits += digits

    def finish(self) -> int:
        """Decoded octets."""
        return self._digits * 3 // 4


_ESCAPE: Final = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[ \t]{0,998}+\r?\n)")
_UNFINISHED: Final = re.compile(rb"=(?:[0-9A-Fa-f]?|[ \t]{0,998}+\r?)")
_LONGEST_ESCAPE: Final = 1001


def decode_quoted_printable(data: bytes) -> bytes:
    """One piece, complete in itself (RFC 2045 section 6.7): escapes undone, soft line breaks removed.

    An ``=`` that begins neither stays, as does space at line ends: no transport adds any.
    """
    if b"=" not in data:
        return data
    odd = b"==" in data or b"= " in data or b"=\t" in data or b"=" in data[-2:]
    if not odd and data.count(b"=\r") == data.count(b"=\r\n"):
        return binascii.a2b_qp(data)
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode("ascii")) if match[1] else b"", data)


class QuotedPrintableDecoder:
    """See `decode_quoted_printable`."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """All but an escape or soft line break that may still be going on."""
        if self._held:
            data = self._held + data
        last = data.rfind(b"=", max(len(data) - _LONGEST_ESCAPE, 0))
        if last >= 0 and _UNFINISHED.fullmatch(data, last):
            self._held, data = data[last:], data[:last]
        else:
            self._held = b""
        return decode_quoted_printable(data)

    def finish(self) -> bytes:
        """What was held back, as it stands."""
        held, self._held = self._held, b""
        return decode_quoted_printable(held)


class QuotedPrintableCounter:
    """How many octets `QuotedPrintableDecoder` would give."""

    def __init__(self) -> None:
        self._decoder = QuotedPrintableDecoder()
        self._octets = 0

    def feed(self, data: bytes) -> None:
        """Count."""
        self._octets += len(self._decoder.feed(data))

    def finish(self) -> int:
        """Decoded octets."""
        return self._octets + len(self._decoder.finish())


def decoder_for(encoding: bytes) -> Decoder | None:
    """The decoder of an upper-case transfer encoding; None for one that is not known (BINARY: UNKNOWN-CTE)."""
    if encoding in (b"7BIT", b"8BIT", b"BINARY"):
        return Identity()
    if encoding == b"BASE64":
        return Base64Decoder()
    return QuotedPrintableDecoder() if encoding == b"QUOTED-PRINTABLE" else None
