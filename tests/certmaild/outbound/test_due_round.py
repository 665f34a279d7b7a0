"""What falls due is looked at; what fails keeps nothing behind it waiting."""

from support import memory_engine, run
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_queue import Due, due_key
from certmaild.mailbox.queue import Queue
from certmaild.outbound.due_round import AT_ONCE, DueRound

MANY = 2 * AT_ONCE + 5
EACH_S = 600


def test_what_fails_keeps_nothing_behind_it_waiting() -> None:
    engine, clock = memory_engine(), Clock()
    clock.advance(1000)
    names = [number.to_bytes(16, "big") for number in range(MANY)]
    # More than one helping of those that fail stands in front of the others.
    broken = set(names[: AT_ONCE + 1])
    given: list[bytes] = []

    def put(txn):  # type: ignore[no-untyped-def]
        for at, name in enumerate(names):
            txn.put(Table.QDUE, due_key(Due.CODE, 100 + at, name), b"")
        txn.put(Table.QDUE, due_key(Due.CODE, 1001, b"l" * 16), b"")
        txn.put(Table.QDUE, due_key(Due.TRIAL, 100, b"t" * 16), b"")

    run(engine.write(put))

    async def look_at(at_s: int, what: bytes) -> None:
        given.append(what)
        if what in broken:
            raise ValueError
        await engine.write(lambda txn: Queue.undue(txn, Due.CODE, at_s, what))

    due = DueRound(engine, clock, Due.CODE, look_at, each_s=lambda: EACH_S)
    with capturedLogs() as logs:
        run(due.start())
        for _ in range(10):
            clock.advance(0)
    assert given == names
    assert len([entry for entry in logs if "failed" in entry["log_format"]]) == len(broken)
    broken.clear()
    clock.advance(EACH_S)
    for _ in range(10):
        clock.advance(0)
    assert given == names + names[: AT_ONCE + 1] + [b"l" * 16]
    run(due.stop())
    assert clock.getDelayedCalls() == []
    assert [what for _, what in run(engine.read(lambda txn: list(Queue.due(txn, Due.TRIAL, 200))))] == [b"t" * 16]
