"""Every cryptographic primitive, one fixed combination: suite 1.

HPKE with X-Wing (MLKEM768-X25519, HKDF-SHA-256, AES-256-GCM) seals to a public key; Cobblestone-256 (C2SP chunked
encryption) seals content; AES-256-GCM-SIV (RFC 8452) seals small records; HKDF-SHA-512 (RFC 5869) derives keys;
bcrypt_pbkdf stretches passwords. No other module imports ``cryptography.hazmat`` or ``cryptography.cobblestone``; what
certificates and signatures on mail need of the former (keys, hashes, PEM) is handed on from here too.
"""

import hashlib
import os
from enum import Enum
from hmac import digest as _hmac
from struct import Struct
from typing import TypeAlias

import bcrypt
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidSignature as InvalidSignature
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes as hashes
from cryptography.hazmat.primitives import serialization as serialization
from cryptography.hazmat.primitives.asymmetric import ec as ec
from cryptography.hazmat.primitives.asymmetric import ed25519 as ed25519
from cryptography.hazmat.primitives.asymmetric import padding as padding
from cryptography.hazmat.primitives.asymmetric import rsa as rsa
from cryptography.hazmat.primitives.asymmetric import utils as utils
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes as PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes as PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import pkcs7 as pkcs7

from certmaild.keystore.errors import PrimitiveUnfit, SealBroken

Octets: TypeAlias = bytes | bytearray | memoryview
Aead: TypeAlias = AESGCMSIV
"""A key made ready for `seal_with` and `open_with`."""
PrivateKey: TypeAlias = MLKEM768X25519PrivateKey
HpkePublicKey: TypeAlias = MLKEM768X25519PublicKey

SUITE = 1
NONCE_OCTETS = 12
TAG_OCTETS = 16
KEY_OCTETS = 32
SEED_OCTETS = 32
MLKEM_PUBLIC_OCTETS = 1184
X25519_PUBLIC_OCTETS = 32
HPKE_OVERHEAD_OCTETS = 1120 + TAG_OCTETS
"""What `hpke_seal` adds: the encapsulated key and the tag."""
FRAME_MINIMUM_OCTETS = 56 + TAG_OCTETS
"""A sealed frame is never shorter."""

_U16 = Struct(">H")


class Label(Enum):
    """What a derived key or a MAC is for. The octets are final: each is followed by a zero octet, none holds one."""

    VERIFY = b"verify"
    KEK = b"kek"
    PUBLIC_MAC = b"pubmac"
    EPOCHS = b"epochs"
    IDENTITY = b"identity"
    ENTRY = b"entry"
    NAMES = b"names"
    MSET = b"mset"
    CARD = b"card"
    SLOT = b"slot"
    ROWS = b"rows"
    QUEUE = b"queue"
    PLACES = b"places"
    CHECK = b"check"
    UNKNOWN = b"unknown"
    TRACE = b"trace"
    SEAL = b"seal"
    FRAME = b"frame"
    TEXT = b"text"
    KID = b"kid"
    ORGANISATION = b"orgrec"
    BEQUEST = b"bequest"
    HEARD = b"heard"
    AUDIT = b"audit"
    ACCOUNT_NAME = b"account-name"

    def __init__(self, name: bytes) -> None:
        self.info = b"certmaild/1/" + name + b"\0"
        """What every derivation, MAC input or HPKE info with this label begins with."""


def prefixed(octets: bytes) -> bytes:
    """A field of variable length: its length in 16 bits, then itself. Raises `ValueError` above 65,535 octets."""
    if len(octets) > 0xFFFF:
        raise ValueError("field is too long")
    return _U16.pack(len(octets)) + octets


def expand(key: bytes | bytearray, label: Label, *fields: bytes, length: int = KEY_OCTETS) -> bytes:
    """A key for one use: HKDF-Expand-SHA-512 (RFC 5869 section 2.3) of at most 64 octets.

    ``fields`` are of fixed length, or made so by `prefixed`.
    """
    if not 0 < length <= 64:
        raise ValueError("one block of HKDF gives 1 to 64 octets")
    return _hmac(key, label.info + b"".join(fields) + b"\1", "sha512")[:length]


def extract(salt: bytes, key_material: bytes | bytearray) -> bytes:
    """HKDF-Extract-SHA-512 (RFC 5869 section 2.2): 64 octets for `expand`."""
    return _hmac(salt, key_material, "sha512")


def mac_sha256(key: bytes | bytearray, octets: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104), 32 octets. Compare with `hmac.compare_digest`."""
    return _hmac(key, octets, "sha256")


def aead(key: bytes | bytearray) -> Aead:
    """AES-256-GCM-SIV (RFC 8452) under a 32-octet key, for keys that seal many values."""
    return AESGCMSIV(key)


def seal_with(cipher: Aead, plaintext: Octets, aad: bytes) -> bytes:
    """Random nonce (12 octets), ciphertext, tag."""
    nonce = os.urandom(NONCE_OCTETS)
    return nonce + cipher.encrypt(nonce, plaintext, aad)


def open_with(cipher: Aead, value: bytes, at: int, aad: bytes) -> bytes:
    """The plaintext of what `seal_with` gave, which begins at offset ``at`` of ``value``. Raises `SealBroken`."""
    try:
        return cipher.decrypt(value[at : at + NONCE_OCTETS], value[at + NONCE_OCTETS :], aad)
    except (InvalidTag, ValueError):
        raise SealBroken("a sealed value does not open") from None


def seal_gcm_siv(key: bytes | bytearray, nonce: bytes, plaintext: Octets, aad: bytes) -> bytes:
    """Ciphertext and tag of AES-256-GCM-SIV, without the nonce."""
    return AESGCMSIV(key).encrypt(nonce, plaintext, aad)


def open_gcm_siv(key: bytes | bytearray, nonce: bytes, sealed: Octets, aad: bytes) -> bytes:
    """Inverse of `seal_gcm_siv`. Raises `SealBroken`."""
    try:
        return AESGCMSIV(key).decrypt(nonce, sealed, aad)
    except (InvalidTag, ValueError):
        raise SealBroken("a sealed value does not open") from None


def seal_frame(key: bytes | bytearray, context: bytes, plaintext: Octets) -> bytes:
    """One piece of content under Cobblestone-256; the salt is random, the context and the key are committed to."""
    cipher = Cobblestone256Encryptor(key, context)
    return cipher.update(plaintext) + cipher.finalize()


def open_frame(key: bytes | bytearray, context: bytes, sealed: Octets) -> bytes:
    """Inverse of `seal_frame`. Raises `SealBroken`."""
    try:
        cipher = Cobblestone256Decryptor(key, context)
        return cipher.update(sealed) + cipher.finalize()
    except (InvalidTag, ValueError):
        raise SealBroken("a frame does not open") from None


_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def private_key(seed: bytes | bytearray) -> PrivateKey:
    """The X-Wing private key of a 32-octet seed (draft-connolly-cfrg-xwing-kem, ``expandDecapsulationKey``)."""
    if len(seed) != SEED_OCTETS:
        raise ValueError("an X-Wing seed has 32 octets")
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
    )


def public_octets(seed: bytes | bytearray) -> bytes:
    """The X-Wing public key of a seed: ML-KEM-768 (1184 octets), then X25519 (32)."""
    expanded = hashlib.shake_256(seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().public_bytes_raw()
    return mlkem + X25519PrivateKey.from_private_bytes(expanded[64:]).public_key().public_bytes_raw()


def public_key(octets: bytes) -> HpkePublicKey:
    """Parse what `public_octets` gave. Raises `SealBroken` for what is no key."""
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(octets[:MLKEM_PUBLIC_OCTETS]),
            X25519PublicKey.from_public_bytes(octets[MLKEM_PUBLIC_OCTETS:]),
        )
    except ValueError:
        raise SealBroken("a public key does not parse") from None


def hpke_seal(key: HpkePublicKey, info: bytes, plaintext: bytes) -> bytes:
    """Seal to a public key: HPKE single-shot in base mode (RFC 9180 section 6.1). Small plaintexts only."""
    return _HPKE.encrypt(plaintext, key, info)


def hpke_open(key: PrivateKey, info: bytes, sealed: bytes) -> bytes:
    """Inverse of `hpke_seal`. Raises `SealBroken`."""
    try:
        return _HPKE.decrypt(sealed, key, info)
    except (InvalidTag, ValueError):
        raise SealBroken("a value sealed to the public key does not open") from None


def password_kdf(password: bytes, salt: bytes, rounds: int) -> bytes:
    """Stretch a password to 32 octets with bcrypt_pbkdf; about 4 ms a round. Holds no lock of Python's.

    The password has at least one octet and may be of any length.
    """
    return bcrypt.kdf(password, salt, KEY_OCTETS, rounds, ignore_few_rounds=True)


def self_test() -> None:
    """Check each primitive against known answers. Raises `PrimitiveUnfit`; takes about 20 ms.

    Sources: RFC 8452 appendix C.2 (GCM-SIV), RFC 4231 case 2 (HMAC), OpenBSD's bcrypt_pbkdf regress test. Cobblestone
    and HPKE open values that were sealed by cryptography 50.0.2; tests cross-check both against their specifications.
    """
    from certmaild.keystore import known_answers

    try:
        wrong = known_answers.wrong_answers()
    except (UnsupportedAlgorithm, SealBroken, ValueError, InvalidTag) as fault:
        raise PrimitiveUnfit(f"the cryptographic library fails its self-test: {fault}") from fault
    if wrong:
        raise PrimitiveUnfit(f"the cryptographic library computes wrongly: {', '.join(wrong)}")
