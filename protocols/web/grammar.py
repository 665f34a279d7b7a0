"""The little of HTTP/1.1 that fixed files need (RFC 9110, RFC 9112): one request head in, one response out.

Strict where a lenient reader could be led to see another request than the sender meant: lines end in CRLF, no line is
folded, no blank stands before a colon, Host and Content-Length stand at most once, Transfer-Encoding is refused. A
path is compared as it stands, never decoded or resolved.
"""

import re
from dataclasses import dataclass
from email.utils import formatdate
from enum import IntEnum

from certmaild.protocols.errors import ProtocolError

MAX_HEAD = 8 * 1024
"""Octets of the request line and the header, with the empty line."""
MAX_BODY = 4 * 1024
"""Octets of content, which nobody looks at."""
END_OF_HEAD = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/(\d)\.(\d)")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*+([\t\x20-\x7e\x80-\xff]*)")
_HOST = re.compile(rb"([A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,9}")


class Status(IntEnum):
    """What is answered, and its reason phrase."""

    OK = 200
    BAD_REQUEST = 400
    NOT_FOUND = 404
    METHOD_NOT_ALLOWED = 405
    CONTENT_TOO_LARGE = 413
    HEADER_TOO_LARGE = 431
    NOT_IMPLEMENTED = 501
    VERSION_NOT_SUPPORTED = 505

    @property
    def phrase(self) -> str:
        """In words."""
        return self.name.replace("_", " ").capitalize() if self is not Status.OK else "OK"


class Refused(ProtocolError):
    """The request is none that is answered; ``status`` says why."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """What counts of a request."""

    method: str
    host: str
    """Lower case, without port and final dot; empty when HTTP/1.0 names none."""
    path: str
    """Without the query, not decoded."""
    length: int
    """Octets of content that follow."""
    expects: bool
    """The client waits for a word before it sends them (Expect)."""


def parse_head(head: bytes) -> Request:
    """The request whose octets up to and with the empty line are ``head``. Raises `Refused`."""
    first, *lines = head.removesuffix(END_OF_HEAD).split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise Refused(Status.BAD_REQUEST)
    method, target, major, minor = line.groups()
    if (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        raise Refused(Status.VERSION_NOT_SUPPORTED)
    fields = _fields(lines)
    if b"transfer-encoding" in fields:
        raise Refused(Status.NOT_IMPLEMENTED)
    host = _host(fields)
    if not host and minor == b"1":
        raise Refused(Status.BAD_REQUEST)
    path = target.partition(b"?")[0].decode("ascii")
    return Request(method.decode("ascii"), host, path, _length(fields), b"expect" in fields)


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise Refused(Status.BAD_REQUEST)
        fields.setdefault(found[1].lower(), []).append(found[2].rstrip(b" \t"))
    return fields


def _host(fields: dict[bytes, list[bytes]]) -> str:
    values = fields.get(b"host", [])
    found = _HOST.fullmatch(values[0]) if len(values) == 1 else None
    if values and found is None:
        raise Refused(Status.BAD_REQUEST)
    return "" if found is None else found[1].decode("ascii").lower().removesuffix(".")


def _length(fields: dict[bytes, list[bytes]]) -> int:
    values = fields.get(b"content-length", [b"0"])
    if len(values) > 1 or _LENGTH.fullmatch(values[0]) is None:
        raise Refused(Status.BAD_REQUEST)
    length = int(values[0])
    if length > MAX_BODY:
        raise Refused(Status.CONTENT_TOO_LARGE)
    return length


def format_response(
    status: Status,
    content: bytes,
    *,
    now_s: float,
    content_type: str = "text/plain",
    max_age_s: int = 0,
    allow: str = "",
    with_content: bool = True,
) -> bytes:
    """A whole response, after which the connection closes; HEAD's is ``with_content`` False. Time since 1970."""
    fields = {
        "Date": formatdate(now_s, usegmt=True),
        "Content-Type": content_type,
        "Content-Length": str(len(content)),
        "Cache-Control": f"max-age={max_age_s}" if max_age_s else "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    if allow:
        fields["Allow"] = allow
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("ascii") + END_OF_HEAD + (content if with_content else b"")
