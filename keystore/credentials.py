"""Ways in: passwords, device passwords, recovery and pickup codes; each wraps the user's root key once.

A credential's fields are laid out by the store; here they come as the ``aad`` that its wrap is bound to. One stretch
gives two siblings: the verifier, which is stored and compared first, and the key that opens the wrap.
"""

import os
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest

from certmaild.keystore.primitives import (
    NONCE_OCTETS,
    TAG_OCTETS,
    Label,
    aead,
    expand,
    extract,
    open_with,
    password_kdf,
    prefixed,
    seal_with,
)
from certmaild.keystore.secret import Secret

KDF_NONE = 0
"""For 120 random bits and more."""
KDF_BCRYPT = 1
KDF_ARGON2ID = 2
"""Reserved."""
SALT_OCTETS = 16
VERIFIER_OCTETS = 32
WRAP_OCTETS = NONCE_OCTETS + 32 + TAG_OCTETS
ROUNDS_FLOOR = 64
ROUNDS_CEILING = 512


@dataclass(frozen=True, slots=True)
class Proof:
    """What a presented secret comes to: compare `verifier`, then, and only if it matches, open the wrap with `kek`."""

    verifier: bytes = field(repr=False)
    kek: bytes = field(repr=False)

    def matches(self, stored: bytes) -> bool:
        """Whether the stored verifier is this one, in constant time."""
        return compare_digest(self.verifier, stored)

    def wrap(self, root: Secret, aad: bytes) -> bytes:
        """The root key under this credential: nonce, AES-256-GCM-SIV; 60 octets."""
        return seal_with(aead(self.kek), root.reveal(), aad)

    def unwrap(self, wrapped: bytes, aad: bytes) -> Secret:
        """Inverse of `wrap`. Raises `SealBroken` when a field of the credential was changed."""
        return Secret(open_with(aead(self.kek), wrapped, 0, aad))


def password_octets(raw: bytes) -> bytes:
    """What of a human password is stretched: its OpaqueString form in UTF-8 (RFC 8265 section 4.2), else itself."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    if text.isascii():
        return raw
    if any(unicodedata.category(letter) in ("Cc", "Cn", "Cs", "Co") for letter in text):
        return raw
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in text)
    return unicodedata.normalize("NFC", spaced).encode("utf-8")


def stretch(password: bytes, kdf_id: int, salt: bytes, rounds: int) -> bytes:
    """Key material from a presented password; with `KDF_BCRYPT` slow, for a thread (it lets other threads run).

    An empty password takes the usual time and comes to something that matches nothing. Raises `ValueError` for a
    KDF that is not built.
    """
    if kdf_id == KDF_NONE:
        return password or os.urandom(32)
    if kdf_id == KDF_BCRYPT:
        return password_kdf(password or os.urandom(32), salt, rounds)
    raise ValueError(f"kdf {kdf_id} is not built")


def prove(material: bytes, pepper: bytes, user_id: bytes, credential_id: int) -> Proof:
    """Split what `stretch` gave into verifier and wrapping key, for this user and credential."""
    prk = extract(pepper, material)
    whose = prefixed(user_id) + credential_id.to_bytes(4, "big")
    return Proof(expand(prk, Label.VERIFY, whose), expand(prk, Label.KEK, whose))


def new_salt() -> bytes:
    """16 random octets."""
    return os.urandom(SALT_OCTETS)


def calibrate(target_s: float = 0.25, clock: Callable[[], float] = time.perf_counter) -> int:
    """Rounds of bcrypt_pbkdf that take about ``target_s`` here: 64 (as bcrypt with cost 12) to 512."""
    sample = 16
    fastest = min(_duration(sample, clock) for _ in range(3))
    return max(ROUNDS_FLOOR, min(ROUNDS_CEILING, round(sample * target_s / max(fastest, 1e-9))))


def _duration(rounds: int, clock: Callable[[], float]) -> float:
    begun = clock()
    password_kdf(b"calibration", b"0123456789abcdef", rounds)
    return clock() - begun
