"""Reads a message to a service address: its subject, and what its writer wrote himself. For at most 64 KiB, no I/O."""

import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message

from certmaild.mailbox.text import decode_header, decode_text

MOST_LINES = 50
MOST_CHARACTERS = 500
"""Of a line; commands are short."""
_MOST_REFERENCES = 20
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>")
_PREFIX = re.compile(r"(?:re|aw|antw|sv|vs|rif|ref|tr|fw|fwd|wg|r)\s?(?:\[\d{1,3}\])?\s?:\s*", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{0,2000}>")
_LINE_END_TAG = re.compile(r"<(?:br|/p|/div|/li|/tr)[^<>]{0,200}>", re.IGNORECASE)
_QUOTE_FOLLOWS = re.compile(r"-{2,}\s?\w|_{10}|(?:on|am|le|il|el)\s.{1,300}:$|(?:from|von|de|da):\s", re.IGNORECASE)


class NotObeyed(Exception):
    """An automatic message (RFC 3834): nobody wrote it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What was written."""

    subject: str
    text: str
    message_id: str | None
    in_reply_to: str | None
    references: tuple[str, ...]


def read_letter(content: bytes) -> Letter:
    """Read a message, header first; what cannot be read is empty. Raises `NotObeyed`."""
    try:
        message = message_from_bytes(content)
        text = _text(message)
    except RecursionError:
        message, text = message_from_bytes(content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"), ""
    if _field(message, "Auto-Submitted").partition(";")[0].strip().lower() not in ("", "no"):
        raise NotObeyed
    own = _MESSAGE_ID.findall(_field(message, "Message-ID"))
    answered = _MESSAGE_ID.findall(_field(message, "In-Reply-To"))
    references = _MESSAGE_ID.findall(_field(message, "References"))
    return Letter(
        plain_subject(_field(message, "Subject")),
        own_words(text),
        own[0] if own else None,
        answered[0] if answered else None,
        tuple(references[-_MOST_REFERENCES:]),
    )


def plain_subject(subject: str) -> str:
    """A subject on one line, without ``Re:``, ``AW:`` and the like, however many."""
    subject = " ".join(subject.split())[:MOST_CHARACTERS]
    while found := _PREFIX.match(subject):
        subject = subject[found.end() :]
    return subject


def own_words(text: str) -> str:
    """The first lines of a text, up to the signature or the message that it answers, quotes left out."""
    kept: list[str] = []
    for line in text.splitlines():
        line = line[:MOST_CHARACTERS].replace("\N{NO-BREAK SPACE}", " ").rstrip()
        if line == "--" or len(kept) == MOST_LINES or _QUOTE_FOLLOWS.match(line):
            break
        if not line.startswith(">"):
            kept.append(line)
    return "\n".join(kept).strip()


def _field(message: Message, name: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    octets = str(value).replace("\r", "").replace("\n", "").encode("utf-8", "surrogateescape")
    return decode_header(octets[:10_000])


def _text(message: Message) -> str:
    """The first text/plain part, else the first text/html part without its tags."""
    html = ""
    for part in message.walk():
        if part.get_content_maintype() != "text" or part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        if not isinstance(payload, bytes):
            continue
        charset = part.get_param("charset")
        text = decode_text(payload, charset if isinstance(charset, str) else "")
        if part.get_content_subtype() == "plain":
            return text
        html = html or text
    return _TAG.sub("", _LINE_END_TAG.sub("\n", html)).replace("&nbsp;", " ")
