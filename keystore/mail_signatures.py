"""Keys of signatures on mail (DKIM, ARC): RSA with SHA-256 (RFC 6376) and Ed25519 over SHA-256 (RFC 8463).

Both sign a digest. What a public key in DNS may be is decided here: RSA of 1,024 to 4,096 bits (RFC 8301 section 3.2;
the upper bound keeps what a stranger makes us compute small), SHA-256 alone.
"""

import base64
import binascii
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

from certmaild.keystore.errors import SignatureKeyUnfit
from certmaild.keystore.primitives import InvalidSignature, ed25519, hashes, padding, rsa, serialization, utils

RSA_BITS = 2048
"""Of keys made here."""
MIN_RSA_BITS = 1024
MAX_RSA_BITS = 4096
_SHA256 = utils.Prehashed(hashes.SHA256())
_MAX_KEY_OCTETS = 2048


class KeyKind(Enum):
    """The ``k=`` tag of a key record."""

    RSA = "rsa"
    ED25519 = "ed25519"

    @property
    def algorithm(self) -> str:
        """The ``a=`` tag of its signatures."""
        return f"{self.value}-sha256"


PublicKey: TypeAlias = rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@lru_cache(maxsize=256)
def read_public_key(kind: KeyKind, text: bytes) -> PublicKey:
    """The key in a ``p=`` tag, base64 with any white space; RSA as SubjectPublicKeyInfo or a bare RSAPublicKey.

    Raises `SignatureKeyUnfit`, whose text is a few words.
    """
    try:
        octets = base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise SignatureKeyUnfit("the public key is not base64") from None
    if len(octets) > _MAX_KEY_OCTETS:
        raise SignatureKeyUnfit("the public key is too large")
    try:
        if kind is KeyKind.ED25519:
            return ed25519.Ed25519PublicKey.from_public_bytes(octets)
        key = serialization.load_der_public_key(octets)
    except Exception:
        raise SignatureKeyUnfit("the public key cannot be read") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise SignatureKeyUnfit("the public key is not RSA")
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise SignatureKeyUnfit(f"RSA keys of {key.key_size} bits do not count")
    return key


def verify_digest(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    """Whether ``signature`` is this key's of a SHA-256 digest."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), _SHA256)
        else:
            key.verify(signature, digest)
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class MailSigningKey:
    """A private key of ours."""

    kind: KeyKind
    _key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = field(repr=False)

    @staticmethod
    def make(kind: KeyKind) -> "MailSigningKey":
        """A new one; RSA takes a few tenths of a second."""
        if kind is KeyKind.RSA:
            return MailSigningKey(kind, rsa.generate_private_key(65537, RSA_BITS))
        return MailSigningKey(kind, ed25519.Ed25519PrivateKey.generate())

    @staticmethod
    def read(pem: bytes) -> "MailSigningKey":
        """From PEM (PKCS #8, or PKCS #1 for RSA). Raises `SignatureKeyUnfit`."""
        try:
            key = serialization.load_pem_private_key(pem, None)
        except Exception:
            raise SignatureKeyUnfit("it holds no PEM private key that can be read") from None
        if isinstance(key, rsa.RSAPrivateKey):
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
                raise SignatureKeyUnfit(f"RSA keys of {key.key_size} bits are not taken by other servers")
            return MailSigningKey(KeyKind.RSA, key)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return MailSigningKey(KeyKind.ED25519, key)
        raise SignatureKeyUnfit("its key is neither RSA nor Ed25519")

    @property
    def pem(self) -> bytes:
        """PKCS #8, not encrypted."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def public_text(self) -> str:
        """The ``p=`` tag: SubjectPublicKeyInfo for RSA, the 32 octets for Ed25519, in base64."""
        public = self._key.public_key()
        if isinstance(public, ed25519.Ed25519PublicKey):
            octets = public.public_bytes_raw()
        else:
            octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(octets).decode("ascii")

    def sign_digest(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(digest, padding.PKCS1v15(), _SHA256)
        return self._key.sign(digest)
