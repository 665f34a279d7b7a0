"""`certmaild trace`: what became of a message, by an address or an id."""

from collections.abc import Iterator
from pathlib import Path

import click

from certmaild.commands.common import Failed, Place, pass_place


@click.command()
@click.argument("words", metavar="ADDRESS|ID...", nargs=-1, required=True)
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="Show its lines in this log.")
@pass_place
def trace(place: Place, words: tuple[str, ...], log: Path | None) -> None:
    """Find a message in the log by address or id.

    Prints the keyed hash that stands for each ADDRESS; an ID stands as it is.
    """
    with place.store() as store:
        marks = {word: store.secrets.trace_hash(word.lower()) if "@" in word else word for word in words}
    if log is None:
        for word, mark in marks.items():
            click.echo(f"{mark}  {word}")
        return
    found = 0
    for line in _lines(log):
        if any(mark in line for mark in marks.values()):
            click.echo(line)
            found += 1
    if not found:
        raise Failed(f"No line of {log} names it.")


def _lines(log: Path) -> Iterator[str]:
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            yield line.rstrip("\n")
