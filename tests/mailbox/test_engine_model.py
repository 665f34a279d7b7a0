"""Both engines against a plain dict: any sequence of transactions, some refused, leaves the same rows."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support import lmdb_engine, memory_engine, run, start

from certmaild.mailbox.layout import Table

KEYS = st.binary(min_size=1, max_size=3)
STEPS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=40)), max_size=6)


class Refused(Exception):
    pass


class EngineModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.engines: list[Any] = [memory_engine(), lmdb_engine(self.directory)]
        self.rows: dict[bytes, bytes] = {}

    def teardown(self) -> None:
        for engine in self.engines:
            run(engine.close())
        shutil.rmtree(self.directory)

    @staticmethod
    def work_of(steps: list[tuple[bytes, bytes | None]], refuse: bool) -> Any:
        def work(txn: Any) -> None:
            for key, value in steps:
                if value is None:
                    txn.delete(Table.PAGE, key)
                else:
                    txn.put(Table.PAGE, key, value)
            if refuse:
                raise Refused

        return work

    def expect(self, steps: list[tuple[bytes, bytes | None]]) -> None:
        for key, value in steps:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    @rule(batch=st.lists(st.tuples(STEPS, st.booleans()), min_size=1, max_size=5))
    def write_together(self, batch: list[tuple[list[tuple[bytes, bytes | None]], bool]]) -> None:
        for engine in self.engines:
            waiting = [start(engine.write(self.work_of(steps, refuse))) for steps, refuse in batch]
            for deferred, (_, refuse) in zip(waiting, batch, strict=True):
                if refuse:
                    deferred.addCallbacks(lambda _: 1 // 0, lambda failure: failure.trap(Refused))
                run(deferred)
        for steps, refuse in batch:
            if not refuse:
                self.expect(steps)

    @rule(low=KEYS, high=st.none() | KEYS, reverse=st.booleans())
    def scan(self, low: bytes, high: bytes | None, reverse: bool) -> None:
        inside = [item for item in sorted(self.rows.items()) if low <= item[0] and (high is None or item[0] < high)]
        for engine in self.engines:
            found = run(engine.read(lambda txn: list(txn.scan(Table.PAGE, low, high, reverse=reverse))))
            assert found == (inside[::-1] if reverse else inside)

    @invariant()
    def all_rows_are_equal(self) -> None:
        for engine in self.engines:
            assert dict(run(engine.read(lambda txn: list(txn.scan(Table.PAGE, b""))))) == self.rows


EngineModel.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestEngineModel = EngineModel.TestCase
