"""Which messages may be doubled by a crash: those sent to their end whose reply was not settled (RFC 1047)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from twisted.logger import Logger

from certmaild.mailbox.identifiers import LaneId, QueueId
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_queue import decode_doubt, doubt_key, encode_doubt
from certmaild.mailbox.queue import Queue

log = Logger()


class DoubtStore(Protocol):
    """Keeps marks while the machine runs, whatever becomes of the process: `VolatileStore` is one."""

    def put_doubt(self, name: bytes, value: bytes) -> None:
        """Note one."""
        ...

    def drop_doubt(self, name: bytes) -> None:
        """It is settled."""
        ...

    def doubts(self) -> Mapping[bytes, bytes]:
        """All."""
        ...


class Doubts:
    """Marks a message from the moment before its last octets are sent until its fate is stored."""

    def __init__(self, store: DoubtStore) -> None:
        self._store = store

    def mark(self, queue_id: QueueId, lane_id: LaneId, numbers: Sequence[int]) -> None:
        """A crash from now on leaves it open."""
        self._store.put_doubt(doubt_key(queue_id, lane_id), encode_doubt(numbers))

    def clear(self, queue_id: QueueId, lane_id: LaneId) -> None:
        """Its fate is stored."""
        self._store.drop_doubt(doubt_key(queue_id, lane_id))

    async def take_stock(self, engine: Engine, queue: Queue, now_s: int) -> int:
        """What an earlier process left open: logged, noted with each copy, and counted. They are sent again."""
        left = self._store.doubts()

        def work(txn: WriteTxn) -> int:
            count = 0
            for key, value in left.items():
                queue_id, numbers = decode_doubt(key, value)
                for number in numbers:
                    task = queue.task(txn, queue_id, number)
                    if task is not None and task.state.is_open:
                        queue.change_task(txn, queue_id, number, replace(task, doubts=task.doubts + 1), now_s)
                        count += 1
            return count

        count = await engine.write(work) if left else 0
        for key in left:
            self._store.drop_doubt(key)
        if count:
            log.warn("sent again after a crash: {count} may be doubled", count=count)
        return count
