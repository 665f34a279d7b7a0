"""Message content as DATA and BDAT carry it, undone by searches over whole buffers (RFC 5321 4.5.2, RFC 3030).

What comes out holds no NUL, bare CR or bare LF, ends in CRLF, and is the same however the input was cut.
"""

from enum import Enum

from certmaild.mailbox.decoding import base64_lines

_END = b"\r\n.\r\n"
_STUFFED = b"\r\n."


class ContentFault(Enum):
    """Why content is refused; the value is the public text."""

    BARE_LINE_END = "Bare CR or LF in message, lines must end in CRLF"
    NUL = "NUL in message"


class DataContent:
    """Undoes dot-stuffing and finds the end of DATA, which is CRLF.CRLF and nothing else.

    With ``normalise`` bare CR and LF become CRLF and NUL is dropped (authenticated submission); else either is a
    `fault`, after which no content comes out but the end is still found.
    """

    def __init__(self, *, normalise: bool) -> None:
        self.fault: ContentFault | None = None
        self.rest: bytes | None = None
        """What followed the end; None until the end was seen."""
        self._normalise = normalise
        # The line end of the DATA command itself: a dot right after it is at the start of a line.
        self._held = b"\r\n"
        self._skip = 2

    def feed(self, data: bytes) -> bytes:
        """The content that is now certain. Call no more once `rest` is set."""
        text = self._held + data
        if b"." in text and (at := text.find(_STUFFED)) >= 0:
            end = text.find(_END, at)
            if end >= 0:
                self.rest = text[end + 5 :]
                text = text[: end + 2]
                self._held = b""
            else:
                text = self._hold(text)
            if text.find(_STUFFED, at) >= 0:
                text = text.replace(_STUFFED, b"\r\n")
        else:
            text = self._hold(text)
        if self._skip:
            # Both octets leave together: the hold keeps CRLF until what follows is known.
            if not text:
                return b""
            text, self._skip = text[2:], 0
        return self._check(text)

    def _hold(self, text: bytes) -> bytes:
        """Keep back the longest end of ``text`` that may be the start of CRLF.CRLF."""
        for length in (4, 3, 2, 1):
            if text.endswith(_END[:length]):
                self._held = text[-length:]
                return text[:-length]
        self._held = b""
        return text

    def _check(self, text: bytes) -> bytes:
        if self._normalise:
            # NUL goes last: dropped first, it could join a CR and an LF or not, depending on where the input was cut.
            text = with_crlf(text)
            return text.replace(b"\0", b"") if b"\0" in text else text
        if self.fault is None:
            if b"\0" in text:
                self.fault = ContentFault.NUL
            elif has_bare_line_end(text):
                self.fault = ContentFault.BARE_LINE_END
        return text if self.fault is None else b""


class ChunkContent:
    """BDAT content: bare CR and LF, which cannot smuggle here, become CRLF; a final CRLF is added; NUL is a fault."""

    def __init__(self) -> None:
        self.fault: ContentFault | None = None
        self._held = b""
        self._ends_line = True

    def feed(self, data: bytes) -> bytes:
        """The content that is now certain."""
        text = self._held + data
        self._held = b""
        if text.endswith(b"\r"):
            self._held = b"\r"
            text = text[:-1]
        if b"\0" in text:
            self.fault = ContentFault.NUL
        if self.fault is not None or not text:
            return b""
        text = with_crlf(text)
        self._ends_line = text.endswith(b"\n")
        return text

    def finish(self) -> bytes:
        """What is still missing at the end: at most one CRLF."""
        return b"\r\n" if (self._held or not self._ends_line) and self.fault is None else b""


def has_bare_line_end(text: bytes) -> bool:
    """Whether a CR or LF stands alone. ``text`` must not be cut inside a CRLF."""
    if base64_lines(text) is not None:
        return False
    # Faster than three counts: CR and LF are then looked for where there are none.
    stripped = b"".join(text.split(b"\r\n"))
    return b"\n" in stripped or b"\r" in stripped


def with_crlf(text: bytes) -> bytes:
    """``text`` with every bare CR or LF made CRLF; the same object when there is none."""
    if not has_bare_line_end(text):
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
