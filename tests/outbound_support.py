"""The outgoing queue for tests: a clock, a planner and a courier that do as told, a reporter that takes notes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from support import memory_engine, run
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.keystore.tls_values import Demand, Level, Proof
from certmaild.mailbox.arrivals import write_arrivals
from certmaild.mailbox.blobs import BlobWriter
from certmaild.mailbox.identifiers import QueueId, UserId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_queue import Task, TaskState
from certmaild.outbound.doubts import Doubts
from certmaild.outbound.interfaces import News, QueuedMessage, Terms, Work
from certmaild.outbound.lane import Desk
from certmaild.outbound.runner import Runner
from certmaild.outbound.settling import Settler
from certmaild.outbound.slots import Slots
from certmaild.outbound.spool import Spool, Submission, fate_of
from certmaild.outbound.timing import Times
from certmaild.outbound.values import (
    Delivered,
    Destination,
    Envelope,
    Fate,
    OutgoingMessage,
    Plan,
    PlannedHost,
    Problem,
    Recipient,
    RouteKind,
)
from certmaild.protocols.smtp.grammar import Path

NOW = 1_800_000_000
SENDER = Path("ann", "example.com")
CONTENT = b"From: ann@example.com\r\nSubject: hello\r\n\r\nbody\r\n"
PREFIX = b"Received: from here\r\n"
SECRETS = ServerSecrets({name: sha256(name.encode()).digest() for name in FILES})
PROOF = Proof("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", True, "certificate for mx", "default", ("mx",))
DELIVERED = Delivered("mx.example.org", "250 2.0.0 taken", PROOF)
BUSY = Problem(False, 450, "4.2.1", "He is busy.", "mx.example.org", "450 4.2.1 busy")
NOBODY = Problem(True, 550, "5.1.1", "There is nobody of this name.", "mx.example.org", "550 5.1.1 no such user")
AWAY = Problem(False, 451, "4.4.1", "The server cannot be reached.")
UNPROVEN = Problem(False, 451, "4.7.5", "The server does not prove itself.", concerns_tls=True)
FULL = Problem(False, 452, "4.5.3", "Too many recipients.")


@dataclass
class MemoryDoubts:
    """A `DoubtStore`."""

    kept: dict[bytes, bytes] = field(default_factory=dict)

    def put_doubt(self, name: bytes, value: bytes) -> None:
        self.kept[name] = value

    def drop_doubt(self, name: bytes) -> None:
        self.kept.pop(name, None)

    def doubts(self) -> Mapping[bytes, bytes]:
        return dict(self.kept)


@dataclass
class ScriptedPlanner:
    """Says one host for each destination, unless told otherwise."""

    problems: dict[str, Problem] = field(default_factory=dict)
    asked: list[tuple[Destination, Terms]] = field(default_factory=list)
    pause: bool = False
    waiting: list[Deferred[None]] = field(default_factory=list)

    async def plan(self, destination: Destination, terms: Terms) -> Plan | Problem:
        self.asked.append((destination, terms))
        if self.pause:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
        if destination.domain in self.problems:
            return self.problems[destination.domain]
        name = "mx." + destination.domain
        return Plan(destination, (PlannedHost(name, ("192.0.2.1",), 25, Demand(Level.VERIFY, name)),))


@dataclass
class Sent:
    """One message on one connection."""

    connection: int
    domain: str
    queue_id: str
    to: tuple[str, ...]
    content: bytes
    at: float


class ScriptedConnection:
    def __init__(self, courier: "ScriptedCourier", number: int, domain: str) -> None:
        self.courier = courier
        self.number = number
        self.domain = domain
        self.is_open = True
        self.sent = 0

    async def send(self, message: OutgoingMessage, last_octets: Callable[[], None]) -> Mapping[Recipient, Fate]:
        courier = self.courier
        if courier.pause is not None:
            waiting: Deferred[None] = Deferred()
            courier.waiting.append(waiting)
            await waiting
        content = b"".join([piece async for piece in message.content()])
        assert len(content) == message.size
        last_octets()
        courier.before_reply()
        if courier.never_replies:
            await Deferred()
        to = tuple(str(recipient.path) for recipient in message.recipients)
        courier.sent.append(Sent(self.number, self.domain, message.queue_id, to, content, courier.seconds()))
        self.sent += 1
        if self.sent == courier.messages_each:
            self.is_open = False
        fates = courier.answer(message)
        self.is_open &= not courier.loses
        return fates

    async def close(self) -> None:
        self.is_open = False
        self.courier.open.discard(self.number)


class ScriptedCourier:
    """Takes everything, unless told otherwise."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.problems: dict[str, Problem] = {}
        self.fates: dict[str, Fate] = {}
        """By recipient."""
        self.sent: list[Sent] = []
        self.connected: list[str] = []
        self.open: set[int] = set()
        self.most_open = 0
        self.messages_each = 1 << 30
        self.recipients_each = 1 << 30
        self.connections_each = 1 << 30
        self.loses = False
        self.pause: object = None
        self.tarpits: set[str] = set()
        """Domains whose servers never come to say hello."""
        self.waiting: list[Deferred[None]] = []
        self.before_reply: Callable[[], object] = lambda: None
        self.never_replies = False
        self.raises: Exception | None = None

    async def connect(self, plan: Plan) -> ScriptedConnection | Problem:
        domain = plan.destination.domain
        self.connected.append(domain)
        if self.raises is not None:
            raise self.raises
        if domain in self.tarpits:
            await self.never()
        if domain in self.problems:
            return self.problems[domain]
        if len(self.open) >= self.connections_each:
            return AWAY
        number = len(self.connected)
        self.open.add(number)
        self.most_open = max(self.most_open, len(self.open))
        return ScriptedConnection(self, number, domain)

    async def never(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        await waiting

    def answer(self, message: OutgoingMessage) -> dict[Recipient, Fate]:
        return {
            recipient: FULL if at >= self.recipients_each else self.fates.get(str(recipient.path), DELIVERED)
            for at, recipient in enumerate(message.recipients)
        }

    def go_on(self, count: int = 1 << 30) -> None:
        """Let so many paused sends continue."""
        for one in [self.waiting.pop(0) for _ in range(min(count, len(self.waiting)))]:
            one.callback(None)


@dataclass
class NotingReporter:
    told: list[tuple[str, tuple[News, ...]]] = field(default_factory=list)
    """What was committed."""
    fault: Exception | None = None
    breaks: bool = False
    headers: list[bytes] = field(default_factory=list)

    async def prepare(self, message: QueuedMessage, news: Sequence[News]) -> Work | None:
        if self.fault is not None:
            raise self.fault
        self.headers.append(await message.header())

        def work(txn: Any) -> None:
            if self.breaks:
                raise RuntimeError("cannot be filed")
            self.told.append((message.queue_id, tuple(news)))

        return work

    @property
    def occasions(self) -> list[tuple[str, str, str]]:
        return [(queue_id, one.occasion.value, str(one.recipient.path)) for queue_id, news in self.told for one in news]


class World:
    """A queue, all that works on it, and a clock."""

    def __init__(self, engine: Any = None, times: Times | None = None, **slots: int) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.engine: Any = engine or memory_engine()
        self.spool = Spool(SECRETS.queue, times or Times())
        self.planner = ScriptedPlanner()
        self.courier = ScriptedCourier(self.clock.seconds)
        self.reporter = NotingReporter()
        self.doubts = MemoryDoubts()
        self.slots = Slots(slots.get("each", 10), slots.get("in_all", 50))
        self.leads = True
        self.filed = 0
        self.runner = self.make_runner()

    def make_runner(self) -> Runner:
        settler = Settler(self.engine, self.spool, self.reporter, self.clock.seconds, SECRETS.trace_hash)
        return Runner(
            Desk(
                self.engine,
                self.spool,
                self.planner,
                self.courier,
                settler,
                Doubts(self.doubts),
                self.slots,
                self.clock,
                lambda: self.leads,
            )
        )

    def rows(self, table: Table) -> int:
        """How many the table holds."""
        return run(self.engine.read(lambda txn: sum(1 for _ in txn.scan(table, b""))))

    def start(self) -> None:
        run(self.runner.start())
        self.pass_time(0)

    def stop(self) -> None:
        run(self.runner.stop())

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time go by, a second at a time."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(step, end - self.clock.seconds()))
        self.clock.advance(0)

    def file(self, *to: str, content: bytes = CONTENT, sender: Path = SENDER, **more: Any) -> str:
        """Queue a message; ``to`` are addresses. The rest goes into envelope (by name) and recipients."""
        notify = more.pop("notify", None)
        self.filed += 1
        queue_id = f"{self.filed:012x}"
        writer = BlobWriter(self.engine, self.clock.seconds)
        assert writer.write(content) is None
        blob = run(writer.finish())
        recipients = []
        for address in to or ("bob@example.org",):
            local, domain = address.split("@")
            fields = {} if notify is None else {"notify": frozenset(notify)}
            one = Recipient(Path(local, domain), RouteKind.VERIFIED_TLS, "by default", **fields)
            recipients.append((one, Destination(RouteKind.VERIFIED_TLS, domain)))
        submission = Submission(
            queue_id,
            blob,
            content.index(b"\r\n\r\n") + 4,
            content.endswith(b"\r\n"),
            PREFIX,
            Envelope(sender, **more),
            UserId(b"u" * 16),
            recipients,
        )

        def work(txn: Any) -> None:
            write_arrivals(txn, SECRETS, blob, ())
            self.spool.enqueue(txn, submission, self.clock.seconds())

        run(self.engine.write(work))
        return queue_id

    def tasks(self, queue_id: str) -> list[Task]:
        key = QueueId(bytes.fromhex(queue_id))
        return run(self.engine.read(lambda txn: [task for _, task in self.spool.queue.tasks(txn, key)]))

    def states(self, queue_id: str) -> list[TaskState]:
        return [task.state for task in self.tasks(queue_id)]

    def fates(self, queue_id: str) -> list[Fate | None]:
        return [fate_of(task) for task in self.tasks(queue_id)]

    @property
    def order(self) -> list[str]:
        """Ids in the order they were sent."""
        return [one.queue_id for one in self.courier.sent]
