"""What commands use to reach other servers, put together for one command."""

import os
from dataclasses import replace
from typing import Any, cast

from certmaild.config_values import Config
from certmaild.dns.resolver import Resolver, configured_servers
from certmaild.keystore.primitives import KEY_OCTETS
from certmaild.keystore.server_secrets import QueueSeals
from certmaild.keystore.tls_client import TlsClients
from certmaild.mailbox.engine_memory import MemoryEngine
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.sts_policies import StsRows
from certmaild.outbound.courier import SmtpCourier
from certmaild.outbound.destinations import Destinations, may_be_reached
from certmaild.outbound.mta_sts import MtaSts
from certmaild.outbound.own_server import OwnServer
from certmaild.outbound.planner import DnsPlanner
from certmaild.outbound.sts_fetch import StsFetch
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import PartnerRecord
from certmaild.peering.probe import PATIENCE, Prober


class NetworkTools:
    """MTA-STS policies are fetched anew, and kept nowhere."""

    def __init__(self, reactor: Any, config: Config) -> None:
        self._reactor = reactor
        self._config = config
        self._tls = TlsClients()
        self._resolver = resolver = Resolver(reactor, configured_servers(config.resolvers))
        memory = cast("Engine", MemoryEngine())  # pyright cannot see that its `scan` fits
        rows = StsRows(QueueSeals(os.urandom(KEY_OCTETS)))
        fetch = StsFetch(reactor, resolver, allowed=self._is_allowed)
        self._sts = MtaSts(resolver, fetch, memory, rows, reactor)
        own = OwnServer(config.hostname, config.listen)
        self._destinations = Destinations(resolver, is_own=own, allowed=self._is_allowed)

    def _is_allowed(self, address: str) -> bool:
        return may_be_reached(address, loopback=self._config.outbound.loopback)

    def prober(self) -> Prober:
        """Asks servers."""
        config = self._config
        return Prober(
            self._reactor,
            config.hostname,
            self._tls,
            self._resolver,
            self._destinations,
            self._sts,
            sources=config.outbound.source,
        )

    def planner(self, record: PartnerRecord) -> DnsPlanner:
        """Plans by this record as one in force for mail that goes out."""
        book = PartnerBook([replace(record, start=None)])
        seconds = self._reactor.seconds
        return DnsPlanner(self._config.outbound, book, self._resolver, self._destinations, self._sts, seconds)

    def courier(self) -> SmtpCourier:
        """Sends."""
        config = self._config
        sources = config.outbound.source
        return SmtpCourier(self._reactor, config.hostname, self._tls, sources=sources, patience=PATIENCE)
