"""The composition root: the only module that names concrete classes of all floors and puts them together.

twistd calls `makeService` before it forks and drops privileges, so that opens no store and starts no thread (an LMDB
lock would not survive the fork). Sockets are bound in `privilegedStartService`; everything else is made in
`startService`, under the user that owns the data.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import usage

from certmaild.config import Config, ConfigError, default, load, restart_keys
from certmaild.delivery import Delivery, DeliverySettings
from certmaild.doorkeeper import InProcessDoorkeeper
from certmaild.gatekeeper import InProcessGatekeeper
from certmaild.kdf_pool import QUICK_PLACES, QUICK_PLACES_PER_NETWORK, KdfPool, ReactorThreads
from certmaild.keystore.certificates import PrivateFiles, is_due, renew_leaf
from certmaild.keystore.errors import KeystoreError
from certmaild.keystore.primitives import self_test
from certmaild.keystore.process import harden
from certmaild.keystore.tls import Application, TlsEdge
from certmaild.listeners import BoundSocket, CannotListen, bind
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.collect import Collector
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.removal import remove_orphans
from certmaild.protocols.imap.server import ImapFactory
from certmaild.protocols.pop3.server import Pop3Factory
from certmaild.protocols.smtp.interfaces import Listener
from certmaild.protocols.smtp.server import SmtpFactory, Terrain
from certmaild.routing import Router
from certmaild.setup import NotSetUp, is_set_up, load_secrets, stored_rounds, verify_store

log = Logger()
T = TypeVar("T")
DAY_S = 86_400
SWITCH_INTERVAL_S = 0.0005
"""How soon the writer thread hands the interpreter back: at Python's 5 ms every commit would wait for it."""


class Options(usage.Options):
    """`twistd certmaild --help`."""

    synopsis = "[--config FILE] [--data DIR]"
    longdesc: ClassVar[str] = (
        "A secure mailbox server over IMAPS, POP3S and SMTP. Without --config it serves one account for localhost on "
        "high ports of 127.0.0.1 from ./certmaild-data, made at the first start. With --config, run "
        "`certmaild --config FILE init` first."
    )
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "The configuration, a TOML file (see docs/operations.md)."],
        ["data", "d", None, "The data directory, in place of the configuration's: store/ and, beside it, secrets/."],
    ]


def makeService(options: Options) -> "MailService":
    """Check the configuration, do the first set-up in a child process, and give the service (twistd calls this)."""
    try:
        config = read_config(options["config"], options["data"])
        self_test()
        _set_up_first(config, options)
    except (ConfigError, KeystoreError, NotSetUp, OSError) as problem:
        # twistd would print a traceback for any other exception.
        raise SystemExit(f"certmaild: {problem}") from None
    return MailService(config, data=options["data"])


def read_config(path: str | None, data: str | None) -> Config:
    """The configuration named on the command line, else the default. Raises `ConfigError`."""
    return default(data) if path is None else load(Path(path), None if data is None else Path(data))


def _set_up_first(config: Config, options: Options) -> None:
    """Without a store: make one in a child under the target user if somebody watches, else say what to do."""
    if is_set_up(config):
        return
    twistd: Any = options.parent or {}
    if config.path is not None or not twistd.get("nodaemon"):
        raise NotSetUp(f"there is no store in {config.data}. Run `certmaild init` first.")
    words = [sys.executable, "-m", "certmaild.setup", "--data", str(config.data)]
    uid, gid = twistd.get("uid"), twistd.get("gid")
    if uid is not None and os.geteuid() == 0:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(config.data, uid, -1 if gid is None else gid)
    done = subprocess.run(words, stdout=subprocess.PIPE, user=uid, group=gid, text=True, check=False)
    if done.returncode:
        raise NotSetUp("the first set-up failed; what it said stands above.")
    made = json.loads(done.stdout)
    # The real terminal: twistd begins to log only after this, so nothing of it is in a log.
    sys.stdout.write(_first_words(made))
    sys.stdout.flush()


def _first_words(made: dict[str, str | None]) -> str:
    """What a person sees at the very first start, once."""
    return f"""
certmaild is set up. This is shown once: write it down.

  User name        {made["account"]}
  Password         {made["device_password"]}
  Recovery code    {made["recovery_code"]}
                   (opens the account for a new password when all else is lost)

In your mail program:
  {(made["settings"] or "").replace(chr(10), chr(10) + "  ")}
  Certificate authority to trust: {made["ca_file"]}

"""


class MailService(Service):
    """One process that does everything (``workers = 0``)."""

    def __init__(self, config: Config, *, data: str | None = None) -> None:
        self.config = config
        self._data = data
        self._bound: list[BoundSocket] = []
        self._house: House | None = None

    def privilegedStartService(self) -> None:
        """Bind the sockets, as root if twistd was started so."""
        try:
            self._bound = bind(self.config.listen)
        except CannotListen as problem:
            log.critical("{problem}", problem=str(problem))
            raise SystemExit(f"certmaild: {problem}") from None

    def startService(self) -> None:
        """Open the store, then the doors."""
        super().startService()  # type: ignore[no-untyped-call]
        from twisted.internet import reactor

        sys.setswitchinterval(SWITCH_INTERVAL_S)
        harden()
        if self.config.workers:
            log.warn("workers = {workers}: this version serves from one process", workers=self.config.workers)
        self._house = House(self.config, reactor)
        started = Deferred.fromCoroutine(self._house.open(self._bound))
        started.addErrback(self._failed_to_start, reactor)
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(self.reload))

    def _failed_to_start(self, failure: Any, reactor: Any) -> None:
        if failure.check(KeystoreError, NotSetUp):
            log.critical("cannot start: {problem}", problem=str(failure.value))
        else:
            log.failure("cannot start", failure)
        reactor.callWhenRunning(_stop, reactor)

    def stopService(self) -> "Deferred[None]":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Stop accepting, let commands in flight finish, close the store."""
        super().stopService()  # type: ignore[no-untyped-call]
        house, self._house = self._house, None
        if house is None:
            return Deferred.fromCoroutine(_nothing())
        return Deferred.fromCoroutine(house.close())

    def reload(self) -> None:
        """SIGHUP: certificates and settings anew; sessions go on. What is wrong is logged, and all stays as it was."""
        path = None if self.config.path is None else str(self.config.path)
        try:
            new = read_config(path, self._data)
            for key in restart_keys(self.config, new):
                log.warn("{key} changed: it counts only after a restart", key=key)
            if self._house is not None:
                self._house.take_over(new)
        except (ConfigError, KeystoreError) as problem:
            log.error("not reloaded: {problem}", problem=str(problem))
            return
        log.info("reloaded certificates and configuration")


async def _nothing() -> None:
    pass


def _stop(reactor: Any) -> None:
    """End the process with status 1: twistd itself ends with 0 whatever happened."""
    reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
    reactor.stop()


class House:
    """The objects of all floors, and the ports they serve."""

    def __init__(self, config: Config, reactor: Any) -> None:
        self.config = config
        self.reactor = reactor
        self.edge = TlsEdge(config.tls.default, config.tls.names, minimum=config.tls.minimum)
        self.secrets = load_secrets(config)
        self.engine = LmdbEngine(config.store, reactor, self.secrets, floor_octets=config.free_disk)
        VolatileStore.make_anew(config.data / "volatile")
        self.volatile = VolatileStore(config.data / "volatile", reactor.seconds)
        self.collector = Collector(self.engine, reactor.seconds)
        self.slow_threads = ReactorThreads(reactor)
        self.quick_threads = ReactorThreads(reactor, 1, name="cache")
        self.factories: list[Any] = []
        self.ports: list[Any] = []
        self._daily = LoopingCall(self._each_day)
        self._gatekeeper: InProcessGatekeeper | None = None

    async def open(self, bound: list[BoundSocket]) -> None:
        """Start everything and serve on ``bound``. Raises `SecretsMissing` over another server's store."""
        await verify_store(self.engine, self.secrets)
        self.engine.start()
        self.collector.start(self.reactor)
        self.slow_threads.start()
        self.quick_threads.start()
        await remove_orphans(self.engine, self.secrets, lambda: int(self.reactor.seconds()))
        rounds = self.config.passwords.rounds or await stored_rounds(self.engine)
        make = self._makers(rounds)
        for one in bound:
            self._serve(one, make[one.listener]())
        self._daily.clock = self.reactor
        self._daily.start(DAY_S, now=False)
        log.info("certmaild serves {listeners}", listeners=", ".join(sorted({one.listener for one in bound})))

    def _serve(self, one: BoundSocket, factory: Factory) -> None:
        self.ports.append(self.reactor.adoptStreamPort(one.socket.fileno(), one.socket.family, factory))
        one.socket.close()

    def _makers(self, rounds: int) -> dict[str, Callable[[], Any]]:
        """By listener: what makes its factory. Ports of one listener on several addresses share limits and users."""
        config, limits = self.config, self.config.limits
        relay_port = config.listen.smtp
        doorkeeper = InProcessDoorkeeper(limits, relay_ports=(relay_port,) if isinstance(relay_port, int) else ())
        mailboxes = MailboxPool(self.engine, self.secrets, self.engine.hub, self.reactor.seconds, leases=self.volatile)
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
            factory = ImapFactory(gatekeeper, doorkeeper, limits, self.reactor)
            return self._in_tls(factory, Application.IMAP, strict=config.tls.strict_names)

        def pop3s() -> Any:
            factory = Pop3Factory(gatekeeper, doorkeeper, limits, self.reactor, config.hostname)
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
        return TLSMemoryBIOFactory(self.edge.creator(application, strict_names=strict), False, factory)

    def _in_thread(self, work: Callable[[], T]) -> Awaitable[T]:
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), work)

    def _each_day(self) -> None:
        """Rotate the ticket keys; renew a certificate of our own authority before it runs out."""
        try:
            if self.config.tls.private and is_due(PrivateFiles(self.config.data), [self.config.hostname]):
                renew_leaf(self.config.data, [self.config.hostname])
                self.edge.reload()
            self.edge.rotate_tickets()
        except (KeystoreError, OSError):
            log.failure("renewing the certificate failed; the former one is kept")

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
        late = self.reactor.callLater(self.config.shutdown_time, self._cut_off)
        await gone
        if late.active():
            late.cancel()
        if self._gatekeeper is not None:
            self._gatekeeper.stop()
        self.collector.stop()
        self.slow_threads.stop()
        self.quick_threads.stop()
        await self.engine.close()
        self.volatile.close()

    def _cut_off(self) -> None:
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
