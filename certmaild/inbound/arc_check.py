"""The ARC chain: what those who passed the message on found when they got it, and sealed (RFC 8617 section 5.2)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certmaild.dkim.body_hash import BodyHash
from certmaild.dkim.fields import CanonicalHeader, Field, RunningHash, TagsUnfit, parse_tags
from certmaild.dns.values import Answer
from certmaild.inbound.signatures import Signature, SignatureFails, check_signature, read_key, read_signature
from certmaild.inbound.verdicts import ArcResult, Result
from certmaild.keystore.mail_signatures import verify_digest

MAX_INSTANCES = 50
"""RFC 8617 section 4.2.1."""
RESULTS, MESSAGE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_NAMES = (RESULTS, MESSAGE, SEAL)
_INSTANCE = re.compile(rb"\s*i\s*=\s*([0-9]{1,2})\s*;")


class ChainBroken(Exception):
    """The fields make no chain; the text is a few words."""


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One server's three fields."""

    results: Field
    message: Field
    seal: Field


@dataclass(frozen=True, slots=True)
class ArcChain:
    """A chain whose form is right, the first set first; only the last one's message signature is needed."""

    sets: tuple[ArcSet, ...]
    seals: tuple[Signature, ...]
    message: Signature

    @property
    def key_names(self) -> list[str]:
        """Where the keys are published."""
        return [one.key_name for one in (*self.seals, self.message)]


def read_chain(fields: Sequence[Field], now_s: float) -> ArcChain | None:
    """The chain in a header; None without any. Raises `ChainBroken`."""
    found: dict[bytes, dict[int, Field]] = {name: {} for name in _NAMES}
    for field in fields:
        by_instance = found.get(field.key)
        if by_instance is not None:
            instance = _instance(field)
            if instance in by_instance:
                raise ChainBroken(f"instance {instance} is there twice")
            by_instance[instance] = field
    count = len(found[SEAL])
    if not any(found.values()):
        return None
    if any(set(by_instance) != set(range(1, count + 1)) for by_instance in found.values()):
        raise ChainBroken("the instances have gaps")
    sets = tuple(ArcSet(*(found[name][at] for name in _NAMES)) for at in range(1, count + 1))
    for at, one in enumerate(sets, 1):
        _check_status(one.seal, is_first=at == 1)
    try:
        seals = tuple(read_signature(one.seal, now_s, is_dkim=False, has_body=False) for one in sets)
        message = read_signature(sets[-1].message, now_s, is_dkim=False)
    except SignatureFails as fails:
        raise ChainBroken(fails.reason) from None
    if SEAL in message.names:
        raise ChainBroken("a message signature covers seals")
    return ArcChain(sets, seals, message)


def check_chain(
    chain: ArcChain, header: CanonicalHeader, bodies: Mapping[bytes, BodyHash], keys: Mapping[str, Answer[bytes]]
) -> ArcResult:
    """Whether it holds from end to end; ``keys`` are by `ArcChain.key_names`."""
    last = chain.seals[-1].domain
    sealed = RunningHash()
    try:
        check_signature(chain.message, header, bodies, read_key(chain.message, keys[chain.message.key_name]))
        for one, seal in zip(chain.sets, chain.seals, strict=True):
            sealed.add(one.results)
            sealed.add(one.message)
            if not verify_digest(read_key(seal, keys[seal.key_name]), seal.octets, sealed.digest(one.seal)):
                raise SignatureFails(Result.FAIL, f"the seal of {seal.domain} does not fit")
            sealed.add(one.seal)
    except SignatureFails as fails:
        result = Result.TEMPERROR if fails.result is Result.TEMPERROR else Result.FAIL
        return ArcResult(result, fails.reason, last)
    return ArcResult(Result.PASS, "", last, chain.sets[-1].results.value)


def _instance(field: Field) -> int:
    if field.key == RESULTS:
        match = _INSTANCE.match(field.value)
        number = b"" if match is None else match[1]
    else:
        number = _tags(field).get(b"i", b"")
    if not number.isdigit() or len(number) > 2 or not 1 <= int(number) <= MAX_INSTANCES:
        raise ChainBroken("an instance has no number from 1 to 50")
    return int(number)


def _check_status(seal: Field, *, is_first: bool) -> None:
    tags = _tags(seal)
    if b"h" in tags:
        raise ChainBroken("a seal has h=")
    status = tags.get(b"cv", b"").lower()
    if status == b"fail":
        raise ChainBroken("a server found the chain broken")
    if status != (b"none" if is_first else b"pass"):
        raise ChainBroken("a seal does not say how it found the chain")


def _tags(field: Field) -> dict[bytes, bytes]:
    try:
        return parse_tags(field.value.replace(b"\r\n", b""))
    except TagsUnfit as unfit:
        raise ChainBroken(f"a field is {unfit}") from None
