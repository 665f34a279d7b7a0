"""`certmaild config`: look at a configuration without starting."""

from pathlib import Path

import click

from certmaild.commands.common import FAILED, Place, json_option, pass_place, show_json
from certmaild.config import load
from certmaild.config_check import check
from certmaild.config_values import Config
from certmaild.guests.notice_text import check_templates
from certmaild.keystore.errors import KeystoreError
from certmaild.mailbox.account_rows import find_address
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.interfaces import Engine
from certmaild.routing import SERVICES
from certmaild.setup import NotSetUp, become_owner, opened


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@pass_place
@click.pass_context
def check_file(context: click.Context, place: Place, file: Path | None, as_json: bool) -> None:
    """Say what is wrong with FILE, without starting anything.

    Without FILE it looks at the file that --config names.
    """
    file = file or place.config_file
    if file is None:
        raise click.UsageError("Name a configuration file.")
    loaded = load(file, place.data)
    become_owner(loaded.data)
    findings = check(loaded)
    problems = [*findings.problems, *check_templates(loaded)]
    warnings = [*findings.warnings, *_taken_names(loaded)]
    if as_json:
        show_json({"file": str(file), "problems": problems, "warnings": warnings})
    else:
        for sentence in warnings:
            click.echo(f"{file}: note: {sentence}", err=True)
        for sentence in problems:
            click.echo(f"{file}: {sentence}", err=True)
        if not problems:
            click.echo(f"{file} is fit for use.")
    if problems:
        context.exit(FAILED)


def _taken_names(config: Config) -> list[str]:
    """Addresses of the server's own that somebody has, in sentences; of a store that cannot be opened none."""
    addresses = [canonical(f"{name}@{domain}") for name in sorted(SERVICES) for domain in config.domains]

    async def taken(engine: Engine) -> list[Address]:
        return await engine.read(lambda txn: [one for one in addresses if find_address(txn, one) is not None])

    try:
        with opened(config) as (driver, engine, _):
            found = driver.run(taken(engine))
    except (NotSetUp, KeystoreError, MailboxError, OSError):
        return []
    return [
        f"{one.lookup} is a mailbox or an alias: mail to it goes there, and nobody commands by it." for one in found
    ]
