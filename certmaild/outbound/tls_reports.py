"""Sends each domain that wants it a report on how TLS with it went the day before (RFC 8460)."""

import random
from collections.abc import Callable
from email.message import EmailMessage
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from certmaild.dns.values import Lookup, ask_txt
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_policies import TlsDayRow
from certmaild.mailbox.tls_days import TlsDays
from certmaild.outbound.interfaces import Work
from certmaild.outbound.tls_report import Submitter, parse_report_addresses, report_letter
from certmaild.outbound.tls_tally import DAY_S, TlsTally

log = Logger()
FLUSH_S = 60
LOOK_S = 600
SPREAD_S = 4 * 3600
"""Reports go out within so long after midnight, so that not all the world's come at once (RFC 8460 section 4.2)."""
KEPT_DAYS = 2
"""While DNS does not say who wants a report."""
_BATCH = 50


class ReportMail(Protocol):
    """The server's own mail, as far as reports need it."""

    async def prepare_letter(self, letter: EmailMessage, to: str) -> Work:
        """What puts a letter on its way, in the caller's transaction; with ``TLS-Required: No`` if its header says so.

        What it raises is told in the log, and the report is tried again for two days.
        """
        ...


class TlsReports:
    """Runs in the process that works the queue, which alone counts."""

    def __init__(
        self,
        engine: Engine,
        days: TlsDays,
        tally: TlsTally,
        lookup: Lookup,
        mail: ReportMail,
        submitter: Callable[[], Submitter],
        clock: Any,
    ) -> None:
        self._engine = engine
        self._days = days
        self._tally = tally
        self._lookup = lookup
        self._mail = mail
        self._submitter = submitter
        self._clock = clock
        self._after_midnight_s = random.randrange(60, SPREAD_S)  # noqa: S311  # spreads load, hides nothing
        self._calls = [self._calling(self._flush), self._calling(self._look)]

    def start(self) -> None:
        """Count and report from now on."""
        for call, every_s in zip(self._calls, (FLUSH_S, LOOK_S), strict=True):
            call.start(every_s, now=False)

    async def stop(self) -> None:
        """Begin nothing further, and bring into the store what was counted."""
        for call in self._calls:
            if call.running:
                call.stop()
        await self._tally.flush()

    def _calling(self, work: Callable[[], Any]) -> LoopingCall:
        call = LoopingCall(lambda: Deferred.fromCoroutine(work()))
        call.clock = self._clock
        return call

    async def _flush(self) -> None:
        try:
            await self._tally.flush()
        except Exception:
            log.failure("counts of TLS sessions could not be stored; it is tried again")

    async def _look(self) -> None:
        if self._clock.seconds() % DAY_S < self._after_midnight_s:
            return
        try:
            await self.send()
        except Exception:
            log.failure("TLS reports could not be sent; it is tried again")

    async def send(self) -> None:
        """Report on all days that are over, and forget what was reported or nobody wants to hear of."""
        await self._tally.flush()
        today = int(self._clock.seconds()) // DAY_S
        after = b""
        while batch := await self._engine.scan(partial(_take, self._days, today, after)):
            after = batch[-1][0]
            for key, day, row in batch:
                await self._report(key, day, row, today)

    async def _report(self, key: bytes, day: int, row: TlsDayRow | None, today: int) -> None:
        works = [] if row is None else await self._letters(row, day)
        if works is None and today - day <= KEPT_DAYS:
            return

        def work(txn: WriteTxn) -> None:
            self._days.drop(txn, key)
            for one in works or ():
                one(txn)

        await self._engine.write(work)

    async def _letters(self, row: TlsDayRow, day: int) -> list[Work] | None:
        """What sends the report to those who want it; None if it is to be tried again."""
        answer = await ask_txt(self._lookup, f"_smtp._tls.{row.domain}")
        if answer.failed:
            return None
        submitter = self._submitter()
        report_id = f"{day}.{random.getrandbits(64):016x}@{submitter.hostname}"  # unique, not secret
        works = []
        addresses = parse_report_addresses(answer.records)
        for address in addresses:
            letter = report_letter(row, day, submitter, report_id)
            try:
                works.append(await self._mail.prepare_letter(letter, address))
            except Exception:
                # An address that nobody can write to must not keep the report from the others.
                log.failure("a TLS report could not be written")
        return works if works or not addresses else None


def _take(days: TlsDays, before: int, after: bytes, txn: ReadTxn) -> list[tuple[bytes, int, TlsDayRow | None]]:
    taken: list[tuple[bytes, int, TlsDayRow | None]] = []
    for one in days.scan(txn, before, after):
        taken.append(one)
        if len(taken) == _BATCH:
            break
    return taken
