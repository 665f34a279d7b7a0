"""Replies to values, and values to commands, as a client reads and writes them (RFC 5321 section 4.2). No I/O.

What a server says is hostile: a line has at most `MAX_LINE` octets and a reply `MAX_LINES` lines, and what is kept of
it is printable. What we say is checked once more: no value can end a line or add a parameter.
"""

import re
from base64 import b64encode
from dataclasses import dataclass, field

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import NULL_PATH, Path, parse_path
from certmaild.protocols.smtp.parameters import DEFAULT_NOTIFY, BodyKind, MailArguments, RcptArguments

MAX_LINE = 2048
"""Octets of a reply line with its CRLF; RFC 5321 section 4.5.3.1.5 asks for 512."""
MAX_LINES = 100
MAX_TEXT = 1000
"""Characters of a reply that are kept for reports."""

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: |$)")
_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?")
_NUMBER = re.compile(r"[0-9]{1,19}")
_LIMIT = re.compile(r"(RCPTMAX|MAILMAX)=([1-9][0-9]{0,5})", re.IGNORECASE)
_VALUE = re.compile(rb"[!-<>-~\x80-\xff]+")
_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, all its lines."""

    code: int
    enhanced: str = ""
    """RFC 3463, of the first line that has one; empty without."""
    lines: tuple[str, ...] = ("",)
    """Printable text, without codes."""

    @property
    def is_positive(self) -> bool:
        """2yz: done."""
        return self.code // 100 == 2

    @property
    def is_permanent(self) -> bool:
        """5yz: not to be tried again."""
        return self.code // 100 == 5

    def __str__(self) -> str:
        head = f"{self.code} {self.enhanced}".rstrip()
        return f"{head} {' '.join(line for line in self.lines if line)}".rstrip()[:MAX_TEXT]


class ReplyReader:
    """Cuts what comes into replies."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        """Where in the buffer the next line begins: cutting it off each time would copy all behind it."""
        self._code = b""
        self._lines: list[bytes] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left over: no octet, and no line of an unfinished reply."""
        return self._at == len(self._buffer) and not self._lines

    def feed(self, octets: bytes) -> None:
        """Take what came."""
        self._buffer = self._buffer[self._at :] + octets
        self._at = 0

    def next_reply(self) -> Reply | None:
        """The next whole reply. Raises `GrammarError`; then there is no going on."""
        while (end := self._buffer.find(b"\r\n", self._at, self._at + MAX_LINE)) >= 0:
            line, self._at = self._buffer[self._at : end], end + 2
            if self._take(line):
                lines, self._lines = self._lines, []
                return _reply(self._code, lines)
        if len(self._buffer) - self._at >= MAX_LINE:
            raise GrammarError("reply line too long")
        return None

    def _take(self, line: bytes) -> bool:
        """Add a line; whether it is the last."""
        match = _LINE.fullmatch(line)
        if match is None or b"\n" in line or b"\r" in line or b"\0" in line:
            raise GrammarError("no SMTP reply")
        if self._lines and match[1] != self._code:
            raise GrammarError("reply changes its code")
        self._code = match[1]
        self._lines.append(match[3] or b"")
        if match[2] != b"-":
            return True
        if len(self._lines) >= MAX_LINES:
            raise GrammarError("reply has too many lines")
        return False


def _reply(code: bytes, lines: list[bytes]) -> Reply:
    enhanced, texts = "", []
    for line in lines:
        text = "".join(one if one.isprintable() else "?" for one in line.decode("utf-8", "replace"))
        match = _ENHANCED.match(text)
        if match is not None and ord(match[1]) == code[0]:
            enhanced = enhanced or match[0].rstrip()
            text = text[match.end() :]
        texts.append(text)
    return Reply(int(code), enhanced, tuple(texts))


@dataclass(frozen=True, slots=True)
class Offers:
    """What a server said it can do (EHLO); the default is a server that only knows HELO."""

    esmtp: bool = False
    starttls: bool = False
    pipelining: bool = False
    eight_bit: bool = False
    utf8: bool = False
    chunking: bool = False
    dsn: bool = False
    require_tls: bool = False
    priority: bool = False
    deliver_by: bool = False
    deliver_by_minimum: int = 0
    """Seconds below which it takes no BY with mode R (RFC 2852 section 2)."""
    size: int = 0
    """Octets of a message; 0: no limit is known (RFC 1870)."""
    has_size: bool = False
    """It takes the parameter SIZE."""
    mechanisms: frozenset[str] = frozenset()
    """SASL, upper case."""
    rcpt_max: int | None = None
    """Recipients a transaction (RFC 9422)."""
    mail_max: int | None = None
    """Transactions a connection."""


def parse_offers(reply: Reply) -> Offers:
    """What stands in the reply to EHLO or LHLO; what is not understood is passed over."""
    keywords: dict[str, str] = {}
    for line in reply.lines[1:]:
        if match := _KEYWORD.fullmatch(line):
            keyword, value = match[1].upper(), match[2] or ""
            # AUTH may come twice, once with "=" for old clients.
            keywords[keyword] = f"{keywords[keyword]} {value}" if keyword == "AUTH" and keyword in keywords else value
    limits = {
        match[1].upper(): int(match[2]) for match in map(_LIMIT.fullmatch, keywords.get("LIMITS", "").split()) if match
    }
    return Offers(
        esmtp=True,
        starttls="STARTTLS" in keywords,
        pipelining="PIPELINING" in keywords,
        eight_bit="8BITMIME" in keywords,
        utf8="SMTPUTF8" in keywords,
        chunking="CHUNKING" in keywords,
        dsn="DSN" in keywords,
        require_tls="REQUIRETLS" in keywords,
        priority="MT-PRIORITY" in keywords,
        deliver_by="DELIVERBY" in keywords,
        deliver_by_minimum=_number(keywords.get("DELIVERBY", "")),
        size=_number(keywords.get("SIZE", "")),
        has_size="SIZE" in keywords,
        mechanisms=frozenset(keywords.get("AUTH", "").upper().split()),
        rcpt_max=limits.get("RCPTMAX"),
        mail_max=limits.get("MAILMAX"),
    )


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0


@dataclass(frozen=True, slots=True)
class Credentials:
    """User name and password for a smart host."""

    username: str
    password: str = field(repr=False)


def format_hello(verb: str, name: str) -> bytes:
    """EHLO, HELO or LHLO with our name. Raises `ValueError` for what is no host name or address literal."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no host name")
    return f"{verb} {name}\r\n".encode("ascii")


def format_mail(mail: MailArguments, offers: Offers) -> bytes:
    """MAIL (RFC 5321 section 4.1.1.2), without the parameters that are not offered, but SMTPUTF8 and REQUIRETLS.

    Raises `ValueError` for what cannot be sent.
    """
    words = [b"MAIL FROM:" + (b"<>" if mail.reverse_path == NULL_PATH else _path(mail.reverse_path, mail.utf8))]
    if offers.has_size and mail.size:
        words.append(b"SIZE=%d" % mail.size)
    if offers.eight_bit and mail.body is BodyKind.EIGHT_BIT:
        words.append(b"BODY=8BITMIME")
    if mail.utf8:
        words.append(b"SMTPUTF8")
    if mail.require_tls:
        words.append(b"REQUIRETLS")
    if offers.dsn:
        words.append(b"RET=FULL" if mail.returns_full else b"RET=HDRS")
        if mail.envid is not None:
            words.append(b"ENVID=" + _value(mail.envid))
    if offers.priority and mail.priority:
        words.append(b"MT-PRIORITY=%d" % mail.priority)
    if offers.deliver_by and (by := mail.deliver_by) is not None:
        words.append(b"BY=%d;%s%s" % (by.seconds, b"R" if by.returns else b"N", b"T" if by.traces else b""))
    return b" ".join(words) + b"\r\n"


def format_rcpt(rcpt: RcptArguments, offers: Offers, *, utf8: bool) -> bytes:
    """RCPT (RFC 5321 section 4.1.1.3), without the parameters that are not offered. Raises `ValueError`, likewise."""
    words = [b"RCPT TO:" + _path(rcpt.forward_path, utf8)]
    if offers.dsn:
        if rcpt.notify != DEFAULT_NOTIFY:
            words.append(b"NOTIFY=" + ",".join(sorted(one.value for one in rcpt.notify)).encode("ascii"))
        if rcpt.orcpt is not None:
            words.append(b"ORCPT=" + _value(rcpt.orcpt))
    return b" ".join(words) + b"\r\n"


def format_plain(credentials: Credentials) -> bytes:
    """AUTH PLAIN with its response at once (RFC 4616)."""
    response = f"\0{credentials.username}\0{credentials.password}".encode()
    return b"AUTH PLAIN " + b64encode(response) + b"\r\n"


def format_response(text: str) -> bytes:
    """A SASL response (RFC 4954 section 4)."""
    return b64encode(text.encode()) + b"\r\n"


def _path(path: Path, utf8: bool) -> bytes:
    octets = f"<{path}>".encode()
    try:
        parse_path(octets, utf8=utf8)
    except Refusal as refusal:
        raise ValueError(f"an address that cannot be sent: {refusal.text}") from None
    return octets


def _value(octets: bytes) -> bytes:
    if not _VALUE.fullmatch(octets):
        raise ValueError("a parameter that cannot be sent")
    return octets
