"""The canonical form of mail addresses: one function, so that every part of the server compares them alike.

Two addresses are the same mailbox when their `Address.lookup` is equal: domain by UTS 46 as lower-case A-labels, local
part in NFC and case-folded, quotes only where RFC 5321 needs them. The form given is kept for display.
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

import idna

from certmaild.mailbox.errors import AddressError

MAX_ADDRESS_OCTETS = 254
"""RFC 5321 section 4.5.3.1.3 (a path of 256 with its angle brackets)."""
MAX_LOCAL_OCTETS = 64
"""RFC 5321 section 4.5.3.1.1; asked of our own accounts only, since senders' VERP addresses are often longer."""
MAX_DOMAIN_OCTETS = 253
TAG_SEPARATOR = "+"

# RFC 5321 section 4.1.2 with RFC 6531 section 3.3: any octet above ASCII counts as atext.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*)"')
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Address:
    """One address; equal and hashed by `lookup` alone."""

    lookup: str
    """The form to compare and to look up by."""
    local: str = field(compare=False)
    """Local part without quotes and escapes, NFC, in the case given."""
    domain: str = field(compare=False)
    """Lower-case A-labels, or an address literal in brackets."""
    display: str = field(compare=False)
    """As given."""

    @property
    def key(self) -> bytes:
        """`lookup` as the store's key."""
        return self.lookup.encode("utf-8")

    @property
    def wire(self) -> str:
        """For an SMTP path: local part in the case given, quoted where needed, domain as A-labels."""
        return f"{_quoted(self.local)}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only an SMTPUTF8 transaction can carry it (RFC 6531): the local part is not ASCII."""
        return not self.local.isascii()

    @property
    def is_literal(self) -> bool:
        """Whether the domain is an IP address in brackets."""
        return self.domain.startswith("[")

    @property
    def detail(self) -> str | None:
        """The tag of ``user+tag``, in the case given; None without one."""
        base, separator, detail = self.local.partition(TAG_SEPARATOR)
        return detail if base and separator else None

    @property
    def base(self) -> "Address":
        """The address without its ``+tag``; itself when it has none."""
        base, separator, _ = self.local.partition(TAG_SEPARATOR)
        if not base or not separator:
            return self
        text = f"{_quoted(base)}@{self.domain}"
        return Address(_lookup(base, self.domain), base, self.domain, text)

    def __str__(self) -> str:
        return self.display


# Every RCPT asks it; only what is an address, and so at most 254 octets, is remembered.
@lru_cache(maxsize=4096)
def canonical(text: str | bytes) -> Address:
    """The address in ``text``, which is ``local@domain`` without angle brackets (octets are UTF-8).

    Takes dot-strings and quoted strings, UTF-8 in both parts (RFC 6531), and address literals (RFC 5321 section
    4.1.3). Whether an account or an alias exists is not its question. Raises `AddressError`.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            raise AddressError("the address is not UTF-8") from None
    at = text.rfind("@")
    if at < 1 or at == len(text) - 1:
        raise AddressError("an address has the form name@domain")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_ADDRESS_OCTETS:
        raise AddressError("the address is too long")
    local = canonical_local(text[:at])
    domain = canonical_domain(text[at + 1 :])
    lookup = _lookup(local, domain)
    # Folding and A-labels may lengthen it, and the store's keys are bounded.
    if len(lookup.encode("utf-8")) > MAX_ADDRESS_OCTETS:
        raise AddressError("the address is too long")
    return Address(lookup, local, domain, text)


def canonical_local(text: str) -> str:
    """A local part without quotes and escapes, in NFC, its case kept. Raises `AddressError`."""
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        content = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _DOT_STRING.fullmatch(text) is not None:
        content = text
    else:
        raise AddressError("the part before @ is not valid")
    content = unicodedata.normalize("NFC", content)
    if not content or not all(_is_allowed(character) for character in content):
        raise AddressError("the part before @ is not valid")
    return content


def _is_allowed(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    category = unicodedata.category(character)
    return category not in _REFUSED_CATEGORIES and category != "Zs" and character not in _BIDI_CONTROLS


def canonical_domain(text: str) -> str:
    """A domain as lower-case A-labels (UTS 46, non-transitional), or an address literal. Raises `AddressError`."""
    if text.startswith("["):
        return _literal(text)
    try:
        domain = text.lower() if text.isascii() else idna.encode(text, uts46=True, transitional=False).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise AddressError("the domain is not valid") from None
    labels = domain.split(".")
    if len(domain) > MAX_DOMAIN_OCTETS or not all(_is_label(label) for label in labels):
        raise AddressError("the domain is not valid")
    if labels[-1].isdecimal():
        raise AddressError("an IP address as a domain stands in brackets")
    return domain


def _is_label(label: str) -> bool:
    if _LABEL.fullmatch(label) is None:
        return False
    if label.startswith("xn--"):
        try:
            idna.ulabel(label)
        except (idna.IDNAError, UnicodeError):
            return False
    return True


def _literal(text: str) -> str:
    """``[192.0.2.1]`` or ``[IPv6:2001:db8::1]`` (RFC 5321 section 4.1.3), each in one spelling."""
    if not text.endswith("]"):
        raise AddressError("the address literal is not valid")
    inside = text[1:-1]
    try:
        if inside[:5].lower() == "ipv6:" and "%" not in inside:
            return f"[IPv6:{ipaddress.IPv6Address(inside[5:]).compressed}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        raise AddressError("the address literal is not valid") from None


def unicode_domain(domain: str) -> str:
    """A domain of A-labels as people read it; itself when it cannot be decoded."""
    try:
        return ".".join(idna.ulabel(label) if label.startswith("xn--") else label for label in domain.split("."))
    except (idna.IDNAError, UnicodeError):
        return domain


def _folded(local: str) -> str:
    """NFC of the case-folded text, folded twice because composing may bring back a character that folds."""
    for _ in range(2):
        local = unicodedata.normalize("NFC", unicodedata.normalize("NFD", local).casefold())
    return local


def _quoted(local: str) -> str:
    """The local part as RFC 5321 writes it: quoted only where it must be."""
    if _DOT_STRING.fullmatch(local) is not None:
        return local
    return '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


def _lookup(local: str, domain: str) -> str:
    return f"{_quoted(_folded(local))}@{domain}"
