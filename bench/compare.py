"""certmaild beside Debian's Postfix and Dovecot, with and without `mail_crypt`: `bench/compare.py --out FILE`.

Runs each workload (`workloads.py`) alternately on the three servers, three rounds, from one generator with the same
bytes, and keeps each result as a JSON line in FILE. Started again with the same FILE it goes on where it stopped; with
``--page`` it then writes medians, ratios and a plot between the two marks in docs/performance.md.

It needs root and the packages that `peer.py` names. Take care that nothing else runs on the machine.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import machine
import report
from daemon import Daemon
from large import LIMITS
from peer import Peer, why_not
from report import CRYPT, HIBERNATED, OURS
from server import Server
from workloads import WORKLOADS, Counts, Workload

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
PLOT = "comparison"
"""Name of the plot beside the page, without its ending."""


def make_server(name: str, folder: Path, workers: int) -> Server:
    """One of the servers, set up and not started."""
    if name == OURS:
        return Daemon(folder, workers=workers, tables=LIMITS).set_up()
    return Peer(folder, crypt=name == CRYPT, hibernate=name == HIBERNATED).set_up()


class Results:
    """What was measured so far, in a file of JSON lines."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: list[dict[str, object]] = []
        if file.exists():
            self.lines = [json.loads(line) for line in file.read_text().splitlines()]

    def has(self, workload: str, server: str, turn: int) -> bool:
        """Whether this was run to its end."""
        return any(
            (line["workload"], line["server"], line["round"], line["figure"]) == (workload, server, turn, "end")
            for line in self.lines
        )

    def add(self, workload: str, server: str, turn: int, figure: str, values: Mapping[str, float | int]) -> None:
        """Keep one figure."""
        line = {"workload": workload, "server": server, "round": turn, "figure": figure, "values": dict(values)}
        self.lines.append(line)
        with self.file.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def begin(self, counts: Counts, workers: int = 0) -> None:
        """Measure the machine, first of all; raises `SystemExit` when the file was begun with other wishes."""
        wished = asdict(counts) | {"workers": workers}
        begun = next((line["values"] for line in self.lines if line["figure"] == "counts"), None)
        if begun is None:
            self.add("machine", OURS, 0, "counts", wished)
            self.add("machine", OURS, 0, "machine", machine.measure())
            self.add("machine", OURS, 0, "end", {})
        elif begun != wished:
            raise SystemExit(f"{self.file} was begun with other counts or workers: name another --out")

    def finished(self) -> list[dict[str, object]]:
        """The figures of what was run to its end: a part cut short counts again when it is repeated."""
        latest = {(line["figure"], line["server"], line["round"]): line for line in self.lines}
        return [
            line
            for line in latest.values()
            if self.has(str(line["workload"]), str(line["server"]), int(str(line["round"]))) and line["figure"] != "end"
        ]


class House:
    """The servers, each started for its first workload and stopped at the end."""

    def __init__(self, folder: Path, workers: int = 0) -> None:
        self._folder = folder
        self._workers = workers
        self._servers: dict[str, Server] = {}

    def server(self, name: str) -> Server:
        """Running."""
        if name not in self._servers:
            server = make_server(name, self._folder / name, self._workers)
            server.start()
            self._servers[name] = server
        return self._servers[name]

    def close(self) -> None:
        """Stop all."""
        for server in self._servers.values():
            server.stop()


def run(house: House, results: Results, workloads: list[Workload], counts: Counts, rounds: int) -> list[str]:
    """Every workload, round by round, the servers one after the other in each; what failed, in words."""
    failed = []
    for workload in workloads:
        for turn in range(min(rounds, workload.rounds)):
            for name in workload.servers:
                if results.has(workload.name, name, turn):
                    continue
                begun = time.monotonic()
                try:
                    for figure, values in workload.run(house.server(name), counts, turn):
                        results.add(workload.name, name, turn, figure, values)
                except Exception as fault:
                    # The others can still be measured; this one is repeated when the command is given again.
                    traceback.print_exc()
                    failed.append(f"{workload.name} on {name}, round {turn}: {fault!r}")
                else:
                    results.add(workload.name, name, turn, "end", {"wall_s": time.monotonic() - begun})
    return failed


def version_of(package: str) -> str:
    """Of a Debian package."""
    words = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout or "?"


def fewer(lines: list[dict[str, object]], rounds: int) -> str:
    """Which workloads have had fewer rounds than most, and on which servers if not on all."""
    had: dict[str, dict[str, set[object]]] = {}
    for line in lines:
        if line["workload"] != "machine":
            servers = had.setdefault(str(line["workload"]), {})
            servers.setdefault(str(line["server"]), set()).add(line["round"])
    text = ""
    for workload, servers in had.items():
        least = min(map(len, servers.values()))
        short = [server for server, seen in servers.items() if len(seen) == least]
        if least < rounds:
            text += f", {least} of {workload}" + (f" on {' and '.join(short)}" if len(short) < len(servers) else "")
    return text


def write_page(results: Results, page: Path) -> None:
    """Put table and plot into the page."""
    lines = results.finished()
    files = [page.with_name(f"{PLOT}.{ending}") for ending in ("svg", "png")]
    report.plot(lines, files)
    rounds = 1 + max(int(str(line["round"])) for line in lines)
    counts = next(line["values"] for line in lines if line["figure"] == "counts")
    origin = (
        f"Printed by `bench/compare.py` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d} on {machine.describe()}, "
        f"{os.cpu_count()} cores shared with the generator, Linux {platform.release().split('-')[0]}, Python "
        f"{platform.python_version()}; Postfix {version_of('postfix')}, Dovecot {version_of('dovecot-core')}. "
        f"Medians of {rounds} round{'s' if rounds > 1 else ''}{fewer(lines, rounds)}. "
        "CPU is user and system time of all processes of a "
        'server, ended ones included. "Again" is from clear text in Dovecot\'s index cache in both columns.'
    )
    assert isinstance(counts, dict)
    origin += f" certmaild with `workers = {counts['workers']}`."
    if counts | asdict(Counts()) != counts:
        origin += f" **Not the full counts, but {counts}.**"
    text = report.section(lines, origin, files[0].name)
    page.write_text(report.replace_between_marks(page.read_text(), text))


def main() -> None:
    """Measure what is not there yet; then the page, if wished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"some of {', '.join(WORKLOADS)}; without any, all")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines of results; gone on with if it exists")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the counts: to see that it works")
    parser.add_argument("--large-mib", type=int, default=Counts().large_mib, help="of the large message; 1024")
    parser.add_argument("--workers", type=int, default=0, help="of certmaild; 0: all in one process")
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, help="write the table into this page afterwards")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the servers' files lie")
    wishes = parser.parse_args()
    unknown = [name for name in wishes.workloads if name not in WORKLOADS]
    reason = f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}" if unknown else why_not()
    if reason is not None:
        raise SystemExit(reason)
    # Ended from outside, it takes the servers with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    results = Results(wishes.out)
    counts = replace(Counts(), large_mib=wishes.large_mib)
    counts = counts.quick() if wishes.quick else counts
    results.begin(counts, wishes.workers)
    folder = Path(tempfile.mkdtemp(prefix="compare-", dir=wishes.folder))
    house = House(folder, wishes.workers)
    try:
        chosen = [WORKLOADS[name] for name in wishes.workloads or WORKLOADS]
        failed = run(house, results, chosen, counts, wishes.rounds)
    finally:
        house.close()
        shutil.rmtree(folder, ignore_errors=True)
    if wishes.page is not None:
        write_page(results, wishes.page)
    if failed:
        raise SystemExit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
