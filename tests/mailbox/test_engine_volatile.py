"""Leases and counters that processes share."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from certmaild.mailbox.engine_volatile import VolatileStore

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from certmaild.mailbox.engine_volatile import VolatileStore
store = VolatileStore(Path(sys.argv[1]), lambda: float(sys.argv[2]))
print(store.take(b"user", 10), store.count(b"sessions", 2))
store.give_back(b"elsewhere")
"""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[VolatileStore]:
    store = VolatileStore(tmp_path / "volatile", clock.seconds)
    yield store
    store.close()


def in_child(tmp_path: Path, now: float) -> list[str]:
    command = [sys.executable, "-P", "-c", CHILD.format(root=str(ROOT)), str(tmp_path / "volatile"), str(now)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "tests").stdout.split()


def test_a_lease_is_taken_renewed_and_runs_out(store: VolatileStore, tmp_path: Path, clock: Clock) -> None:
    assert store.take(b"user", 10)
    assert store.take(b"user", 10)
    assert in_child(tmp_path, 9.9)[0] == "False"
    assert in_child(tmp_path, 10)[0] == "True"
    clock.advance(19)
    assert not store.take(b"user", 10)
    store.give_back(b"user")
    assert not store.take(b"user", 10)
    clock.advance(1)
    assert store.take(b"user", 10)


def test_a_lease_given_back_is_free(store: VolatileStore, tmp_path: Path) -> None:
    assert store.take(b"user", 10)
    store.give_back(b"user")
    store.give_back(b"user")
    assert in_child(tmp_path, 0)[0] == "True"


def test_counts_are_shared_and_never_negative(store: VolatileStore, tmp_path: Path) -> None:
    assert store.count(b"sessions") == 0
    assert store.count(b"sessions", 3) == 3
    assert in_child(tmp_path, 0)[1] == "5"
    assert store.count(b"sessions") == 5
    assert store.count(b"sessions", -9) == 0
    assert store.count(b"sessions", -1) == 0


def test_it_is_made_anew(tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        VolatileStore.make_anew(tmp_path / "volatile")
        store = VolatileStore(tmp_path / "volatile", clock.seconds)
        assert store.count(b"n", 1) == 1
        store.close()
