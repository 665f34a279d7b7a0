"""Secrets that people read aloud and type: device passwords, recovery codes, pickup codes.

Letters are Crockford's base32: no I, L, O or U. Case, spaces and dashes do not count, O reads as 0, I and L as 1. The
last letter is a check letter over GF(32): it catches every wrong letter and every two letters that changed places.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from os import urandom

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE = {letter: value for value, letter in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_ID_LETTERS = 4
_DEVICE_LETTERS = 31
"""4 of the id (20 bits), 27 random (135 bits); with the check letter eight groups of four."""
_PICKUP_LETTERS = 16
"""80 random bits; the check letter stands behind four groups of four."""
_GENERATOR, _MODULUS = 2, 0b100101
"""x in GF(2)[x]/(x^5 + x^2 + 1), where it is of order 31."""


@dataclass(frozen=True, slots=True)
class Code:
    """A secret of letters, taken apart."""

    credential_id: int | None
    """Which credential it is for: the first 20 bits of a device password or recovery code; None for a pickup code."""
    letters: str = field(repr=False)
    """All letters but the check letter, in canonical form."""

    @property
    def material(self) -> bytes:
        """What `certmaild.keystore.credentials.stretch` takes."""
        return self.letters.encode("ascii")

    @property
    def text(self) -> str:
        """As shown, once: groups of four letters."""
        whole = self.letters + check_letter(self.letters)
        return "-".join(whole[at : at + 4] for at in range(0, len(whole), 4))


def _times_x(value: int) -> int:
    value *= _GENERATOR
    return value ^ _MODULUS if value & 32 else value


def check_letter(letters: str) -> str:
    """The letter that makes the weighted sum over GF(32) nothing; the letter before it weighs x, the next x², …"""
    total = 0
    for letter in letters:
        total = _times_x(total ^ _VALUE[letter])
    return ALPHABET[total]


def _random_letters(count: int, random: Callable[[int], bytes]) -> str:
    """5 bits of each random octet, which is exact: 32 divides 256."""
    return letters_of(random(count), count)


def letters_of(octets: bytes, count: int) -> str:
    """``count`` letters of the alphabet, one for each of the first octets."""
    return "".join(ALPHABET[octet & 31] for octet in octets[:count])


def new_device_password(credential_id: int, random: Callable[[int], bytes] = urandom) -> Code:
    """A device password or recovery code for the credential of a 20-bit id."""
    if not 0 <= credential_id < 1 << 20:
        raise ValueError("a device password's credential id has 20 bits")
    head = "".join(ALPHABET[credential_id >> shift & 31] for shift in (15, 10, 5, 0))
    return Code(credential_id, head + _random_letters(_DEVICE_LETTERS - _ID_LETTERS, random))


def new_pickup_code(random: Callable[[int], bytes] = urandom) -> Code:
    """A guest's first code."""
    return Code(None, _random_letters(_PICKUP_LETTERS, random))


def parse_device_password(raw: bytes) -> Code | None:
    """A device password or recovery code as somebody typed it; None when it has not the form or the check fails."""
    letters = _letters(raw, _DEVICE_LETTERS)
    if letters is None:
        return None
    credential_id = 0
    for letter in letters[:_ID_LETTERS]:
        credential_id = credential_id << 5 | _VALUE[letter]
    return Code(credential_id, letters)


def parse_pickup_code(raw: bytes) -> Code | None:
    """A pickup code as somebody typed it; None when it has not the form or the check fails."""
    letters = _letters(raw, _PICKUP_LETTERS)
    return None if letters is None else Code(None, letters)


def _letters(raw: bytes, count: int) -> str | None:
    """The canonical letters without the check letter, if there are ``count`` of them and it is right."""
    if len(raw) > 256:
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    kept = [letter.upper() for letter in text if not letter.isspace() and unicodedata.category(letter) != "Pd"]
    if len(kept) != count + 1 or not all(letter in _VALUE for letter in kept):
        return None
    canonical = "".join(ALPHABET[_VALUE[letter]] for letter in kept)
    return canonical[:-1] if check_letter(canonical[:-1]) == canonical[-1] else None
