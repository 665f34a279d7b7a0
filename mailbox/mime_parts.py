"""What the MIME scanner finds: the parts of a message, and the facts of the whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """One part of a message; offsets count from the message's first octet.

    A message that is no multipart, the outer one or one inside, has its content also as part 1.
    """

    path: tuple[int, ...]
    """Part number as IMAP counts; () is the message."""
    header_offset: int
    body_offset: int
    octets: int
    """Of the body, as it stands."""
    lines: int
    decoded_octets: int
    """Of the body once its transfer encoding is undone (BINARY.SIZE)."""
    encoding: bytes
    """In upper case."""
    type: bytes
    """In upper case."""
    subtype: bytes
    """In upper case."""
    is_multipart: bool
    is_message: bool
    text_offset: int
    """Of a message/rfc822: where the body of the message inside begins (its header is from ``body_offset`` on).
    Of any other part ``body_offset``."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What the scanner found."""

    size: int
    header_octets: int
    """The blank line included."""
    lines: int
    envelope: bytes
    structure: bytes
    parts: tuple[Part, ...]
    """In the order in which they begin."""
    references: tuple[bytes, ...]
    """8-octet hashes: the message's own Message-ID (zeros without), then those of References or In-Reply-To."""
    listed: bytes
    """The header fields that clients list messages by, as they stand (`listed_fields`)."""
    message_id: bytes
    """Without its angle brackets; empty when there is none."""
    date: bytes
    subject: bytes
    author: bytes
    """The Date, Subject and From fields, unfolded, otherwise as written."""
    final_crlf: bool
    has_nul: bool


def part_of(parts: Sequence[Part], path: tuple[int, ...]) -> Part | None:
    """The part of that number, or None."""
    return next((part for part in parts if part.path == path), None)
