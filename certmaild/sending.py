"""What a process needs to send mail to other servers: where to, the way there, and the queue at work."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from certmaild.config import Config, Outbound
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.tls_client import TlsClients
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.sts_policies import StsRows
from certmaild.outbound.courier import SmtpCourier
from certmaild.outbound.destinations import Destinations
from certmaild.outbound.dispatch import Dispatch, Shared
from certmaild.outbound.hand_over import HandOver
from certmaild.outbound.interfaces import Reporter
from certmaild.outbound.mta_sts import REFRESH_EVERY_S, MtaSts
from certmaild.outbound.own_server import OwnServer
from certmaild.outbound.planner import DnsPlanner
from certmaild.outbound.resolver import Resolver
from certmaild.outbound.spool import Spool
from certmaild.outbound.sts_fetch import StsFetch
from certmaild.outbound.values import Plan, Problem
from certmaild.partners.book import PartnerBook
from certmaild.protocols.smtp.client.grammar import Credentials

log = Logger()


class Sending:
    """Put together from the configuration; `take_over` follows a new one."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        secrets: ServerSecrets,
        reactor: Any,
        *,
        partners: PartnerBook,
        resolver: Resolver,
        spool: Spool,
        reporter: Reporter,
        shared: Shared,
    ) -> None:
        self._reactor = reactor
        self._tls = TlsClients()
        self._courier = self._make_courier(config)
        destinations = Destinations(resolver, is_own=OwnServer(config.hostname, config.listen))
        sts = MtaSts(resolver, StsFetch(reactor, resolver), engine, StsRows(secrets.queue), reactor)
        self._planner = DnsPlanner(config.outbound, partners, resolver, destinations, sts, reactor.seconds)
        self._dispatch = Dispatch(
            engine,
            spool,
            self._planner,
            self,
            reporter,
            shared,
            reactor,
            hash_address=secrets.trace_hash,
            outbound=config.outbound,
            beside=[_Refreshing(sts, reactor)],
        )

    def _make_courier(self, config: Config) -> SmtpCourier:
        outbound = config.outbound
        return SmtpCourier(
            self._reactor,
            config.hostname,
            self._tls,
            sources=outbound.source,
            credentials=_read_credentials(outbound),
        )

    async def connect(self, plan: Plan) -> HandOver | Problem:
        """See `interfaces.Courier`: as the configuration is now."""
        return await self._courier.connect(plan)

    def start(self) -> None:
        """Work the queue whenever no other process does."""
        self._dispatch.start()

    def take_over(self, config: Config) -> None:
        """Go by this configuration from now on."""
        self._tls.forget()
        self._courier = self._make_courier(config)
        self._planner.outbound = config.outbound
        self._dispatch.take_over(config.outbound)

    async def stop(self) -> None:
        """Finish the messages under way, within 20 seconds."""
        await self._dispatch.stop()


class _Refreshing:
    """Sees to the MTA-STS policies in the store, in one process."""

    def __init__(self, sts: MtaSts, clock: Any) -> None:
        self._sts = sts
        self._hourly = LoopingCall(lambda: Deferred.fromCoroutine(self._refresh()))
        self._hourly.clock = clock

    async def start(self) -> None:
        self._hourly.start(REFRESH_EVERY_S, now=False)

    async def stop(self) -> None:
        if self._hourly.running:
            self._hourly.stop()

    async def _refresh(self) -> None:
        try:
            await self._sts.refresh()
        except Exception:
            log.failure("MTA-STS policies cannot be refreshed; it is tried again in an hour")


def _read_credentials(outbound: Outbound) -> Credentials | None:
    """User name and password for the smart host; without them mail for it waits, and the sender hears why."""
    if outbound.smart_host_user is None or outbound.smart_host_password_file is None:
        return None
    try:
        password = outbound.smart_host_password_file.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        log.error(
            "the smart host's password in {file} cannot be read: {fault}",
            file=str(outbound.smart_host_password_file),
            fault=str(fault),
        )
        return None
    return Credentials(outbound.smart_host_user, password)
