"""What a sender writes into a message so that it is sealed, or goes over a partner's line, and is never sent otherwise.

A subject that begins with ``*`` (which is taken away, with the blanks behind it), ``[secure]`` anywhere in the subject
(which stays), the header field ``Certmaild: seal`` (which is taken away). Obeyed in what our own users submit alone.
"""

import re
from dataclasses import dataclass
from email.header import Header

from certmaild.mailbox.mime_header import read_fields
from certmaild.mailbox.text import decode_header
from certmaild.protocols.smtp.errors import Refusal

_FIELD = re.compile(rb"^(subject|certmaild)[ \t]*:((?:[^\r\n]*\r\n[ \t])*[^\r\n]*\r\n)", re.IGNORECASE | re.MULTILINE)
_ASTERISK = re.compile(rb"(?:\r\n)?[ \t]*\*(?:(?:\r\n)?[ \t]+)*")
_AUTO_SUBMITTED = frozenset((b"auto-submitted",))
_TAG = "[secure]"
MAX_SUBJECT = 64 * 1024
"""Octets of all of them together, far above what any program shows."""
MAX_FIELDS = 50
"""Fields Subject and Certmaild of one message."""
ASTERISK = "the subject begins with *"
TAG = "the subject says [secure]"
FIELD = "the header says Certmaild: seal"


@dataclass(frozen=True, slots=True)
class Marked:
    """A header block without what marks leave behind, and whether it was marked."""

    header: bytes
    reason: str = ""
    """Which mark, in words; empty: none."""


def read_marks(header: bytes) -> Marked:
    """Find the marks in a header block that ends in CRLF, and take away those that are not for the recipient.

    Linear in the header. Raises `Refusal` for a field ``Certmaild`` that says anything else: its sender may believe
    that the message is safe.
    """
    kept: list[bytes] = []
    reason, at, octets = "", 0, 0
    if header.startswith(b"\r\n"):
        # All of it is body.
        return Marked(header)
    for number, match in enumerate(_FIELD.finditer(header)):
        value = match[2]
        # Not passed over: a message that somebody marked would go out unsealed.
        octets += len(value)
        if number == MAX_FIELDS or octets > MAX_SUBJECT:
            raise Refusal(554, "5.6.0", "The message has too many Subject fields, or too long a Subject")
        if match[1].lower() == b"subject":
            stripped = _without_asterisk(value)
            if stripped is not None:
                kept += [header[at : match.start(2)], stripped]
                at = match.end()
                reason = reason or ASTERISK
            elif not reason and _TAG in _words(value).lower():
                reason = TAG
        else:
            kept.append(header[at : match.start()])
            at = match.end()
            if _words(value).strip().lower() != "seal":
                raise Refusal(550, "5.6.0", 'The header field Certmaild may only say "seal", and this one does not')
            reason = FIELD
    return Marked(b"".join((*kept, header[at:])), reason)


def is_automatic_answer(header: bytes) -> bool:
    """Whether a program wrote it as its answer to a message (RFC 3834), whoever that was from.

    Not what programs write of their own accord (``auto-generated``): statements and the like are for guests too.
    """
    said = (value for _, value in read_fields(header, _AUTO_SUBMITTED))
    return any(value.partition(b";")[0].strip().lower() == b"auto-replied" for value in said)


def _words(value: bytes) -> str:
    return decode_header(value.replace(b"\r\n", b""))


def _without_asterisk(value: bytes) -> bytes | None:
    """A subject's value, CRLF at its end, without the asterisk it begins with; None where it begins otherwise."""
    plain = _ASTERISK.match(value)
    if plain is not None:
        return b" " + value[plain.end() :]
    if not value.lstrip(b" \t\r\n").startswith(b"=?"):
        return None
    words = _words(value).strip()
    if not words.startswith("*"):
        return None
    encoded = Header(words[1:].lstrip(), "utf-8", header_name="Subject", maxlinelen=75).encode(linesep="\r\n")
    return b" " + encoded.encode("ascii") + b"\r\n"
