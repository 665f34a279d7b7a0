"""DMARC: whether the domain of From vouches for a message (RFC 7489, with the tree walk of DMARCbis).

The organisational domain is found in DNS itself, by a walk from the name upwards, and not by a list of public suffixes:
nothing to keep up to date, and what a domain's owner publishes decides (draft-ietf-dmarc-dmarcbis section 4.10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dns.rdatatype import RdataType

from certmaild.dkim.fields import TagsUnfit, parse_record
from certmaild.dns.values import DnsStatus, Lookup, ask_txt
from certmaild.inbound.verdicts import DkimResult, DmarcResult, Policy, Result, SpfResult

MAX_WALK = 8
"""Questions of one walk; a name of more labels is cut to its last seven after the first."""


class DnsFails(Exception):
    """DNS does not answer now."""


@dataclass(frozen=True, slots=True)
class Record:
    """A DMARC record."""

    domain: str
    tags: Mapping[bytes, bytes] = field(repr=False)

    def policy(self, tag: bytes) -> Policy | None:
        """What ``p``, ``sp`` or ``np`` says; None for what is missing or unknown."""
        try:
            return Policy(self.tags.get(tag, b"").decode("ascii", "replace").lower())
        except ValueError:
            return None

    def says(self, tag: bytes, value: bytes) -> bool:
        """Whether a tag has this value."""
        return self.tags.get(tag, b"").lower() == value


async def check_dmarc(lookup: Lookup, domain: str, spf: SpfResult, dkim: Sequence[DkimResult]) -> DmarcResult:
    """The result for the domain of From, in lower-case A-labels."""
    try:
        return await _check(lookup, domain, spf, dkim)
    except DnsFails:
        return DmarcResult(Result.TEMPERROR, domain, reason="DNS does not answer now")


async def _check(lookup: Lookup, domain: str, spf: SpfResult, dkim: Sequence[DkimResult]) -> DmarcResult:
    walk = await _walk(lookup, domain)
    organisation = _organisation(domain, walk)
    record = next((one for one in walk if one.domain == domain), None)
    record = record or next((one for one in walk if one.domain == organisation), None) or (walk[-1] if walk else None)
    if record is None:
        return DmarcResult(Result.NONE, domain)
    policy = await _policy(lookup, record, domain)
    # RFC 7489 says pct=0 where its successor says t=y.
    is_test = record.says(b"t", b"y") or record.says(b"pct", b"0")
    proved = [(one.domain, b"adkim") for one in dkim if one.result is Result.PASS]
    if spf.result is Result.PASS:
        proved.append((spf.domain, b"aspf"))
    for one, tag in dict.fromkeys(proved):
        if one == domain or (not record.says(tag, b"s") and await _belongs(lookup, one, organisation)):
            return DmarcResult(Result.PASS, domain, policy, is_test)
    if spf.result is Result.TEMPERROR or any(one.result is Result.TEMPERROR for one in dkim):
        return DmarcResult(Result.TEMPERROR, domain, policy, is_test, "DNS does not answer now")
    return DmarcResult(Result.FAIL, domain, policy, is_test)


async def _belongs(lookup: Lookup, domain: str, organisation: str) -> bool:
    if domain != organisation and not domain.endswith("." + organisation):
        return False
    return _organisation(domain, await _walk(lookup, domain)) == organisation


async def _policy(lookup: Lookup, record: Record, domain: str) -> Policy:
    main = record.policy(b"p") or Policy.NONE
    if record.domain == domain:
        return main
    below = record.policy(b"sp") or main
    missing = record.policy(b"np")
    if missing is not None and (await lookup.ask(domain, RdataType.A)).status is DnsStatus.NO_NAME:
        return missing
    return below


async def _walk(lookup: Lookup, domain: str) -> list[Record]:
    """The records on the way from a name to its top, lowest first. Raises `DnsFails`."""
    found: list[Record] = []
    labels = domain.split(".")
    names = [labels, *(labels[at:] for at in range(max(1, len(labels) - MAX_WALK + 1), len(labels)))]
    for name in names:
        record = await _record(lookup, ".".join(name))
        if record is not None:
            found.append(record)
            if record.says(b"psd", b"n") or (record.says(b"psd", b"y") and name != labels):
                break
    return found


async def _record(lookup: Lookup, domain: str) -> Record | None:
    """The one record of a name; several are none (RFC 7489 section 6.6.3)."""
    answer = await ask_txt(lookup, f"_dmarc.{domain}")
    if answer.failed:
        raise DnsFails
    records = []
    for text in answer.records:
        version, _, _ = text.partition(b";")
        if version.replace(b" ", b"").replace(b"\t", b"") != b"v=DMARC1":
            continue
        try:
            records.append(Record(domain, parse_record(text)))
        except TagsUnfit:
            continue
    return records[0] if len(records) == 1 else None


def _organisation(domain: str, walk: Sequence[Record]) -> str:
    """Whose domain it is: what a record says of itself, else the highest name with a record."""
    for record in walk:
        if record.says(b"psd", b"n"):
            return record.domain
        if record.says(b"psd", b"y") and record.domain != domain:
            below = len(record.domain.split(".")) + 1
            return ".".join(domain.split(".")[-below:])
    return walk[-1].domain if walk else domain
