"""A serving process: the objects of all floors, put together, and the ports they serve.

It is the only process, or one of the workers that the supervisor started (`Post`). With `certmaild.supervisor` it names
the concrete classes.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from certmaild.chores import DAY_S, Chores
from certmaild.client_setup.files import FileShelf
from certmaild.client_watches import ClientWatches
from certmaild.config_values import Config
from certmaild.correspondence import Correspondence
from certmaild.delivery import Delivery
from certmaild.dns.resolver import Resolver, configured_servers
from certmaild.doorkeeper import CONNECTIONS, WAITING, InProcessDoorkeeper
from certmaild.fair_accept import share_fairly
from certmaild.filing import DeliverySettings
from certmaild.gatekeeper import InProcessGatekeeper
from certmaild.hospitality import Hospitality
from certmaild.inbound.checks import Tools
from certmaild.inbound.inspection import InspectionSettings, Inspector
from certmaild.inbound.partner_gate import PartnerGate
from certmaild.kdf_pool import (
    PLACES,
    PLACES_PER_NETWORK,
    QUICK_PLACES,
    QUICK_PLACES_PER_NETWORK,
    KdfPool,
    ReactorThreads,
)
from certmaild.keystore.tls import Application, TlsEdge
from certmaild.listeners import BoundSocket
from certmaild.login_cache import SharedLogins
from certmaild.mailbox.bells import Bell, Bells
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.processes import this_process
from certmaild.own_facts import gather
from certmaild.partners.stored import LivePartners
from certmaild.peering.dns_records import sts_policy
from certmaild.peering.probe import Prober
from certmaild.peering.watch import PartnerWatch
from certmaild.protocols.imap.server import ImapFactory
from certmaild.protocols.pop3.server import Pop3Factory
from certmaild.protocols.smtp.interfaces import Listener
from certmaild.protocols.smtp.server import SmtpFactory, nobody
from certmaild.protocols.smtp.terrain import Terrain
from certmaild.protocols.turns import Turns
from certmaild.protocols.web.server import WebFactory
from certmaild.sending import Sending
from certmaild.setup import load_secrets, stored_rounds, verify_store
from certmaild.tally import LocalTally, Tally
from certmaild.throttle import Throttle
from certmaild.tuning import calm_collector, raise_descriptor_limit
from certmaild.unfinished import SWEEP_S

log = Logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Post:
    """Which of the serving processes this is."""

    slot: int = 0
    """From 1 to ``workers``; a worker that replaces a dead one takes its number. 0: the only process."""
    workers: int = 0
    key: bytes = field(default=b"", repr=False)
    """Known to the supervisor and the workers alone."""
    ask_for_room: Callable[[int], None] = lambda slot: None
    """Has another worker ask a waiting connection to go."""

    @property
    def is_alone(self) -> bool:
        """Whether all is done in this process."""
        return self.workers == 0


class House:
    """The objects of all floors, and the ports they serve."""

    def __init__(self, config: Config, reactor: Any, post: Post = Post()) -> None:  # frozen
        self.config = config
        self.reactor = reactor
        self.post = post
        self.edge = TlsEdge(config.tls.default, config.tls.names, minimum=config.tls.minimum)
        self.secrets = load_secrets(config)
        self.engine = LmdbEngine(
            config.store,
            reactor,
            self.secrets,
            bells=Bells(config.bells, slot=post.slot, slots=post.workers),
            floor_octets=config.free_disk,
        )
        if post.is_alone:
            VolatileStore.make_anew(config.volatile)
        self.volatile = VolatileStore(config.volatile, reactor.seconds, slot=post.slot, slots=post.workers)
        self.volatile.enter(this_process(int(reactor.seconds())))
        self.turns = Turns(reactor)
        self.tally: Tally = LocalTally() if post.is_alone else self.volatile
        self.chores = (
            Chores(config, self.engine, self.secrets, reactor, self.reload_certificates) if post.is_alone else None
        )
        self.partners = LivePartners(self.engine, self.secrets, config.partners)
        self.slow_threads = ReactorThreads(reactor, self._share(os.cpu_count() or 1))
        self.quick_threads = ReactorThreads(reactor, 1, name="cache")
        self.factories: list[Any] = []
        self.ports: list[Any] = []
        self._daily = LoopingCall(self.edge.rotate_tickets)
        self._sweeping: LoopingCall | None = None

    async def open(self, bound: list[BoundSocket]) -> None:
        """Start everything and serve on ``bound``. Raises `SecretsMissing` over another server's store."""
        if problem := raise_descriptor_limit(self.config.limits.connections):
            log.warn("{problem}", problem=problem)
        await verify_store(self.engine, self.secrets)
        self.engine.start(Bell(self.config.bells, self.post.slot, self.reactor))
        await self.partners.open()
        self.slow_threads.start()
        self.quick_threads.start()
        if self.chores is not None:
            await self.chores.start()
        self._rounds = await stored_rounds(self.engine)
        self._assemble()
        make = self._makers()
        for one in bound:
            self._serve(one, make[one.listener]())
        self._daily.clock = self.reactor
        self._daily.start(DAY_S, now=False)
        calm_collector()
        if self.post.is_alone:
            log.info("certmaild serves {listeners}", listeners=", ".join(sorted({one.listener for one in bound})))

    def _serve(self, one: BoundSocket, factory: Factory) -> None:
        port = self.reactor.adoptStreamPort(one.socket.fileno(), one.socket.family, factory)
        if not self.post.is_alone:
            share_fairly(port, self.reactor, lambda: self.volatile.is_ahead(CONNECTIONS))
        self.ports.append(port)
        one.socket.close()

    def _share(self, of_the_machine: int) -> int:
        """This process's part of what all processes may use together."""
        return max(1, of_the_machine // max(1, self.post.workers))

    def _assemble(self) -> None:
        """What the ports share: ports of one listener on several addresses have the same limits and users."""
        config, limits, clock = self.config, self.config.limits, self.reactor
        relay_port = config.listen.smtp
        self.doorkeeper = InProcessDoorkeeper(
            limits,
            relay_ports=(relay_port,) if isinstance(relay_port, int) else (),
            tally=self.tally,
            make_room_elsewhere=self._make_room_elsewhere,
        )
        self.mailboxes = MailboxPool(
            self.engine,
            self.secrets,
            self.engine.hub,
            clock.seconds,
            leases=self.volatile,
            call_later=clock.callLater,
            padding=config.padding,
            ahead=config.search.ahead,
        )
        alone, share = self.post.is_alone, self._share
        self.client_watches = ClientWatches()
        self.gatekeeper = InProcessGatekeeper(
            self.engine,
            self.secrets,
            self.mailboxes,
            clock,
            KdfPool(self.slow_threads, places=share(PLACES), places_per_network=share(PLACES_PER_NETWORK)),
            KdfPool(
                self.quick_threads,
                places=share(QUICK_PLACES),
                places_per_network=share(QUICK_PLACES_PER_NETWORK),
            ),
            limits=limits,
            domains=config.mail_domains,
            rounds=self._rounds_for(config),
            caching=config.passwords.login_cache,
            tally=self.tally,
            throttle=Throttle(clock.seconds, None if alone else self.volatile.levels),
            watch=self.client_watches,
            shared_logins=None if alone else SharedLogins(self.volatile, self.post.key, clock.seconds),
        )
        self.gatekeeper.start()
        self.gate = PartnerGate(self.partners.book, clock.seconds)
        self.resolver = Resolver(clock, configured_servers(config.resolvers))
        self.inspector = Inspector(
            self.gate, self.secrets.trace_hash, _inspection_settings(config), self._tools(config)
        )
        self.correspondence = Correspondence(
            self.engine, self.secrets, config, partners=self.partners.book, seconds=clock.seconds
        )
        self.hospitality = Hospitality(
            self.engine,
            self.secrets,
            self.correspondence,
            self.mailboxes,
            self.partners.book,
            lambda: self.config,
            clock,
            planner=lambda: self.sending.directions.planner,
            in_thread=self._in_thread,
        )
        self.gatekeeper.guessed = self.hospitality.codes.guesses.note
        self.hospitality.watch(self.client_watches)
        self.hospitality.start()
        self.delivery = self._make_delivery(config, self.inspector)
        self.held = self._make_delivery(config, None)
        watch = PartnerWatch(
            self.engine,
            self.secrets,
            self.partners.book,
            self.correspondence.mail,
            self._prober,
            lambda: self.config,
            clock,
        )
        self.sending = Sending(
            config,
            self.engine,
            self.secrets,
            clock,
            partners=self.partners.book,
            correspondence=self.correspondence,
            within=self.held,
            shared=self.volatile,
            beside=[watch, *self.hospitality.rounds()],
        )
        self.sending.start()
        self._sweeping = LoopingCall(self.delivery.unfinished.sweep)
        self._sweeping.clock = clock
        self._sweeping.start(SWEEP_S, now=False)

    def _make_delivery(self, config: Config, inspector: Inspector | None) -> Delivery:
        correspondence = self.correspondence
        return Delivery(
            self.engine,
            self.secrets,
            correspondence.directory,
            correspondence.router,
            _delivery_settings(config),
            seconds=self.reactor.seconds,
            others_first=self.turns.others_first,
            in_thread=self._in_thread,
            tally=self.tally,
            inspector=inspector,
            spool=correspondence.spool,
            reporter=correspondence.reporter,
            signer=lambda: correspondence.signer,
            desk=self.hospitality.desk,
            trials=self.hospitality.make_trials(),
            decisions=self.hospitality.make_decisions(),
            invitations=self.hospitality.make_invitations(),
        )

    def _tools(self, config: Config) -> Tools:
        limits = config.limits
        return Tools(self.resolver, self._in_thread, self.reactor, limits.check_time, limits.dkim_signatures)

    def _prober(self) -> Prober:
        """Asks partners' servers, as messages to them would."""
        ways, config = self.sending.directions, self.config
        return Prober(
            self.reactor,
            config.hostname,
            self.sending.tls,
            self.resolver,
            ways.destinations,
            ways.sts,
            sources=config.outbound.source,
        )

    def _rounds_for(self, config: Config) -> int:
        return config.passwords.rounds or self._rounds

    def _make_room_elsewhere(self) -> bool:
        """Ask another worker that has a waiting connection; whether there is one."""
        if self.post.is_alone:
            return False
        for slot in self.volatile.counted(WAITING):
            if slot != self.post.slot:
                self.post.ask_for_room(slot)
                return True
        return False

    def _makers(self) -> dict[str, Callable[[], Any]]:
        """By listener: what makes its factory."""
        config, limits = self.config, self.config.limits
        gatekeeper, doorkeeper, turns = self.gatekeeper, self.doorkeeper, self.turns

        def imaps() -> Any:
            factory = ImapFactory(gatekeeper, doorkeeper, limits, self.reactor, turns, self.client_watches)
            return self._in_tls(factory, Application.IMAP)

        def pop3s() -> Any:
            factory = Pop3Factory(gatekeeper, doorkeeper, limits, self.reactor, config.hostname, turns)
            return self._in_tls(factory, Application.POP3)

        def smtp(listener: Listener) -> Any:
            inside, inbound = listener is Listener.SUBMISSIONS, listener is Listener.INBOUND
            asks_client = self.gate.asks_for_certificates if inbound else bool
            factory = SmtpFactory(
                _terrain(listener, config),
                reception=self.delivery,
                clock=self.reactor,
                doorkeeper=doorkeeper,
                gatekeeper=None if inbound else gatekeeper,
                tls=None if inside else self.edge.creator(Application.SMTP, asks_client=asks_client),
                hash_address=self.secrets.trace_hash,
                hub=self.engine.hub,
                turns=turns,
                recognises=self.gate.recognises if inbound else nobody,
            )
            if inside:
                return self._in_tls(factory, Application.SMTP)
            self.factories.append(factory)
            return factory

        def https() -> Any:
            return self._in_tls(WebFactory(self._shelf(config), doorkeeper, limits, self.reactor), Application.WEB)

        return {
            "imaps": imaps,
            "pop3s": pop3s,
            "https": https,
            "smtp": lambda: smtp(Listener.INBOUND),
            "submission": lambda: smtp(Listener.SUBMISSION),
            "submissions": lambda: smtp(Listener.SUBMISSIONS),
        }

    def _in_tls(self, factory: Any, application: Application) -> Any:
        self.factories.append(factory)
        creator = self.edge.creator(application, strict_names=lambda: self.config.tls.strict_names)
        made = TLSMemoryBIOFactory(creator, False, factory)
        if application is not Application.SMTP:
            # These gather what they write themselves: Twisted need not gather it once more.
            made.protocol = TLSMemoryBIOProtocol
        return made

    def _in_thread(self, work: Callable[[], T]) -> Awaitable[T]:
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), work)

    def take_over(self, new: Config) -> None:
        """Certificates and settings, for whoever comes from now on; no session ends. Raises `CertificateUnfit`."""
        self.edge.load(new.tls.default, new.tls.names, minimum=new.tls.minimum)
        if self.chores is not None:
            self.chores.take_over(new)
        self.config = new
        self.partners.book.configure(new.partners)
        self.engine.floor_octets = new.free_disk
        self.doorkeeper.limits = new.limits
        self.gatekeeper.take_over(
            new.limits, new.mail_domains, self._rounds_for(new), caching=new.passwords.login_cache
        )
        self.correspondence.take_over(new)
        self.hospitality.take_over(new)
        for delivery in (self.delivery, self.held):
            delivery.unfinished.limits = new.limits
            delivery.settings = _delivery_settings(new)
            delivery.router = self.correspondence.router
        self.sending.take_over(new)
        self.resolver.take_over(configured_servers(new.resolvers))
        self.inspector.settings, self.inspector.tools = _inspection_settings(new), self._tools(new)
        self.mailboxes.padding = new.padding
        self.mailboxes.ahead = new.search.ahead
        for factory in self.factories:
            if isinstance(factory, SmtpFactory):
                factory.terrain = _terrain(factory.terrain.listener, new)
            else:
                factory.limits = new.limits
            if isinstance(factory, Pop3Factory):
                factory.hostname = new.hostname
        self._shelve_anew()

    def reload_certificates(self) -> None:
        """Read the certificates again, for whoever comes from now on. Raises `CertificateUnfit`."""
        self.edge.reload()
        self._shelve_anew()

    def _shelf(self, config: Config) -> FileShelf:
        facts = gather(config)
        return FileShelf(config, None if facts.authority else sts_policy(facts), self.edge.identity)

    def _shelve_anew(self) -> None:
        """Profiles are signed by the certificate, and all the files tell the settings."""
        for factory in self.factories:
            if isinstance(factory, WebFactory):
                factory.shelf = self._shelf(self.config)

    async def close(self) -> None:
        """End all sessions politely within the time set, then let go of the store."""
        for port in self.ports:
            await _awaited(port.stopListening())
        if self._daily.running:
            self._daily.stop()
        leaving = [factory.connections.shut_down() for factory in self.factories]
        if self._sweeping is not None:
            self.gatekeeper.let_nobody_wait()
            leaving.append(Deferred.fromCoroutine(self.sending.stop()))
        gone = DeferredList(leaving, consumeErrors=True)
        late = self.reactor.callLater(self.config.shutdown_time, self.cut_off)
        await gone
        if late.active():
            late.cancel()
        if self._sweeping is not None:
            self._sweeping.stop()
            self.hospitality.stop()
            self.gatekeeper.stop()
        if self.chores is not None:
            self.chores.stop()
        self.partners.close()
        self.slow_threads.stop()
        self.quick_threads.stop()
        await self.engine.close()
        self.volatile.leave()
        self.volatile.close()

    def cut_off(self) -> None:
        """Drop the connections that are still there."""
        for factory in self.factories:
            factory.connections.cut_off()
        if self._sweeping is not None:
            self.sending.cut_off()


def _terrain(listener: Listener, config: Config) -> Terrain:
    inbound = config.inbound
    return Terrain(listener, config.hostname, config.limits, inbound.tls_required, inbound.clear_networks)


def _delivery_settings(config: Config) -> DeliverySettings:
    return DeliverySettings(config.hostname, config.limits, config.padding, config.privacy)


def _inspection_settings(config: Config) -> InspectionSettings:
    inbound = config.inbound
    return InspectionSettings(
        config.hostname,
        inbound.checks,
        inbound.unchecked_networks,
        inbound.honours_dmarc,
        frozenset(inbound.arc_sealers),
    )


async def _awaited(result: Any) -> None:
    if isinstance(result, Deferred):
        await result
