"""The command `certmaild`: one sub-command a file; what goes wrong is one sentence and an exit status."""

import sys
from pathlib import Path

import click

from certmaild import __version__
from certmaild.commands.alias import alias
from certmaild.commands.audit import audit
from certmaild.commands.calibrate import calibrate
from certmaild.commands.cert import cert
from certmaild.commands.check import check
from certmaild.commands.common import FAILED, TRY_AGAIN, USAGE, Failed, Place
from certmaild.commands.config import config
from certmaild.commands.device import device
from certmaild.commands.dkim import dkim
from certmaild.commands.dns import dns
from certmaild.commands.group import group
from certmaild.commands.guest import guest
from certmaild.commands.init import init
from certmaild.commands.partner import partner
from certmaild.commands.partner_hello import hello
from certmaild.commands.partner_test import probe_domain
from certmaild.commands.partner_trial import trial
from certmaild.commands.queue import queue
from certmaild.commands.setup import setup
from certmaild.commands.static import static
from certmaild.commands.status import status
from certmaild.commands.trace import trace
from certmaild.commands.user import user
from certmaild.commands.user_import import import_people
from certmaild.config import ConfigError
from certmaild.dkim.key_files import DkimKeysMissing
from certmaild.keystore.errors import KeystoreError
from certmaild.mailbox.errors import (
    AccountMissing,
    AddressTaken,
    Damaged,
    MailboxError,
    SecretRefused,
    StoreFull,
    StoreUnavailable,
)
from certmaild.setup import NotSetUp

SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (AccountMissing, "Nobody has this address: look at certmaild user list and certmaild alias list."),
    (AddressTaken, "An account or an alias has this address already."),
    (SecretRefused, "This is not a password, device password or recovery code of the account."),
    (Damaged, "A stored value is damaged, and was not changed: put back a backup of the store."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="The configuration file (TOML).")
@click.option("--data", type=click.Path(path_type=Path), help="The data directory, instead of the configured one.")
@click.version_option(__version__, prog_name="certmaild")
@click.pass_context
def cli(context: click.Context, config_file: Path | None, data: Path | None) -> None:
    """Set up and look after a certmaild server. Works beside the running server.

    Exit status: 0 done, 1 failed, 2 wrong usage, 75 try again later.
    """
    context.obj = Place(config_file, data)


for command in (
    init,
    config,
    user,
    guest,
    device,
    alias,
    group,
    audit,
    setup,
    partner,
    cert,
    dkim,
    dns,
    static,
    calibrate,
    status,
    check,
    trace,
    queue,
):
    cli.add_command(command)


for command in (hello, probe_domain, trial):
    partner.add_command(command)


user.add_command(import_people)


def sentence_for(problem: Exception) -> tuple[str, int] | None:
    """What to print and the exit status; None for what nobody foresaw."""
    for kind, sentence in SENTENCES:
        if isinstance(problem, kind):
            return sentence, FAILED
    if isinstance(problem, StoreFull):
        return "The disk is full, or has less room than free_disk: make room and try again.", TRY_AGAIN
    if isinstance(problem, StoreUnavailable):
        return "The store cannot be used now; try again later.", TRY_AGAIN
    if isinstance(problem, OSError):
        what = problem.strerror or "a fault of the operating system"
        if isinstance(problem, PermissionError):
            what += "; run this as root or as the user who owns the data directory"
        return (f"{problem.filename}: {what}." if problem.filename else f"{what}."), FAILED
    if isinstance(problem, (Failed, NotSetUp, ConfigError, DkimKeysMissing, KeystoreError, MailboxError, ValueError)):
        text = str(problem) or "It cannot be done."
        return (text if text.endswith((".", "?")) else text + "."), FAILED
    return None


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        status_code = cli.main(args=arguments, prog_name="certmaild", standalone_mode=False)
        return status_code if isinstance(status_code, int) else 0
    except click.exceptions.Abort:
        click.echo("Stopped.", err=True)
        return FAILED
    except click.ClickException as wrong:
        wrong.show()
        return USAGE if isinstance(wrong, click.UsageError) else FAILED
    except Exception as problem:
        found = sentence_for(problem)
        if found is None:
            # A class name tells a maintainer where to look, and no secret.
            found = f"A fault in certmaild ({type(problem).__name__}): please report it with this command.", FAILED
        click.echo(found[0], err=True)
        return found[1]


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
