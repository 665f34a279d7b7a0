"""Counts how TLS with other domains goes: in memory for a minute at most, then in the store (RFC 8460 section 4)."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from certmaild.keystore.tls_values import TlsResult
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_policies import FailureRow, SessionsRow, TlsDayRow
from certmaild.mailbox.tls_days import TlsDays
from certmaild.outbound.interfaces import PolicyKind, TlsPolicy

DAY_S = 86_400
MAX_DOMAINS = 10_000
"""In memory; what is beyond that is not counted."""
MAX_POLICIES = 10
"""Of one domain on one day: it changed as often."""
MAX_FAILURES = 50
"""Kinds of failures under one policy; further ones are in the sum only."""
MAX_REASON = 300

Failing = tuple[str, str, str, str]
"""Result, host, address, reason."""


@dataclass(slots=True)
class Counts:
    """Sessions under one policy."""

    successful: int = 0
    failed: int = 0
    failures: Counter[Failing] = field(default_factory=Counter)

    def fail(self, failing: Failing, count: int = 1) -> None:
        """Count a failed session."""
        self.failed += count
        if failing in self.failures or len(self.failures) < MAX_FAILURES:
            self.failures[failing] += count

    def add(self, other: "Counts") -> None:
        """Take what another counted."""
        self.successful += other.successful
        self.failed += other.failed - other.failures.total()
        for failing, count in other.failures.items():
            self.fail(failing, count)


ByPolicy = dict[TlsPolicy, Counts]


class TlsTally:
    """A `TlsWatch`. `flush` brings the counts into the store."""

    def __init__(self, engine: Engine, days: TlsDays, seconds: Callable[[], float]) -> None:
        self._engine = engine
        self._days = days
        self._seconds = seconds
        self._applied: OrderedDict[str, TlsPolicy] = OrderedDict()
        self._counted: dict[tuple[int, str], ByPolicy] = {}

    def policy(self, domain: str, policy: TlsPolicy) -> None:
        """See `TlsWatch.policy`."""
        self._applied[domain] = policy
        self._applied.move_to_end(domain)
        if len(self._applied) > MAX_DOMAINS:
            self._applied.popitem(last=False)

    def session(self, domain: str, host: str, address: str, result: TlsResult | None, reason: str = "") -> None:
        """See `TlsWatch.session`."""
        policy = self._applied.get(domain)
        key = (int(self._seconds()) // DAY_S, domain)
        if policy is None or (key not in self._counted and len(self._counted) >= MAX_DOMAINS):
            return
        by_policy = self._counted.setdefault(key, {})
        if policy not in by_policy and len(by_policy) >= MAX_POLICIES:
            return
        counts = by_policy.setdefault(policy, Counts())
        if result is None:
            counts.successful += 1
        else:
            counts.fail((result.value, host, address, reason[:MAX_REASON]))

    async def flush(self) -> None:
        """Add to the rows of the store what was counted since the last time."""
        taken, self._counted = self._counted, {}
        if not taken:
            return
        try:
            await self._engine.write(lambda txn: self._merge(txn, taken))
        except BaseException:
            for key, by_policy in self._counted.items():
                _add(taken.setdefault(key, {}), by_policy)
            self._counted = taken
            raise

    def _merge(self, txn: WriteTxn, counted: dict[tuple[int, str], ByPolicy]) -> None:
        for (day, domain), by_policy in counted.items():
            try:
                row = self._days.read(txn, day, domain)
            except Damaged:
                row = None
            merged = {} if row is None else _read(row)
            _add(merged, by_policy)
            self._days.put(txn, day, _row(domain, merged))


def _add(to: ByPolicy, more: ByPolicy) -> None:
    for policy, counts in more.items():
        if policy in to or len(to) < MAX_POLICIES:
            to.setdefault(policy, Counts()).add(counts)


def _read(row: TlsDayRow) -> ByPolicy:
    by_policy: ByPolicy = {}
    for sessions in row.sessions:
        failures = Counter({(one.result, one.host, one.address, one.reason): one.count for one in sessions.failures})
        policy = TlsPolicy(PolicyKind(sessions.kind), sessions.policy, sessions.hosts)
        by_policy[policy] = Counts(sessions.successful, sessions.failed, failures)
    return by_policy


def _row(domain: str, by_policy: ByPolicy) -> TlsDayRow:
    return TlsDayRow(
        domain,
        tuple(
            SessionsRow(
                policy.kind.value,
                policy.lines,
                policy.hosts,
                counts.successful,
                counts.failed,
                tuple(FailureRow(*failing, count) for failing, count in counts.failures.items()),
            )
            for policy, counts in by_policy.items()
        ),
    )
