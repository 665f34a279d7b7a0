"""What a daily look at a partner, or at our own certificates, has to tell the postmaster: once for each thing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from certmaild.mailbox.layout_partners import PartnerWatched
from certmaild.partners.record import PartnerRecord
from certmaild.peering.probe import Probe, Verdict

DAY_S = 86_400
WARN_DAYS = (30, 7, 1, 0)
"""Days left when a certificate is warned about; 0 is that it has run out."""
PATIENCE_S = 2 * DAY_S
"""How long nobody may be reached before that is told."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that can run out."""

    what: str
    """In words, such as ``the certificate of mx.example.org``."""
    fingerprint: str
    """SHA-256, hexadecimal."""
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be told."""

    subject: str
    lines: tuple[str, ...]
    """Sentences."""


def judge_probe(
    found: Probe, before: PartnerWatched, record: PartnerRecord, now_s: int
) -> tuple[Finding | None, PartnerWatched]:
    """What changed since the postmaster last heard of a partner's servers, and what he knows from now on."""
    verdict, domain = found.verdict, found.domain
    after = msgspec.structs.replace(before, domain=domain, looked_s=now_s, unreached_s=0)
    if verdict is Verdict.UNREACHED:
        since = before.unreached_s or now_s
        after = msgspec.structs.replace(after, unreached_s=since)
        if before.told == verdict.value or now_s - since < PATIENCE_S:
            return None, after
    elif verdict.value == before.told:
        return None, after
    after = msgspec.structs.replace(after, told=verdict.value)
    if verdict is Verdict.RIGHT:
        return Finding(f"{domain}: mail goes there again", ("Its mail servers keep to the terms again.",)), after
    reasons = [f"{one.host} [{one.address}]: {one.words.rstrip('.')}." for one in found.asked if one.words]
    if found.problem is not None:
        reasons.append(found.problem.words)
    if verdict is Verdict.UNREACHED:
        subject, first = f"{domain}: none of its mail servers is reached", "For two days nobody could be asked:"
    else:
        subject, first = f"{domain}: its mail servers do not keep to the terms", "They do not prove what they must:"
    return Finding(subject, (first, *reasons, _consequence(record, now_s))), after


def _consequence(record: PartnerRecord, now_s: int) -> str:
    if record.is_in_force(now_s):
        return (
            f"Mail to {record.domain} waits, and goes back to its senders when its time is over. Tell the "
            f"administrator there, or change the record: certmaild partner test {record.domain} shows more."
        )
    return (
        f"The record is enforced from {record.start} on; then mail would wait. Until then it goes by the default. "
        f"certmaild partner test {record.domain} shows more."
    )


def expiring(
    certificates: Iterable[Certificate], before: PartnerWatched, now_s: int, days: Sequence[int] = WARN_DAYS
) -> tuple[list[Certificate], PartnerWatched]:
    """Those to be warned about now, and what was warned about from now on."""
    warned: dict[str, int] = {}
    due = []
    for one in {one.fingerprint: one for one in certificates}.values():
        left_s = one.not_after.timestamp() - now_s
        reached = [day for day in days if left_s <= day * DAY_S]
        last = before.warned.get(one.fingerprint)
        if reached and (last is None or min(reached) < last):
            due.append(one)
            last = min(reached)
        if last is not None:
            warned[one.fingerprint] = last
    return due, msgspec.structs.replace(before, warned=warned)


def expiry_line(one: Certificate, now_s: int) -> str:
    """A sentence."""
    day = f"{one.not_after:%Y-%m-%d}"
    left_s = one.not_after.timestamp() - now_s
    if left_s <= 0:
        return f"{one.what[0].upper()}{one.what[1:]} has run out on {day}."
    left = int(left_s // DAY_S)
    words = "within a day" if left < 1 else "in a day" if left == 1 else f"in {left} days"
    return f"{one.what[0].upper()}{one.what[1:]} runs out {words}, on {day}."


def servers_certificates(found: Probe) -> list[Certificate]:
    """Of a partner's servers: the first of each chain to run out."""
    return [
        Certificate(f"the certificate of {one.host}", one.shown.fingerprint.hex(), one.shown.not_after.astimezone(UTC))
        for one in found.asked
        if one.shown is not None
    ]
