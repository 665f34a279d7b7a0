"""What every command shares: the configuration, the store, showing listings and reading secrets."""

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from functools import cached_property
from io import StringIO
from ipaddress import ip_network
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from certmaild.config import default, load, parse_duration, parse_size
from certmaild.config_values import Config
from certmaild.driving import Driver
from certmaild.keystore.codes import ALPHABET
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.accounts import Accounts
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.devices import WORDS
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.identifiers import CredentialId
from certmaild.mailbox.layout_accounts import UNLIMITED
from certmaild.routing import SERVICES
from certmaild.setup import become_owner, opened, stored_rounds

FAILED, USAGE, TRY_AGAIN = 1, 2, 75


class Failed(Exception):
    """A command cannot do what was asked; the text is one sentence."""


@dataclass
class Place:
    """Which server the command is about."""

    config_file: Path | None
    data: Path | None
    by: str = field(default_factory=lambda: f"command {_person()}")
    """Who gives the command, for the audit log."""

    @cached_property
    def config(self) -> Config:
        """The configuration; as root, its data directory's owner is who we are from here on. Raises `ConfigError`."""
        config = default(self.data) if self.config_file is None else load(self.config_file, self.data)
        become_owner(config.data)
        return config

    @contextmanager
    def store(self) -> Iterator["Store"]:
        """The opened store."""
        with opened(self.config) as (driver, engine, secrets):
            yield Store(self.config, driver, engine, secrets, self.by)


@dataclass
class Store:
    """An opened store, for one command."""

    config: Config
    driver: Driver
    engine: LmdbEngine
    secrets: ServerSecrets
    by: str

    @cached_property
    def accounts(self) -> Accounts:
        """Changes to accounts."""
        return Accounts(self.engine, self.secrets, by=self.by)

    def rounds(self) -> int:
        """Rounds for a new human password."""
        return self.config.passwords.rounds or self.driver.run(stored_rounds(self.engine))


def _person() -> str:
    """The system's name of who runs this; behind sudo, who he was before."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    before = os.environ.get("SUDO_USER", "") if os.getuid() == 0 else ""
    return f"{name} ({before})" if before not in ("", name) else name


pass_place = click.make_pass_decorator(Place)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def address(value: str) -> Address:
    """A mail address on the command line."""
    try:
        return canonical(value)
    except AddressError as wrong:
        raise click.BadParameter(f"{value!r} is not a mail address: {wrong}.") from None


def size(value: str) -> int:
    """Octets on the command line, such as 5GiB."""
    try:
        octets = parse_size(int(value) if value.isdecimal() else value)
    except ValueError as wrong:
        raise click.BadParameter(f"{wrong}.") from None
    if octets >= UNLIMITED:
        raise click.BadParameter(f"{value!r} is more than any store holds.")
    return octets


def duration(value: str) -> int:
    """Seconds on the command line, such as 30d."""
    try:
        return parse_duration(int(value) if value.isdecimal() else value)
    except ValueError as wrong:
        raise click.BadParameter(f"{wrong}.") from None


def network(value: str) -> str:
    """A network on the command line, such as 192.0.2.0/24; an address is a network of one."""
    try:
        return str(ip_network(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a network such as 192.0.2.0/24 or 2001:db8::/48.") from None


def count(value: str) -> int:
    """A number of messages on the command line, at least 1."""
    if not (value.isdecimal() and value.isascii() and 0 < int(value) < UNLIMITED):
        raise click.BadParameter(f"{value!r} is not a number above 0.")
    return int(value)


class NoLimit(Enum):
    """`none` on the command line, where an absent option means that the limit stays as it is."""

    NONE = "none"


def limit_of(number: Callable[[str], int]) -> Callable[[str], int | NoLimit]:
    """What reads a limit: ``none``, or what ``number`` reads."""

    def limit(value: str) -> int | NoLimit:
        return NoLimit.NONE if value.lower() == "none" else number(value)

    return limit


ADDRESS = address
SIZE = size
DURATION = duration
NETWORK = network


def hosted(config: Config, address: Address) -> Address:
    """The address, if its domain is hosted here."""
    if address.domain not in config.domains:
        raise Failed(f"{address.domain} is not a hosted domain; the configuration names {', '.join(config.domains)}.")
    return address


def for_people(config: Config, address: Address) -> Address:
    """The address, if its domain is hosted here and its name is none of the server's own."""
    name = address.base.lookup.partition("@")[0]
    if name in SERVICES:
        raise Failed(f"{name}@ is the server's own address, where people command by mail: choose another name.")
    return hosted(config, address)


def read_secret(what: str, *, confirm: bool = False) -> bytes:
    """One secret: asked for without echo on a terminal, else the next line of standard input."""
    if sys.stdin.isatty():
        answer: str = click.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True)
        return answer.encode("utf-8", "surrogateescape")
    line = sys.stdin.buffer.readline().rstrip(b"\r\n")
    if not line:
        raise Failed(f"{what} is expected on standard input, a line for each secret.")
    return line


def confirmed(question: str, yes: bool) -> None:
    """Ask on a terminal, unless ``--yes`` was given; a script need not be asked."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value


def show_json(value: Mapping[str, object] | Sequence[Mapping[str, object]]) -> None:
    """Print JSON."""
    many = [value] if isinstance(value, Mapping) else value
    plain = [{name: _plain(one) for name, one in row.items()} for row in many]
    click.echo(json.dumps(plain[0] if isinstance(value, Mapping) else plain, indent=2, ensure_ascii=False))


def show(
    rows: Sequence[Mapping[str, object]],
    columns: Mapping[str, str],
    *,
    as_json: bool,
    empty: str,
    widest: int | None = None,
) -> None:
    """Print a listing: JSON with all fields, or a table of ``columns`` (field to heading), each ``widest`` letters."""
    if as_json:
        show_json(rows)
        return
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold", max_width=widest)
    for row in rows:
        table.add_row(*(cell(row[name]) for name in columns))
    print_table(table)


def print_table(table: Table) -> None:
    """Print a table; into a file or a pipe as wide as it is, without blanks at the ends of lines."""
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False, markup=False).print(table)
        return
    text = StringIO()
    Console(file=text, highlight=False, markup=False, width=400).print(table)
    click.echo("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def cell(value: object) -> str:
    """A value for people."""
    plain = _plain(value)
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    if plain is None:
        return "-"
    if isinstance(plain, list):
        return ", ".join(map(str, plain)) or "-"
    return str(plain)


def octets_text(octets: int | None) -> str:
    """A size for people."""
    if octets is None:
        return "no limit"
    size = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def parse_device_id(text: str) -> CredentialId:
    """Inverse of `certmaild.mailbox.devices.id_text`. Raises `Failed`."""
    for credential_id, word in WORDS.items():
        if text == word:
            return credential_id
    letters = text.upper().replace("O", "0").replace("I", "1").replace("L", "1")
    if len(letters) != 4 or not all(letter in ALPHABET for letter in letters):
        raise Failed(f"{text!r} is not an id such as certmaild device list shows.")
    value = 0
    for letter in letters:
        value = value << 5 | ALPHABET.index(letter)
    return CredentialId(value)
