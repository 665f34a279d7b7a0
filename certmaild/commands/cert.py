"""`certmaild cert`: this server's certificate and keys, and changing the key without losing a partner."""

from typing import Any

import click

from certmaild.client_setup.names import served_names
from certmaild.commands.common import Failed, Place, json_option, pass_place, show_json
from certmaild.config_values import Config
from certmaild.dns.resolver import Resolver, configured_servers
from certmaild.dns.values import ask_tlsa
from certmaild.driving import run_with_reactor
from certmaild.keystore.certificates import make_next_key, renew_leaf, roll_key
from certmaild.own_facts import OwnFacts, gather
from certmaild.partners.reading import format_pin


@click.group()
def cert() -> None:
    """Show this server's certificate; change its key safely."""


def _facts(facts: OwnFacts) -> dict[str, object]:
    return {
        "names": facts.names,
        "until": facts.not_after,
        "certificate_sha256": facts.fingerprints[0],
        "pin": format_pin(facts.pin),
        "tlsa": f"3 1 1 {facts.pin.hex()}",
        "next_pin": None if facts.next_pin is None else format_pin(facts.next_pin),
        "next_tlsa": None if facts.next_pin is None else f"3 1 1 {facts.next_pin.hex()}",
    }


@cert.command("show")
@json_option
@pass_place
def show_certificate(place: Place, as_json: bool) -> None:
    """Names, dates, fingerprint and pins, of the next key too."""
    facts = gather(place.config)
    if as_json:
        show_json(_facts(facts))
        return
    click.echo(f"Names:             {', '.join(facts.names)}")
    click.echo(f"Until:             {facts.not_after:%Y-%m-%d %H:%M} UTC")
    click.echo(f"SHA-256:           {facts.fingerprints[0].hex(':').upper()}")
    click.echo(f"Pin:               {format_pin(facts.pin)}")
    click.echo(f"TLSA:              3 1 1 {facts.pin.hex()}")
    if facts.next_pin is None:
        click.echo("Next key:          none: see certmaild cert next")
    else:
        click.echo(f"Pin of next key:   {format_pin(facts.next_pin)}")
        click.echo(f"TLSA of next key:  3 1 1 {facts.next_pin.hex()}")


@cert.command("next")
@json_option
@pass_place
def make_next(place: Place, as_json: bool) -> None:
    """Make the key that comes next, and say what to publish first."""
    config = place.config
    if not config.tls.private:
        if config.tls.next_key is None or not config.tls.next_key.exists():
            raise Failed(
                "Your certificate is by another authority: let its tool make the next key, and name the file as "
                "[tls] next_key; certmaild dns and certmaild partner hello then tell the others of it."
            )
    elif not make_next_key(config.data):
        click.echo("There is a next key already.", err=as_json)
    facts = gather(config)
    if facts.next_pin is None:
        raise Failed("The next key cannot be read.")
    if as_json:
        show_json(_facts(facts))
        return
    click.echo(f"Next key: {format_pin(facts.next_pin)}")
    click.echo("Before it serves, in this order:")
    click.echo("1. Publish, beside the record of the key in use:")
    click.echo(f"   _{facts.port}._tcp.{facts.host}. IN TLSA 3 1 1 {facts.next_pin.hex()}")
    click.echo("2. Give partners who pin keys the new pin: certmaild partner hello DOMAIN has it.")
    click.echo("3. Wait two days, or twice the TTL of the TLSA record if that is longer.")
    click.echo("4. certmaild cert roll, and reload the server (SIGHUP).")
    click.echo("5. A day later take the former key's TLSA record away: certmaild dns names it.")


@cert.command()
@pass_place
def renew(place: Place) -> None:
    """Renew a certificate of our own authority for the names it should have now, and the same key.

    A running server does so by itself when it starts, is reloaded, and daily.
    """
    config = place.config
    if not config.tls.private:
        raise Failed("Your certificate is by another authority: renew it there.")
    renew_leaf(config.data, served_names(config))
    click.echo("Renewed, for the same key. Reload the server (SIGHUP): it serves from then on.")


@cert.command()
@click.option("--force", is_flag=True, help="Also when DNS does not show the next key.")
@pass_place
def roll(place: Place, force: bool) -> None:
    """Let the next key serve, under a fresh certificate."""
    config = place.config
    if not config.tls.private:
        raise Failed("Your certificate is by another authority: put its new certificate and key in place yourself.")
    facts = gather(config)
    if facts.next_pin is None:
        raise Failed("There is no next key: certmaild cert next makes it.")
    if not force:
        run_with_reactor(lambda reactor: _check_published(reactor, config, facts))
    roll_key(config.data, served_names(config))
    click.echo("The next key is in place. Reload the server (SIGHUP): it serves from then on.")
    click.echo("A day later take the former key's TLSA record away: certmaild dns names it.")


async def _check_published(reactor: Any, config: Config, facts: OwnFacts) -> None:
    """Who goes by DANE would be locked out by a key that DNS does not show."""
    name = f"_{facts.port}._tcp.{facts.host}"
    answer = await ask_tlsa(Resolver(reactor, configured_servers(config.resolvers)), name)
    if answer.failed:
        raise Failed(f"DNS cannot be asked for {name} ({answer.reason}): try again later, or use --force.")
    if answer.records and not any(one.data == facts.next_pin for one in answer.records):
        raise Failed(f"{name} has TLSA records, but none for the next key: publish it first (certmaild cert next).")
