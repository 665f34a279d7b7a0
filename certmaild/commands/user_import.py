"""`certmaild user import`: accounts for a whole list of people."""

import csv
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Protocol

import click
from rich.console import Console
from rich.progress import Progress

from certmaild.commands.common import FAILED, Failed, Place, Store, pass_place
from certmaild.commands.people_file import Person, Wrong, read_people
from certmaild.mailbox.accounts import Prepared
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import NO_OPTIONS, Option, Role

TOGETHER = 50
"""Accounts in one commit."""
SHOWN = 20
EXISTS = "{} exists: say a new file; what stands in that one may be needed."
HEADER = "address", "name", "device", "device_password", "recovery_code"


class Passwords(Protocol):
    """Where passwords are written."""

    def write(self, rows: Sequence[Sequence[str]]) -> None:
        """Write rows; they are kept when it returns."""


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path), help="A new file for the passwords.")
@click.option("--dry-run", is_flag=True, help="Only read the file and say what would be done.")
@pass_place
def import_people(place: Place, file: Path, out: Path | None, dry_run: bool) -> None:
    """Make accounts for the people in FILE (CSV).

    It has a header line and the columns address, name, role, quota, devices.

    The whole file is checked first. Who has an account is left as he is, so the command may be run again after it was
    stopped, with another --out: each password is in a file before its account is made. In devices, | is between names.
    """
    people = _read(place, file)
    if out is None and not dry_run and sys.stdout.isatty():
        raise Failed("Say --out FILE: passwords of many people do not belong on a screen.")
    if out is not None and os.path.lexists(out):
        raise Failed(EXISTS.format(out))
    with place.store() as store:
        new = _without_accounts(store, people)
        there = len(people) - len(new)
        if there:
            click.echo(f"{there} of {len(people)} addresses exist here already, and stay as they are.", err=True)
        if dry_run:
            click.echo(f"{_accounts(len(new))} would be made.", err=True)
            return
        with _passwords(out) as passwords:
            taken = _make(store, new, passwords)
    for one in taken:
        click.echo(f"{one} was taken meanwhile: its password in the file opens nothing.", err=True)
    click.echo(f"Made {_accounts(len(new) - len(taken))}.", err=True)


def _accounts(number: int) -> str:
    return f"{number} account{'' if number == 1 else 's'}"


def _read(place: Place, file: Path) -> list[Person]:
    config = place.config
    try:
        return read_people(file, config.domains, most_devices=config.devices.most)
    except Wrong as wrong:
        for sentence in wrong.sentences[:SHOWN]:
            click.echo(sentence, err=True)
        if len(wrong.sentences) > SHOWN:
            click.echo(f"And {len(wrong.sentences) - SHOWN} lines more.", err=True)
        click.echo("Nothing was done.", err=True)
        raise click.exceptions.Exit(FAILED) from None


def _without_accounts(store: Store, people: Sequence[Person]) -> list[Person]:
    async def work() -> list[Person]:
        def read(txn: ReadTxn) -> list[Person]:
            return [one for one in people if txn.get(Table.ADDR, one.address.key) is None]

        return await store.engine.scan(read)

    return store.driver.run(work())


def _make(store: Store, people: Sequence[Person], passwords: Passwords) -> list[str]:
    taken: list[str] = []
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("Accounts", total=len(people))
        for at in range(0, len(people), TOGETHER):
            some = people[at : at + TOGETHER]
            prepared = [
                store.accounts.prepare(
                    one.address,
                    role=one.role,
                    octets_limit=one.octets_limit,
                    options=NO_OPTIONS if one.role is Role.APP else Option.SERVICE_FOLDERS,
                    devices=one.devices,
                )
                for one in some
            ]
            # Kept first: a password in the file without an account opens nothing, an account without one nobody opens.
            passwords.write([row for one in zip(some, prepared, strict=True) for row in _rows(*one)])
            taken += store.driver.run(store.accounts.make_all(prepared))
            progress.advance(task, len(some))
    return taken


def _rows(person: Person, made: Prepared) -> Iterator[tuple[str, ...]]:
    code = made.new.recovery_code
    for name, text in made.devices:
        yield made.new.address, person.name, name, text, code
        code = ""


class _File:
    """A file that did not exist."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, rows: Sequence[Sequence[str]]) -> None:
        left = memoryview(_csv(rows).encode("utf-8"))
        while left:
            left = left[os.write(self._descriptor, left) :]
        os.fsync(self._descriptor)


class _Stream:
    """Standard output, for a pipe or a file."""

    def write(self, rows: Sequence[Sequence[str]]) -> None:
        click.echo(_csv(rows), nl=False)
        sys.stdout.flush()


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


@contextmanager
def _passwords(out: Path | None) -> Iterator[Passwords]:
    if out is None:
        stream = _Stream()
        stream.write((HEADER,))
        yield stream
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Failed(EXISTS.format(out)) from None
    try:
        file = _File(descriptor)
        file.write((HEADER,))
        directory = os.open(out.absolute().parent, os.O_RDONLY)
        try:
            # The name has to last too.
            os.fsync(directory)
        finally:
            os.close(directory)
        yield file
    finally:
        os.close(descriptor)
