"""Bytes of the tables ``sts`` and ``tlsrpt``: what domains demand of TLS, and how it went, by day.

Keys hold keyed hashes: with whom mail is exchanged stands inside the seals (under the queue's secret, as the queue).
Rows are small and few, one a domain (and day), so values are JSON.
"""

import msgspec

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout import U32


class StsRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The MTA-STS policy of a domain as last fetched."""

    domain: str
    """Lower-case A-labels."""
    id: str
    """Of the TXT record that announced it."""
    policy: str
    """The policy file."""
    fetched_s: int
    """Seconds since 1970."""
    version: int = 1


class FailureRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Failures of one kind at one server (RFC 8460 section 4.4, failure-details)."""

    result: str
    host: str
    address: str
    reason: str
    count: int


class SessionsRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sessions under one policy of a domain on one day."""

    kind: str
    """``tlsa``, ``sts`` or ``no-policy-found``."""
    policy: tuple[str, ...]
    hosts: tuple[str, ...]
    """``mx-host`` of the policy."""
    successful: int
    failed: int
    failures: tuple[FailureRow, ...] = ()


class TlsDayRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is to be reported to one domain about one day (UTC)."""

    domain: str
    sessions: tuple[SessionsRow, ...]
    version: int = 1


def day_key(day: int, place: bytes) -> bytes:
    """Key in ``tlsrpt``: days since 1970, then what stands for the domain."""
    return U32.pack(day) + place


def decode_day_key(key: bytes) -> tuple[int, bytes]:
    """Inverse of `day_key`."""
    return int(U32.unpack_from(key)[0]), key[U32.size :]


def encode_row(row: StsRow | TlsDayRow) -> bytes:
    """Plaintext of a row."""
    return msgspec.json.encode(row)


def decode_sts(plain: bytes) -> StsRow:
    """Inverse of `encode_row`. Raises `Damaged`."""
    try:
        row = _sts.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Damaged("policy row") from None
    if row.version != 1:
        raise Damaged("policy row")
    return row


def decode_tls_day(plain: bytes) -> TlsDayRow:
    """Inverse of `encode_row`. Raises `Damaged`."""
    try:
        row = _day.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Damaged("TLS report row") from None
    if row.version != 1:
        raise Damaged("TLS report row")
    return row


_sts = msgspec.json.Decoder(StsRow)
_day = msgspec.json.Decoder(TlsDayRow)
