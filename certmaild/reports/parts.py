"""MIME parts of a report put together (RFC 6522): octets in, octets out, nothing refolded on the way."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.header import Header
from quopri import encodestring

_LONG_LINE = re.compile(rb"[^\r\n]{999}")
CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class Part:
    """One part."""

    content_type: str
    content: bytes = field(repr=False)
    """In CRLF lines."""


def format_part(part: Part) -> bytes:
    """Its header and content. Text of ASCII goes as it is, other text quoted-printable, the rest as 8 bit."""
    encoding, content = "7bit", part.content
    if not content.isascii() or _LONG_LINE.search(content):
        encoding = "8bit"
        if part.content_type.startswith("text/plain"):
            encoding = "quoted-printable"
            content = encodestring(content.replace(CRLF, b"\n")).replace(b"\n", CRLF)
    head = f"Content-Type: {part.content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode("ascii") + content


def format_text(text: str) -> str:
    """What a field without structure may hold: ASCII as it is, else encoded words (RFC 2047)."""
    return text if text.isascii() else Header(text, "utf-8").encode(linesep="\r\n")


def format_report(fields: Sequence[tuple[str, str]], kind: str, parts: Sequence[Part], *, boundary: str) -> bytes:
    """A whole message. ``fields`` are its header, as they stand; ``kind`` is RFC 6522's report-type.

    The boundary must stand in no part: give it 16 random octets.
    """
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head += "MIME-Version: 1.0\r\n"
    head += f'Content-Type: multipart/report; report-type={kind};\r\n\tboundary="{boundary}"\r\n\r\n'
    mark = b"--" + boundary.encode("ascii")
    bodies = b"".join(mark + CRLF + format_part(part) + CRLF for part in parts)
    return head.encode("utf-8") + bodies + mark + b"--\r\n"
