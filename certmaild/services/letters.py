"""Reads a message to a service address: its subject, and what its writer wrote himself. For at most 64 KiB, no I/O.

Subject and quotes of an answer are words of whoever wrote what is answered, and that may be a stranger who named a
service address in Reply-To. `Letter.is_answer` tells the clerks that such a subject commands nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.policy import Compat32
from itertools import islice

from certmaild.mailbox.text import decode_header, decode_text

MOST_LINES = 50
MOST_CHARACTERS = 500
"""Of a line; commands are short."""
MOST_OF_FIELD = 10_000
MOST_OF_MIME_FIELD = 1000
"""Characters of a field that are read. The library's look at parameters takes a time that grows with their square."""
MOST_BOUNDARIES = 20
"""Multiparts within multiparts: the library compares each line with the boundaries of all."""
_MOST_REFERENCES = 20
_MOST_IDS = 20
_QUEUE_ID = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{12}(?![0-9A-Za-z])")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>")
_PREFIX = re.compile(r"(?:re|aw|antw|sv|vs|rif|ref|tr|fw|fwd|wg|r)\s?(?:\[\d{1,3}\])?\s?:\s*", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{0,2000}>")
_LINE_END_TAG = re.compile(r"<(?:br|/p|/div|/li|/tr)[^<>]{0,200}>", re.IGNORECASE)
_NO_TEXT = re.compile(r"<(?:(head|style|script|title)\b|!--)", re.IGNORECASE)
_HTML_QUOTE = re.compile(
    r"<blockquote|<hr\b|<[a-z]+\s[^<>]{0,500}(?:gmail_quote|divRplyFwdMsg|moz-cite|yahoo_quoted)", re.IGNORECASE
)
"""Where in HTML that what is answered begins."""
_QUOTE_FOLLOWS = re.compile(r"-{2,}\s?\w|_{10}|(?:on|am|le|il|el)\s.{1,300}:$|(?:from|von|de|da):\s", re.IGNORECASE)


class _CutFields(Compat32):
    """The library's own ways, with fields no longer than they should be."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """See `Compat32`."""
        name, value = super().header_source_parse(sourcelines)
        return name, value[: MOST_OF_MIME_FIELD if name.lower().startswith("content-") else MOST_OF_FIELD]


_POLICY = _CutFields()


class NotObeyed(Exception):
    """An automatic message (RFC 3834): nobody wrote it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What was written."""

    subject: str
    """One line, without ``Re:`` and the like."""
    text: str
    message_id: str | None
    in_reply_to: str | None
    references: tuple[str, ...]
    is_answer: bool
    """It answers or forwards another message: its subject may be somebody else's."""
    queue_ids: tuple[str, ...]
    """See `Request.queue_ids`."""


def read_letter(content: bytes) -> Letter:
    """Read a message, header first; what cannot be read is empty. Raises `NotObeyed`."""
    if content.lower().count(b"boundary") > MOST_BOUNDARIES:
        content = _header_alone(content)
    try:
        message = message_from_bytes(content, policy=_POLICY)
        text = _text(message)
    except RecursionError:
        message, text = message_from_bytes(_header_alone(content), policy=_POLICY), ""
    if _field(message, "Auto-Submitted").partition(";")[0].strip().lower() not in ("", "no"):
        raise NotObeyed
    own = _MESSAGE_ID.findall(_field(message, "Message-ID"))
    answered = _MESSAGE_ID.findall(_field(message, "In-Reply-To"))
    references = _MESSAGE_ID.findall(_field(message, "References"))
    subject = _field(message, "Subject")
    plain = plain_subject(subject)
    refers = any(name in message for name in ("In-Reply-To", "References", "Thread-Index"))
    return Letter(
        plain,
        own_words(text),
        own[0] if own else None,
        answered[0] if answered else None,
        tuple(references[-_MOST_REFERENCES:]),
        refers or plain != _one_line(subject),
        _queue_ids(f"{plain}\n{text}\n{content.decode('latin-1')}"),
    )


def _header_alone(content: bytes) -> bytes:
    return content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _queue_ids(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found[0] for found in islice(_QUEUE_ID.finditer(text), _MOST_IDS)))


def plain_subject(subject: str) -> str:
    """A subject on one line, without ``Re:``, ``AW:`` and the like, however many."""
    subject = _one_line(subject)
    while found := _PREFIX.match(subject):
        subject = subject[found.end() :]
    return subject


def _one_line(subject: str) -> str:
    return " ".join(subject.split())[:MOST_CHARACTERS]


def own_words(text: str) -> str:
    """The first lines of a text, up to the signature or the message that it answers, quotes left out.

    What stands below a quote counts too, where each line of the quote begins with ``>``.
    """
    lines = [line[:MOST_CHARACTERS].replace("\N{NO-BREAK SPACE}", " ").rstrip() for line in text.splitlines()]
    kept: list[str] = []
    for at, line in enumerate(lines):
        if line.startswith(">"):
            continue
        is_marked = _is_quote_marked(lines, at)
        if line == "--" or len(kept) == MOST_LINES or (_QUOTE_FOLLOWS.match(line) and not is_marked):
            break
        if not (is_marked and line.endswith(":")):
            kept.append(line)
        elif kept and _QUOTE_FOLLOWS.match(f"{kept[-1]} {line}"):
            kept.pop()
    return "\n".join(kept).strip()


def _is_quote_marked(lines: list[str], at: int) -> bool:
    """Whether the next line with words is marked as a quote."""
    return next((line for line in lines[at + 1 : at + 1 + MOST_LINES] if line), "").startswith(">")


def _field(message: Message, name: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    octets = str(value).replace("\r", "").replace("\n", "").encode("utf-8", "surrogateescape")
    return decode_header(octets[:10_000])


def _text(message: Message) -> str:
    """The first text/plain part, else the first text/html part without its tags; nothing of what is attached."""
    html = ""
    for part in _own_parts(message):
        payload = part.get_payload(decode=True)
        if not isinstance(payload, bytes):
            continue
        charset = part.get_param("charset")
        text = decode_text(payload, charset if isinstance(charset, str) else "")
        if part.get_content_subtype() == "plain":
            return text
        html = html or text
    html = _HTML_QUOTE.split(_shown(html), maxsplit=1)[0]
    return _TAG.sub("", _LINE_END_TAG.sub("\n", html)).replace("&nbsp;", " ")


def _shown(html: str) -> str:
    """HTML without comments, style sheets and the like. Linear: what is never closed hides all behind it."""
    kept, at = [], 0
    while found := _NO_TEXT.search(html, at):
        kept.append(html[at : found.start()])
        end = re.compile(rf"</{found[1]}\s{{0,9}}>" if found[1] else "-->", re.IGNORECASE).search(html, found.end())
        if end is None:
            return "".join(kept)
        at = end.end()
    return "".join(kept) + html[at:]


def _own_parts(message: Message) -> Iterator[Message]:
    """Text parts outside of attachments and of messages that are enclosed."""
    if message.get_content_disposition() == "attachment":
        return
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        for part in message.get_payload():
            if isinstance(part, Message):
                yield from _own_parts(part)
    elif message.get_content_maintype() == "text" and not message.is_multipart():
        yield message
