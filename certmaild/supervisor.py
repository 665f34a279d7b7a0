"""The supervisor: starts the workers and replaces them, keeps the one log, and does what is done once (`Chores`).

It accepts no connection itself. Workers are exec'd, never forked: an LMDB lock would not survive, and each has secrets
and random state of its own.
"""

import os
import socket
import sys
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from certmaild.channel import join
from certmaild.chores import Chores
from certmaild.config_values import Config
from certmaild.keystore.tls import read_identity
from certmaild.listeners import BoundSocket
from certmaild.login_cache import IDLE_S, KEY_OCTETS
from certmaild.mailbox.bells import Bell, Bells
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.processes import this_process
from certmaild.setup import load_secrets, verify_store
from certmaild.throttle import FILLING, FULL_AFTER_S, KNOWN
from certmaild.worker import config_message

log = Logger()

STEADY_S = 10
"""A worker that served so long is replaced at once; one that did not, after a pause that doubles."""
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
SWEEP_S = 60
KNOWN_S = 30 * 86_400
"""How long an address is known for a user who came from it with the right password."""
KILL_AFTER_S = 5
"""How long after the sessions' own time a worker that does not end is killed."""


class WorkersFailed(Exception):
    """No worker could start; the text is fit to print."""


class Supervisor:
    """The workers of one daemon, and the jobs that are not theirs."""

    def __init__(self, config: Config, reactor: Any) -> None:
        self.config = config
        self.reactor = reactor
        _check_certificates(config)
        self.secrets = load_secrets(config)
        bells = Bells(config.bells, slot=0, slots=config.workers)
        self.engine = LmdbEngine(config.store, reactor, self.secrets, bells=bells, floor_octets=config.free_disk)
        VolatileStore.make_anew(config.volatile)
        self.volatile = VolatileStore(config.volatile, reactor.seconds, slots=config.workers)
        self.volatile.enter(this_process(int(reactor.seconds())))
        self.key = os.urandom(KEY_OCTETS)
        """What the workers share under it opens for nobody else, nor after the daemon's end."""
        self.chores = Chores(config, self.engine, self.secrets, reactor, self._certificate_renewed)
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = reactor
        self.workers: list[WorkerPlace] = []
        self.is_closing = False
        self.bound: list[BoundSocket] = []
        self._spare: WorkerProcess | None = None
        self._next_spare: Any = None

    async def open(self, bound: list[BoundSocket]) -> None:
        """Start everything; returns when every worker serves. Raises `SecretsMissing`, `WorkersFailed`."""
        self.bound = bound
        await verify_store(self.engine, self.secrets)
        self.engine.start(Bell(self.config.bells, 0, self.reactor))
        self._sweeping.start(SWEEP_S, now=False)
        # Before anybody reads it.
        self.chores.renew_certificate()
        self.workers = [WorkerPlace(self, slot) for slot in range(1, self.config.workers + 1)]
        for worker in self.workers:
            worker.start()
        await self.chores.start()
        try:
            await gatherResults([worker.started for worker in self.workers], consumeErrors=True)
        except FirstError as first:
            first.subFailure.raiseException()
        log.info(
            "certmaild serves {listeners} with {count} workers",
            listeners=", ".join(sorted({one.listener for one in bound})),
            count=len(self.workers),
        )

    # Processes.

    def hire(self) -> "WorkerProcess":
        """A process for a place: the spare one, which has its modules loaded, and then another is prepared."""
        spare, self._spare = self._spare, None
        return spare or WorkerProcess(self)

    def _sweep(self) -> None:
        """Remove from what the workers share what is too old."""
        now = self.reactor.seconds()
        self.volatile.forget_levels(now - FULL_AFTER_S, FILLING)
        self.volatile.forget_levels(now - KNOWN_S, KNOWN)
        self.volatile.forget_sealed(now - IDLE_S)

    def prepare_spare(self) -> None:
        """Start a process for the next place that needs one, once all places have theirs."""
        waits = self._next_spare is not None and self._next_spare.active()
        if self._spare is None and not waits and not self.is_closing and all(one.serves for one in self.workers):
            self._spare = WorkerProcess(self)

    def spare_ended(self, how: str) -> None:
        """The spare process is gone; another comes after a while."""
        self._spare = None
        if not self.is_closing:
            log.error("the spare worker ended: {how}", how=how)
            self._next_spare = self.reactor.callLater(LONGEST_PAUSE_S, self.prepare_spare)

    def worker_died(self, slot: int) -> None:
        """Give back what a dead worker held: its places among LMDB's readers, its leases and its counts."""
        self.volatile.give_back_all(slot)
        self.volatile.check_readers()
        self.engine.check_readers()
        self._tell_all(do="look")

    # Changes and the end.

    def take_over(self, new: Config) -> None:
        """Certificates and settings, in every worker, without dropping a session. Raises `CertificateUnfit`."""
        _check_certificates(new)
        self.chores.take_over(new)
        self.config = new
        self.engine.floor_octets = new.free_disk
        self._tell_all(do="take over", config=config_message(new))

    def _certificate_renewed(self) -> None:
        self._tell_all(do="reload certificates")

    def _tell_all(self, **message: object) -> None:
        for worker in self.workers:
            worker.tell(**message)

    async def close(self) -> None:
        """End all workers politely within the time set, then let go of the store."""
        self.is_closing = True
        self.chores.stop()
        if self._sweeping.running:
            self._sweeping.stop()
        if self._next_spare is not None and self._next_spare.active():
            self._next_spare.cancel()
        if self._spare is not None:
            self._spare.kill()
        for one in self.bound:
            one.socket.close()
        gone = DeferredList([worker.stop() for worker in self.workers], consumeErrors=True)
        late = self.reactor.callLater(self.config.shutdown_time + KILL_AFTER_S, self._kill)
        await gone
        if late.active():
            late.cancel()
        await self.engine.close()
        self.volatile.leave()
        self.volatile.close()

    def cut_off(self) -> None:
        """Have the workers drop the connections that are still there."""
        self._tell_all(do="cut off")
        self.reactor.callLater(KILL_AFTER_S, self._kill)

    def _kill(self) -> None:
        for worker in self.workers:
            worker.kill()


class WorkerProcess(ProcessProtocol):
    """One process of `certmaild.worker`: a spare one, ready to be told which worker it is, until it has a place."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self.place: WorkerPlace | None = None
        self.is_gone = False
        self._supervisor = supervisor
        ours, theirs = socket.socketpair()
        words = [sys.executable, "-P", "-m", "certmaild.worker", "3"]
        with open(os.devnull, "rb") as nothing, theirs:
            descriptors = {0: nothing.fileno(), 1: "r", 2: "r", 3: theirs.fileno()}
            self._process = supervisor.reactor.spawnProcess(self, sys.executable, words, None, childFDs=descriptors)
        self._channel = join(supervisor.reactor, ours, self._heard, lambda: None)

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self._process.pid)

    def open(self, bound: list[BoundSocket], **message: object) -> None:
        """Hand over the sockets, so that no other than a worker that serves ever has them, and have it serve."""
        names, files = [one.listener for one in bound], [one.socket.fileno() for one in bound]
        self._channel.say({"do": "open", "listeners": names, **message}, files)

    def tell(self, **message: object) -> None:
        """Say something to it."""
        self._channel.say(message)

    def kill(self) -> None:
        """End it now."""
        if not self.is_gone:
            self._process.signalProcess("KILL")

    def _heard(self, message: dict[str, Any]) -> None:
        if self.place is not None:
            self.place.heard(message)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Called by Twisted: it wrote to its standard output or error, which it does only if it cannot even start."""
        log.error("worker process {pid} wrote: {text}", pid=self.pid, text=data.decode("utf-8", "replace").rstrip())

    def processEnded(self, reason: Failure) -> None:
        """Called by Twisted: it is gone, and all it wrote was read."""
        self.is_gone = True
        ending: Any = reason.value
        how = f"signal {ending.signal}" if ending.signal else f"exit status {ending.exitCode}"
        if self.place is not None:
            self.place.ended(how)
        else:
            self._supervisor.spare_ended(how)


class WorkerPlace:
    """One of the places for workers: the process that has it now, and when the next one comes."""

    def __init__(self, supervisor: Supervisor, slot: int) -> None:
        self.slot = slot
        self.serves = False
        self._supervisor = supervisor
        self._reactor = supervisor.reactor
        self._process: WorkerProcess | None = None
        self._pause_s = 0.0
        self._began = 0.0
        self._problem = ""
        self._next: Any = None
        self._logs: dict[str, Logger] = {}
        self._gone: Deferred[None] | None = None
        self.started: Deferred[None] = Deferred()
        """Fires when the place's first process serves; fails with `WorkersFailed` if it cannot."""

    def start(self) -> None:
        """Give the place to a process."""
        self._next = None
        self._began = self._reactor.seconds()
        self._problem = ""
        supervisor = self._supervisor
        self._process = process = supervisor.hire()
        process.place = self
        config = config_message(supervisor.config)
        workers, key = supervisor.config.workers, supervisor.key.hex()
        process.open(supervisor.bound, slot=self.slot, workers=workers, key=key, config=config)

    def tell(self, **message: object) -> None:
        """Say something to the process, if there is one."""
        if self._process is not None:
            self._process.tell(**message)

    def heard(self, message: dict[str, Any]) -> None:
        """What the process says."""
        if "log" in message:
            self._log(message)
        elif message["do"] == "serving":
            self.serves = True
            pid = None if self._process is None else self._process.pid
            log.info("worker {slot} serves, process {pid}", slot=self.slot, pid=pid)
            if not self.started.called:
                self.started.callback(None)
            self._supervisor.prepare_spare()
        elif message["do"] == "failed":
            self._problem = message["problem"]
        elif message["do"] == "make room":
            self._supervisor.workers[message["slot"] - 1].tell(do="make room")

    def _log(self, message: dict[str, Any]) -> None:
        """Into the one log, under the name of the module that said it."""
        namespace = message["namespace"]
        logger = self._logs.setdefault(namespace, Logger(namespace))
        level = LogLevel.lookupByName(message["level"])
        system = f"worker {self.slot} {namespace}#{level.name}"
        logger.emit(level, "{text}", text=message["log"], log_system=system, worker=self.slot)

    def ended(self, how: str) -> None:
        """The process is gone."""
        self._process = None
        self.serves = False
        if self._gone is not None:
            self._gone.callback(None)
            return
        log.error("worker {slot} ended: {how}", slot=self.slot, how=self._problem or how)
        self._supervisor.worker_died(self.slot)
        if not self.started.called:
            self.started.errback(WorkersFailed(self._problem or f"worker {self.slot} ended: {how}"))
            return
        if self._supervisor.is_closing:
            return
        if self._reactor.seconds() - self._began > STEADY_S:
            self._pause_s = 0.0
        self._next = self._reactor.callLater(self._pause_s, self.start)
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)

    def stop(self) -> "Deferred[None]":
        """Have it end politely, and start no other; fires when it is gone."""
        self._gone = Deferred()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._process is None:
            self._gone.callback(None)
        self.tell(do="stop")
        return self._gone

    def kill(self) -> None:
        """End it now."""
        if self._process is not None:
            self._process.kill()


def _check_certificates(config: Config) -> None:
    """Read what the workers will read. Raises `CertificateUnfit`."""
    for files in (config.tls.default, *config.tls.names):
        read_identity(files)
