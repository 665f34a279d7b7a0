"""The engine port over LMDB: durable, shared between processes, group commit in one writer thread (DESIGN 4)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import sleep
from typing import Any, Protocol, TypeVar, cast

import lmdb
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from certmaild.mailbox.baton import Loan
from certmaild.mailbox.bells import Bell, Bells
from certmaild.mailbox.changes import Change, ChangeHub
from certmaild.mailbox.environment import MAP_OCTETS, Environment, LmdbWrites, is_full, translated_fault
from certmaild.mailbox.errors import StoreFull, StoreUnavailable, StoreUnfit
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.ring import Ring

T = TypeVar("T")
log = Logger()

FLOOR_OCTETS = 256 * 1024 * 1024
"""Default floor of free disk."""
POLL_S = 1.0
"""How often the last transaction is looked at although no bell rang: who commits may be killed before he rings."""
GROUP_WRITES = 512
GROUP_OCTETS = 32 * 1024 * 1024
"""A group is committed when it has so many writes or wrote so much; the rest waits for the next."""
GATHER_S = 0.002
"""After a group of several the next has so long to come together: a commit costs as much CPU as filing two messages,
and on a fast disk it would else be made for one."""
_READER_CHECK_S = 60


class Reactor(Protocol):
    """What the engine needs of the reactor (`IReactorThreads`, `IReactorTime`)."""

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Run something on the reactor's thread."""
        ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        """Run something later."""
        ...

    def seconds(self) -> float:
        """The time."""
        ...


class _Write:
    """One function on its way to the writer thread and back."""

    __slots__ = ("answer", "deferred", "failed", "grows", "holding", "work")

    def __init__(
        self, work: Callable[[WriteTxn], Any], holding: AbstractContextManager[object] | None, grows: bool
    ) -> None:
        self.work = work
        self.holding = holding
        self.grows = grows
        self.deferred: Deferred[Any] = Deferred()
        self.answer: Any = None
        self.failed = False

    def fail(self, error: BaseException) -> None:
        self.answer = translated_fault(error)
        self.failed = True

    def fire(self) -> None:
        if self.holding is not None:
            try:
                self.holding.__exit__(None, None, None)
            except Exception:
                log.failure("letting go of keys failed")
        if self.failed:
            self.deferred.errback(self.answer)
        else:
            self.deferred.callback(self.answer)


class LmdbEngine:
    """An `Engine` over one LMDB environment in a directory of its own.

    Opens (and makes) the environment at once, so it is built after any fork. ``sealer`` seals the ring of changes;
    without it other processes are not told. ``bells`` wakes them. `start` begins to look for their changes.
    """

    def __init__(
        self,
        directory: Path,
        reactor: Reactor,
        sealer: RowSealer | None = None,
        *,
        bells: Bells | None = None,
        floor_octets: int = FLOOR_OCTETS,
        poll_s: float = POLL_S,
        map_octets: int = MAP_OCTETS,
    ) -> None:
        self.hub = ChangeHub()
        self._reactor = reactor
        self.floor_octets = floor_octets
        """May be changed while the engine runs."""
        self._env = Environment(directory, map_octets)
        self._writing = Lock()
        self._scanning = 0
        self._must_reopen = False
        self._ring = None if sealer is None else Ring(sealer)
        self._bells = bells
        self._bell: Bell | None = None
        self._closing = False
        self._loan = Loan(reactor.callFromThread)
        self._ended = False
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._scans: ThreadPool | None = None
        self._polling = LoopingCall(self._look)
        self._polling.clock = cast("IReactorTime", reactor)
        self._poll_s = poll_s
        self._checking = LoopingCall(self.check_readers)
        self._checking.clock = cast("IReactorTime", reactor)
        self._last_txn = 0
        if self._ring is not None:
            _, self._last_txn = self._env.read_numbered(self._ring.skip)
        self._writer = Thread(target=self._write_groups, name="store writer", daemon=True)
        self._writer.start()

    def start(self, bell: Bell | None = None) -> None:
        """Begin to look for other processes' changes, at once when ``bell`` rings, and for readers that died."""
        self._bell = bell
        if bell is not None:
            bell.hang(self._look)
        if self._ring is not None:
            self._polling.start(self._poll_s, now=False).addErrback(_stopped, "polling for changes stopped")
        self._checking.start(_READER_CHECK_S, now=False).addErrback(_stopped, "checking readers stopped")

    # Reads.

    def read(self, work: Callable[[ReadTxn], T]) -> Deferred[T]:
        """See `Engine.read`; the answer is there at once."""
        try:
            return succeed(self._env.read(work))
        except Exception as error:
            return fail(translated_fault(error))

    def scan(self, work: Callable[[ReadTxn], T]) -> Deferred[T]:
        """See `Engine.scan`."""
        if self._closing:
            return fail(StoreUnavailable("the store is closed"))
        answer: Deferred[T] = Deferred()
        self._scanning += 1

        def finish(good: bool, result: Any) -> None:
            self._scanning -= 1
            self._reopen()
            if good:
                answer.callback(result)
            else:
                answer.errback(translated_fault(result.value))

        self._pool().callInThreadWithCallback(
            lambda good, result: self._reactor.callFromThread(finish, good, result), self._env.read, work
        )
        return answer

    def _pool(self) -> ThreadPool:
        if self._scans is None:
            self._scans = ThreadPool(minthreads=0, maxthreads=4, name="store readers")
            self._scans.start()
        return self._scans

    # Writes.

    def write(
        self,
        work: Callable[[WriteTxn], T],
        *,
        holding: AbstractContextManager[object] | None = None,
        grows: bool = False,
    ) -> Deferred[T]:
        """See `Engine.write`."""
        if self._closing:
            return fail(StoreUnavailable("the store is closed"))
        if holding is not None:
            try:
                holding.__enter__()
            except Exception as error:
                return fail(error)
        write = _Write(work, holding, grows)
        self._queue.put(write)
        return write.deferred

    def _write_groups(self) -> None:
        """The writer thread: take what waits, commit once, answer all; until None comes."""
        group: list[_Write] = []
        while not self._ended:
            if len(group) > 1:
                # Who writes alone, one after the other, never waits here.
                sleep(GATHER_S)
            group = []
            self._take(group, self._queue.get())
            changes: list[Change] = []
            try:
                self._commit_group(group, changes)
            except BaseException as error:
                log.failure("the writer thread failed")
                for write in group:
                    write.fail(error)
            self._loan.end()
            self._reactor.callFromThread(self._answer, group, changes)

    def _take(self, group: list[_Write], write: _Write | None) -> None:
        """Add a write to the group, or note that the queue has ended."""
        if write is None:
            self._ended = True
        else:
            group.append(write)

    def _take_more(self, group: list[_Write]) -> None:
        """Add what waits. The reactor stands aside first, so that all of its turn is there."""
        if self._queue.empty():
            # Who writes alone finds the interpreter free as a rule, and need not wait for the reactor to turn.
            return
        self._loan.begin()
        try:
            while len(group) < GROUP_WRITES and not self._ended:
                self._take(group, self._queue.get_nowait())
        except Empty:
            pass

    def _answer(self, group: list[_Write], changes: list[Change]) -> None:
        """On the reactor's thread: one call for the whole group."""
        if changes and self._bells is not None:
            self._bells.ring()
        for write in group:
            write.fire()
        self.hub.deliver(changes)
        if self._ring is not None and self._ring.is_far_behind:
            self._look()

    def _commit_group(self, group: list[_Write], changes: list[Change]) -> None:
        """Give every write of the group its answer or its failure, all durable on return."""
        waiting = group
        while waiting:
            waiting = self._attempt(waiting, changes, is_first=waiting is group)

    def _attempt(self, group: list[_Write], changes: list[Change], *, is_first: bool) -> list[_Write]:
        """Run and commit one transaction; what is left to run in another.

        The first one takes more into the group once no other process writes: while it waited, more has come.
        """
        with self._writing:
            try:
                txn = self._env.begin_write()
            except lmdb.Error as error:
                if isinstance(error, lmdb.PanicError):
                    self._reactor.callFromThread(self._want_reopening)
                return _fail_all(group, error)
            if is_first:
                self._take_more(group)
            return self._attempt_in(txn, group, changes)

    def _attempt_in(self, txn: lmdb.Transaction, group: list[_Write], changes: list[Change]) -> list[_Write]:
        writes = LmdbWrites(txn, self._env.dbs)
        try:
            done = self._run_all(group, writes)
            if done is None:
                return [other for other in group if not other.failed]
            self._loan.end()
            ready, left = group[:done], group[done:]
            if writes.writes:
                writes.finish()
                return self._commit(txn, writes, ready, changes) + left
            changes.extend(writes.changes)
            return left
        finally:
            txn.abort()

    def _run_all(self, group: list[_Write], writes: LmdbWrites) -> int | None:
        """Run what fits into one transaction; how many. None if the group must run again without one that failed."""
        has_room: bool | None = None
        for done, write in enumerate(group):
            if write.grows:
                has_room = self.free_octets() > 0 if has_room is None else has_room
                if not has_room:
                    write.fail(StoreFull("too little free disk"))
                    continue
            if writes.octets > GROUP_OCTETS:
                return done
            if not self._run(write, writes):
                return None
        return len(group)

    def _run(self, write: _Write, writes: LmdbWrites) -> bool:
        """Run one function. False if it failed after a write, so that the group must run again without it."""
        written, announced = writes.writes, len(writes.changes)
        try:
            write.answer = write.work(writes)
        except BaseException as error:
            write.fail(error)
            del writes.changes[announced:]
            return writes.writes == written
        return True

    def _commit(
        self, txn: lmdb.Transaction, writes: LmdbWrites, group: list[_Write], changes: list[Change]
    ) -> list[_Write]:
        """Commit; for a full disk fail what grows and give back the rest to run again."""
        number = None
        try:
            if writes.changes and self._ring is not None:
                number = self._ring.append(writes, writes.changes)
            txn.commit()
        except (lmdb.Error, OSError) as error:
            if self._ring is not None:
                self._ring.forget(number)
            log.error("commit failed: {error}", error=str(error))
            fault = self._env.named_fault(error, writes.octets)
            growing = [write for write in group if write.grows and not write.failed]
            if is_full(fault) and growing:
                _fail_all(growing, fault)
                return [write for write in group if not write.failed]
            return _fail_all(group, fault)
        changes.extend(writes.changes)
        return []

    # Other processes, room, end.

    def _look(self) -> None:
        """Look whether anybody committed, and tell watchers what other processes changed."""
        if self._must_reopen or self._closing:
            return
        last_txn = self._env.last_txn
        if last_txn == self._last_txn or self._ring is None:
            return
        try:
            if self.hub.is_watched:
                changes, self._last_txn = self._env.read_numbered(self._ring.read_new)
            else:
                changes, self._last_txn = self._env.read_numbered(self._ring.skip)
        except Exception:
            log.failure("the ring of changes cannot be read")
            changes, self._last_txn = None, last_txn
        if changes is None:
            self.hub.deliver_everything()
        else:
            self.hub.deliver(changes)

    def free_octets(self) -> int:
        """See `Engine.free_octets`."""
        return self._env.free_octets(self.floor_octets)

    def _want_reopening(self) -> None:
        """A commit failed in a way that LMDB forgives only to who opens it anew."""
        log.critical("the store had a fault and is opened again")
        self._must_reopen = True
        self._reopen()

    def check_readers(self) -> None:
        """Free the places of readers whose process died; done each minute by itself."""
        self._reopen()
        if not self._must_reopen:
            self._env.check_readers()

    def _reopen(self) -> None:
        """Open anew as soon as no scan is under way; reads run on this thread, so none is."""
        if not self._must_reopen or self._scanning or self._closing:
            return
        with self._writing:
            try:
                self._env.reopen()
            except (lmdb.Error, OSError, StoreUnavailable, StoreUnfit):
                log.failure("the store cannot be opened again")
            else:
                self._must_reopen = False

    def close(self) -> Deferred[None]:
        """See `Engine.close`."""
        if self._closing:
            return succeed(None)
        self._closing = True
        for call in (self._polling, self._checking):
            if call.running:
                call.stop()
        if self._bell is not None:
            self._bell.take_down()
        closed: Deferred[None] = Deferred()
        self._queue.put(None)

        def finish() -> None:
            self._writer.join()
            if self._scans is not None:
                self._scans.stop()
            self._reactor.callFromThread(self._let_go, closed)

        Thread(target=finish, name="store closing", daemon=True).start()
        return closed

    def _let_go(self, closed: Deferred[None]) -> None:
        self._env.close()
        if self._bells is not None:
            self._bells.close()
        closed.callback(None)


def _fail_all(group: list[_Write], error: BaseException) -> list[_Write]:
    """Fail what has not failed yet; nothing is left to run."""
    for write in group:
        if not write.failed:
            write.fail(error)
    return []


def _stopped(failure: Failure, message: str) -> None:
    log.failure("{message}", failure=failure, message=message)
