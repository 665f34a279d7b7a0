"""Medians, ratios, the table and the plot of what `bench/compare.py` measured."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    Row("10,000 ENVELOPE, first time", "envelope-first", "server_cpu_ms_each", "s CPU", 0.2, times=10),
    Row("... again", "envelope-again", "server_cpu_ms_each", "s CPU", 0.12, times=10),
    Row(
        "10,000 times Thunderbird's headers, first time",
        "thunderbird-first",
        "server_cpu_ms_each",
        "s CPU",
        0.2,
        times=10,
    ),
    Row("... again", "thunderbird-again", "server_cpu_ms_each", "s CPU", 0.12, times=10),
    Row("10,000 BODYSTRUCTURE, first time", "bodystructure-first", "server_cpu_ms_each", "s CPU", 0.2, times=10),
    Row("... again", "bodystructure-again", "server_cpu_ms_each", "s CPU", 0.12, times=10),
    Row("10,000 bodies of 21.7 kB", "bodies", "server_cpu_ms_each", "s CPU", 1.2, times=10),
    Row("SEARCH TEXT over 10,000, first time", "search-text-first", "server_cpu_ms_each", "s CPU", 0.15, times=10),
    Row("... again", "search-text-again", "server_cpu_ms_each", "s CPU", 0.15, times=10),
    Row("1,000 messages drained by POP3", "drain", "server_cpu_ms_each", "s CPU", 0.28),
    Row("APPEND 10 KiB", "append", "server_cpu_ms_each", "ms CPU", 0.8),
    Row("MULTIAPPEND by 100, each", "multiappend", "server_cpu_ms_each", "ms CPU", 0.3),
    Row("COPY, each", "copy", "server_cpu_ms_each", "ms CPU", 0.02),
    Row("MOVE, each", "move", "server_cpu_ms_each", "ms CPU", 0.03),
    Row("SELECT of 100,000, first time", "select-first", "wall_ms", "ms", 30),
    Row("... again", "select-again", "wall_ms", "ms", 10),
    Row("UID FLAGS of 100,000, first time", "uid-flags-first", "wall_ms", "ms", 110),
    Row("... again", "uid-flags-again", "wall_ms", "ms"),
    Row("a large message in to the mailbox", "large-in", "mb_per_s", "MB/s", 200, more_is_better=True),
    Row("... out whole", "large-out", "mb_per_s", "MB/s", 385, more_is_better=True),
    Row("... out in pieces of 1 MiB (every eighth)", "large-pieces", "mb_per_s", "MB/s", 200, more_is_better=True),
    Row("... out by POP3", "large-pop3", "mb_per_s", "MB/s", 350, more_is_better=True),
    Row("an idle client of 500, RssAnon", "idle-memory", "anonymous_kib_each", "KiB", 90),
    Row("... Pss", "idle-memory", "proportional_kib_each", "KiB"),
    Row("250 to EXISTS at 500 idle clients, p50", "idle-latency", "p50_ms", "ms", 15),
    Row("... p99", "idle-latency", "p99_ms", "ms", 100),
    Row("a login over a new TLS connection", "login", "server_cpu_ms_each", "ms CPU", 2.0),
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


def section(results: Results, origin: str, picture: str) -> str:
    """What goes between the marks: where it comes from, the table, the machine's limits, the plot."""
    notes = "\n".join(f"- {note}" for note in _notes(medians(results)))
    return (
        f"{origin}\n\n{table(results)}\n\nThe machine's limits and other figures of the same run:\n\n{notes}\n\n"
        f"![how many times better than the peers]({picture})\n"
    )


def _notes(middle: Medians) -> Iterator[str]:
    def of(figure: str, value: str, server: str = OURS) -> float | None:
        return middle.get((figure, value, server))

    if of("machine", "commits_per_s") is not None:
        yield f"durable commits, one by one (4 KiB, fdatasync): {show(of('machine', 'commits_per_s'))} a second"
        yield f"TLS 1.3 over loopback, one connection: {show(of('machine', 'tls_mb_per_s'))} MB/s"
        yield (
            "a bare loop over 10 KiB messages (zstd, AES-256-GCM, X-Wing seal, LMDB commits of 32; no network): "
            f"{show(of('machine', 'bare_loop_cpu_ms_each'))} ms of CPU each, "
            f"{show(of('machine', 'bare_loop_per_s'))} a second"
        )
    for title, figure in (("10 KiB delivered", "deliver-10k"), ("a body read", "bodies"), ("a login", "login")):
        own = [of(figure, "generator_cpu_ms_each", server) for server in SERVERS]
        if any(value is not None for value in own):
            yield f"CPU of the generator itself for {title}, by column: {', '.join(map(show, own))} ms"
    if of("idle-memory", "anonymous_kib_each", HIBERNATED) is not None:
        yield (
            "Dovecot without encryption and with `imap-hibernate`: "
            f"{show(of('idle-memory', 'anonymous_kib_each', HIBERNATED))} KiB RssAnon an idle client, 250 to EXISTS "
            f"p50 {show(of('idle-latency', 'p50_ms', HIBERNATED))} ms, "
            f"p99 {show(of('idle-latency', 'p99_ms', HIBERNATED))} ms"
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
        heights, widths = [y for y, _ in known], [x - 1 for _, x in known]
        axes.barh(heights, widths, 0.38, left=1, color=color, label=SERVERS[name].replace("`", ""))
    axes.axvline(1, color="#aa3333", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(bars)), [title for title, _ in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("times better than the peer (right of the red line: certmaild costs less)")
    axes.legend(fontsize=8, loc="upper right")
    for file in files:
        figure.savefig(file, dpi=110, metadata={"Date": None} if file.suffix == ".svg" else {})
    pyplot.close(figure)
