"""`certmaild dkim`: the keys that sign outgoing mail, and the DNS records that publish them."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from certmaild.commands.common import Place, json_option, pass_place, show, show_json
from certmaild.dkim.key_files import KeyFiles, KeyPair, txt_strings

_NONE = "There are no DKIM keys: mail goes out unsigned. certmaild dkim make makes them."


@click.group()
def dkim() -> None:
    """Make, show and change the keys that sign outgoing mail (DKIM)."""


@dkim.command()
@json_option
@pass_place
def make(place: Place, as_json: bool) -> None:
    """Make a pair of keys, Ed25519 and RSA, and print its DNS records.

    The first pair signs at once. Another one signs after certmaild dkim use: publish its records a day before.
    """
    config = place.config
    pair = KeyFiles(config.data).make(datetime.now(UTC).date())
    if as_json:
        show_json(_rows([pair], config.mail_domains))
        return
    _print_records(pair, config.mail_domains)
    click.echo()
    if pair.signs:
        click.echo("The server signs with these keys from now on: publish the records above in DNS now.")
    else:
        click.echo(f"Publish the records above in DNS. A day later: certmaild dkim use {pair.name}.")


@dkim.command("show")
@json_option
@pass_place
def show_all(place: Place, as_json: bool) -> None:
    """All pairs, with the DNS records that must be published for each."""
    config = place.config
    pairs = KeyFiles(config.data).pairs()
    if as_json or not pairs:
        show(_rows(pairs, config.mail_domains), {}, as_json=as_json, empty=_NONE)
        return
    for pair in pairs:
        click.echo(f"; pair {pair.name}{', which signs' if pair.signs else ''}")
        _print_records(pair, config.mail_domains)


@dkim.command()
@click.argument("pair")
@pass_place
def use(place: Place, pair: str) -> None:
    """Sign with PAIR from now on. Leave the former pair's records in DNS for a week, then remove it."""
    made = KeyFiles(place.config.data).use(pair)
    click.echo(f"The server signs with the pair {made.name} within a minute.")


@dkim.command()
@click.argument("pair")
@pass_place
def remove(place: Place, pair: str) -> None:
    """Delete the keys of PAIR, which no longer signs. Then take its records out of DNS."""
    KeyFiles(place.config.data).remove(pair)
    click.echo(f"The keys of the pair {pair} are gone: take its records out of DNS.")


def _rows(pairs: Sequence[KeyPair], domains: tuple[str, ...]) -> list[dict[str, object]]:
    return [
        {"pair": pair.name, "signs": pair.signs, "record": name, "text": text}
        for pair in pairs
        for domain in domains
        for name, text in pair.records(domain)
    ]


def _print_records(pair: KeyPair, domains: tuple[str, ...]) -> None:
    for domain in domains:
        for name, text in pair.records(domain):
            click.echo(f"{name}. IN TXT {txt_strings(text)}")
