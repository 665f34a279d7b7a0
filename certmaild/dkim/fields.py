"""Header fields as signatures see them: taken apart, made canonical, chosen by ``h=``, hashed (RFC 6376 section 3.4).

Everything is linear in the header: `dkim` (dkimpy) gives the canonical forms and the tag lists, but finds fields and
the ``b=`` tag in ways that a hostile header makes slow, so that is done here.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from dkim.canonicalization import CanonicalizationPolicy, InvalidCanonicalizationPolicyError
from dkim.util import InvalidTagValueList, parse_tag_value

MAX_SIGNATURE_OCTETS = 16 * 1024
"""Of a signature's field, and of a key record."""
MAX_NAMES = 1000
"""In ``h=``."""


class TagsUnfit(Exception):
    """A signature's field or a key record is not what its RFC says; the text is a few words."""


class Field(NamedTuple):
    """One header field."""

    name: bytes
    """As written."""
    value: bytes
    """After the colon, folding and the final CRLF included."""

    @property
    def key(self) -> bytes:
        """The name in lower case, without white space before the colon."""
        return self.name.rstrip(b" \t").lower()


def parse_fields(header: bytes) -> list[Field]:
    """The fields of a header block, in order; lines that begin no field are left out. The block ends in CRLF."""
    fields: list[Field] = []
    start = 0
    while start < len(header):
        end = _end_of_field(header, start)
        name, colon, value = header[start:end].partition(b":")
        if colon and name and b"\r" not in name:
            fields.append(Field(name, value))
        start = end
    return fields


def _end_of_field(header: bytes, start: int) -> int:
    at = start
    while True:
        at = header.find(b"\r\n", at)
        if at < 0:
            return len(header)
        at += 2
        if header[at : at + 1] not in (b" ", b"\t"):
            return at


def parse_tags(text: bytes) -> dict[bytes, bytes]:
    """A tag list (RFC 6376 section 3.2), values unfolded. Raises `TagsUnfit`."""
    if len(text) > MAX_SIGNATURE_OCTETS:
        raise TagsUnfit("too long")
    try:
        tags: dict[bytes, bytes] = parse_tag_value(text)
    except InvalidTagValueList:
        raise TagsUnfit("not a list of tags") from None
    return tags


@lru_cache(maxsize=256)
def parse_record(text: bytes) -> Mapping[bytes, bytes]:
    """The same for what DNS says, which is much the same from message to message."""
    return MappingProxyType(parse_tags(text))


def without_b(value: bytes) -> bytes:
    """A signature's field with the value of its ``b=`` tag, white space around it included, taken out."""
    specs = value.split(b";")
    for at, spec in enumerate(specs):
        name, equals, _ = spec.partition(b"=")
        if equals and name.strip() == b"b":
            specs[at] = name + equals
    return b";".join(specs)


class CanonicalHeader:
    """The fields of one message, made canonical once in each form that signatures ask for."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields
        self._forms: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self._places: defaultdict[bytes, list[int]] = defaultdict(list)
        for at, field in enumerate(fields):
            self._places[field.key].append(at)

    def count(self, name: bytes) -> int:
        """How many fields there are of a name in lower case."""
        return len(self._places.get(name, ()))

    def digest(self, form: bytes, names: Sequence[bytes], signature: Field) -> bytes:
        """SHA-256 of the fields that ``names`` choose, and of the signature's own without its ``b=`` value.

        ``names`` are in lower case; the n-th time a name stands there means its n-th field from below, and nothing if
        there is none (RFC 6376 section 5.4.2). ``form`` is ``relaxed`` or ``simple``.
        """
        fields = self._canonical(form)
        used: defaultdict[bytes, int] = defaultdict(int)
        hashed = hashlib.sha256()
        for name in names:
            used[name] += 1
            places = self._places.get(name, [])
            if used[name] <= len(places):
                hashed.update(b":".join(fields[places[-used[name]]]))
        hashed.update(_own(form, signature))
        return hashed.digest()

    def _canonical(self, form: bytes) -> list[tuple[bytes, bytes]]:
        if form not in self._forms:
            self._forms[form] = canonical_fields(form, self._fields)
        return self._forms[form]


class RunningHash:
    """Of fields in the order in which they are added, in the relaxed form, as ARC's seals cover them (RFC 8617)."""

    def __init__(self) -> None:
        self._hashed = hashlib.sha256()

    def add(self, field: Field) -> None:
        """One more."""
        self._hashed.update(b":".join(canonical_fields(b"relaxed", [field])[0]))

    def digest(self, signature: Field) -> bytes:
        """Of all so far, and of the signature's own field without its ``b=`` value."""
        whole = self._hashed.copy()
        whole.update(_own(b"relaxed", signature))
        return whole.digest()


def _own(form: bytes, signature: Field) -> bytes:
    own = canonical_fields(form, [Field(signature.name, without_b(signature.value))])[0]
    return b":".join(own).removesuffix(b"\r\n")


def canonical_fields(form: bytes, fields: Sequence[Field]) -> list[tuple[bytes, bytes]]:
    """Names and values, each value with its CRLF. Raises `TagsUnfit` for a form that is none."""
    try:
        policy = CanonicalizationPolicy.from_c_value(form + b"/simple")
    except InvalidCanonicalizationPolicyError:
        raise TagsUnfit("unknown canonicalisation") from None
    made: list[tuple[bytes, bytes]] = policy.canonicalize_headers([(field.name, field.value) for field in fields])
    return made
