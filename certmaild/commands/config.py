"""`certmaild config`: look at a configuration without starting."""

from pathlib import Path

import click

from certmaild.commands.common import FAILED, Place, json_option, pass_place, show_json
from certmaild.config import load
from certmaild.config_check import check
from certmaild.guests.notice_text import check_templates
from certmaild.setup import become_owner


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
    if as_json:
        show_json({"file": str(file), "problems": problems, "warnings": findings.warnings})
    else:
        for sentence in findings.warnings:
            click.echo(f"{file}: note: {sentence}", err=True)
        for sentence in problems:
            click.echo(f"{file}: {sentence}", err=True)
        if not problems:
            click.echo(f"{file} is fit for use.")
    if problems:
        context.exit(FAILED)
