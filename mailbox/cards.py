"""Cards: the immutable facts of one message for one user (KEYS section 5.2), encoded once, read field by field."""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import error
from typing import Protocol

from certmaild.mailbox.blobs import Blob
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout_messages import (
    CARD_FIXED,
    CARD_INLINE_OCTETS,
    SCAN_VERSION,
    CardTag,
    decode_parts,
    encode_fields,
    encode_parts,
    pad_card,
    read_field,
)
from certmaild.mailbox.mime_parts import Part, Scan
from certmaild.mailbox.values import NO_FINAL_CRLF

_BULKY = (CardTag.ENVELOPE, CardTag.STRUCTURE, CardTag.PARTS, CardTag.REFERENCES)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the scan says of a message, encoded once for all its recipients."""

    inline: bytes
    """Fields for every card."""
    frame: bytes
    """The same fields for frame 0xFFFFFFFF when they are more than 16 KiB; else empty, as is one of the two."""
    header_octets: int
    lines: int
    final_crlf: bool


def facts_of(scan: Scan) -> Facts:
    """Encode a scan. Write ``frame``, unless empty, with the blob before cards are sealed."""
    fields = encode_fields(
        (
            (CardTag.ENVELOPE, scan.envelope),
            (CardTag.STRUCTURE, scan.structure),
            (CardTag.PARTS, encode_parts(scan.parts)),
            (CardTag.REFERENCES, b"".join(scan.references)),
            *([(CardTag.LISTED, scan.listed)] if scan.listed else []),
        )
    )
    bulky = len(fields) > CARD_INLINE_OCTETS
    return Facts(b"" if bulky else fields, fields if bulky else b"", scan.header_octets, scan.lines, scan.final_crlf)


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """Which blob a card is of, and its key."""

    cek: bytes
    blob_id: bytes
    size: int
    frames: int
    f0_len: int
    sha256: bytes

    def __repr__(self) -> str:
        return f"BlobFacts({self.blob_id.hex()}, size={self.size})"


class HasBlob(Blob, Protocol):
    """What a card takes from a finished blob: `BlobFacts`, or a blob writer's result."""

    @property
    def sha256(self) -> bytes:
        """Digest of the octets."""
        ...


def encode_card(
    blob: HasBlob,
    facts: Facts,
    *,
    internal_date: int,
    prefix: bytes = b"",
    reverse_path: bytes = b"",
    original_recipient: bytes = b"",
    special_use: int = 0,
    flags: int = 0,
) -> bytes:
    """The plaintext of a card.

    ``special_use`` names the folder an arrival goes to (0: INBOX) and ``flags`` those it gets there. ``prefix`` is the
    recipient's own trace fields, complete lines.
    """
    fixed = CARD_FIXED.pack(
        blob.cek,
        blob.blob_id,
        blob.size,
        blob.frames,
        blob.f0_len,
        blob.sha256,
        max(internal_date, 0),
        SCAN_VERSION,
        special_use,
        flags if facts.final_crlf else flags | NO_FINAL_CRLF,
        facts.header_octets,
        facts.lines,
        len(facts.frame),
    )
    own = [
        (tag, octets)
        for tag, octets in (
            (CardTag.PREFIX, prefix),
            (CardTag.REVERSE_PATH, reverse_path),
            (CardTag.ORIGINAL_RECIPIENT, original_recipient),
        )
        if octets
    ]
    return pad_card(fixed + facts.inline + encode_fields(own))


class Card:
    """Facts of one message. Fields are decoded when asked for.

    Made of the opened plaintext; `frame_octets` above 0 says that the facts frame must be given (`with_frame`) before
    ENVELOPE, structure, parts or references are asked for.
    """

    __slots__ = (
        "_frame",
        "_key_fields",
        "_parts",
        "_plain",
        "flags",
        "frame_octets",
        "header_octets",
        "internal_date",
        "lines",
        "mid",
        "scan_version",
        "size",
        "special_use",
    )

    size: int
    """Octets of the blob, without the prefix."""
    internal_date: int
    """Seconds since 1970 UTC."""
    scan_version: int
    special_use: int
    """Where an arrival goes; 0 is INBOX."""
    flags: int
    """What an arrival gets there."""
    header_octets: int
    """Octets of the header in the blob, its blank line included."""
    lines: int
    frame_octets: int

    def __init__(self, mid: bytes, plain: bytes) -> None:
        self.mid = mid
        try:
            (
                cek,
                blob_id,
                self.size,
                frames,
                f0_len,
                sha256,
                self.internal_date,
                self.scan_version,
                self.special_use,
                self.flags,
                self.header_octets,
                self.lines,
                self.frame_octets,
            ) = CARD_FIXED.unpack_from(plain)
        except error:
            raise Damaged("card") from None
        self._key_fields = (cek, blob_id, self.size, frames, f0_len, sha256)
        self._plain = plain
        self._frame: bytes | None = None
        self._parts: tuple[Part, ...] | None = None

    def __repr__(self) -> str:
        return f"Card({self.mid.hex()}, size={self.size})"

    @property
    def blob(self) -> BlobFacts:
        """Which blob it is of, and its key."""
        return BlobFacts(*self._key_fields)

    def with_frame(self, frame: bytes) -> None:
        """Give the opened facts frame."""
        if len(frame) != self.frame_octets:
            raise Damaged("facts frame")
        self._frame = frame

    def _own(self, tag: CardTag) -> bytes:
        return read_field(self._plain, CARD_FIXED.size, tag) or b""

    def _fact(self, tag: CardTag) -> bytes:
        if not self.frame_octets:
            return self._own(tag)
        if self._frame is None:
            raise Damaged("facts frame not read")
        return read_field(self._frame, 0, tag) or b""

    @property
    def envelope(self) -> bytes:
        """ENVELOPE in our canonical form (`certmaild.mailbox.mime_structure`)."""
        return self._fact(CardTag.ENVELOPE)

    @property
    def structure(self) -> bytes:
        """Extended BODYSTRUCTURE in our canonical form."""
        return self._fact(CardTag.STRUCTURE)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The part table; offsets are relative to the blob: add ``len(card.prefix)``."""
        if self._parts is None:
            self._parts = decode_parts(self._fact(CardTag.PARTS))
        return self._parts

    @property
    def references(self) -> tuple[bytes, ...]:
        """8-octet hashes of the Message-IDs: own, In-Reply-To, References."""
        octets = self._fact(CardTag.REFERENCES)
        return tuple(octets[at : at + 8] for at in range(0, len(octets), 8))

    @property
    def listed(self) -> bytes:
        """The fields of `certmaild.mailbox.mime_header.LISTED_FIELDS` with a blank line; empty when it has them not."""
        return self._fact(CardTag.LISTED)

    @property
    def prefix(self) -> bytes:
        """The recipient's trace prefix, which stands before the blob."""
        return self._own(CardTag.PREFIX)

    @property
    def reverse_path(self) -> bytes:
        """MAIL FROM's address; empty for bounces and for appended messages."""
        return self._own(CardTag.REVERSE_PATH)

    @property
    def original_recipient(self) -> bytes:
        """RCPT TO's address as given."""
        return self._own(CardTag.ORIGINAL_RECIPIENT)

    @property
    def full_size(self) -> int:
        """RFC822.SIZE: blob and prefix."""
        return self.size + len(self.prefix)


def part_at(parts: Sequence[Part], path: tuple[int, ...]) -> Part | None:
    """The part with this section number."""
    return next((part for part in parts if part.path == path), None)
