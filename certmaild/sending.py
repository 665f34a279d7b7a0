"""What a process needs to send mail to other servers: where to, the way there, and the queue at work."""

from collections.abc import Sequence
from typing import Any

from twisted.logger import Logger

from certmaild.config_values import Config, Outbound
from certmaild.correspondence import Correspondence
from certmaild.delivery import Delivery
from certmaild.dns.resolver import Resolver, configured_servers
from certmaild.held_mail import CourierWithMailboxes, PlannerWithMailboxes
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.tls_client import TlsClients
from certmaild.mailbox.interfaces import Engine
from certmaild.outbound.courier import SmtpCourier
from certmaild.outbound.directions import Directions
from certmaild.outbound.dispatch import Dispatch, Shared
from certmaild.outbound.hand_over import HandOver
from certmaild.outbound.leader import Worker
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
        correspondence: Correspondence,
        within: Delivery,
        shared: Shared,
        beside: Sequence[Worker] = (),
    ) -> None:
        """``within`` takes what was held for mailboxes here; ``beside`` is done too by who works the queue."""
        self._reactor = reactor
        self.tls = TlsClients()
        # Of its own: slow zones of strangers, asked about for what comes in, take no place from what goes out.
        self._resolver = Resolver(reactor, configured_servers(config.resolvers))
        self.directions = Directions(config, engine, secrets, partners, self._resolver, correspondence.mail, reactor)
        self._courier = self._make_courier(config)
        self._dispatch = Dispatch(
            engine,
            correspondence.spool,
            PlannerWithMailboxes(self.directions.planner),
            CourierWithMailboxes(self, within),
            correspondence.reporter,
            shared,
            reactor,
            hash_address=secrets.trace_hash,
            outbound=config.outbound,
            stop_time_s=config.shutdown_time,
            beside=[self.directions, *beside],
        )

    def _make_courier(self, config: Config) -> SmtpCourier:
        outbound = config.outbound
        return SmtpCourier(
            self._reactor,
            config.hostname,
            self.tls,
            sources=outbound.source,
            credentials=_read_credentials(outbound),
            watch=self.directions.watch,
        )

    async def connect(self, plan: Plan) -> HandOver | Problem:
        """See `interfaces.Courier`: as the configuration is now."""
        return await self._courier.connect(plan)

    def start(self) -> None:
        """Work the queue whenever no other process does."""
        self._dispatch.start()

    def take_over(self, config: Config) -> None:
        """Go by this configuration from now on."""
        self.tls.forget()
        self._courier = self._make_courier(config)
        self._resolver.take_over(configured_servers(config.resolvers))
        self.directions.take_over(config)
        self._dispatch.take_over(config.outbound)

    async def stop(self) -> None:
        """Finish the messages under way, within ``shutdown_time``."""
        await self._dispatch.stop()

    def cut_off(self) -> None:
        """Drop what is under way."""
        self._dispatch.cut_off()


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
