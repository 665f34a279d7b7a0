"""Signatures of DKIM and ARC, read and checked: fields, key records, and whether they hold (RFC 6376 section 6).

Headers are given, and body hashes made elsewhere as the body streamed by; DNS answers are given too. What is weak does
not count: SHA-1, RSA below 1,024 bits (RFC 8301), and ``l=`` that leaves part of the body unsigned.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from certmaild.dkim.body_hash import BodyHash
from certmaild.dkim.fields import MAX_NAMES, CanonicalHeader, Field, TagsUnfit, parse_record, parse_tags
from certmaild.dns.values import Answer
from certmaild.inbound.verdicts import Result
from certmaild.keystore.errors import SignatureKeyUnfit
from certmaild.keystore.mail_signatures import KeyKind, PublicKey, read_public_key, verify_digest

_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(_LABEL + rb"(?:\." + _LABEL + rb")*")
_FIELD_NAME = re.compile(rb"[!-9;-~]+")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_FORMS = (b"simple", b"relaxed")
_ONCE = (
    *(b"from", b"sender", b"reply-to", b"to", b"cc", b"date", b"subject", b"message-id"),
    *(b"mime-version", b"content-type", b"content-transfer-encoding"),
)
"""Fields that a message has once; whoever adds another is read instead of the signed one (RFC 6376 section 8.15)."""


class SignatureFails(Exception):
    """A signature does not hold, or does not count."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


def broken(reason: str) -> SignatureFails:
    """For what is wrong for good."""
    return SignatureFails(Result.PERMERROR, reason)


@dataclass(frozen=True, slots=True)
class Signature:
    """A field with a signature, read."""

    field: Field
    kind: KeyKind
    domain: str
    selector: str
    identity: str
    """The domain of ``i=``, lower case; `domain` where there is none."""
    names: tuple[bytes, ...]
    """``h=``, in lower case."""
    header_form: bytes
    body_form: bytes
    body_digest: bytes
    length: int | None
    octets: bytes

    @property
    def key_name(self) -> str:
        """Where its key is published."""
        return f"{self.selector}._domainkey.{self.domain}"


def read_signature(field: Field, now_s: float, *, is_dkim: bool = True, has_body: bool = True) -> Signature:
    """A DKIM-Signature, or of ARC a Message-Signature or, without body, a Seal. Raises `SignatureFails`."""
    try:
        tags = parse_tags(_unfolded(field.value))
    except TagsUnfit as unfit:
        raise broken(f"the signature is {unfit}") from None
    if is_dkim and tags.get(b"v") != b"1":
        raise broken("the signature's version is unknown")
    domain, selector = _host(tags, b"d"), _host(tags, b"s")
    _check_times(tags, now_s)
    default = b"simple/simple" if is_dkim else b"relaxed/relaxed"
    header_form, _, body_form = tags.get(b"c", default).lower().partition(b"/")
    body_form = body_form or b"simple"
    if header_form not in _FORMS or body_form not in _FORMS or (not has_body and header_form != b"relaxed"):
        raise broken("the canonicalisation is unknown")
    if is_dkim and tags.get(b"q", b"dns/txt").lower() != b"dns/txt":
        raise broken("the way to the key is unknown")
    return Signature(
        field,
        _kind(tags.get(b"a", b"")),
        domain,
        selector,
        _identity(tags, domain) if is_dkim else domain,
        _names(tags) if has_body else (),
        header_form,
        body_form,
        _base64(tags, b"bh") if has_body else b"",
        _length(tags) if has_body else None,
        _base64(tags, b"b"),
    )


def check_signature(
    signature: Signature, header: CanonicalHeader, bodies: Mapping[bytes, BodyHash], key: PublicKey
) -> None:
    """Raises `SignatureFails`. ``bodies`` are by form, and finished."""
    body = bodies[signature.body_form]
    if body.digest != signature.body_digest:
        if signature.length is not None and signature.length < body.length:
            raise SignatureFails(Result.POLICY, "the signature leaves part of the body out (l=)")
        raise SignatureFails(Result.FAIL, "the body was changed")
    digest = header.digest(signature.header_form, signature.names, signature.field)
    if not verify_digest(key, signature.octets, digest):
        raise SignatureFails(Result.FAIL, "the signature does not fit the header")
    for name in _ONCE:
        if (there := header.count(name)) > 1 and signature.names.count(name) < there:
            raise SignatureFails(Result.POLICY, f"a second {name.decode()} field is not signed")


def read_key(signature: Signature, answer: Answer[bytes]) -> PublicKey:
    """The key, of what DNS says at `Signature.key_name`. Raises `SignatureFails`."""
    if answer.failed:
        raise SignatureFails(Result.TEMPERROR, "DNS does not give the key now")
    for text in answer.records:
        try:
            tags = parse_record(text)
        except TagsUnfit:
            continue
        if b"p" in tags and tags.get(b"v", b"DKIM1") == b"DKIM1":
            return _key(signature, tags)
    raise broken("there is no key")


def _key(signature: Signature, tags: Mapping[bytes, bytes]) -> PublicKey:
    if not tags[b"p"]:
        raise broken("the key is revoked")
    if tags.get(b"k", b"rsa").lower() != signature.kind.value.encode():
        raise broken("the key is of another kind")
    if b"sha256" not in _list(tags.get(b"h", b"sha256")):
        raise broken("the key is not for SHA-256")
    if not {b"*", b"email"} & _list(tags.get(b"s", b"*")):
        raise broken("the key is not for mail")
    if b"s" in _list(tags.get(b"t", b"")) and signature.identity != signature.domain:
        raise broken("the key is not for subdomains")
    try:
        return read_public_key(signature.kind, tags[b"p"])
    except SignatureKeyUnfit as unfit:
        raise broken(str(unfit)) from None


def _list(text: bytes) -> set[bytes]:
    return {one.strip().lower() for one in text.split(b":")}


def _unfolded(value: bytes) -> bytes:
    return value.replace(b"\r\n", b"")


def _host(tags: Mapping[bytes, bytes], name: bytes) -> str:
    text = tags.get(name, b"").rstrip(b".")
    if not text.isascii():
        raise broken(f"{name.decode()}= is not in A-labels")
    if len(text) > 253 or _NAME.fullmatch(text) is None:
        raise broken(f"{name.decode()}= is missing or no host name")
    return text.decode("ascii").lower()


def _kind(algorithm: bytes) -> KeyKind:
    for kind in KeyKind:
        if algorithm.lower() == kind.algorithm.encode():
            return kind
    raise broken("SHA-1 does not count" if b"sha1" in algorithm.lower() else "the algorithm is unknown")


def _identity(tags: Mapping[bytes, bytes], domain: str) -> str:
    given = tags.get(b"i")
    if given is None:
        return domain
    identity = given.rpartition(b"@")[2].decode("ascii", "replace").lower().rstrip(".")
    if identity != domain and not identity.endswith("." + domain):
        raise broken("i= is not below d=")
    return identity


def _names(tags: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    names = tuple(name.strip().lower() for name in tags.get(b"h", b"").split(b":"))
    if len(names) > MAX_NAMES or not all(map(_FIELD_NAME.fullmatch, names)):
        raise broken("h= is missing or no list of fields")
    if b"from" not in names:
        raise broken("From is not signed")
    return names


def _length(tags: Mapping[bytes, bytes]) -> int | None:
    if b"l" not in tags:
        return None
    if _NUMBER.fullmatch(tags[b"l"]) is None:
        raise broken("l= is no number")
    return int(tags[b"l"])


def _check_times(tags: Mapping[bytes, bytes], now_s: float) -> None:
    for name in (b"t", b"x"):
        if name in tags and _NUMBER.fullmatch(tags[name]) is None:
            raise broken(f"{name.decode()}= is no time")
    if b"x" in tags and int(tags[b"x"]) < now_s:
        raise SignatureFails(Result.FAIL, "the signature has expired")


def _base64(tags: Mapping[bytes, bytes], name: bytes) -> bytes:
    try:
        octets = base64.b64decode(b"".join(tags.get(name, b"").split()), validate=True)
    except binascii.Error:
        octets = b""
    if not octets:
        raise broken(f"{name.decode()}= is missing or not base64")
    return octets
