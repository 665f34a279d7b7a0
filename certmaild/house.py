"""A serving process: the objects of all floors, put together, and the ports they serve.

It is the only process, or one of the workers that the supervisor started (`Post`). With `certmaild.supervisor` it names
the concrete classes.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from certmaild.chores import DAY_S, Chores
from certmaild.config import Config
from certmaild.delivery import Delivery, DeliverySettings
from certmaild.doorkeeper import InProcessDoorkeeper
from certmaild.gatekeeper import InProcessGatekeeper
from certmaild.kdf_pool import QUICK_PLACES, QUICK_PLACES_PER_NETWORK, KdfPool, ReactorThreads
from certmaild.keystore.tls import Application, TlsEdge
from certmaild.listeners import BoundSocket
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.engine_lmdb import POLL_S, LmdbEngine
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.pool import MailboxPool
from certmaild.protocols.imap.server import ImapFactory
from certmaild.protocols.pop3.server import Pop3Factory
from certmaild.protocols.smtp.interfaces import Listener
from certmaild.protocols.smtp.server import SmtpFactory, Terrain
from certmaild.protocols.turns import Turns
from certmaild.routing import Router
from certmaild.setup import load_secrets, stored_rounds, verify_store
from certmaild.tuning import calm_collector, raise_descriptor_limit

log = Logger()
T = TypeVar("T")
WORKER_POLL_S = 0.02
"""How often a worker looks for what other processes committed: an IDLE client of another worker waits no longer."""


@dataclass(frozen=True, slots=True)
class Post:
    """Which of the serving processes this is."""

    slot: int = 0
    """From 1 to ``workers``; a worker that replaces a dead one takes its number. 0: the only process."""
    workers: int = 0

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
            floor_octets=config.free_disk,
            poll_s=POLL_S if post.is_alone else WORKER_POLL_S,
        )
        if post.is_alone:
            VolatileStore.make_anew(config.data / "volatile")
        self.volatile = VolatileStore(config.data / "volatile", reactor.seconds)
        self.chores = Chores(config, self.engine, self.secrets, reactor, self.edge.reload) if post.is_alone else None
        self.slow_threads = ReactorThreads(reactor)
        self.quick_threads = ReactorThreads(reactor, 1, name="cache")
        self.factories: list[Any] = []
        self.ports: list[Any] = []
        self._daily = LoopingCall(self.edge.rotate_tickets)
        self._gatekeeper: InProcessGatekeeper | None = None

    async def open(self, bound: list[BoundSocket]) -> None:
        """Start everything and serve on ``bound``. Raises `SecretsMissing` over another server's store."""
        if problem := raise_descriptor_limit(self.config.limits.connections):
            log.warn("{problem}", problem=problem)
        await verify_store(self.engine, self.secrets)
        self.engine.start()
        self.slow_threads.start()
        self.quick_threads.start()
        if self.chores is not None:
            await self.chores.start()
        rounds = self.config.passwords.rounds or await stored_rounds(self.engine)
        make = self._makers(rounds)
        for one in bound:
            self._serve(one, make[one.listener]())
        self._daily.clock = self.reactor
        self._daily.start(DAY_S, now=False)
        calm_collector()
        if self.post.is_alone:
            log.info("certmaild serves {listeners}", listeners=", ".join(sorted({one.listener for one in bound})))

    def _serve(self, one: BoundSocket, factory: Factory) -> None:
        self.ports.append(self.reactor.adoptStreamPort(one.socket.fileno(), one.socket.family, factory))
        one.socket.close()

    def _makers(self, rounds: int) -> dict[str, Callable[[], Any]]:
        """By listener: what makes its factory. Ports of one listener on several addresses share limits and users."""
        config, limits = self.config, self.config.limits
        relay_port = config.listen.smtp
        doorkeeper = InProcessDoorkeeper(limits, relay_ports=(relay_port,) if isinstance(relay_port, int) else ())
        mailboxes = MailboxPool(
            self.engine,
            self.secrets,
            self.engine.hub,
            self.reactor.seconds,
            leases=self.volatile,
            call_later=self.reactor.callLater,
        )
        gatekeeper = self._gatekeeper = InProcessGatekeeper(
            self.engine,
            self.secrets,
            mailboxes,
            self.reactor,
            KdfPool(self.slow_threads),
            KdfPool(self.quick_threads, places=QUICK_PLACES, places_per_network=QUICK_PLACES_PER_NETWORK),
            limits=limits,
            domains=config.domains,
            rounds=rounds,
            caching=config.passwords.login_cache,
        )
        gatekeeper.start()
        turns = Turns(self.reactor)
        directory = Directory(self.engine, self.secrets)
        delivery = Delivery(
            self.engine,
            self.secrets,
            directory,
            Router(directory, config.domains, postmaster=_postmaster(config)),
            DeliverySettings(config.hostname, limits, config.padding, config.privacy),
            seconds=self.reactor.seconds,
            in_thread=self._in_thread,
        )

        def imaps() -> Any:
            factory = ImapFactory(gatekeeper, doorkeeper, limits, self.reactor, turns)
            return self._in_tls(factory, Application.IMAP, strict=config.tls.strict_names)

        def pop3s() -> Any:
            factory = Pop3Factory(gatekeeper, doorkeeper, limits, self.reactor, config.hostname, turns)
            return self._in_tls(factory, Application.POP3, strict=config.tls.strict_names)

        def smtp(listener: Listener) -> Any:
            inside = listener is Listener.SUBMISSIONS
            factory = SmtpFactory(
                Terrain(listener, config.hostname, limits, config.inbound.tls_required, config.inbound.clear_networks),
                reception=delivery,
                clock=self.reactor,
                doorkeeper=doorkeeper,
                gatekeeper=None if listener is Listener.INBOUND else gatekeeper,
                tls=None if inside else self.edge.creator(Application.SMTP),
                hash_address=self.secrets.trace_hash,
                hub=self.engine.hub,
                turns=turns,
            )
            if inside:
                return self._in_tls(factory, Application.SMTP, strict=config.tls.strict_names)
            self.factories.append(factory)
            return factory

        return {
            "imaps": imaps,
            "pop3s": pop3s,
            "smtp": lambda: smtp(Listener.INBOUND),
            "submission": lambda: smtp(Listener.SUBMISSION),
            "submissions": lambda: smtp(Listener.SUBMISSIONS),
        }

    def _in_tls(self, factory: Any, application: Application, *, strict: bool) -> Any:
        self.factories.append(factory)
        made = TLSMemoryBIOFactory(self.edge.creator(application, strict_names=strict), False, factory)
        if application is not Application.SMTP:
            # These gather what they write themselves: Twisted need not gather it once more.
            made.protocol = TLSMemoryBIOProtocol
        return made

    def _in_thread(self, work: Callable[[], T]) -> Awaitable[T]:
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), work)

    def take_over(self, new: Config) -> None:
        """Certificates and the shutdown time, without dropping a session. Raises `CertificateUnfit`."""
        self.edge.load(new.tls.default, new.tls.names)
        self.config = replace(self.config, tls=new.tls, shutdown_time=new.shutdown_time)

    async def close(self) -> None:
        """End all sessions politely within the time set, then let go of the store."""
        for port in self.ports:
            await _awaited(port.stopListening())
        if self._daily.running:
            self._daily.stop()
        gone = DeferredList([_as_deferred(factory.shut_down()) for factory in self.factories], consumeErrors=True)
        late = self.reactor.callLater(self.config.shutdown_time, self.cut_off)
        await gone
        if late.active():
            late.cancel()
        if self._gatekeeper is not None:
            self._gatekeeper.stop()
        if self.chores is not None:
            self.chores.stop()
        self.slow_threads.stop()
        self.quick_threads.stop()
        await self.engine.close()
        self.volatile.close()

    def cut_off(self) -> None:
        """Drop the connections that are still there."""
        for factory in self.factories:
            factory.cut_off()


def _postmaster(config: Config) -> Any:
    try:
        return None if config.postmaster is None else canonical(config.postmaster)
    except AddressError:
        log.warn("postmaster is not an address: the first member takes its place")
        return None


def _as_deferred(result: Any) -> "Deferred[None]":
    return result if isinstance(result, Deferred) else Deferred.fromCoroutine(result)


async def _awaited(result: Any) -> None:
    if isinstance(result, Deferred):
        await result
