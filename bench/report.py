"""Medians, ratios, the table and the plot of what `bench/compare.py` measured."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OURS, CLEAR, CRYPT, HIBERNATED = "certmaild", "clear", "mail_crypt", "hibernated"
SERVERS = {
    OURS: "certmaild",
    CLEAR: "Postfix + Dovecot, no encryption",
    CRYPT: "the same with `mail_crypt`",
}
BEGIN, END = "<!-- compare.py: begin -->", "<!-- compare.py: end -->"

Results = Sequence[Mapping[str, object]]
Medians = dict[tuple[str, str, str], float]
"""By figure, value and server."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: which value of which figure, in which unit, and what certmaild is to reach."""

    title: str
    figure: str
    value: str
    unit: str
    goal: float | None = None
    times: float = 1
    """What the printed value is multiplied with: per message to per 10,000 messages, say."""
    more_is_better: bool = False


ROWS = (
    Row("10 KiB delivered, kept connections", "deliver-10k", "server_cpu_ms_each", "ms CPU", 0.8),
    Row("... readable a second", "deliver-10k", "per_s", "/s", 1500, more_is_better=True),
    Row("10 KiB delivered, one connection each", "deliver-10k-each", "server_cpu_ms_each", "ms CPU", 2.0),
    Row("10 KiB delivered by BDAT, pipelined", "deliver-10k-bdat", "server_cpu_ms_each", "ms CPU"),
    Row("1 KiB delivered", "deliver-1k", "server_cpu_ms_each", "ms CPU", 0.7),
    Row("100 KiB delivered", "deliver-100k", "server_cpu_ms_each", "ms CPU", 1.8),
    Row("1 MiB delivered", "deliver-1m", "server_cpu_ms_each", "ms CPU", 7),
    Row("10,000 arrivals absorbed", "absorb", "server_cpu_ms_each", "s CPU", 1.0, times=10),
)


def medians(results: Results) -> Medians:
    """The median over the rounds of every value."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for result in results:
        values = result["values"]
        assert isinstance(values, dict)
        for name, value in values.items():
            found[str(result["figure"]), name, str(result["server"])].append(float(value))
    return {key: statistics.median(values) for key, values in found.items()}


def show(value: float | None) -> str:
    """Three digits that matter, without an exponent; a dash for what was not measured."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def verdict(row: Row, ours: float | None) -> str:
    """Whether the goal was reached."""
    if row.goal is None or ours is None:
        return ""
    return "reached" if (ours >= row.goal if row.more_is_better else ours <= row.goal) else "**not reached**"


def gain(row: Row, ours: float | None, theirs: float | None) -> float | None:
    """How many times better than a peer: above 1, certmaild needs less or does more. None where one is not known."""
    if not ours or not theirs:
        return None
    return ours / theirs if row.more_is_better else theirs / ours


def show_gain(found: float | None) -> str:
    """Two digits that matter."""
    return "–" if found is None else f"{found:.0f}×" if found >= 10 else f"{found:.2g}×"


def table(results: Results, rows: Iterable[Row] = ROWS) -> str:
    """A Markdown table of the rows that were measured."""
    middle = medians(results)
    lines = [
        f"| workload | unit | {' | '.join(SERVERS.values())} | better than clear | than `mail_crypt` | to reach | |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        found = {server: middle.get((row.figure, row.value, server)) for server in SERVERS}
        values = {server: None if value is None else value * row.times for server, value in found.items()}
        if not any(value is not None for value in values.values()):
            continue
        ours = values[OURS]
        cells = [show(values[server]) for server in SERVERS]
        cells += [show_gain(gain(row, ours, values[server])) for server in (CLEAR, CRYPT)]
        cells += [show(row.goal) if row.goal is not None else "", verdict(row, ours)]
        lines.append(f"| {row.title} | {row.unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def section(results: Results, limits: Mapping[str, float | int], origin: str, picture: str) -> str:
    """What goes between the marks."""
    bare = (
        f"- Durable commits: {limits['commits_per_s']:,.0f} a second, one after the other (4 KiB and fdatasync).\n"
        f"- TLS 1.3 over loopback, one connection: {limits['tls_mb_per_s']:,.0f} MB/s.\n"
        f"- A bare loop (zstd, AES-256-GCM, X-Wing seal, LMDB commit by 32; no network): "
        f"{limits['bare_loop_cpu_ms_each']:.2f} ms of CPU and {limits['bare_loop_per_s']:,.0f} a second for 10 KiB.\n"
        if limits
        else ""
    )
    middle = medians(results)
    own = {server: middle.get(("deliver-10k", "generator_cpu_ms_each", server)) for server in SERVERS}
    shown = ", ".join(f"{show(value)} ms" for value in own.values() if value is not None)
    generator = (
        f"- The generator itself: {shown} of CPU for each 10 KiB delivered, in the order of the columns.\n"
        if shown
        else ""
    )
    return (
        f"{origin}\n\nCPU is user and system time of all of a server's processes, ended ones included. \n\n"
        f"{table(results)}\n\nThe machine's limits, from the same run:\n\n{bare}{generator}\n"
        f"![how many times better than the peers]({picture})\n"
    )


def replace_between_marks(text: str, new: str) -> str:
    """``text`` with what stands between the two marks replaced; raises `ValueError` without the marks."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"the page must hold {BEGIN} and {END}, once each")
    front, rest = text.split(BEGIN)
    return f"{front}{BEGIN}\n{new.strip()}\n{END}{rest.split(END)[1]}"


def plot(results: Results, files: Iterable[Path], rows: Iterable[Row] = ROWS) -> None:
    """Two bars a row: how many times better than each peer, on a logarithmic scale. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    middle = medians(results)
    bars: list[tuple[str, list[float | None]]] = []
    for row in rows:
        ours = middle.get((row.figure, row.value, OURS))
        theirs = [middle.get((row.figure, row.value, server)) for server in (CLEAR, CRYPT)]
        if ours and any(theirs):
            bars.append((row.title, [gain(row, ours, one) for one in theirs]))
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.36 * len(bars)), layout="constrained")
    for offset, name, color in ((-0.2, CLEAR, "#8899aa"), (0.2, CRYPT, "#335577")):
        at = [(index, gains[offset > 0]) for index, (_, gains) in enumerate(bars)]
        known = [(index + offset, times) for index, times in at if times is not None]
        axes.barh([y for y, _ in known], [x for _, x in known], 0.38, color=color, label=SERVERS[name].replace("`", ""))
    axes.axvline(1, color="#aa3333", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(bars)), [title for title, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("times better than the peer (right of the red line: certmaild costs less)")
    axes.legend(fontsize=8, loc="lower right")
    for file in files:
        figure.savefig(file, dpi=110, metadata={"Date": None} if file.suffix == ".svg" else {})
    pyplot.close(figure)
