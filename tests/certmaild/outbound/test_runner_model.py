"""Whatever happens to the queue, each recipient gets his copy once, or his sender hears of it once."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from outbound_support import AWAY, BUSY, NOBODY, NOW, UNPROVEN, World
from support import run

from certmaild.mailbox.changes import ChangeHub
from certmaild.mailbox.identifiers import QueueId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_queue import TaskState
from certmaild.outbound.orders import Orders
from certmaild.outbound.values import Delivered

DOMAINS = ("example.org", "example.net")
PEOPLE = tuple(f"{name}@{domain}" for name in ("bob", "eve", "cat") for domain in DOMAINS)
DAY = 86_400

messages = st.tuples(
    st.just("file"), st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4, unique=True), st.integers(-9, 9)
)
steps = st.one_of(
    messages,
    st.tuples(st.just("fate"), st.sampled_from(PEOPLE), st.sampled_from([BUSY, NOBODY, None])),
    st.tuples(st.just("connect"), st.sampled_from(DOMAINS), st.sampled_from([AWAY, UNPROVEN, None])),
    st.tuples(st.just("plan"), st.sampled_from(DOMAINS), st.sampled_from([AWAY, None])),
    st.tuples(st.just("recipients"), st.integers(1, 3)),
    st.tuples(st.just("messages"), st.integers(1, 3)),
    st.tuples(st.just("loses"), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([1, 61, 1000, 4000])),
    st.tuples(st.just("order"), st.sampled_from(["retry", "hold", "release"]), st.integers(0, 5)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("crash")),
    st.tuples(st.just("no reply"), st.booleans()),
    st.tuples(st.just("pause"), st.booleans()),
    st.tuples(st.just("go on"), st.integers(1, 3)),
)


class Model:
    def __init__(self) -> None:
        self.world = World(each=2)
        self.filed: dict[str, list[str]] = {}
        self.delivered: Counter[tuple[str, str]] = Counter()
        answer = self.world.courier.answer

        def noting(message: Any) -> Any:
            fates = answer(message)
            for recipient, fate in fates.items():
                if isinstance(fate, Delivered):
                    self.delivered[message.queue_id, str(recipient.path)] += 1
            return fates

        self.world.courier.answer = noting  # type: ignore[method-assign]
        self.world.start()

    def do(self, step: tuple[Any, ...]) -> None:
        world, courier = self.world, self.world.courier
        match step:
            case ("file", to, priority):
                self.filed[world.file(*to, priority=priority)] = to
                world.clock.advance(0)
            case ("fate", who, fate):
                courier.fates.pop(who, None) if fate is None else courier.fates.update({who: fate})
            case ("connect", domain, problem):
                courier.problems.pop(domain, None) if problem is None else courier.problems.update({domain: problem})
            case ("plan", domain, problem):
                plans = world.planner.problems
                plans.pop(domain, None) if problem is None else plans.update({domain: problem})
            case ("recipients", count):
                courier.recipients_each = count
            case ("messages", count):
                courier.messages_each = count
            case ("loses", loses):
                courier.loses = loses
            case ("time", seconds):
                world.pass_time(seconds, 10)
            case ("order", name, number):
                self.order(name, number)
            case ("pause", pauses):
                courier.pause = pauses or None
            case ("go on", count):
                courier.go_on(count)
            case ("restart",) if not courier.never_replies:
                courier.pause = None
                while courier.waiting:
                    courier.go_on()
                world.stop()
                world.runner = world.make_runner()
                world.start()
            case ("crash",):
                self.crash()
            case ("no reply", never):
                courier.never_replies = never

    def order(self, name: str, number: int) -> None:
        if number < len(self.filed):
            method = getattr(Orders(self.world.spool), name)
            queue_id = QueueId(bytes.fromhex(list(self.filed)[number]))
            now = int(self.world.clock.seconds())
            run(self.world.engine.write(lambda txn: method(txn, queue_id, now)))
            self.world.clock.advance(0)

    def crash(self) -> None:
        """All that the process had in memory is gone."""
        world = self.world
        world.engine.hub = ChangeHub()
        world.clock.calls.clear()
        world.slots.taken = 0
        world.courier.open.clear()
        world.courier.waiting.clear()
        world.courier.never_replies = False
        world.runner = world.make_runner()
        world.start()

    def finish(self) -> None:
        """Everything works from now on, and there is time for all of it."""
        courier = self.world.courier
        courier.pause = None
        self.crash()
        courier.fates.clear()
        courier.problems.clear()
        self.world.planner.problems.clear()
        courier.loses = False
        for number in range(len(self.filed)):
            self.order("release", number)
        self.world.pass_time(2 * 3600, 30)

    def check(self) -> None:
        told = Counter(
            (queue_id, to) for queue_id, occasion, to in self.world.reporter.occasions if occasion == "failed"
        )
        for queue_id, recipients in self.filed.items():
            for to, state in zip(recipients, self.world.states(queue_id), strict=True):
                one = queue_id, to
                if state is TaskState.DELIVERED:
                    assert (self.delivered[one], told[one]) == (1, 0)
                else:
                    assert state is TaskState.FAILED
                    assert (self.delivered[one], told[one]) == (0, 1)
        assert not self.world.doubts.kept
        assert self.world.slots.taken == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=40))
def test_each_recipient_gets_it_once_or_his_sender_hears_of_it(script: list[tuple[Any, ...]]) -> None:
    model = Model()
    for step in script:
        model.do(step)
    model.finish()
    model.check()
    for table in (Table.QREADY, Table.QLANE, Table.REF):
        assert model.world.rows(table) == 0
    model.world.pass_time(4 * DAY, 3600)
    for table in Table:
        # A warning is forgotten when the next is given.
        if table.startswith("q") and table is not Table.QSAID:
            assert model.world.rows(table) == 0, table
    assert model.world.clock.seconds() > NOW
