"""What became of a message for some recipients, written in one transaction with the words to its sender."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from twisted.logger import Logger

from certmaild.mailbox.errors import StoreUnavailable
from certmaild.mailbox.identifiers import QueueId
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_queue import Message, Task, TaskState
from certmaild.outbound.interfaces import News, Occasion, QueuedMessage, Reporter, Work
from certmaild.outbound.spool import Spool, decode, decode_place, described, encode_fate, recipient_of
from certmaild.outbound.values import Delivered, Envelope, Fate, Notify, Problem

log = Logger()

MAX_LOGGED = 50
"""Recipients that a line names."""
RECIPIENTS_FULL = 452
"""RFC 5321 section 4.5.3.1.10."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one recipient's copy comes to."""

    task: Task
    """As it stands from now on."""
    fate: Fate
    occasion: Occasion | None = None
    """What the sender may have to hear."""


class Settler:
    """Writes fates. ``seconds`` is the time since 1970; ``hash_address`` gives what the log may show of one."""

    def __init__(
        self,
        engine: Engine,
        spool: Spool,
        reporter: Reporter,
        seconds: Callable[[], float],
        hash_address: Callable[[str], str],
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._reporter = reporter
        self._seconds = seconds
        self._hash = hash_address

    async def tried(
        self, queue_id: QueueId, message: Message, fates: Mapping[int, tuple[Task, Fate]], also: Work | None = None
    ) -> None:
        """File the fates of one try, by the recipients' numbers. ``also`` runs in the same transaction."""
        now = int(self._seconds())
        full = any(isinstance(fate, Delivered) for _, fate in fates.values())
        traced = "T" in decode(Envelope, message.envelope).by_mode
        results = {number: self._after_try(task, fate, now, full, traced) for number, (task, fate) in fates.items()}
        self._log(queue_id, list(results.values()))
        await self.settle(queue_id, message, results, also)

    def _after_try(self, task: Task, fate: Fate, now: int, others_went: bool, traced: bool) -> Result:
        if isinstance(fate, Problem) and fate.code == RECIPIENTS_FULL and others_went:
            # Only too many for one transaction: each such try delivers some, so this ends.
            return Result(replace(task, state=TaskState.READY), fate)
        attempts = task.attempts + 1
        task = replace(
            task, attempts=attempts, first_s=task.first_s or now, last_s=now, fate=encode_fate(fate), next_s=now
        )
        if isinstance(fate, Delivered):
            notify = recipient_of(task).notify
            asked = Notify.SUCCESS in notify and not fate.relays_dsn
            # Each relay is reported where DELIVERBY asks for a trace (RFC 2852 section 4).
            asked = asked or (traced and Notify.NEVER not in notify)
            return Result(replace(task, state=TaskState.DELIVERED), fate, Occasion.RELAYED if asked else None)
        if fate.permanent:
            return Result(replace(task, state=TaskState.FAILED), fate, Occasion.FAILED)
        again = now + self._spool.times.pause_s(attempts)
        return Result(replace(task, state=TaskState.WAITING, next_s=again), fate)

    async def settle(
        self,
        queue_id: QueueId,
        message: Message,
        results: Mapping[int, Result],
        also: Work | None = None,
        *,
        must_report: bool = False,
    ) -> None:
        """Write what became of copies, by number; a copy that somebody dropped meanwhile stays so unless it went.

        With ``must_report`` a report that cannot be made is the caller's to bear; else failures wait for it.
        """
        try:
            report = await self._report(queue_id, message, results)
            await self._engine.write(self._filed(queue_id, results, report, also))
        except StoreUnavailable:
            raise
        except Exception:
            if must_report:
                raise
            log.failure("no report can be made for message {queue_id}; it is tried again", queue_id=queue_id.hex())
            await self._engine.write(self._filed(queue_id, self._unheard(results), None, also))

    def _filed(self, queue_id: QueueId, results: Mapping[int, Result], *works: Work | None) -> Work:
        now = int(self._seconds())

        def work(txn: WriteTxn) -> None:
            for number, result in results.items():
                self._write(txn, queue_id, number, result.task, now)
            self.rest(txn, queue_id, now)
            for one in works:
                if one is not None:
                    one(txn)

        return work

    def _write(self, txn: WriteTxn, queue_id: QueueId, number: int, new: Task, now: int) -> None:
        queue = self._spool.queue
        stands = queue.task(txn, queue_id, number)
        if stands is None or not (stands.state.is_open or new.state is TaskState.DELIVERED):
            return
        if stands.state is TaskState.HELD and new.state.is_open:
            # Held or dropped while it was sent: that stands.
            new = replace(stands, attempts=new.attempts, first_s=new.first_s, last_s=new.last_s)
        queue.change_task(txn, queue_id, number, new, now)

    def rest(self, txn: WriteTxn, queue_id: QueueId, now: int) -> None:
        """If a message is done with, keep it only so long that it can be seen what became of it."""
        state = self._spool.queue.state(txn, queue_id)
        if state is not None and not state.open:
            self._spool.queue.retime(txn, queue_id, now + self._spool.times.kept)

    async def _report(self, queue_id: QueueId, message: Message, results: Mapping[int, Result]) -> Work | None:
        news = [
            self.news(result.task, result.fate, result.occasion)
            for result in results.values()
            if result.occasion is not None
        ]
        return await self.report(described(self._engine, queue_id, message), news)

    def _unheard(self, results: Mapping[int, Result]) -> dict[int, Result]:
        """Nothing fails unheard: what would have is tried again."""
        again = int(self._seconds()) + self._spool.times.retry
        return {
            number: replace(result, task=replace(result.task, state=TaskState.WAITING, next_s=again))
            if result.task.state is TaskState.FAILED
            else result
            for number, result in results.items()
        }

    @staticmethod
    def news(task: Task, fate: Fate, occasion: Occasion, until_s: int | None = None) -> News:
        """What became of a copy, for its sender."""
        return News(recipient_of(task), occasion, fate, task.attempts, task.last_s or None, until_s)

    async def report(self, message: QueuedMessage, news: Sequence[News]) -> Work | None:
        """What files a report; None where nobody is to be told."""
        if not news:
            return None
        if not message.envelope.reports_to.local:
            log.info("message {queue_id} has no sender to be told", queue_id=message.queue_id)
            return None
        return await self._reporter.prepare(message, news)

    def _log(self, queue_id: QueueId, results: Sequence[Result]) -> None:
        """A line for each kind of fate, without an outside address."""
        for state in (TaskState.DELIVERED, TaskState.FAILED, TaskState.WAITING, TaskState.READY):
            some = [result for result in results if result.task.state is state]
            if some:
                hashes = [self._hash(str(recipient_of(one.task).path).lower()) for one in some[:MAX_LOGGED]]
                log.info(
                    "message {queue_id} {what}; recipients {recipients}",
                    queue_id=queue_id.hex(),
                    what=_words(some[0]),
                    recipients=" ".join(hashes),
                )


def _words(result: Result) -> str:
    """What became of a copy, for the log."""
    fate, task = result.fate, result.task
    if isinstance(fate, Delivered):
        proof = fate.proof
        how = "in clear" if proof is None else f"{proof.version}, {proof.how}"
        return f"sent to {fate.host} ({how})"
    at = f" by {fate.host}" if fate.host else ""
    kind = decode_place(task.place).destination.kind.value
    if task.state is TaskState.FAILED:
        return f"failed{at} ({kind}, {fate.code} {fate.enhanced})"
    again = "at once" if task.state is TaskState.READY else f"in {task.next_s - task.last_s} s"
    return f"deferred{at} ({kind}, {fate.code} {fate.enhanced}), again {again}"
