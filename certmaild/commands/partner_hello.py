"""`certmaild partner hello`: what the other side needs to set up its mail server."""

from typing import Any

import click

from certmaild.commands.common import Place, json_option, pass_place, show_json
from certmaild.commands.partner import DOMAIN, read_book
from certmaild.config_values import Config
from certmaild.dns.resolver import Resolver, configured_servers
from certmaild.dns.values import ask_a, ask_aaaa
from certmaild.driving import run_with_reactor
from certmaild.own_facts import gather
from certmaild.peering.hello import Sheet, our_terms, own_facts, sheets

KINDS = {"postfix": "Postfix", "exim": "Exim", "microsoft": "Microsoft 365", "google": "Google Workspace"}


@click.command()
@click.argument("domain", type=DOMAIN)
@click.option("--for", "kind", type=click.Choice(list(KINDS)), help="Only the lines for this kind of mail server.")
@json_option
@pass_place
def hello(place: Place, domain: str, kind: str | None, as_json: bool) -> None:
    """What DOMAIN's administrator needs, line by line, for his server.

    Nothing in it is secret. Send it to him, and let him answer on paper or by a known number.
    """
    config = place.config
    with place.store() as store:
        record = read_book(store).find(domain)
    facts = gather(config)
    sources = facts.sources or run_with_reactor(lambda reactor: _addresses(reactor, config))
    chosen = [one for one in sheets(facts, sources, record) if kind in (None, _kind_of(one))]
    first = own_facts(facts, sources, record)
    terms = our_terms(record, domain, config.outbound.level.value)
    if as_json:
        show_json(
            {
                "facts": first,
                "terms": terms,
                **{_kind_of(one): [{"where": step.where, "text": step.text} for step in one.steps] for one in chosen},
            }
        )
        return
    _heading(f"Mail between {', '.join(facts.domains)} and {domain}")
    click.echo("\n".join(first))
    if facts.authority is not None:
        click.echo(f"\nOur certificate authority:\n{facts.authority.rstrip()}")
    _heading("What we ask")
    click.echo("\n".join(terms))
    for one in chosen:
        _show(one)


def _kind_of(sheet: Sheet) -> str:
    return next(kind for kind, name in KINDS.items() if name == sheet.name)


def _heading(text: str) -> None:
    click.echo(f"\n{text}\n{'-' * len(text)}\n")


def _show(sheet: Sheet) -> None:
    _heading(sheet.name)
    for step in sheet.steps:
        click.echo(f"{step.where[0].upper()}{step.where[1:]}:\n")
        click.echo("\n".join(f"    {line}" for line in step.text.splitlines()) + "\n")


async def _addresses(reactor: Any, config: Config) -> tuple[str, ...]:
    """Those of our host in DNS; none where DNS knows none."""
    resolver = Resolver(reactor, configured_servers(config.resolvers))
    found = await ask_a(resolver, config.hostname)
    return (*found.records, *(await ask_aaaa(resolver, config.hostname)).records)
