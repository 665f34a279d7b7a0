"""A delivery status report as a message (RFC 3461 section 6, RFC 3464, RFC 6522): words, status, the message's header.

It goes to whoever sent the message and answers to nobody: null reverse-path, Auto-Submitted (RFC 3834).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from certmaild.mailbox.mime_header import pick_fields, read_fields
from certmaild.mailbox.text import decode_header
from certmaild.outbound.interfaces import News
from certmaild.outbound.values import Envelope
from certmaild.reports.names import ServerName
from certmaild.reports.parts import Part, format_report, format_text
from certmaild.reports.status import format_status, needs_utf8
from certmaild.reports.texts import ENGLISH, Texts
from certmaild.reports.words import About, format_subject, format_time, format_words

MAX_HEADER = 64 * 1024
"""Octets of the message's header that are given back; whole fields."""
_HIDDEN = (b"bcc", b"resent-bcc")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")
_WANTED = frozenset((b"subject", b"message-id"))


@dataclass(frozen=True, slots=True)
class Reported:
    """The message that is reported on."""

    envelope: Envelope
    accepted_s: int
    header: bytes
    """As it goes out; a blank line may follow."""


def format_delivery_report(
    server: ServerName,
    message: Reported,
    news: Sequence[News],
    *,
    now_s: int,
    name: str,
    stays_here: bool,
    texts: Texts = ENGLISH,
) -> bytes:
    """The report on at least one recipient.

    ``name`` is unique for each report: Message-ID and boundary. One that leaves the house repeats the message's header
    in its last part only, so that a forged sender cannot have the server write his subject to somebody.
    """
    fields = dict(read_fields(message.header, _WANTED))
    subject = decode_header(fields.get(b"subject", b"")) if stays_here and texts.subject_line else ""
    about = About(server.hostname, server.postmaster, message.accepted_s, subject)
    utf8 = needs_utf8(news)
    status = format_status(
        news,
        hostname=server.hostname,
        accepted_s=message.accepted_s,
        envid=message.envelope.envid,
        utf8=utf8,
        texts=texts,
    )
    words = format_words(news, about, texts).replace("\n", "\r\n").encode("utf-8")
    original = returned_header(message.header)
    parts = [
        Part("text/plain; charset=utf-8", words),
        Part(f"message/{'global-' if utf8 else ''}delivery-status", status),
        Part("text/rfc822-headers" if original.isascii() else "message/global-headers", original),
    ]
    header = [
        ("From", f'"{texts.author.format(hostname=server.hostname)}" <{server.mailer}>'),
        ("To", f"<{message.envelope.reports_to}>"),
        ("Subject", format_text(format_subject(news, texts))),
        ("Date", format_time(now_s)),
        ("Message-ID", f"<{name}@{server.hostname}>"),
        ("Auto-Submitted", "auto-replied"),
        ("Content-Language", texts.language),
    ]
    message_id = fields.get(b"message-id", b"")
    if _MESSAGE_ID.fullmatch(message_id):
        header += [(field, message_id.decode("ascii")) for field in ("In-Reply-To", "References")]
    return format_report(header, "delivery-status", parts, boundary=name)


def returned_header(header: bytes) -> bytes:
    """The fields that a report gives back: all but Bcc, at most `MAX_HEADER` octets, without the blank line."""
    kept = pick_fields(header, _HIDDEN, wanted=False).removesuffix(b"\r\n\r\n") + b"\r\n"
    kept = kept.lstrip(b"\r\n")
    if len(kept) <= MAX_HEADER:
        return kept
    end = MAX_HEADER
    while (end := kept.rfind(b"\r\n", 0, end)) > 0:
        if kept[end + 2 : end + 3] not in (b" ", b"\t"):
            return kept[: end + 2]
    return b""
