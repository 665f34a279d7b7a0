"""Looks at every partner once a day, and at our own certificates, and writes to the postmaster what he must know.

It runs in the one process that works the queue. What was told is stored in the transaction that files the letter, so
each thing is told once, whatever restarts in between.
"""

import textwrap
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from certmaild.config_values import Config
from certmaild.keystore.certificates import certificates_in, fingerprint, read_certificates
from certmaild.keystore.errors import CertificateUnfit
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.tls_values import authorities_pem
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_partners import PartnerWatched
from certmaild.mailbox.partner_log import forget_watched, put_watched, read_watched
from certmaild.outbound.interfaces import Work
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import PartnerRecord
from certmaild.peering.findings import (
    DAY_S,
    WARN_DAYS,
    Certificate,
    Finding,
    expiring,
    expiry_line,
    judge_probe,
    servers_certificates,
)
from certmaild.peering.probe import Prober
from certmaild.protocols.smtp.grammar import Path
from certmaild.reports.service_mail import NotWritable, ServiceMail

log = Logger()
LOOK_S = 600
"""How often it is seen who was last looked at a day ago."""
_POSTMASTER = Path("postmaster", "")
_OURS = ""
"""Stands for the domain where it is about our own certificates."""


class PartnerWatch:
    """From `start` to `stop`."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        partners: PartnerBook,
        mail: ServiceMail,
        prober: Callable[[], Prober],
        config: Callable[[], Config],
        clock: Any,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._partners = partners
        self._mail = mail
        self._prober = prober
        self._config = config
        self._clock = clock
        self._under_way: Deferred[None] | None = None
        self._looking = LoopingCall(self._begin)
        self._looking.clock = clock

    async def start(self) -> None:
        """Begin; the first look is after ten minutes."""
        self._looking.start(LOOK_S, now=False)

    async def stop(self) -> None:
        """Begin nothing further, and break off what is under way."""
        if self._looking.running:
            self._looking.stop()
        if self._under_way is not None:
            self._under_way.cancel()

    def _begin(self) -> Deferred[None]:
        self._under_way = Deferred.fromCoroutine(self.look())
        return self._under_way

    async def look(self) -> None:
        """At everybody who was last looked at a day ago, one after the other."""
        try:
            await self._look_at_ours()
            records = [record for record in self._partners if record.counts_out]
            for record in records:
                await self._look_at(record)
            known = [self._secrets.trace_hash(domain) for domain in (_OURS, *(one.domain for one in records))]
            await self._engine.write(lambda txn: forget_watched(txn, known))
        except CancelledError:
            log.info("the daily look at the partners was broken off; it goes on later")
        except Exception:
            log.failure("the daily look at the partners failed; it is tried again in ten minutes")

    async def _before(self, domain: str) -> PartnerWatched | None:
        """What is remembered; None if it was looked at less than a day ago."""
        name = self._secrets.trace_hash(domain)
        before = await self._engine.read(lambda txn: read_watched(txn, self._secrets, name))
        return None if self._clock.seconds() - before.looked_s < DAY_S else before

    async def _look_at(self, record: PartnerRecord) -> None:
        before = await self._before(record.domain)
        if before is None:
            return
        found = await self._prober().probe(record.domain, record, self._config().outbound.level)
        now_s = int(self._clock.seconds())
        news, after = judge_probe(found, before, record, now_s)
        theirs = servers_certificates(found)
        due, after = expiring([*theirs, *_of_record(record)], after, now_s)
        letters = [] if news is None else [_letter(news, record.domain)]
        if due:
            letters.append(_letter(_expiry(due, record.domain, now_s), record.domain))
        works = [await self._filed(letter, _POSTMASTER) for letter in letters]
        known = {one.fingerprint for one in theirs}
        to_tell = [one for one in due if one.fingerprint in known]
        if to_tell and self._config().outbound.warn_partners:
            letter = _letter_to_them(to_tell, record.domain, self._mail.name.domain, now_s)
            works.append(await self._filed(letter, Path("postmaster", record.domain)))
        await self._settle(record.domain, after, works)

    async def _look_at_ours(self) -> None:
        before = await self._before(_OURS)
        if before is None:
            return
        now_s, config = int(self._clock.seconds()), self._config()
        # One of our own authority is renewed a month before: only if that fails is there something to tell.
        days = [day for day in WARN_DAYS if day < 30 or not config.tls.private]
        due, after = expiring(_own(config), before, now_s, days)
        works = []
        if due:
            lines = [expiry_line(one, now_s) for one in due]
            lines.append("From then on other servers and mail programs refuse to talk to this server: renew it before.")
            works.append(
                await self._filed(_letter(Finding("a certificate of this server runs out", tuple(lines))), _POSTMASTER)
            )
        after = PartnerWatched(_OURS, now_s, warned=after.warned)
        await self._settle(_OURS, after, works)

    async def _filed(self, letter: EmailMessage, to: Path) -> Work:
        """What files it; nothing, but a line in the log, where there is nobody to write to."""
        try:
            return await self._mail.prepare(self._mail.octets(letter, to), to)
        except NotWritable as why:
            log.warn("a warning about a partner cannot be sent: {why}", why=str(why))
            return lambda txn: None

    async def _settle(self, domain: str, after: PartnerWatched, works: Sequence[Work]) -> None:
        name = self._secrets.trace_hash(domain)

        def work(txn: WriteTxn) -> None:
            put_watched(txn, self._secrets, name, after)
            for one in works:
                one(txn)

        await self._engine.write(work, grows=bool(works))


def _own(config: Config) -> list[Certificate]:
    found = []
    for files in (config.tls.default, *config.tls.names):
        what = "the certificate of this server" + (f" for {files.name}" if files.name else "")
        try:
            chain = read_certificates(files.certificate)
        except CertificateUnfit:
            continue
        found.append(Certificate(what, fingerprint(chain[0]).hex(), min(one.not_valid_after_utc for one in chain)))
    return found


def _of_record(record: PartnerRecord) -> list[Certificate]:
    """What stands in a record: his authorities, and what we show him."""
    found = []
    try:
        if record.ca is not None:
            found += [
                ("the authority in the record of " + record.domain, one)
                for one in certificates_in(authorities_pem(record.ca))
            ]
        if record.client is not None:
            what = f"the certificate that we show to {record.domain}"
            found += [(what, one) for one in read_certificates(record.client.certificate)[:1]]
    except (OSError, ValueError, CertificateUnfit):
        log.warn("a file that a partner's record names cannot be read: certmaild partner test says which")
    return [Certificate(what, fingerprint(one).hex(), one.not_valid_after_utc) for what, one in found]


def _expiry(due: Sequence[Certificate], domain: str, now_s: int) -> Finding:
    lines = [expiry_line(one, now_s) for one in due]
    lines.append(
        f"If no new one is there by then, mail to {domain} waits. If the new one has another name, key or authority, "
        f"the record has to know it before: certmaild partner set {domain}."
    )
    return Finding(f"{domain}: a certificate runs out", tuple(lines))


def _letter(finding: Finding, domain: str = "") -> EmailMessage:
    """To our postmaster."""
    letter = EmailMessage()
    letter["Subject"] = f"Partner {finding.subject}" if domain else finding.subject[0].upper() + finding.subject[1:]
    about = f"the mail servers of {domain}" if domain else "its own certificates"
    first = f"This server looks at {about} once a day."
    letter.set_content(_text([first, *finding.lines]))
    return letter


def _letter_to_them(due: Sequence[Certificate], theirs: str, ours: str, now_s: int) -> EmailMessage:
    """To a partner's postmaster."""
    letter = EmailMessage()
    letter["Subject"] = f"A certificate of your mail server runs out ({theirs})"
    lines = [expiry_line(one, now_s) for one in due]
    lines.append(
        f"From then on mail from {ours} to {theirs} waits, because it goes only to servers that prove who they are. "
        "Please renew it before; if its name, key or authority changes, please tell us first by answering this message."
    )
    letter.set_content(_text(lines))
    return letter


def _text(lines: Sequence[str]) -> str:
    """Paragraphs as short lines."""
    return "\n\n".join(textwrap.fill(line, 72, break_long_words=False) for line in lines) + "\n"
