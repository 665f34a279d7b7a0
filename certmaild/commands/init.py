"""`certmaild init`: make configuration, secrets, certificate and store."""

from dataclasses import asdict
from pathlib import Path

import click

from certmaild.commands.common import Failed, Place, json_option, pass_place, show_json
from certmaild.mailbox.addresses import canonical_domain
from certmaild.mailbox.errors import AddressError
from certmaild.setup import is_set_up, lacks_certificate, set_up

DEFAULT_FILE = "certmaild.toml"
_TEMPLATE = """\
hostname = "{hostname}"
domains = ["{domain}"]
data = "{data}"

[listen]
address = ["127.0.0.1", "::1"]  # this machine only; ["0.0.0.0", "::"] lets everybody connect
imaps = 993
pop3s = 995
smtp = 25
submission = 587
submissions = 465
"""


def _domain(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else canonical_domain(value)
    except AddressError as wrong:
        raise click.BadParameter(f"{wrong}.", context, parameter) from None


@click.command()
@click.option("--hostname", callback=_domain, help="The name clients and other servers connect to.")
@click.option("--domain", callback=_domain, help="The mail domain hosted here.")
@json_option
@pass_place
def init(place: Place, hostname: str | None, domain: str | None, as_json: bool) -> None:
    """Make a new server's files: secrets, certificate, store.

    Its configuration file too, if there is none; then --hostname and --domain are needed.
    """
    path = place.config_file or Path(DEFAULT_FILE)
    if not path.exists():
        if hostname is None or domain is None:
            raise click.UsageError(f"There is no {path} yet: --hostname and --domain say what to write into it.")
        data = place.data or Path("certmaild-data")
        text = _TEMPLATE.format(hostname=hostname, domain=domain, data=str(data.absolute()).replace("\\", "\\\\"))
        path.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {path}.", err=True)
    place = Place(path, place.data)
    config = place.config
    domain = domain or config.domains[0]
    if config.hostname != (hostname or config.hostname) or domain not in config.domains:
        raise Failed(f"{path} is for {config.hostname} and {', '.join(config.domains)}; change it or the options.")
    is_restored = is_set_up(config)
    if is_restored and not lacks_certificate(config):
        raise Failed(f"There is a store in {config.data} already; nothing is left to do.")
    made = set_up(config, first_account=False)
    if as_json:
        show_json({**asdict(made), "config": str(path.absolute()), "data": str(config.data)})
        return
    if is_restored:
        click.echo(f"There is a store in {config.data} already; made the certificate that was missing.")
    else:
        click.echo(f"Made secrets in {config.secrets} and the store in {config.store}.")
        click.echo("Keep a copy of the secrets apart from the backups of the store: neither opens without the other.")
    if made.ca_file is not None:
        click.echo(f"Clients must trust the authority in {made.ca_file}.")
    if set(config.listen.address) <= {"127.0.0.1", "::1"}:
        click.echo(f"It listens to this machine only: set address under [listen] in {path} to let others connect.")
    click.echo(f"Next: certmaild --config {path} user add NAME@{domain}, then twistd certmaild --config {path}")
