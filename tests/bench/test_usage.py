"""Counting the CPU and memory of a server's processes."""

import os
import subprocess
import sys
from pathlib import Path

import usage
from usage import TICKS_PER_S, Meter, parse_cpu_s, process_tree, read_parents, sweep

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
BURN_IN_A_CHILD = (
    f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); print('done', flush=True); input()"
)


def test_a_process_name_with_brackets_does_not_shift_the_fields() -> None:
    fields = " ".join(str(number) for number in range(3, 53))
    assert parse_cpu_s(f"1 (a (b) c) S {fields[2:]}") == (14 + 15 + 16 + 17) / TICKS_PER_S


def test_the_tree_holds_roots_and_all_that_descend_from_them() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
    assert sorted(process_tree([10], parents)) == [10, 11, 12]
    assert sorted(process_tree([10, 20], parents)) == [10, 11, 12, 20, 21]
    assert process_tree([99], parents) == []
    assert read_parents()[os.getpid()] == os.getppid()


def test_groups_of_the_dead_are_swept_those_of_the_living_and_the_used_stay(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    swept, used, living = (
        tmp_path / name for name in (f"bench-{dead.pid}-1", f"bench-{dead.pid}-2", f"bench-{os.getpid()}-1")
    )
    for folder in (swept, used, living):
        folder.mkdir()
    (used / "process").touch()  # what keeps a folder here keeps a group as a process
    sweep(tmp_path)
    assert [folder.exists() for folder in (swept, used, living)] == [False, True, True]


def count_child(meter: Meter) -> float:
    """What the meter saw of a process whose child burnt 0.3 s and has ended."""
    words = meter.wrap([sys.executable, "-c", BURN_IN_A_CHILD])
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        meter.roots = [process.pid]
        process.stdout.readline()
        assert meter.pids() == [process.pid]
        assert meter.anonymous_kib() > 1000
        assert meter.proportional_kib() > 1000
        found = meter.cpu_s()
        process.stdin.close()
    meter.close()
    return found


def test_cpu_of_a_child_that_has_ended_is_counted(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    assert 0.3 <= count_child(Meter()) < 3
    monkeypatch.setattr(usage, "group_root", lambda: None)
    by_tree = Meter()
    assert by_tree.folder is None
    assert 0.25 <= count_child(by_tree) < 3
