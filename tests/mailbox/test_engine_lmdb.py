"""Group commit, other processes, kill -9 and a full disk: what LMDB alone can show."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any

import lmdb
import pytest
from support import ClearSealer, lmdb_engine, reactor, run, start

from certmaild.keystore.errors import KeysClosed
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.mailbox import engine_lmdb, environment
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.engine_lmdb import GROUP_WRITES, POLL_S, LmdbEngine
from certmaild.mailbox.environment import Environment
from certmaild.mailbox.errors import StoreFull, StoreUnavailable, StoreUnfit
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout import RING_ROW_CHANGES, RING_ROWS, Table, encode_changes, ring_key

USER = UserId(b"u" * 16)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LmdbEngine]:
    engine = lmdb_engine(tmp_path)
    yield engine
    run(engine.close())


def put(key: bytes, value: bytes = b"v") -> Callable[[Any], None]:
    return lambda txn: txn.put(Table.USE, key, value)


def refuse_after_writing(txn: Any) -> None:
    txn.put(Table.USE, b"refused", b"v")
    raise KeyError("after")


def refuse_before_writing(txn: Any) -> None:
    raise KeyError("before")


def together(engine: LmdbEngine, works: list[Callable[[Any], Any]]) -> tuple[list[Any], int]:
    """Run writes as one group: their outcomes, and how many transactions were committed for them."""
    entered, go = Event(), Event()

    def hold_up(txn: Any) -> None:
        entered.set()
        assert go.wait(30)

    first = start(engine.write(hold_up))
    assert entered.wait(30)
    waiting = [start(engine.write(work)) for work in works]
    before = engine._env.last_txn
    go.set()
    run(first)
    outcomes: list[Any] = []
    for deferred in waiting:
        deferred.addErrback(lambda failure: failure.value)
        outcomes.append(run(deferred))
    return outcomes, engine._env.last_txn - before


def test_files_are_private(engine: LmdbEngine, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    for file in (tmp_path / "store").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_only_a_group_of_several_lets_the_next_gather(engine: LmdbEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(engine_lmdb, "sleep", slept.append)
    for n in range(3):
        run(engine.write(put(b"alone %d" % n)))
    assert not slept
    together(engine, [put(b"%d" % n) for n in range(3)])
    run(engine.write(put(b"after")))
    run(engine.write(put(b"alone again")))
    assert slept == [engine_lmdb.GATHER_S]


def test_what_waits_is_committed_once(engine: LmdbEngine) -> None:
    outcomes, commits = together(engine, [put(b"%d" % n) for n in range(50)])
    assert outcomes == [None] * 50
    assert commits == 1


def test_a_group_has_a_limit(engine: LmdbEngine) -> None:
    _, commits = together(engine, [put(b"%d" % n) for n in range(GROUP_WRITES + 1)])
    assert commits == 2


def test_a_large_group_is_committed_in_parts(engine: LmdbEngine) -> None:
    _, commits = together(engine, [put(b"%d" % n, bytes(20 << 20)) for n in range(4)])
    assert commits == 2


def test_a_refusal_before_writing_fails_alone(engine: LmdbEngine) -> None:
    runs: list[int] = []

    def counted(txn: Any) -> None:
        runs.append(1)
        txn.put(Table.USE, b"a", b"v")

    outcomes, commits = together(engine, [counted, refuse_before_writing, put(b"b")])
    assert [type(outcome) for outcome in outcomes] == [type(None), KeyError, type(None)]
    assert (len(runs), commits) == (1, 1)


def test_a_refusal_after_writing_leaves_nothing_and_the_others_run_again(engine: LmdbEngine) -> None:
    runs: list[int] = []

    def counted(txn: Any) -> int:
        runs.append(1)
        txn.put(Table.USE, b"a", b"v")
        return len(runs)

    works = [counted, refuse_before_writing, refuse_after_writing, put(b"b"), refuse_after_writing, put(b"c")]
    outcomes, commits = together(engine, works)
    assert [type(outcome) for outcome in outcomes] == [int, KeyError, KeyError, type(None), KeyError, type(None)]
    assert outcomes[0] == 3
    assert commits == 1
    assert run(engine.read(lambda txn: [key for key, _ in txn.scan(Table.USE, b"")])) == [b"a", b"b", b"c"]


def test_a_value_put_last_is_sealed_once_for_the_whole_group(engine: LmdbEngine) -> None:
    sealed: list[int] = []

    def count(txn: Any) -> int:
        value = (txn.last_put(Table.USE, b"k") or 0) + 1
        txn.put_last(Table.USE, b"k", value, lambda: sealed.append(value) or b"%d" % value)
        return value

    outcomes, commits = together(engine, [count, count, refuse_after_writing, count])
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [1, 2, 3]
    assert (sealed, commits) == ([3], 1)
    assert run(engine.read(lambda txn: txn.get(Table.USE, b"k"))) == b"3"


def test_watchers_hear_a_change_once_though_the_group_ran_twice(engine: LmdbEngine) -> None:
    heard: list[Change] = []
    engine.hub.watch(USER, heard.append)

    def announcing(txn: Any) -> None:
        txn.put(Table.USE, b"a", b"v")
        txn.announce(Change(ChangeKind.ARRIVAL, USER))

    together(engine, [announcing, refuse_after_writing])
    assert heard == [Change(ChangeKind.ARRIVAL, USER)]


def test_a_too_long_key_fails_alone_and_the_engine_goes_on(engine: LmdbEngine) -> None:
    outcomes, _ = together(engine, [put(b"k" * 600), put(b"a")])
    assert isinstance(outcomes[0], StoreUnavailable)
    assert outcomes[1] is None


def test_a_full_map_is_a_full_store(tmp_path: Path) -> None:
    engine = lmdb_engine(tmp_path, map_octets=1 << 20)
    outcomes, _ = together(engine, [put(b"small"), put(b"large", bytes(2 << 20)), put(b"also small")])
    assert outcomes[0] is None
    assert isinstance(outcomes[1], StoreFull)
    assert outcomes[2] is None
    run(engine.close())


def test_after_a_fatal_fault_the_store_is_opened_again(engine: LmdbEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    run(engine.write(put(b"kept")))
    scanning, go = Event(), Event()

    def slow_scan(txn: Any) -> bytes | None:
        scanning.set()
        assert go.wait(30)
        return txn.get(Table.USE, b"kept")

    scan = start(engine.scan(slow_scan))
    assert scanning.wait(30)

    def panic() -> None:
        raise lmdb.PanicError

    with monkeypatch.context() as patch:
        patch.setattr(engine._env, "begin_write", panic)
        with pytest.raises(StoreUnavailable):
            run(engine.write(put(b"lost")))
    first = engine._env._env
    assert engine._must_reopen
    go.set()
    assert run(scan) == b"v"
    assert engine._env._env is not first and not engine._must_reopen
    run(engine.write(put(b"again")))
    assert run(engine.read(lambda txn: [key for key, _ in txn.scan(Table.USE, b"")])) == [b"again", b"kept"]


def test_opening_again_is_tried_until_it_succeeds(engine: LmdbEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.start()
    reopen = engine._env.reopen

    def fault() -> None:
        engine._env.close()
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(engine._env, "reopen", fault)
        engine._want_reopening()
        with pytest.raises(StoreUnavailable):
            run(engine.write(put(b"lost")))
        reactor.advance(61)
    monkeypatch.setattr(engine._env, "reopen", engine._env._open)
    reactor.advance(61)
    monkeypatch.setattr(engine._env, "reopen", reopen)
    run(engine.write(put(b"again")))
    reactor.advance(61)


def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    engine = lmdb_engine(tmp_path)
    waiting = [start(engine.write(put(b"%d" % n))) for n in range(20)]
    run(engine.close())
    assert all(deferred.called for deferred in waiting)
    engine = lmdb_engine(tmp_path)
    assert len(run(engine.read(lambda txn: list(txn.scan(Table.USE, b""))))) == 20
    run(engine.close())


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    engine = lmdb_engine(tmp_path)
    run(engine.write(lambda txn: txn.put(Table.META, b"format", b"\0\0\0\7")))
    run(engine.close())
    with pytest.raises(StoreUnfit, match="another version"):
        lmdb_engine(tmp_path)


def test_a_disk_that_is_full_at_the_start_is_a_full_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(*_: object, **__: object) -> None:
        raise lmdb.Error("mdb_txn_commit: Input/output error")

    monkeypatch.setattr(lmdb, "open", cut_short)
    with pytest.raises(StoreUnfit, match="cannot be opened: mdb_txn_commit"):
        Environment(tmp_path)
    monkeypatch.setattr(environment, "free_on_disk", lambda _: 4096)
    with pytest.raises(StoreFull, match="is full"):
        Environment(tmp_path)


def test_a_store_of_another_user_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise lmdb.Error(f"{tmp_path}: Permission denied")

    monkeypatch.setattr(lmdb, "open", refuse)
    with pytest.raises(StoreUnfit, match="must belong to the user who runs certmaild"):
        Environment(tmp_path)


# Other processes.

CHILD = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from support import lmdb_engine, run, start
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.layout import Table
engine = lmdb_engine(Path(sys.argv[1]))
"""

ANNOUNCE = """
def work(txn):
    txn.put(Table.USE, b"from child", b"v")
    for n in range(int(sys.argv[2])):
        txn.announce(Change(ChangeKind.ARRIVAL, n.to_bytes(16, "big") if n else b"u" * 16))
run(engine.write(work))
run(engine.close())
"""

WRITE_FOR_EVER = """
acknowledged = []
def answered(_, number):
    acknowledged.append(number)
number = 0
while True:
    waiting = []
    for _ in range(7):
        number += 1
        key = number.to_bytes(8, "big")
        work = lambda txn, key=key: (txn.put(Table.USE, key, key * 100), txn.put(Table.OWN, key, key))
        waiting.append(start(engine.write(work)).addCallback(answered, number))
    for deferred in waiting:
        run(deferred)
    sys.stdout.write("".join(f"{number}\\n" for number in acknowledged))
    sys.stdout.flush()
    acknowledged.clear()
"""


def child(code: str, *args: object) -> "subprocess.Popen[str]":
    code = CHILD.format(root=str(ROOT), tests=str(ROOT / "tests")) + code
    command = [sys.executable, "-P", "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests")


def hear_child(engine: LmdbEngine, tmp_path: Path, changes: int) -> list[Change]:
    heard: list[Change] = []
    watch = engine.hub.watch(USER, heard.append)
    with child(ANNOUNCE, tmp_path, changes) as process:
        assert process.wait(60) == 0
    reactor.advance(POLL_S)
    watch.stop()
    return heard


def test_changes_of_another_process_are_heard(engine: LmdbEngine, tmp_path: Path) -> None:
    engine.start()
    assert hear_child(engine, tmp_path, 2) == [Change(ChangeKind.ARRIVAL, USER)]
    # What happens while nobody watches is not kept for who comes later.
    with child(ANNOUNCE, tmp_path, 1) as process:
        assert process.wait(60) == 0
    reactor.advance(POLL_S)
    assert hear_child(engine, tmp_path, 1) == [Change(ChangeKind.ARRIVAL, USER)]


def test_own_commits_do_not_fill_the_ring_unread(engine: LmdbEngine) -> None:
    engine.start()
    heard: list[Change] = []
    engine.hub.watch(USER, heard.append)
    change = Change(ChangeKind.ARRIVAL, USER)
    for n in range(600):
        run(engine.write(lambda txn, n=n: (txn.put(Table.USE, b"%d" % n, b"v"), txn.announce(change))))  # type: ignore[misc]
    assert engine._ring is not None
    assert len(engine._ring._own) < 300
    assert heard == 600 * [change]


def test_a_commit_that_readers_do_not_see_yet_is_looked_for_again(
    engine: LmdbEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.start()
    heard: list[Change] = []
    engine.hub.watch(USER, heard.append)
    # LMDB counts a commit when it is written, and shows it to readers when it is synced.
    coming = engine._env.last_txn + 1
    monkeypatch.setattr(Environment, "last_txn", coming)
    reactor.advance(1)
    key, change = ring_key(1), Change(ChangeKind.FOLDERS, USER)
    row = ClearSealer().seal_row(Table.RING, key, encode_changes([change]))
    run(engine.write(lambda txn: txn.put(Table.RING, key, row)))
    reactor.advance(1)
    assert heard == [change]


def test_own_changes_are_heard_once(engine: LmdbEngine) -> None:
    engine.start()
    heard: list[Change] = []
    engine.hub.watch(USER, heard.append)
    run(engine.write(lambda txn: (put(b"k")(txn), txn.announce(Change(ChangeKind.ARRIVAL, USER)))))
    reactor.advance(1)
    assert len(heard) == 1


def test_too_many_changes_mean_look_at_everything(engine: LmdbEngine, tmp_path: Path) -> None:
    engine.start()
    heard = hear_child(engine, tmp_path, RING_ROW_CHANGES + 1)
    assert heard == [Change(kind, USER) for kind in ChangeKind]


def test_who_fell_behind_looks_at_everything(engine: LmdbEngine) -> None:
    engine.start()
    heard: list[Change] = []
    engine.hub.watch(USER, heard.append)
    number = 2 * RING_ROWS
    row = ClearSealer().seal_row(Table.RING, ring_key(number), b"")
    run(engine.write(lambda txn: txn.put(Table.RING, ring_key(number), row)))
    reactor.advance(1)
    assert heard == [Change(kind, USER) for kind in ChangeKind]


@pytest.mark.parametrize("value", [b"garbage", b"ring|0000000000000001|short"])
def test_a_damaged_ring_row_means_look_at_everything_and_polling_goes_on(tmp_path: Path, value: bytes) -> None:
    sealer = ServerSecrets({name: bytes([n]) * 32 for n, name in enumerate(FILES, 1)})
    engine = lmdb_engine(tmp_path, sealer=sealer)
    engine.start()
    heard: list[Change] = []
    engine.hub.watch(USER, heard.append)
    run(engine.write(lambda txn: txn.put(Table.RING, ring_key(1), value)))
    reactor.advance(1)
    assert heard == [Change(kind, USER) for kind in ChangeKind]
    heard.clear()
    key, change = ring_key(2), Change(ChangeKind.FOLDERS, USER)
    row = sealer.seal_row(Table.RING, key, encode_changes([change]))
    run(engine.write(lambda txn: txn.put(Table.RING, key, row)))
    reactor.advance(1)
    assert heard == [change]
    run(engine.close())


def test_keys_that_do_not_let_go_hold_up_nobody(engine: LmdbEngine) -> None:
    class Stuck:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *args: object) -> None:
            raise KeyError

    deferred = start(engine.write(put(b"a"), holding=Stuck()))
    run(engine.write(put(b"b")))
    assert run(deferred) is None


def test_keys_that_are_closed_already_fail_the_write(engine: LmdbEngine) -> None:
    class Closed(AbstractContextManager[None]):
        def __enter__(self) -> None:
            raise KeysClosed

        def __exit__(self, *args: object) -> None:
            raise AssertionError

    with pytest.raises(KeysClosed):
        run(engine.write(put(b"a"), holding=Closed()))


def test_the_ring_is_bounded(engine: LmdbEngine) -> None:
    row = ClearSealer().seal_row(Table.RING, ring_key(RING_ROWS), b"")
    run(engine.write(lambda txn: [txn.put(Table.RING, ring_key(n), row) for n in range(1, RING_ROWS + 1)]))
    for _ in range(3):
        run(engine.write(lambda txn: (put(b"k")(txn), txn.announce(Change(ChangeKind.ARRIVAL, USER)))))
    keys = run(engine.read(lambda txn: [key for key, _ in txn.scan(Table.RING, b"")]))
    assert keys == [ring_key(n) for n in range(4, RING_ROWS + 4)]


@pytest.mark.parametrize("lines", [1, 30, 200])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, lines: int) -> None:
    with child(WRITE_FOR_EVER, tmp_path) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(lines)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    engine = lmdb_engine(tmp_path)
    rows = dict(run(engine.read(lambda txn: list(txn.scan(Table.USE, b"")))))
    owns = dict(run(engine.read(lambda txn: list(txn.scan(Table.OWN, b"")))))
    run(engine.close())
    assert {number.to_bytes(8, "big") for number in acknowledged} <= set(rows)
    assert rows == {key: key * 100 for key in owns}


# A full disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_service_goes_on_after_a_full_disk(small_disk: Path) -> None:
    engine = lmdb_engine(small_disk)
    run(engine.write(put(b"kept")))
    with pytest.raises(StoreFull):
        for number in range(40):
            run(engine.write(put(b"%d" % number, bytes(1 << 20))))
    assert run(engine.read(lambda txn: txn.get(Table.USE, b"kept"))) == b"v"
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    run(engine.write(put(b"again", bytes(1 << 20))))
    assert run(engine.read(lambda txn: txn.get(Table.USE, b"again"))) == bytes(1 << 20)
    run(engine.close())


def test_below_the_floor_removing_has_room_and_gives_room(small_disk: Path) -> None:
    engine = lmdb_engine(small_disk, floor_octets=4 << 20)
    numbers = 0
    with pytest.raises(StoreFull):
        while True:
            run(engine.write(put(b"%d" % numbers, bytes(1 << 20)), grows=True))
            numbers += 1
    assert 5 < numbers < 16
    for number in range(numbers):
        run(engine.write(lambda txn, number=number: txn.delete(Table.USE, b"%d" % number)))
    assert engine.free_octets() > 8 << 20
    run(engine.write(put(b"again", bytes(1 << 20)), grows=True))
    run(engine.close())


def test_a_full_disk_fails_what_grows_and_not_its_neighbours(small_disk: Path) -> None:
    engine = lmdb_engine(small_disk)
    entered, go = Event(), Event()

    def hold_up(txn: Any) -> None:
        entered.set()
        assert go.wait(30)

    first = start(engine.write(hold_up))
    assert entered.wait(30)
    small = start(engine.write(put(b"small")))
    large = start(engine.write(put(b"large", bytes(24 << 20)), grows=True))
    go.set()
    run(first)
    run(small)
    with pytest.raises(StoreFull):
        run(large)
    run(engine.close())
