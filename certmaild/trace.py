"""Header fields that reception removes, adds and checks, and the trace prefix (RFC 5321 4.4, RFC 6409 8).

Works on the header block alone, in one search over it; the body is never looked at.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.interfaces import Hop

MAX_RECEIVED = 100
"""Received fields of a message that is not going in circles (RFC 5321 section 6.3)."""
MAX_FIELDS = 2000
"""Fields of the kinds that are looked at."""
MAX_AUTHOR_OCTETS = 4 * 1024
"""Of all From and Sender fields."""
_MAX_ID_OCTETS = 1000
"""Before the first semicolon of Authentication-Results."""

_FIELD = re.compile(
    rb"^(return-path|delivered-to|authentication-results|certmaild-[!-9;-~]*|(?:resent-)?bcc|received|from|sender|date"
    rb"|message-id)[ \t]*:((?:[^\r\n]*\r\n[ \t])*[^\r\n]*\r\n)",
    re.IGNORECASE | re.MULTILINE,
)
_FIRST_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|From |>From ")
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """A header block after removal, and what was seen in it."""

    header: bytes
    """Ends in CRLF, or is empty; without the blank line."""
    received: int
    has_date: bool
    has_message_id: bool
    authors: tuple[bytes, ...]
    """Values of From and Sender, folded as they came."""
    froms: tuple[bytes, ...] = ()
    """Those of From."""


class HeaderCollector:
    """Holds content back until the header is whole, edits it, and lets everything after pass untouched."""

    def __init__(
        self, edit: Callable[[bytes], bytes], *, limit: int, body: Callable[[bytes], None] = lambda octets: None
    ) -> None:
        """``body`` is given everything after the blank line, too."""
        self._edit = edit
        self._body = body
        self._limit = limit
        self._held: bytearray | None = bytearray()

    def feed(self, content: bytes) -> bytes:
        """What may go on now. Raises `Refusal` 552 when the header does not end within the limit."""
        held = self._held
        if held is None:
            self._body(content)
            return content
        before = len(held)
        held += content
        # A block without fields is a blank line at once.
        end = 0 if held.startswith(b"\r\n") else held.find(_END, max(before - 3, 0)) + 2
        # Without an end the held CR may be the blank line's.
        if (len(held) - 1 if end == 1 else end) > self._limit:
            raise Refusal(552, "5.3.4", "Header of the message is too large")
        if end == 1 or len(held) < 2:
            return b""
        self._held = None
        edited = self._edit(bytes(held[:end]))
        self._body(bytes(held[end + 2 :]))
        return edited + held[end:]

    def finish(self) -> bytes:
        """What is left when no blank line came."""
        held, self._held = self._held, None
        return b"" if held is None else self._edit(bytes(held))


def read_header(header: bytes, *, authserv_id: bytes) -> HeaderFacts:
    """Remove what only this server may say, and Bcc; see what else is there. Linear in the header.

    Removed: Return-Path, Delivered-To, every ``Certmaild-*``, Bcc, and Authentication-Results that bear our id
    (RFC 8601 section 5). Content that starts with no field gets a blank line in front, so that it is all body. Raises
    `Refusal` for more of those fields, and longer ones, than anybody writes: they would cost everybody's time.
    """
    kept: list[bytes] = []
    authors: list[bytes] = []
    froms: list[bytes] = []
    at = received = 0
    has_date = has_message_id = False
    for number, match in enumerate(_FIELD.finditer(header)):
        if number == MAX_FIELDS:
            raise Refusal(554, "5.6.0", "Header of the message has too many fields")
        name = match[1].lower()
        if name == b"received":
            received += 1
        elif name in (b"from", b"sender"):
            authors.append(match[2])
            if name == b"from":
                froms.append(match[2])
        elif name == b"date":
            has_date = True
        elif name == b"message-id":
            has_message_id = True
        elif name != b"authentication-results" or _bears_id(match[2], authserv_id):
            kept.append(header[at : match.start()])
            at = match.end()
    if sum(map(len, authors)) > MAX_AUTHOR_OCTETS:
        raise Refusal(554, "5.6.0", "From or Sender of the message is too long")
    if kept:
        header = b"".join(kept) + header[at:]
    if header and not _FIRST_FIELD.match(header):
        header = b"\r\n" + header
    return HeaderFacts(header, received, has_date, has_message_id, tuple(authors), tuple(froms))


def parse_authors(value: bytes) -> list[str]:
    """The addr-specs of a From or Sender field (RFC 5322 section 3.4), display names and comments left out.

    Raises `Refusal` for anything that two readers might read differently. One pass, no recursion.
    """
    text = value.replace(b"\r\n", b"").decode("utf-8", "surrogateescape")
    addresses: list[str] = []
    words: list[str] = []
    angle: str | None = None
    at = 0
    while at < len(text):
        char = text[at]
        if char in " \t":
            at += 1
        elif char == "(":
            at = _after_comment(text, at)
        elif char == "<":
            end = _after_quotes_to(text, at + 1, ">")
            if angle is not None:
                raise _unclear()
            angle = text[at + 1 : end].strip(" \t")
            at = end + 1
        elif char == '"':
            end = _after_quotes_to(text, at, None)
            words.append(text[at:end])
            at = end
        elif char == ":" and angle is None:
            words.clear()
            at += 1
        elif char in ",;":
            _take_address(addresses, words, angle)
            words, angle = [], None
            at += 1
        elif char in ")>\\" or angle is not None:
            raise _unclear()
        else:
            end = at + 1
            while end < len(text) and text[end] not in ' \t()<>",;:\\':
                end += 1
            words.append(text[at:end])
            at = end
    _take_address(addresses, words, angle)
    return addresses


def format_date(now_s: float) -> bytes:
    """A date-time in UTC (RFC 5322 section 3.3)."""
    return format_datetime(datetime.fromtimestamp(now_s, UTC)).encode("ascii")


def format_received(hop: Hop, *, hostname: str, queue_id: str, utf8: bool, privacy: bool = True) -> bytes:
    """Received up to ``for`` (RFC 5321 section 4.4); ``privacy`` leaves out who a submitting client is, and where."""
    lines = []
    if hop.login is None or not privacy:
        literal = f"IPv6:{hop.peer}" if ":" in hop.peer else hop.peer
        lines.append(f"from {hop.helo} ([{literal}])")
    protocol = _transmission_type(hop, utf8=utf8)
    tls = f" ({hop.tls.version} {hop.tls.cipher})" if hop.tls is not None else ""
    lines.append(f"by {hostname} with {protocol}{tls} id {queue_id}")
    return ("Received: " + "\r\n\t".join(lines)).encode()


def format_prefix(reverse_path: str, recipient: str, received: bytes, date: bytes, results: bytes = b"") -> bytes:
    """What stands before the content for one recipient: Return-Path, Delivered-To, ``results``, Received."""
    to = recipient.encode()
    return b"".join(
        (
            b"Return-Path: <",
            reverse_path.encode(),
            b">\r\nDelivered-To: ",
            to,
            b"\r\n",
            results,
            received,
            b"\r\n\tfor <",
            to,
            b">; ",
            date,
            b"\r\n",
        )
    )


def _transmission_type(hop: Hop, *, utf8: bool) -> str:
    """``with`` (RFC 3848, RFC 6531 section 4.3)."""
    if not hop.esmtp:
        return "SMTP"
    ends = ("S" if hop.tls is not None else "") + ("A" if hop.login is not None else "")
    return ("UTF8SMTP" if utf8 else "ESMTP") + ends


def _bears_id(value: bytes, authserv_id: bytes) -> bool:
    """Whether an Authentication-Results field claims our id; in doubt it does."""
    claim = value.partition(b";")[0]
    if len(claim) > _MAX_ID_OCTETS:
        return True
    start = claim.replace(b"\r\n", b"").decode("latin-1")
    without_comments: list[str] = []
    at = 0
    while at < len(start):
        if start[at] == "(":
            try:
                at = _after_comment(start, at)
            except Refusal:
                return True
        else:
            without_comments.append(start[at])
            at += 1
    claimed = "".join(char for char in without_comments if char not in ' \t"\\').lower()
    return authserv_id.decode("latin-1").lower() in claimed


def _after_comment(text: str, at: int) -> int:
    """The place after the comment that opens at ``at``."""
    depth = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    raise _unclear()


def _after_quotes_to(text: str, at: int, stop: str | None) -> int:
    """The place of ``stop`` outside quotes; without ``stop``, the place after the quoted string at ``at``."""
    in_quotes = False
    while at < len(text):
        char = text[at]
        if in_quotes and char == "\\":
            at += 1
        elif char == '"':
            in_quotes = not in_quotes
            if stop is None and not in_quotes:
                return at + 1
        elif not in_quotes and char == stop:
            return at
        at += 1
    raise _unclear()


def _take_address(addresses: list[str], words: list[str], angle: str | None) -> None:
    address = angle if angle is not None else "".join(words)
    if angle is None and not words:
        return
    if "@" not in address or "(" in address or any(char in address for char in "<>\r\n\0"):
        raise _unclear()
    addresses.append(address)


def _unclear() -> Refusal:
    return Refusal(550, "5.7.1", "From or Sender cannot be read")
