"""Leases and counters that processes share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.errors import StoreInUse, StoreUnfit
from certmaild.mailbox.processes import still_lives, this_process

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from certmaild.mailbox.engine_volatile import VolatileStore
store = VolatileStore(Path(sys.argv[1]), lambda: float(sys.argv[2]), slot=2, slots=2)
print(store.take(b"user", 10), store.count_in((b"sessions", 5), amount=2))
store.give_back(b"elsewhere")
"""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[VolatileStore]:
    store = VolatileStore(tmp_path / "volatile", clock.seconds, slot=1, slots=2)
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


def test_limits_hold_for_all_together_at_and_past_them(store: VolatileStore, tmp_path: Path) -> None:
    assert store.count_in((b"sessions", 5), amount=3) is None
    assert in_child(tmp_path, 0)[1] == "None"
    assert store.counted(b"sessions") == {1: 3, 2: 2}
    assert store.count_in((b"other", 1), (b"sessions", 5)) == b"sessions"
    assert store.counted(b"other") == {}
    store.count_out(b"sessions", b"other")
    assert store.count_in((b"sessions", 5)) is None
    store.count_out(b"sessions", amount=9)
    assert store.counted(b"sessions") == {2: 2}
    assert store.count_in((b"sessions", None), amount=100) is None


def test_octets_are_counted_beyond_4_gib(store: VolatileStore) -> None:
    limit = 10 << 30
    assert store.count_in((b"unfinished", limit), amount=limit) is None
    assert store.counted(b"unfinished") == {1: limit}
    assert store.count_in((b"unfinished", limit)) == b"unfinished"


def test_what_a_dead_process_counted_and_held_is_given_back(store: VolatileStore, tmp_path: Path) -> None:
    assert store.count_in((b"sessions", None), (b"a", None)) is None
    assert in_child(tmp_path, 0) == ["True", "None"]
    assert not store.take(b"user", 10)
    store.give_back_all(2)
    assert store.take(b"user", 10)
    assert store.counted(b"sessions") == {1: 1}
    assert store.counted(b"a") == {1: 1}


def test_many_rows_are_given_back_in_slices(store: VolatileStore) -> None:
    for n in range(600):
        store.count_in((b"%d" % n, None))
    store.give_back_all(1)
    assert not any(store.counted(b"%d" % n) for n in range(600))


def test_levels_are_written_together_and_forgotten_by_age(store: VolatileStore, clock: Clock) -> None:
    with store.levels() as levels:
        levels.put(b"px", 2.5, 0.0)
        levels.put(b"kx", 1.0, 0.0)
        levels.put(b"py", 1.0, 5.0)
    with store.levels() as levels:
        assert levels.get(b"px") == (2.5, 0.0)
        levels.drop(b"nothing")
    assert store.forget_levels(5.0, b"p") == 1
    with store.levels() as levels:
        assert [levels.get(name) is None for name in (b"px", b"kx", b"py")] == [True, False, False]
        levels.drop(b"py")
        assert levels.get(b"py") is None


def test_sealed_values_stay_while_they_are_kept(store: VolatileStore, clock: Clock) -> None:
    store.put_sealed(b"a", b"one")
    store.put_sealed(b"b", b"two")
    clock.advance(10)
    store.put_sealed(b"b", b"three")
    assert store.forget_sealed(10) == 1
    assert (store.read_sealed(b"a"), store.read_sealed(b"b")) == (None, b"three")
    store.drop_sealed(b"b")
    assert store.read_sealed(b"b") is None


def test_processes_say_who_they_are(store: VolatileStore) -> None:
    store.enter(this_process(7))
    assert store.processes() == {1: this_process(7)}
    assert still_lives(store.processes()[1])
    store.give_back_all(1)
    assert store.processes() == {}


def test_it_is_made_anew(tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        VolatileStore.make_anew(tmp_path / "volatile")
        store = VolatileStore(tmp_path / "volatile", clock.seconds)
        assert store.count_in((b"n", 1)) is None
        store.close()


DAEMON = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.processes import this_process
store = VolatileStore(Path(sys.argv[1]), lambda: 0.0)
store.enter(this_process(0))
print("there", flush=True)
if sys.stdin.readline() == "leave\\n":
    store.leave()
    print("left", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("word", ["leave", ""])
def test_it_is_not_made_anew_under_a_daemon_that_lives(tmp_path: Path, word: str) -> None:
    words = [sys.executable, "-c", DAEMON.format(root=str(ROOT)), str(tmp_path / "volatile")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        with pytest.raises(StoreInUse, match=rf"a certmaild \(process {other.pid}\) serves"):
            VolatileStore.make_anew(tmp_path / "volatile")
        if word:
            other.stdin.write("leave\n")
            other.stdin.flush()
            assert other.stdout.readline() == "left\n"
        else:
            other.kill()
            # Not asked how it ended: it has ended all the same.
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        VolatileStore.make_anew(tmp_path / "volatile")
        assert not (tmp_path / "volatile").exists()


def test_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "volatile").mkdir()
    (tmp_path / "volatile" / "data.mdb").write_bytes(bytes(8192))
    with pytest.raises(StoreUnfit, match="is damaged"):
        VolatileStore(tmp_path / "volatile", lambda: 0.0)
    VolatileStore.make_anew(tmp_path / "volatile")
    VolatileStore(tmp_path / "volatile", lambda: 0.0).close()
