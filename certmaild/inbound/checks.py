"""SPF, DKIM, ARC and DMARC of one message: questions to DNS are asked while its body still comes in.

Signatures are found in the header by one search over it; bodies are hashed only in the forms that they name. Nothing
waits for DNS longer than `Tools.time_s` in all: what is not known by then is a temporary error, and the message is
taken.
"""

import base64
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from certmaild.dkim.body_hash import BodyHash
from certmaild.dkim.fields import CanonicalHeader, Field, TagsUnfit, parse_fields, parse_tags
from certmaild.dns.values import Answer, DnsStatus, Lookup, ask_txt
from certmaild.inbound.arc_check import ArcChain, ChainBroken, check_chain, read_chain
from certmaild.inbound.dmarc import check_dmarc
from certmaild.inbound.signatures import Signature, SignatureFails, check_signature, read_key, read_signature
from certmaild.inbound.spf_check import InThread, check_spf
from certmaild.inbound.verdicts import ArcResult, DkimResult, DmarcResult, Result, SpfResult

log = Logger()
T = TypeVar("T")

_SIGNED = re.compile(
    rb"^(dkim-signature|arc-(?:authentication-results|message-signature|seal))[ \t]*:"
    rb"((?:[^\r\n]*\r\n[ \t])*[^\r\n]*\r\n)",
    re.IGNORECASE | re.MULTILINE,
)
_UNKNOWN: Answer[bytes] = Answer(DnsStatus.FAILED, "")
LAST_S = 5.0
"""Seconds that DMARC may take after the rest, however long that took."""
QUICK_SIGNATURES = 2
QUICK_OCTETS = 16 * 1024
"""So few signatures in a header of so few octets are checked in less time than going to a thread and back takes."""
MAX_FIELDS = 500
"""Of signatures and seals that are taken out of a header: more than a whole ARC chain and many a signature beside."""
MAX_AUTHORS = 4
"""Domains of From that are looked at."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What checks work with."""

    lookup: Lookup
    in_thread: InThread
    clock: Any
    """Twisted's `IReactorTime`."""
    time_s: float = 15.0
    signatures: int = 8
    """DKIM signatures that are looked at; what follows them is left alone."""


@dataclass(frozen=True, slots=True)
class Found:
    """All results of one message."""

    spf: SpfResult
    dkim: tuple[DkimResult, ...]
    arc: ArcResult
    dmarc: tuple[DmarcResult, ...]
    """One for each domain of From."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One DKIM-Signature, or why it is none."""

    field: Field
    signature: Signature | None
    fails: SignatureFails | None = None


class Checks:
    """Of one message; its methods are called in the order in which they stand here."""

    def __init__(self, tools: Tools, peer: str, sender: str, helo: str) -> None:
        self._tools = tools
        self._spf_of = (peer, sender, helo)
        self._header = b""
        self._read: list[_Read] = []
        self._chain: ArcChain | None = None
        self._arc = ArcResult(Result.NONE)
        self._bodies: dict[bytes, BodyHash] = {}
        self._spf: Deferred[SpfResult] | None = None
        self._keys: Deferred[dict[str, Answer[bytes]]] | None = None
        self._until = 0.0

    def take_header(self, header: bytes) -> None:
        """The header block as it came, without the blank line: begins to ask DNS."""
        tools = self._tools
        self._header = header
        now = tools.clock.seconds()
        self._until = now + tools.time_s
        fields = [Field(match[1], match[2]) for match in islice(_SIGNED.finditer(header), MAX_FIELDS)]
        signed = [one for one in fields if one.key == b"dkim-signature"][: tools.signatures]
        self._read = [_read(one, now) for one in signed]
        try:
            self._chain = read_chain([one for one in fields if one.key != b"dkim-signature"], now)
        except ChainBroken as broken:
            self._arc = ArcResult(Result.FAIL, str(broken))
        signatures = [one.signature for one in self._read if one.signature is not None]
        names = [one.key_name for one in signatures]
        if self._chain is not None:
            signatures.append(self._chain.message)
            names += self._chain.key_names
        self._bodies = {
            form: BodyHash(relaxed=form == b"relaxed") for form in {signature.body_form for signature in signatures}
        }
        self._spf = self._begin(check_spf(tools.lookup, *self._spf_of, tools.in_thread), SpfResult(Result.TEMPERROR))
        self._keys = self._begin(self._fetch_keys(list(dict.fromkeys(names))), {})

    def take_body(self, octets: bytes) -> None:
        """The next piece of what follows the blank line."""
        for body in self._bodies.values():
            body.feed(octets)

    async def finish(self, authors: Sequence[str]) -> Found:
        """The results; ``authors`` are the domains of From."""
        tools = self._tools
        for body in self._bodies.values():
            body.finish()
        keys = {} if self._keys is None else await self._keys
        dkim: tuple[DkimResult, ...] = ()
        if self._read or self._chain is not None:
            if len(self._read) <= QUICK_SIGNATURES and self._chain is None and len(self._header) <= QUICK_OCTETS:
                dkim, self._arc = self._check_signatures(keys)
            else:
                dkim, self._arc = await tools.in_thread(lambda: self._check_signatures(keys))
        spf = SpfResult(Result.TEMPERROR) if self._spf is None else await self._spf
        dmarc = []
        for author in authors[:MAX_AUTHORS]:
            left = max(self._until - tools.clock.seconds(), LAST_S)
            unknown = DmarcResult(Result.TEMPERROR, author, reason="DNS does not answer now")
            dmarc.append(await self._begin(check_dmarc(tools.lookup, author, spf, dkim), unknown, left))
        return Found(spf, dkim, self._arc, tuple(dmarc))

    def cancel(self) -> None:
        """The message is not to be taken: ask no further."""
        for asking in (self._spf, self._keys):
            if asking is not None:
                asking.cancel()

    def _begin(self, work: Coroutine[Any, Any, T], otherwise: T, time_s: float | None = None) -> "Deferred[T]":
        """Let it run by itself, no longer than the time set; ``otherwise`` is its result if it does not end."""
        begun: Deferred[T] = Deferred.fromCoroutine(work)
        begun.addTimeout(self._tools.time_s if time_s is None else time_s, self._tools.clock)
        return begun.addErrback(_given_up, otherwise)

    async def _fetch_keys(self, names: Sequence[str]) -> dict[str, Answer[bytes]]:
        asking = [Deferred.fromCoroutine(ask_txt(self._tools.lookup, name)) for name in names]
        return dict(zip(names, await gatherResults(asking, consumeErrors=True), strict=True))

    def _check_signatures(self, keys: dict[str, Answer[bytes]]) -> tuple[tuple[DkimResult, ...], ArcResult]:
        """Everything that computes."""
        header = CanonicalHeader(parse_fields(self._header))
        dkim = tuple(_check(one, header, self._bodies, keys) for one in self._read)
        arc = self._arc
        if self._chain is not None:
            known = {name: keys.get(name, _UNKNOWN) for name in self._chain.key_names}
            arc = check_chain(self._chain, header, self._bodies, known)
        return dkim, arc


def _given_up(failure: Failure, otherwise: T) -> T:
    if not isinstance(failure.value, (DeferredTimeout, CancelledError)):
        log.failure("a check of incoming mail failed", failure)
    return otherwise


def _read(field: Field, now_s: float) -> _Read:
    try:
        return _Read(field, read_signature(field, now_s))
    except SignatureFails as fails:
        return _Read(field, None, fails)


def _check(
    one: _Read, header: CanonicalHeader, bodies: dict[bytes, BodyHash], keys: dict[str, Answer[bytes]]
) -> DkimResult:
    try:
        if one.signature is None:
            raise one.fails or SignatureFails(Result.PERMERROR, "")
        key = read_key(one.signature, keys.get(one.signature.key_name, _UNKNOWN))
        check_signature(one.signature, header, bodies, key)
    except SignatureFails as fails:
        return _result(one, fails.result, fails.reason)
    return _result(one, Result.PASS, "")


def _result(one: _Read, result: Result, reason: str) -> DkimResult:
    """Named by the field's own words; who prints them looks at them first."""
    signature, field = one.signature, one.field
    if signature is not None:
        start = base64.b64encode(signature.octets[:6]).decode("ascii")
        return DkimResult(result, reason, signature.domain, signature.selector, start)
    try:
        tags = parse_tags(field.value.replace(b"\r\n", b""))
    except TagsUnfit:
        tags = {}
    domain, selector = (tags.get(name, b"").decode("ascii", "replace") for name in (b"d", b"s"))
    start = b"".join(tags.get(b"b", b"").split())[:8].decode("ascii", "replace")
    return DkimResult(result, reason, domain.lower().rstrip("."), selector, start)
