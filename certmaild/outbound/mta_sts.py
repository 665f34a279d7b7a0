"""Which MTA-STS policy a domain has: from the store, from DNS and the policy host (RFC 8461 sections 3 and 5)."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from certmaild.dns.values import Lookup, ask_txt
from certmaild.keystore.tls_values import TlsResult
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.interfaces import Engine, ReadTxn
from certmaild.mailbox.layout_policies import StsRow
from certmaild.mailbox.sts_policies import StsRows
from certmaild.outbound.sts_fetch import FetchFailed
from certmaild.outbound.sts_policy import Mode, PolicyInvalid, StsPolicy, parse_announcement, parse_policy
from certmaild.shared_work import SharedWork

log = Logger()
FETCHES = 10
"""At once."""
AGAIN_S = 300
"""Before a policy that could not be fetched is tried again (RFC 8461 section 3.3)."""
REFRESH_S = 86_400
"""A policy is fetched again when it is older than this, or than half its life."""
REFRESH_EVERY_S = 3600
REMEMBERED = 10_000
"""Failed fetches."""


class Fetch(Protocol):
    """Fetches policy files; `sts_fetch.StsFetch` is one."""

    async def fetch(self, domain: str) -> str:
        """The file. Raises `FetchFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class StsFinding:
    """What is known of a domain."""

    policy: StsPolicy | None = None
    """In force: fetched, valid, and not in mode none."""
    text: str = ""
    """The file, for reports."""
    failure: TlsResult | None = None
    """A policy is announced, but could not be had; with ``policy`` the one from before counts on."""
    reason: str = ""
    """Why, in words."""
    unasked: str = ""
    """Not empty: DNS could not be asked whether there is one, and none is known. Why, in words."""

    @property
    def is_enforced(self) -> bool:
        """Whether mail must not go where the policy does not lead."""
        return self.policy is not None and self.policy.mode is Mode.ENFORCE


class MtaSts:
    """Policies of domains."""

    def __init__(self, lookup: Lookup, fetch: Fetch, engine: Engine, rows: StsRows, clock: Any) -> None:
        self._lookup = lookup
        self._fetch = fetch
        self._engine = engine
        self._rows = rows
        self._clock = clock
        self._places = DeferredSemaphore(FETCHES)
        self._under_way: SharedWork[str, StsFinding] = SharedWork()
        self._failed: dict[tuple[str, str], tuple[float, FetchFailed]] = {}

    async def find(self, domain: str) -> StsFinding:
        """The policy of a domain (lower-case A-labels). Waits for a fetch, at most a minute or so.

        A policy that was fetched counts until its time is over, whatever DNS and the policy host say meanwhile but for
        a newer one (section 5.1): else whoever can suppress an answer could switch it off.
        """
        kept = await self._kept(domain)
        answer = await ask_txt(self._lookup, f"_mta-sts.{domain}")
        announced = None if answer.failed else parse_announcement(answer.records)
        if answer.failed and kept is None:
            return StsFinding(unasked=answer.reason)
        if announced is None or (kept is not None and kept.id == announced):
            return _finding(kept)
        return await self._renew(domain, announced, kept)

    async def refresh(self) -> None:
        """Fetch again what is half through its life or a day old, and forget what is over; for a call each hour."""
        after = b""
        while True:
            batch = await self._engine.scan(partial(_take, self._rows, after))
            if not batch:
                return
            after = batch[-1][0]
            for _, row in batch:
                await self._refresh_one(row)

    async def _refresh_one(self, row: StsRow) -> None:
        age_s = self._clock.seconds() - row.fetched_s
        max_age_s = parse_policy(row.policy).max_age_s
        if age_s >= max_age_s:
            await self._engine.write(lambda txn: self._rows.remove(txn, row.domain))
        elif age_s >= min(REFRESH_S, max_age_s / 2):
            answer = await ask_txt(self._lookup, f"_mta-sts.{row.domain}")
            announced = None if answer.failed else parse_announcement(answer.records)
            if announced is not None:
                await self._renew(row.domain, announced, row)

    async def _kept(self, domain: str) -> StsRow | None:
        """The stored policy while it is in force."""
        try:
            row = await self._engine.read(lambda txn: self._rows.read(txn, domain))
        except Damaged:
            log.failure("a stored MTA-STS policy does not open; it is fetched again")
            return None
        if row is None or self._clock.seconds() >= row.fetched_s + parse_policy(row.policy).max_age_s:
            return None
        return row

    async def _renew(self, domain: str, announced: str, kept: StsRow | None) -> StsFinding:
        """Fetch once for all who ask at the same time."""
        return await self._under_way.result(
            domain,
            lambda: self._places.run(lambda: Deferred.fromCoroutine(self._fetch_new(domain, announced, kept))),
        )

    async def _fetch_new(self, domain: str, announced: str, kept: StsRow | None) -> StsFinding:
        now = self._clock.seconds()
        until, failed = self._failed.get((domain, announced), (0.0, None))
        if failed is None or until <= now:
            try:
                text = await self._fetch.fetch(domain)
                parse_policy(text)
            except FetchFailed as fault:
                failed = fault
            except PolicyInvalid as fault:
                failed = FetchFailed(TlsResult.STS_POLICY_INVALID, f"the policy is not valid: {fault}")
            else:
                row = StsRow(domain, announced, text, int(self._clock.seconds()))
                await self._engine.write(lambda txn: self._rows.put(txn, row))
                self._failed.pop((domain, announced), None)
                return _finding(row)
            self._remember(domain, announced, failed)
        return _finding(kept, failed)

    def _remember(self, domain: str, announced: str, failed: FetchFailed) -> None:
        if len(self._failed) >= REMEMBERED:
            self._failed.pop(next(iter(self._failed)))
        self._failed[domain, announced] = (self._clock.seconds() + AGAIN_S, failed)


_BATCH = 100


def _take(rows: StsRows, after: bytes, txn: ReadTxn) -> list[tuple[bytes, StsRow]]:
    taken: list[tuple[bytes, StsRow]] = []
    for one in rows.scan(txn, after):
        taken.append(one)
        if len(taken) == _BATCH:
            break
    return taken


def _finding(row: StsRow | None, failed: FetchFailed | None = None) -> StsFinding:
    failure, reason = (None, "") if failed is None else (failed.result, failed.reason)
    policy = None if row is None else parse_policy(row.policy)
    if row is None or policy is None or policy.mode is Mode.NONE:
        return StsFinding(None, "", failure, reason)
    return StsFinding(policy, row.policy, failure, reason)
