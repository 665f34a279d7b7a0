"""Bytes of the table ``partner``: what was agreed with whom by command, and every change of it.

The key says nothing: domains of partners stand inside the seal. Rows are few (one for each change that an operator
makes), so values are JSON, with the keys of ``[[partner]]`` in the configuration.
"""

from enum import StrEnum

import msgspec

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout import U64

ENTRIES = b"\x01"
"""First octet of the keys of the log; the entry's number, from 1, follows."""
WATCHED = b"\x02"
"""First octet of the keys of what the daily watch remembers; a keyed hash of the domain follows."""
AFTER_ENTRIES = WATCHED
AFTER_WATCHED = b"\x03"


class Act(StrEnum):
    """What was done."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class PartnerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the log. The newest of a domain is what counts."""

    at_s: int
    """Seconds since 1970."""
    by: str
    """Who did it: the system's user."""
    act: Act
    domain: str
    """Lower-case A-labels."""
    record: msgspec.Raw = msgspec.Raw(b"null")
    """The keys of ``[[partner]]`` as JSON from then on; null for one that was removed."""
    version: int = 1


_decoder = msgspec.json.Decoder(PartnerEntry)
_encoder = msgspec.json.Encoder()


def entry_key(number: int) -> bytes:
    """Key of an entry."""
    return ENTRIES + U64.pack(number)


def decode_entry_key(key: bytes) -> int:
    """Inverse of `entry_key`."""
    return int(U64.unpack_from(key, 1)[0])


def encode_entry(entry: PartnerEntry) -> bytes:
    """Plaintext of an entry."""
    return _encoder.encode(entry)


def decode_entry(plain: bytes) -> PartnerEntry:
    """Inverse of `encode_entry`. Raises `Damaged`."""
    try:
        entry = _decoder.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Damaged("partner row") from None
    if entry.version != 1 or (entry.act is Act.REMOVED) is not (bytes(entry.record) == b"null"):
        raise Damaged("partner row")
    return entry


class PartnerWatched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the daily watch remembers of one partner, or (without a domain) of this server itself."""

    domain: str = ""
    looked_s: int = 0
    """When it last looked, in seconds since 1970; 0 is never."""
    told: str = "right"
    """The verdict that the postmaster knows of."""
    unreached_s: int = 0
    """Since when nobody could be asked; 0 is not so."""
    warned: dict[str, int] = {}
    """By certificate (SHA-256, hexadecimal): the days left that were warned about last."""
    version: int = 1


_watched_decoder = msgspec.json.Decoder(PartnerWatched)


def watched_key(domain_hash: str) -> bytes:
    """Key of what is remembered; the hash is a keyed one."""
    return WATCHED + domain_hash.encode("ascii")


def encode_watched(watched: PartnerWatched) -> bytes:
    """Plaintext of what is remembered."""
    return _encoder.encode(watched)


def decode_watched(plain: bytes) -> PartnerWatched:
    """Inverse of `encode_watched`. Raises `Damaged`."""
    try:
        return _watched_decoder.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Damaged("partner row") from None
