"""SPF (RFC 7208) by pyspf, whose questions to DNS are answered by us.

pyspf asks as it goes and waits for each answer. So it is run again and again over what is known: where it asks what is
not, the run ends, the answer is fetched, and another run begins. No thread waits for DNS, and its limits of ten terms
that look up and two void answers hold as ever.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias, TypeVar, cast

import spf
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from twisted.internet.defer import Deferred, gatherResults

from certmaild.dns.values import Answer, Lookup, host_text
from certmaild.inbound.verdicts import Result, SpfResult
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.errors import AddressError

T = TypeVar("T")
Question: TypeAlias = tuple[str, str]
Known: TypeAlias = dict[Question, Answer[object]]

MAX_RUNS = 64
"""More than ten terms that look up, each with its addresses fetched beside it, can ask for."""
MAX_RECORD_OCTETS = 4096
"""Of one TXT record; what is longer is left out (RFC 7208 section 3.4 asks for 450)."""


QUICK_OCTETS = 1024
"""A run over records of so few octets takes less than going to a thread and back."""


class InThread(Protocol):
    """Runs work off the reactor's thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class _Unknown(BaseException):
    """The run asks what is not known yet. No `Exception`: nobody in between may take it for one."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.question = question


class _Run(spf.query):  # type: ignore[misc]  # pyspf has no types
    """One run over what is known."""

    def __init__(self, peer: str, sender: str, helo: str, known: Mapping[Question, Answer[object]]) -> None:
        super().__init__(peer, sender, helo, strict=True)
        self._known = known

    def dns(self, name: object, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[object]:
        """Values as pyspf wants them; `Lookup` has followed the CNAMEs."""
        text = str(name).rstrip(".").lower()
        if not text.isascii() or not all(0 < len(label) < 64 for label in text.split(".")):
            return []
        answer = self._known.get((text, qtype))
        if answer is None:
            raise _Unknown((text, qtype))
        if answer.failed:
            raise spf.TempError("DNS does not answer")
        values = [_value(qtype, record) for record in answer.records]
        if not values and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError("too many void lookups")
        return values

    def get_explanation(self, spec: object) -> None:
        """What the domain would tell the sender is not asked for."""


def _value(qtype: str, record: object) -> object:
    match qtype:
        case "A" | "AAAA":
            return cast(A, record).address
        case "MX":
            return (cast(MX, record).preference, host_text(cast(MX, record).exchange))
        case "PTR":
            return host_text(cast(PTR, record).target)
        case _:
            strings = cast(TXT, record).strings
            return strings if sum(map(len, strings)) <= MAX_RECORD_OCTETS else (b"",)


async def check_spf(lookup: Lookup, peer: str, sender: str, helo: str, in_thread: InThread) -> SpfResult:
    """Whether ``peer`` may send for the domain of ``sender``, or of ``helo`` if that is empty."""
    try:
        domain = canonical(sender or f"postmaster@{helo}").domain
    except AddressError:
        return SpfResult(Result.NONE)
    if domain.startswith("[") or "." not in domain:
        return SpfResult(Result.NONE)
    # Local parts go into macros as they are; the domain as DNS has it.
    identity = f"{sender.rpartition('@')[0] or 'postmaster'}@{domain}"
    known: Known = {}
    await _ask(lookup, (domain, "TXT"), known)
    peer = peer.partition("%")[0]
    for _ in range(MAX_RUNS):
        if _octets(known) <= QUICK_OCTETS:
            outcome = _run(peer, identity, helo, known)
        else:
            outcome = await in_thread(lambda: _run(peer, identity, helo, known))
        if isinstance(outcome, Result):
            return SpfResult(outcome, domain, is_helo=not sender)
        await _ask(lookup, outcome, known)
        if outcome[1] == "MX":
            kind = "AAAA" if ":" in peer else "A"
            hosts = [host_text(cast(MX, record).exchange) for record in known[outcome].records][: spf.MAX_MX]
            asking = [Deferred.fromCoroutine(_ask(lookup, (host, kind), known)) for host in hosts if host]
            await gatherResults(asking, consumeErrors=True)
    return SpfResult(Result.PERMERROR, domain)


def _octets(known: Known) -> int:
    """Of all TXT records that a run may read."""
    return sum(
        sum(map(len, cast(TXT, record).strings))
        for (_, kind), answer in known.items()
        if kind == "TXT"
        for record in answer.records
    )


async def _ask(lookup: Lookup, question: Question, known: Known) -> None:
    name, qtype = question
    known[question] = cast("Answer[object]", await lookup.ask(name, RdataType[qtype]))


def _run(peer: str, sender: str, helo: str, known: Known) -> "Result | Question":
    """A result, or what must be known for one."""
    try:
        return Result(_Run(peer, sender, helo, known).check()[0])
    except _Unknown as unknown:
        return unknown.question
    except Exception:
        # A record that pyspf stumbles over.
        return Result.PERMERROR
