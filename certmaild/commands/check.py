"""`certmaild check`: go through the running listeners as a client would."""

import secrets
import ssl
from dataclasses import asdict
from pathlib import Path

import click

from certmaild.commands.common import FAILED, Failed, Place, json_option, pass_place, show_json
from certmaild.config_values import Config
from certmaild.keystore.certificates import PrivateFiles
from certmaild.mailbox.addresses import canonical
from certmaild.self_check import Listeners, Step, run_check
from certmaild.setup import NotSetUp, is_set_up

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # translated, not bound


@click.command()
@click.option("--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The authority to trust.")
@json_option
@pass_place
@click.pass_context
def check(context: click.Context, place: Place, ca: Path | None, as_json: bool) -> None:
    """Try the running server as a client: send, read, delete.

    It submits, delivers, reads by IMAP and POP3, compares and deletes, each step with its time.
    It makes an account for this and removes it again. Certificates are verified.
    """
    at = _listeners(place.config, ca)
    address = canonical(f"certmaild-check-{secrets.token_hex(8)}@{place.config.domains[0]}")
    steps: list[Step] = []
    with place.store() as store:
        made = store.driver.run(store.accounts.create(address))
        try:
            for step in run_check(at, made.address, made.device_password or ""):
                steps.append(step)
                if not as_json:
                    click.echo(f"{'failed' if step.problem else 'ok':8}{step.seconds:8.3f} s  {step.name}")
                    if step.problem:
                        click.echo(f"{step.name}: {step.problem}.", err=True)
        finally:
            store.driver.run(store.accounts.remove(address))
    if as_json:
        show_json([asdict(step) for step in steps])
    if not steps or any(step.problem for step in steps):
        context.exit(FAILED)


def _listeners(config: Config, ca: Path | None) -> Listeners:
    """Where to connect and whom to trust."""
    ports = {name: port for name, port in config.listen.ports().items() if isinstance(port, int)}
    if not ports or not config.listen.address:
        raise Failed("The configuration names no listener with a port number.")
    if not is_set_up(config):
        raise NotSetUp(f"There is no store in {config.data}: run certmaild init first.")
    authority = PrivateFiles(config.data).authority if ca is None and config.tls.private else ca
    try:
        tls = ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError):
        raise Failed(f"{authority} is not a certificate that can be trusted.") from None
    address = config.listen.address[0]
    return Listeners(_ANY.get(address, address), config.hostname, tls, **ports)
