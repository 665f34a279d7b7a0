"""Draw what `bench/scale.py --out FILE` measured: `bench/scale_plot.py FILE DIRECTORY` writes scale.svg and scale.png.

Needs matplotlib (`pip install '.[bench]'`).
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

WHOLE = {
    "select-first": "SELECT, first",
    "fetch-uid-flags": "FETCH 1:* (UID FLAGS)",
    "fetch-envelope-again": "ENVELOPE of the newest 10,000, again",
    "fetch-thunderbird-again": "Thunderbird's fields of the newest 10,000, again",
    "store-all": "STORE 1:* +FLAGS",
    "move": "MOVE of a quarter, at most 10,000",
    "expunge-half": "EXPUNGE of half",
}
ONE = {
    "one-fetch-envelope": "FETCH ENVELOPE",
    "one-uid-fetch-body": "UID FETCH BODY.PEEK[]",
    "one-store": "STORE +FLAGS",
    "one-copy": "COPY",
    "one-append": "APPEND",
    "one-move": "MOVE",
    "status": "STATUS",
}


def read(path: Path) -> dict[str, dict[int, float]]:
    """Server CPU in milliseconds by figure and size."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if "server_cpu_ms" in row:
            found[row["figure"]][row["size"]] = row["server_cpu_ms"]
    return found


def main() -> None:
    """Two panels: many messages, one message."""
    found, directory = read(Path(sys.argv[1])), Path(sys.argv[2])
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), sharex=True)
    for panel, names, title in zip(
        panels, (WHOLE, ONE), ("the folder, or much of it", "one message (mean of 50)"), strict=True
    ):
        for name, label in names.items():
            points = sorted(found[name].items())
            panel.plot([size for size, _ in points], [max(ms, 0.01) for _, ms in points], marker="o", label=label)
        panel.set(xscale="log", yscale="log", xlabel="messages in the folder", ylabel="server CPU, ms", title=title)
        panel.grid(visible=True, alpha=0.3)
        panel.legend(fontsize=7)
    panels[1].set_ylim(0.05, 100)
    figure.tight_layout()
    for kind in ("svg", "png"):
        figure.savefig(directory / f"scale.{kind}", dpi=100)


if __name__ == "__main__":
    main()
