"""Frames go when nobody will read them, and not before."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import lmdb_engine, memory_engine, run
from twisted.internet.task import Clock

from certmaild.mailbox import collect
from certmaild.mailbox.collect import EVERY_S, GRACE_S, Collector
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.layout import (
    FACTS_FRAME,
    Stage,
    Table,
    dead_key,
    decode_stage,
    encode_stage,
    frame_key,
)
from certmaild.mailbox.processes import boot_id, process_start, still_lives, this_process

ROOT = Path(__file__).parents[2]
LIVE, OLD, NEW = b"l" * 16, b"o" * 16, b"n" * 16


@pytest.fixture(params=["memory", "lmdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine: Any = memory_engine() if request.param == "memory" else lmdb_engine(tmp_path)
    yield engine
    run(engine.close())


def put_blob(engine: Engine, blob_id: bytes, frames: int, facts: bool = False) -> None:
    numbers = [*range(frames), *([FACTS_FRAME] if facts else [])]
    run(engine.write(lambda txn: [txn.put(Table.BLOB, frame_key(blob_id, n), b"frame") for n in numbers]))


def blobs_left(engine: Engine) -> dict[bytes, int]:
    left: dict[bytes, int] = {}
    for key, _ in run(engine.read(lambda txn: list(txn.scan(Table.BLOB, b"")))):
        left[key[:16]] = left.get(key[:16], 0) + 1
    return left


def keys(engine: Engine, table: Table) -> list[bytes]:
    return run(engine.read(lambda txn: [key for key, _ in txn.scan(table, b"")]))


def test_dead_blobs_go_after_an_hour(engine: Engine) -> None:
    for blob_id in (LIVE, OLD, NEW):
        put_blob(engine, blob_id, 3, facts=True)
    now = 10_000
    run(engine.write(lambda txn: txn.put(Table.DEAD, dead_key(now - GRACE_S, OLD), b"")))
    run(engine.write(lambda txn: txn.put(Table.DEAD, dead_key(now - GRACE_S + 1, NEW), b"")))
    assert run(Collector(engine, lambda: now + 0.9).collect()) == 3
    assert blobs_left(engine) == {LIVE: 4, NEW: 4}
    assert run(Collector(engine, lambda: now + 1).collect()) == 3
    assert blobs_left(engine) == {LIVE: 4}
    assert keys(engine, Table.DEAD) == []


def test_dead_blobs_go_at_once_on_a_full_disk() -> None:
    engine = memory_engine()
    put_blob(engine, NEW, 1)
    run(engine.write(lambda txn: txn.put(Table.DEAD, dead_key(5000, NEW), b"")))
    engine.room = collect.LOW_OCTETS - 1
    run(Collector(engine, lambda: 5000).collect())
    assert blobs_left(engine) == {}


def test_large_blobs_go_in_slices(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "SLICE_FRAMES", 4)
    monkeypatch.setattr(collect, "_SLICE_BLOBS", 3)
    for n in range(8):
        put_blob(engine, bytes([n]) * 16, n, facts=n % 2 == 0)
        run(engine.write(lambda txn, n=n: txn.put(Table.DEAD, dead_key(n, bytes([n]) * 16), b"")))
    sizes: list[int] = []
    write = engine.write

    def counting(work: Any, **kwargs: Any) -> Any:
        def counted(txn: Any) -> Any:
            before = len(list(txn.scan(Table.BLOB, b"")))
            answer = work(txn)
            sizes.append(before - len(list(txn.scan(Table.BLOB, b""))))
            return answer

        return write(counted, **kwargs)

    monkeypatch.setattr(engine, "write", counting)
    assert run(Collector(engine, lambda: 10_000).collect()) == sum(range(8))
    assert blobs_left(engine) == {} and keys(engine, Table.DEAD) == []
    assert max(sizes) <= 4 + 3


def test_uploads_of_gone_processes_are_abandoned(engine: Engine) -> None:
    mine = this_process(1)
    gone = Stage(mine.boot_id, 2**22 + 5, 17, 1)
    for blob_id, stage in ((LIVE, mine), (OLD, gone)):
        put_blob(engine, blob_id, 2)
        run(engine.write(lambda txn, b=blob_id, s=stage: txn.put(Table.STAGE, b, encode_stage(s))))
    run(Collector(engine, lambda: 10_000.0).collect())
    assert blobs_left(engine) == {LIVE: 2}
    assert keys(engine, Table.STAGE) == [LIVE]
    assert keys(engine, Table.DEAD) == []


def test_it_collects_at_start_and_every_ten_minutes(engine: Engine) -> None:
    clock = Clock()
    memory = memory_engine()
    collector = Collector(memory, clock.seconds)
    collector.stop()
    run(memory.write(lambda txn: txn.put(Table.DEAD, dead_key(0, OLD), b"")))
    clock.advance(GRACE_S)
    collector.start(clock)
    assert keys(memory, Table.DEAD) == []
    run(memory.write(lambda txn: txn.put(Table.DEAD, dead_key(0, NEW), b"")))
    clock.advance(EVERY_S)
    assert keys(memory, Table.DEAD) == []
    collector.stop()
    run(memory.close())
    run(memory.write(lambda txn: None).addErrback(lambda failure: None))


def test_a_failed_round_is_logged_and_the_next_one_comes() -> None:
    clock, memory = Clock(), memory_engine()
    run(memory.write(lambda txn: txn.put(Table.STAGE, OLD, b"damaged")))
    collector = Collector(memory, clock.seconds)
    collector.start(clock)
    run(memory.write(lambda txn: txn.delete(Table.STAGE, OLD)))
    run(memory.write(lambda txn: txn.put(Table.DEAD, dead_key(0, NEW), b"")))
    clock.advance(GRACE_S)
    clock.advance(EVERY_S)
    assert keys(memory, Table.DEAD) == []
    collector.stop()


def test_a_process_is_known_by_boot_number_and_start() -> None:
    mine = this_process(7)
    assert decode_stage(encode_stage(mine)) == mine
    assert mine.process_start and process_start(mine.pid) == mine.process_start
    assert still_lives(mine)
    assert not still_lives(Stage(mine.boot_id, mine.pid, mine.process_start + 1, 7))
    assert not still_lives(Stage(b"another boot 123", mine.pid, mine.process_start, 7))
    assert process_start(2**22 + 5) is None
    assert len(boot_id()) == 16


KILLED = """
import os
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from support import lmdb_engine, run
from certmaild.mailbox.blobs import BlobWriter
engine = lmdb_engine(Path(sys.argv[1]))
writer = BlobWriter(engine, lambda: 0)
async def work():
    while True:
        pause = writer.write(os.urandom(1 << 20))
        if pause is not None:
            await pause
            print("waited", flush=True)
run(work())
"""


def test_an_upload_that_was_killed_leaves_nothing(tmp_path: Path) -> None:
    engine = lmdb_engine(tmp_path)
    code = KILLED.format(root=str(ROOT), tests=str(ROOT / "tests"))
    command = [sys.executable, "-P", "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT / "tests") as process:
        assert process.stdout is not None
        try:
            for _ in range(12):
                assert process.stdout.readline() == b"waited\n"
            assert run(Collector(engine, lambda: 10_000).collect()) == 0
            assert len(keys(engine, Table.STAGE)) == 1
        finally:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert run(Collector(engine, lambda: 10_000).collect()) > 0
    for table in (Table.BLOB, Table.STAGE, Table.DEAD):
        assert keys(engine, table) == []
    run(engine.close())
