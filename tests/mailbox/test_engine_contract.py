"""What every engine promises: one suite, run on memory and on LMDB."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import lmdb_engine, memory_engine, run, start

from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import StoreFull, StoreUnavailable
from certmaild.mailbox.identifiers import BoxId, UserId
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.layout import Table

USER = UserId(b"u" * 16)
OTHER = UserId(b"o" * 16)


@pytest.fixture(params=["memory", "lmdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine: Any = memory_engine() if request.param == "memory" else lmdb_engine(tmp_path)
    yield engine
    run(engine.close())


def fill(engine: Engine, keys: list[bytes]) -> None:
    run(engine.write(lambda txn: [txn.put(Table.USE, key, b"v" + key) for key in keys]))


def keys_of(engine: Engine, *args: Any, **kwargs: Any) -> list[bytes]:
    return run(engine.read(lambda txn: [key for key, _ in txn.scan(Table.USE, *args, **kwargs)]))


def test_a_write_is_read_back(engine: Engine) -> None:
    fill(engine, [b"k"])
    assert run(engine.read(lambda txn: txn.get(Table.USE, b"k"))) == b"vk"
    assert run(engine.scan(lambda txn: txn.get(Table.USE, b"k"))) == b"vk"
    assert run(engine.read(lambda txn: txn.get(Table.OWN, b"k"))) is None


def test_a_read_is_answered_at_once(engine: Engine) -> None:
    answers: list[object] = []
    start(engine.read(lambda txn: 7)).addCallback(answers.append)
    assert answers == [7]


def test_every_table_is_there(engine: Engine) -> None:
    run(engine.write(lambda txn: [txn.put(table, b"key", table.encode()) for table in Table]))
    assert run(engine.read(lambda txn: [txn.get(table, b"key") for table in Table])) == [t.encode() for t in Table]


@pytest.mark.parametrize(
    ("start_key", "stop", "expected"),
    [
        (b"", None, [b"a", b"b", b"b1", b"c"]),
        (b"b", None, [b"b", b"b1", b"c"]),
        (b"b", b"c", [b"b", b"b1"]),
        (b"aa", b"b1", [b"b"]),
        (b"d", None, []),
        (b"b", b"b", []),
        (b"c", b"a", []),
        (b"a", b"z", [b"a", b"b", b"b1", b"c"]),
    ],
)
def test_scan_is_half_open_and_ordered(
    engine: Engine, start_key: bytes, stop: bytes | None, expected: list[bytes]
) -> None:
    fill(engine, [b"c", b"a", b"b1", b"b"])
    assert keys_of(engine, start_key, stop) == expected
    assert keys_of(engine, start_key, stop, reverse=True) == expected[::-1]
    both = run(
        engine.write(
            lambda txn: (
                [key for key, _ in txn.scan(Table.USE, start_key, stop)],
                [key for key, _ in txn.scan(Table.USE, start_key, stop, reverse=True)],
            )
        )
    )
    assert both == (expected, expected[::-1])


def test_scan_of_an_empty_table(engine: Engine) -> None:
    assert keys_of(engine, b"") == []
    assert keys_of(engine, b"", reverse=True) == []


def test_a_transaction_sees_its_own_writes_and_scans_on_while_writing(engine: Engine) -> None:
    fill(engine, [b"a", b"b", b"c", b"d"])

    def work(txn: Any) -> list[bytes]:
        seen = []
        for key, _ in txn.scan(Table.USE, b""):
            seen.append(key)
            if key == b"a":
                txn.delete(Table.USE, b"a")
                txn.delete(Table.USE, b"b")
                txn.put(Table.USE, b"bb", b"new")
        return seen

    assert run(engine.write(work)) == [b"a", b"bb", b"c", b"d"]
    assert keys_of(engine, b"") == [b"bb", b"c", b"d"]


def test_delete_says_whether_it_was_there(engine: Engine) -> None:
    fill(engine, [b"k"])
    assert run(engine.write(lambda txn: (txn.delete(Table.USE, b"k"), txn.delete(Table.USE, b"k")))) == (True, False)


def test_what_raises_leaves_nothing(engine: Engine) -> None:
    fill(engine, [b"k"])

    def work(txn: Any) -> None:
        txn.put(Table.USE, b"k", b"other")
        txn.put(Table.USE, b"more", b"other")
        txn.delete(Table.USE, b"k")
        raise KeyError("refused")

    with pytest.raises(KeyError, match="refused"):
        run(engine.write(work))
    assert keys_of(engine, b"") == [b"k"]
    assert run(engine.read(lambda txn: txn.get(Table.USE, b"k"))) == b"vk"


def test_what_a_read_raises_comes_out(engine: Engine) -> None:
    for way in (engine.read, engine.scan):
        with pytest.raises(ZeroDivisionError):
            run(way(lambda txn: 1 // 0))


def test_watchers_hear_commits_and_no_others(engine: Engine) -> None:
    heard: list[Change] = []
    watch = engine.hub.watch(USER, heard.append)
    arrival, folder = Change(ChangeKind.ARRIVAL, USER), Change(ChangeKind.FOLDER, USER, BoxId(b"b" * 16))

    def work(txn: Any) -> None:
        txn.put(Table.USE, b"k", b"v")
        for change in (arrival, arrival, folder, Change(ChangeKind.ARRIVAL, OTHER)):
            txn.announce(change)

    def refused(txn: Any) -> None:
        txn.announce(Change(ChangeKind.ACCOUNT, USER))
        raise KeyError

    run(engine.write(work))
    assert heard == [arrival, folder]
    with pytest.raises(KeyError):
        run(engine.write(refused))
    watch.stop()
    watch.stop()
    run(engine.write(work))
    assert heard == [arrival, folder]


def test_a_failing_watcher_stops_no_other(engine: Engine) -> None:
    heard: list[Change] = []
    engine.hub.watch(USER, lambda change: 1 // 0)
    engine.hub.watch(USER, heard.append)
    run(engine.write(lambda txn: (txn.put(Table.USE, b"k", b"v"), txn.announce(Change(ChangeKind.ARRIVAL, USER)))))
    assert len(heard) == 1


class Holding:
    def __init__(self) -> None:
        self.held: list[str] = []

    def __enter__(self) -> None:
        self.held.append("in")

    def __exit__(self, *args: object) -> None:
        self.held.append("out")


def test_keys_are_held_until_the_answer(engine: Engine) -> None:
    holding = Holding()
    run(engine.write(lambda txn: holding.held.append("work"), holding=holding))
    assert holding.held == ["in", "work", "out"]
    with pytest.raises(KeyError):
        run(engine.write(lambda txn: {}["no"], holding=holding))
    assert holding.held == ["in", "work", "out", "in", "out"]


def test_growing_is_refused_without_room(engine: Engine) -> None:
    if hasattr(engine, "room"):
        engine.room = 0
    else:
        engine.floor_octets = 1 << 60  # type: ignore[attr-defined]
    assert engine.free_octets() <= 0
    with pytest.raises(StoreFull):
        run(engine.write(lambda txn: txn.put(Table.USE, b"k", b"v"), grows=True))
    run(engine.write(lambda txn: txn.put(Table.USE, b"k", b"v")))
    assert keys_of(engine, b"") == [b"k"]


def test_a_closed_engine_refuses(engine: Engine) -> None:
    run(engine.close())
    with pytest.raises(StoreUnavailable):
        run(engine.write(lambda txn: None))
    with pytest.raises(StoreUnavailable):
        run(engine.read(lambda txn: None))
    with pytest.raises(StoreUnavailable):
        run(engine.scan(lambda txn: None))


def test_a_value_put_last_is_seen_by_everything_in_its_transaction(engine: Engine) -> None:
    fill(engine, [b"a", b"c"])
    table = Table.USE

    def work(txn: Any) -> tuple[object, object, object, object]:
        txn.put_last(table, b"b", "decoded", lambda: b"sealed")
        scanned = [key for key, _ in txn.scan(table, b"")]
        txn.put_last(table, b"c", "decoded", lambda: b"sealed c")
        got = txn.get(table, b"c")
        txn.put_last(table, b"d", "decoded", lambda: b"sealed d")
        deleted = txn.delete(table, b"d"), txn.delete(table, b"d")
        txn.put_last(table, b"e", "decoded", lambda: b"too old")
        txn.put(table, b"e", b"put")
        return scanned, got, deleted, txn.last_put(table, b"e")

    assert run(engine.write(work)) == ([b"a", b"b", b"c"], b"sealed c", (True, False), None)
    rows = run(engine.read(lambda txn: list(txn.scan(table, b""))))
    assert rows == [(b"a", b"va"), (b"b", b"sealed"), (b"c", b"sealed c"), (b"e", b"put")]


def test_a_value_put_last_by_a_function_that_fails_is_not_there(engine: Engine) -> None:
    def work(txn: Any) -> None:
        txn.put_last(Table.USE, b"k", 1, lambda: b"1")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(engine.write(work))
    assert keys_of(engine, b"") == []
