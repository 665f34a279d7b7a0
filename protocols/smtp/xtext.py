"""xtext: values of ENVID and ORCPT, which may hold any octet (RFC 3461 section 4, RFC 6533 section 3)."""

import re
from typing import Final

_HEXCHAR: Final = re.compile(rb"\+([0-9A-F]{2})")
_XTEXT: Final = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_TO_ENCODE: Final = re.compile(rb"[^!-*,-<>-~]")
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-F]{1,6})\}")


def encode_xtext(octets: bytes) -> bytes:
    """What may stand as a parameter's value: everything but printable ASCII, and ``+`` and ``=``, as ``+HH``."""
    return _TO_ENCODE.sub(lambda match: b"+%02X" % match[0][0], octets)


def decode_xtext(text: bytes) -> bytes:
    """Inverse of `encode_xtext`. Raises `ValueError`."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    return _HEXCHAR.sub(lambda match: bytes((int(match[1], 16),)), text)


def decode_unicode(text: str) -> str:
    r"""An address of type ``utf-8`` as people read it: ``\x{HEX}`` becomes the character. What is none is kept."""

    def character(match: re.Match[str]) -> str:
        point = int(match[1], 16)
        return match[0] if point > 0x10FFFF or 0xD800 <= point < 0xE000 else chr(point)

    return _EMBEDDED.sub(character, text)
