"""Content on its way out, by searches over whole buffers: checked so that nothing can smuggle, and dot-stuffed.

However the content is cut, a bare CR, bare LF or NUL raises `ContentUnfit` before it is given out (PROTOCOLS lesson 1).
"""

from certmaild.protocols.errors import ProtocolError
from certmaild.protocols.smtp.content import has_bare_line_end


class ContentUnfit(ProtocolError):
    """Our own fault: content with a bare CR, bare LF or NUL was to be sent."""


class CheckedContent:
    """Content as it is, for BDAT; ends in CRLF."""

    def __init__(self) -> None:
        self._held = b""
        self._starts_line = True

    def feed(self, octets: bytes) -> bytes:
        """What is certain now. Raises `ContentUnfit`."""
        text = self._held + octets if self._held else octets
        self._held = b""
        if text.endswith(b"\r"):
            text, self._held = text[:-1], b"\r"
        if not text:
            return b""
        if b"\0" in text or has_bare_line_end(text):
            raise ContentUnfit("the content has a bare CR, bare LF or NUL")
        starts_line, self._starts_line = self._starts_line, text.endswith(b"\n")
        return self._encode(text, starts_line=starts_line)

    def finish(self) -> bytes:
        """What is still missing at the end. Raises `ContentUnfit`."""
        if self._held:
            raise ContentUnfit("the content ends in a bare CR")
        return b"" if self._starts_line else b"\r\n"

    def _encode(self, text: bytes, *, starts_line: bool) -> bytes:
        return text


class StuffedContent(CheckedContent):
    """For DATA: a dot at the start of a line is doubled (RFC 5321 section 4.5.2)."""

    def finish(self) -> bytes:
        """The same, and the end of DATA."""
        return super().finish() + b".\r\n"

    def _encode(self, text: bytes, *, starts_line: bool) -> bytes:
        if b"\r\n." in text:
            text = text.replace(b"\r\n.", b"\r\n..")
        return b"." + text if starts_line and text.startswith(b".") else text
