"""What a server's processes use: CPU, exited children included, and memory.

In a control group of its own (cgroup v2, as root) the kernel counts every process that was ever in it, to the
microsecond. Without one the process tree is summed from /proc: utime, stime and, for children that have been waited
for, cutime and cstime.
"""

import itertools
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server import Server

CLOSE_TIME_S = 2
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
numbers = itertools.count(1)


def group_root() -> Path | None:
    """Where cgroup v2 is mounted, if this process may make groups there."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK) and Path(where, "cgroup.procs").exists():
            return Path(where)
    return None


def sweep(root: Path) -> None:
    """Remove the groups of benchmarks that ended without doing so, where no process is left in them."""
    for group in root.glob("bench-*-*"):
        if not Path("/proc", group.name.split("-")[1]).exists():
            with suppress(OSError):
                group.rmdir()


class Meter:
    """Counts the processes started with `wrap`, and all that they start."""

    def __init__(self, folder: Path | None = None) -> None:
        """Make a new control group, or count in that of ``folder``, made by an earlier `Meter`."""
        self.roots: list[int] = []
        self.folder = folder
        root = group_root()
        if folder is None and root is not None:
            sweep(root)
            self.folder = root / f"bench-{os.getpid()}-{next(numbers)}"
            self.folder.mkdir()

    def wrap(self, words: Sequence[str]) -> list[str]:
        """The same command, which first joins the group; its process id does not change."""
        if self.folder is None:
            return list(words)
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *words]

    def pids(self) -> list[int]:
        """Every process alive."""
        if self.folder is not None:
            return [int(line) for line in (self.folder / "cgroup.procs").read_text().split()]
        return process_tree(self.roots, read_parents())

    def cpu_s(self) -> float:
        """Seconds of CPU, user and system, of every process so far; it never falls."""
        if self.folder is not None:
            fields = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
        return sum(read_cpu_s(pid) for pid in self.pids())

    def anonymous_kib(self) -> int:
        """RssAnon of all processes: LMDB's map, which the kernel can drop at any time, is not in it."""
        return sum(read_kib(pid, "status", "RssAnon") for pid in self.pids())

    def proportional_kib(self) -> int:
        """Pss of all processes: a page shared by many counts once in total."""
        return sum(read_kib(pid, "smaps_rollup", "Pss") for pid in self.pids())

    def peak_kib(self) -> int:
        """VmHWM, the peak resident size, of the process that has the largest."""
        return max((read_kib(pid, "status", "VmHWM") for pid in self.pids()), default=0)

    def close(self) -> None:
        """Remove the group when its last process has ended; a process that stays keeps it."""
        deadline = time.monotonic() + CLOSE_TIME_S
        while self.folder is not None and self.folder.exists():
            try:
                self.folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.01)


class Lap:
    """What happens inside ``with Lap(server) as lap``: wall time, the server's CPU, and this process's own."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self.wall_s = self.server_cpu_s = self.generator_cpu_s = 0.0

    def __enter__(self) -> "Lap":
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._now()
        self.wall_s, self.server_cpu_s, self.generator_cpu_s = (
            new - old for new, old in zip(after, self._before, strict=True)
        )

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), self._server.cpu_s(), time.process_time()

    def each(self, count: int, octets: int = 0) -> dict[str, float | int]:
        """The values of a figure about ``count`` messages that have ``octets`` in all."""
        values: dict[str, float | int] = {
            "messages": count,
            "wall_s": self.wall_s,
            "per_s": count / self.wall_s,
            "server_cpu_s": self.server_cpu_s,
            "server_cpu_ms_each": self.server_cpu_s / count * 1000,
            "generator_cpu_ms_each": self.generator_cpu_s / count * 1000,
        }
        if octets:
            values |= {"octets": octets, "mb_per_s": octets / self.wall_s / 1e6}
        return values


def read_kib(pid: int, file: str, name: str) -> int:
    """One ``Name: N kB`` line of a process's files; 0 for a process that has just ended."""
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return 0


def read_cpu_s(pid: int) -> float:
    """CPU of a process and of its children that have ended and been waited for."""
    try:
        return parse_cpu_s(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def parse_cpu_s(stat: str) -> float:
    """utime, stime, cutime and cstime of one ``/proc/PID/stat``; the name in it may hold spaces and brackets."""
    fields = stat.rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_S


def read_parents() -> dict[int, int]:
    """The parent of every process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return parents


def process_tree(roots: Sequence[int], parents: dict[int, int]) -> list[int]:
    """The roots that live and all that descend from them."""
    found = [pid for pid in roots if pid in parents]
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    for pid in found:
        found += children.get(pid, [])
    return found
