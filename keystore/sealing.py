"""What is sealed for one user: arrivals to his public key, cards under a key of their own.

Every sealed value begins with a header of ten octets: suite u8, type u8, epoch u32, slot u32. The types of this floor
are below 0x10; what the store seals through a key ring brings types of its own from 0x10 up.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as _hmac
from struct import Struct

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.primitives import (
    MLKEM_PUBLIC_OCTETS,
    SUITE,
    X25519_PUBLIC_OCTETS,
    HpkePublicKey,
    Label,
    aead,
    hpke_seal,
    open_with,
    public_key,
    seal_with,
)
from certmaild.keystore.server_secrets import ServerSecrets

HEADER = Struct(">BBII")
"""suite, type, epoch, slot."""
TYPE_ARRIVAL = 0x01
TYPE_CARD = 0x04
TYPE_EPOCH = 0x06
TYPE_IDENTITY = 0x07
TYPE_PUBLIC_KEY = 0x08
TYPE_BEQUEST = 0x0A
KID_OCTETS = 8
_HEADER_OCTETS = HEADER.size
_PUBLIC_OCTETS = MLKEM_PUBLIC_OCTETS + X25519_PUBLIC_OCTETS
_MAC_OCTETS = 32


# Cards: one key each, so nothing but the key and the place goes into it.

_CARD_HEADER = HEADER.pack(SUITE, TYPE_CARD, 0, 0)
_CARD_INFO = Label.CARD.info + b"\1"


def seal_card(mk: bytes, user_id: bytes, mid: bytes, plaintext: bytes) -> bytes:
    """A message's card under its message key (32 random octets, never used for another card)."""
    cipher = aead(_hmac(mk, _CARD_INFO, "sha512")[:32])
    return _CARD_HEADER + seal_with(cipher, plaintext, _CARD_HEADER + user_id + mid)


def open_card(mk: bytes, user_id: bytes, mid: bytes, value: bytes) -> bytes:
    """Inverse of `seal_card`. Raises `SealBroken`. On the path of every FETCH: 6 us for a card of 1 KB."""
    if value[:_HEADER_OCTETS] != _CARD_HEADER:
        raise SealBroken("not a card of suite 1")
    cipher = aead(_hmac(mk, _CARD_INFO, "sha512")[:32])
    return open_with(cipher, value, _HEADER_OCTETS, _CARD_HEADER + user_id + mid)


# Public keys.


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A user's public key of one epoch, parsed and checked."""

    kid: bytes
    epoch: int
    key: HpkePublicKey = field(repr=False)


def public_key_id(octets: bytes) -> bytes:
    """The name of a public key: 8 octets of its SHA-256."""
    return sha256(Label.KID.info + octets).digest()[:KID_OCTETS]


def public_key_body(epoch: int, octets: bytes) -> bytes:
    """The record without its MACs: header, kid, ML-KEM-768 key, X25519 key."""
    return HEADER.pack(SUITE, TYPE_PUBLIC_KEY, epoch, 0) + public_key_id(octets) + octets


PUBLIC_KEY_BODY_OCTETS = _HEADER_OCTETS + KID_OCTETS + _PUBLIC_OCTETS
PUBLIC_KEY_OCTETS = PUBLIC_KEY_BODY_OCTETS + 2 * _MAC_OCTETS


def split_public_key(row: bytes) -> tuple[bytes, bytes, bytes]:
    """Body, the user's MAC, the server's MAC. Raises `SealBroken` for another length or suite."""
    if len(row) != PUBLIC_KEY_OCTETS or row[:2] != bytes([SUITE, TYPE_PUBLIC_KEY]):
        raise SealBroken("not a public key of suite 1")
    end = PUBLIC_KEY_BODY_OCTETS
    return row[:end], row[end : end + _MAC_OCTETS], row[end + _MAC_OCTETS :]


_PARSED: OrderedDict[bytes, HpkePublicKey] = OrderedDict()
_PARSED_MOST = 4096


def _parsed(octets: bytes) -> HpkePublicKey:
    """Parse, or find again: parsing takes 19 us. Keyed by a digest, for a kid is too short to be the whole truth."""
    name = sha256(octets).digest()
    found = _PARSED.get(name)
    if found is None:
        found = _PARSED[name] = public_key(octets)
        if len(_PARSED) > _PARSED_MOST:
            _PARSED.popitem(last=False)
    return found


def check_public_key(secrets: ServerSecrets, user_id: bytes, row: bytes) -> PublicKey:
    """The key to seal to, after the check of the server's MAC. Raises `SealBroken`."""
    body, user_mac, server_mac = split_public_key(row)
    if not compare_digest(secrets.public_key_mac(user_id, body + user_mac), server_mac):
        raise SealBroken("the public key was not stored by this server")
    _, _, epoch, slot = HEADER.unpack_from(body)
    at = _HEADER_OCTETS + KID_OCTETS
    if slot:
        raise SealBroken("a public key has no slot")
    return PublicKey(body[_HEADER_OCTETS:at], epoch, _parsed(body[at:]))


# Arrivals.

ARRIVAL_HEAD_OCTETS = _HEADER_OCTETS + KID_OCTETS + 16
"""Header, kid and mid; the sealed part follows."""


@dataclass(frozen=True, slots=True)
class SealedArrivalParts:
    """What `seal_arrival` gave, taken apart."""

    header: bytes
    kid: bytes
    mid: bytes
    sealed: bytes

    def info(self, user_id: bytes) -> bytes:
        """What the seal is bound to; for `KeyRing.open_arrival`."""
        return arrival_info(self.header, user_id, self.kid, self.mid)


def arrival_info(header: bytes, user_id: bytes, kid: bytes, mid: bytes) -> bytes:
    """HPKE's ``info`` for an arrival."""
    return Label.SEAL.info + header + user_id + kid + mid


def seal_arrival(key: PublicKey, user_id: bytes, mid: bytes, plaintext: bytes) -> bytes:
    """A card sealed to an absent recipient: header, kid, mid, HPKE; about 85 us and 1.2 KB more than the card."""
    header = HEADER.pack(SUITE, TYPE_ARRIVAL, key.epoch, 0)
    return header + key.kid + mid + hpke_seal(key.key, arrival_info(header, user_id, key.kid, mid), plaintext)


def split_arrival(value: bytes) -> SealedArrivalParts:
    """Take apart what `seal_arrival` gave. Raises `SealBroken` when it is too short or of another suite or type."""
    if len(value) < ARRIVAL_HEAD_OCTETS or value[:2] != bytes([SUITE, TYPE_ARRIVAL]):
        raise SealBroken("not a sealed arrival of suite 1")
    at = _HEADER_OCTETS + KID_OCTETS
    return SealedArrivalParts(
        value[:_HEADER_OCTETS], value[_HEADER_OCTETS:at], value[at:ARRIVAL_HEAD_OCTETS], value[ARRIVAL_HEAD_OCTETS:]
    )


# Bequests: a guest's root key sealed to whoever invited him, until the guest has a way in of his own.


def seal_bequest(key: PublicKey, heir: bytes, user_id: bytes, root: bytes | bytearray) -> bytes:
    """The root key of ``user_id``, sealed so that only ``heir`` opens it: header, kid, HPKE (KEYS section 2)."""
    header = HEADER.pack(SUITE, TYPE_BEQUEST, key.epoch, 0)
    return header + key.kid + hpke_seal(key.key, _bequest_info(header, key.kid, heir, user_id), bytes(root))


def split_bequest(value: bytes, heir: bytes, user_id: bytes) -> tuple[bytes, bytes, bytes]:
    """Key id, HPKE's info and the sealed part, as `KeyRing.open_arrival` takes them. Raises `SealBroken`."""
    at = _HEADER_OCTETS + KID_OCTETS
    if len(value) < at or value[:2] != bytes([SUITE, TYPE_BEQUEST]):
        raise SealBroken("not a bequest of suite 1")
    header, kid = value[:_HEADER_OCTETS], value[_HEADER_OCTETS:at]
    return kid, _bequest_info(header, kid, heir, user_id), value[at:]


def _bequest_info(header: bytes, kid: bytes, heir: bytes, user_id: bytes) -> bytes:
    return Label.BEQUEST.info + header + heir + user_id + kid
