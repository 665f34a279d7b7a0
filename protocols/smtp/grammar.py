"""SMTP lines to values and values to lines (RFC 5321 section 4.1, RFC 6531, RFC 4954). No I/O, no state."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from enum import Enum

from certmaild.protocols.smtp.errors import Refusal

MAX_PATH = 512
"""Octets of a path; RFC 5321 section 4.5.3.1.3 asks for 256, variable return paths need more."""

_PATH = re.compile(
    rb"<(?:@[^:<>\" ]*:)?"
    rb"(?P<local>\"(?:[^\"\\\x00-\x1f\x7f]|\\[ -~])*\"|[^\"<>@()\[\]:;,\\\x00-\x20\x7f]+)"
    rb"(?:@(?P<domain>\[[!-Z^-~]+\]|[^\"<>@()\[\]:;,\\\x00-\x20\x7f]+))?>"
)
_HELO_NAME = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")
_DIGITS = re.compile(rb"[0-9]{1,19}")


class Verb(Enum):
    """Every command that is understood, whether or not it is allowed."""

    HELO = b"HELO"
    EHLO = b"EHLO"
    MAIL = b"MAIL"
    RCPT = b"RCPT"
    DATA = b"DATA"
    BDAT = b"BDAT"
    RSET = b"RSET"
    NOOP = b"NOOP"
    VRFY = b"VRFY"
    EXPN = b"EXPN"
    HELP = b"HELP"
    QUIT = b"QUIT"
    AUTH = b"AUTH"
    STARTTLS = b"STARTTLS"


VERBS = {verb.value: verb for verb in Verb}


@dataclass(frozen=True, slots=True)
class Path:
    """A reverse-path or forward-path, source route left out (RFC 5321 section 4.1.2)."""

    local: str
    """As given, quotes included; empty only in the null reverse-path."""
    domain: str
    """As given; empty for ``<postmaster>`` and the null reverse-path."""

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def is_postmaster(self) -> bool:
        """Whether it names a postmaster, the one recipient that needs no domain (RFC 5321 section 4.5.1)."""
        return self.local.lower() == "postmaster"

    @property
    def is_role(self) -> bool:
        """Whether it names who must always be reachable, also before TLS (PROTOCOLS section 7, RFC 2142)."""
        return self.local.lower() in ("postmaster", "abuse")


NULL_PATH = Path("", "")
"""``<>``: reports and read receipts."""


@dataclass(frozen=True, slots=True)
class PlainCredentials:
    """User name and password of AUTH, as sent."""

    username: bytes
    password: bytes = field(repr=False)


def parse_helo_name(argument: bytes) -> str:
    """The client's name for Received; ``unknown`` for what is no host name or address. Raises `Refusal` if absent."""
    name = argument.strip()
    if not name:
        raise Refusal(501, "5.5.4", "Host name missing")
    return name.decode("ascii") if _HELO_NAME.fullmatch(name) else "unknown"


def split_path(argument: bytes, prefix: bytes) -> tuple[bytes, bytes]:
    """The path with its brackets, and the parameters (`certmaild.protocols.smtp.parameters`). Raises `Refusal` 501.

    A space after the colon is let pass, as old clients send it.
    """
    if argument[: len(prefix)].upper() != prefix:
        raise Refusal(501, "5.5.4", f"Expected {prefix.decode('ascii')}<address>")
    rest = argument[len(prefix) :].strip(b" ")
    if rest.startswith(b"<>"):
        end = 2
    else:
        match = _PATH.match(rest)
        end = match.end() if match else max(rest.find(b">") + 1, 0) or len(rest)
    path, parameters = rest[:end], rest[end:]
    if parameters and not parameters.startswith(b" "):
        raise Refusal(501, "5.5.4", "Bad characters after the address")
    return path, parameters


def parse_path(text: bytes, *, utf8: bool) -> Path:
    """One path in angle brackets, not the null path. Raises `Refusal`: 501, or 553 for UTF-8 without SMTPUTF8."""
    match = _PATH.fullmatch(text) if len(text) <= MAX_PATH else None
    if match is None:
        raise Refusal(501, "5.1.3", "Bad address syntax, expected <local@domain>")
    local, domain = match["local"], match["domain"] or b""
    if not (utf8 or text.isascii()):
        raise Refusal(553, "5.6.7", "Address is not ASCII and SMTPUTF8 was not asked for")
    try:
        return Path(local.decode("utf-8"), domain.decode("utf-8"))
    except UnicodeDecodeError:
        raise Refusal(501, "5.1.3", "Address is not valid UTF-8") from None


def parse_size(text: bytes) -> int:
    """Digits of SIZE or BDAT, at most 19. Raises `Refusal` 501."""
    if not _DIGITS.fullmatch(text):
        raise Refusal(501, "5.5.4", "Bad number")
    return int(text)


def parse_bdat(argument: bytes) -> tuple[int, bool]:
    """Octets of the chunk, and whether it is the last (RFC 3030 section 2). Raises `Refusal` 501."""
    number, space, word = argument.partition(b" ")
    if space and word.strip().upper() != b"LAST":
        raise Refusal(501, "5.5.4", "Bad BDAT arguments")
    return parse_size(number), bool(space)


def parse_base64(text: bytes) -> bytes:
    """A SASL response (RFC 4954 section 4); ``=`` is the empty one. Raises `Refusal` 501."""
    if text == b"=":
        return b""
    try:
        return b64decode(text, validate=True)
    except Base64Error:
        raise Refusal(501, "5.5.2", "Bad base64") from None


def parse_plain(response: bytes) -> PlainCredentials:
    """``[authzid] NUL authcid NUL password`` (RFC 4616). Raises `Refusal`: 501, 535 when authzid is somebody else."""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise Refusal(501, "5.5.2", "Bad PLAIN response")
    authzid, authcid, password = parts
    if authzid and authzid.lower() != authcid.lower():
        raise Refusal(535, "5.7.8", "Authentication failed")
    return PlainCredentials(authcid, password)


def format_reply(code: int, enhanced: str, text: str) -> bytes:
    """One single-line reply."""
    return f"{code} {enhanced} {text}\r\n".encode("ascii", "replace") if enhanced else f"{code} {text}\r\n".encode()


def format_ehlo(hostname: str, keywords: list[str]) -> bytes:
    """The multi-line reply to EHLO; the client's own name is not repeated."""
    lines = [hostname, *keywords]
    head = "".join(f"250-{line}\r\n" for line in lines[:-1])
    return f"{head}250 {lines[-1]}\r\n".encode("ascii")
