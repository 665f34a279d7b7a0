"""DKIM signatures on what we send: one by Ed25519 and one by RSA, for servers that know only that (RFC 6376, RFC 8463).

The body's hash is made as the body comes in (`Signer.body_hash`), so that the signatures are known when a message is
put into the queue, whatever its size.
"""

import base64
from collections import Counter
from collections.abc import Callable, Sequence

from certmaild.dkim.body_hash import BodyHash
from certmaild.dkim.fields import CanonicalHeader, Field, parse_fields
from certmaild.dkim.key_files import SigningKey

FROZEN = (
    b"from sender reply-to to cc subject date message-id in-reply-to references mime-version content-type "
    b"content-transfer-encoding"
).split()
"""Signed once more than they are there, so that nobody adds one (RFC 6376 section 8.15)."""
SIGNED = (
    b"content-id content-description tls-required importance list-id list-help list-unsubscribe list-unsubscribe-post "
    b"list-subscribe list-post list-owner list-archive autocrypt auto-submitted"
).split()
"""Signed where they are there. ``TLS-Required`` says how a message may travel (RFC 8689)."""
_LINE = 76


class Signer:
    """Signs for the hosted ``domains``, with the keys that ``keys`` gives for a time (`KeyFiles.signing`)."""

    def __init__(self, domains: Sequence[str], keys: Callable[[float], Sequence[SigningKey]]) -> None:
        self._domains = frozenset(domains)
        self._keys = keys

    def body_hash(self) -> BodyHash:
        """What the body is fed to, from after the blank line to its end."""
        return BodyHash(relaxed=True)

    def sign(self, header: bytes, body: BodyHash, *, domain: str, now_s: float) -> bytes:
        """DKIM-Signature fields, complete lines to stand above ``header``; none without keys, or for others' domains.

        ``header`` is the header block as it goes out, each line with CRLF, without the blank line; ``domain`` that of
        From, in lower-case A-labels. The body hash is finished (`BodyHash.finish`).
        """
        if domain not in self._domains or not (keys := self._keys(now_s)):
            return b""
        fields = parse_fields(header)
        canonical = CanonicalHeader(fields)
        names = _names(fields)
        return b"".join(_signature(one, canonical, names, body.digest, domain, int(now_s)) for one in keys)


def _names(fields: Sequence[Field]) -> list[bytes]:
    """What ``h=`` lists."""
    there = Counter(field.key for field in fields)
    names: list[bytes] = []
    for name in FROZEN:
        names += [name] * (there[name] + 1)
    for name in SIGNED:
        names += [name] * there[name]
    return names


def _signature(
    one: SigningKey, header: CanonicalHeader, names: Sequence[bytes], body_digest: bytes, domain: str, now_s: int
) -> bytes:
    first = (
        f" v=1; a={one.key.kind.algorithm}; c=relaxed/relaxed; d={domain};\r\n\ts={one.selector}; t={now_s};\r\n\th="
    ).encode("ascii")
    unsigned = first + _folded_names(names) + b";\r\n\tbh=" + base64.b64encode(body_digest) + b";\r\n\tb="
    digest = header.digest(b"relaxed", names, Field(b"DKIM-Signature", unsigned + b"\r\n"))
    signature = base64.b64encode(one.key.sign_digest(digest))
    lines = [signature[at : at + _LINE - 4] for at in range(0, len(signature), _LINE - 4)]
    return b"DKIM-Signature:" + unsigned + b"\r\n\t ".join(lines) + b"\r\n"


def _folded_names(names: Sequence[bytes]) -> bytes:
    lines, line = [], b""
    for name in names:
        if line and len(line) + len(name) + 1 > _LINE - 4:
            lines.append(line + b":")
            line = name
        else:
            line += (b":" if line else b"") + name
    return b"\r\n\t ".join([*lines, line])
