"""All that finds ways for mail, put together from the configuration: resolver, MTA-STS, planner, TLS reports."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from certmaild.config_values import Config
from certmaild.dns.resolver import Resolver
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.tls_values import Authorities
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.sts_policies import StsRows
from certmaild.mailbox.tls_days import TlsDays
from certmaild.outbound.destinations import Destinations, may_be_reached
from certmaild.outbound.mta_sts import REFRESH_EVERY_S, MtaSts
from certmaild.outbound.own_server import OwnServer
from certmaild.outbound.planner import DnsPlanner
from certmaild.outbound.sts_fetch import StsFetch
from certmaild.outbound.tls_report import Submitter
from certmaild.outbound.tls_reports import ReportMail, TlsReports
from certmaild.outbound.tls_tally import TlsTally
from certmaild.partners.book import PartnerBook

log = Logger()


class Directions:
    """For the process that works the queue. `planner` is for its runner, `watch` for its courier."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        secrets: ServerSecrets,
        partners: PartnerBook,
        resolver: Resolver,
        mail: ReportMail,
        reactor: Any,
        *,
        port: int = 25,
        sts_port: int = 443,
        sts_authorities: Authorities | None = None,
    ) -> None:
        """``port``: where MX hosts take mail; ``sts_...``: where and by whom policy hosts are proven. For tests."""
        self._config = config
        self._port = port
        self.watch = TlsTally(engine, TlsDays(secrets.queue), reactor.seconds)
        self.destinations = Destinations(resolver, is_own=self._is_own, allowed=self._is_allowed)
        fetch = StsFetch(reactor, resolver, allowed=self._is_allowed, authorities=sts_authorities, port=sts_port)
        self.sts = MtaSts(resolver, fetch, engine, StsRows(secrets.queue), reactor)
        self.planner = DnsPlanner(
            config.outbound,
            partners,
            resolver,
            self.destinations,
            self.sts,
            reactor.seconds,
            watch=self.watch,
            port=port,
        )
        days = TlsDays(secrets.queue)
        self._reports = TlsReports(engine, days, self.watch, resolver, mail, self._submitter, reactor)
        self._refreshing = LoopingCall(lambda: Deferred.fromCoroutine(self._refresh()))
        self._refreshing.clock = reactor

    async def start(self) -> None:
        """Keep policies fresh, and report, from now on."""
        self._reports.start()
        self._refreshing.start(REFRESH_EVERY_S, now=False)

    async def stop(self) -> None:
        """Begin nothing further; what was counted is in the store when this returns."""
        if self._refreshing.running:
            self._refreshing.stop()
        await self._reports.stop()

    def take_over(self, config: Config) -> None:
        """Go by this configuration from now on; partners and DNS servers have changes of their own."""
        self._config = config
        self.planner.outbound = config.outbound

    def _is_own(self, name: str, addresses: Any) -> bool:
        return OwnServer(self._config.hostname, self._config.listen, self._port)(name, addresses)

    def _is_allowed(self, address: str) -> bool:
        return may_be_reached(address, loopback=self._config.outbound.loopback)

    def _submitter(self) -> Submitter:
        domain = self._config.domains[0]
        return Submitter(self._config.hostname, domain, f"postmaster@{domain}")

    async def _refresh(self) -> None:
        try:
            await self.sts.refresh()
        except Exception:
            log.failure("MTA-STS policies could not be refreshed; it is tried again in an hour")
