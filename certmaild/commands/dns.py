"""`certmaild dns`: the DNS records that the hosted domains should publish, and whether they do."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from certmaild.commands.common import FAILED, TRY_AGAIN, Place, json_option, pass_place, show, show_json
from certmaild.config_values import Config
from certmaild.dkim.key_files import KeyFiles
from certmaild.dns.resolver import Resolver, configured_servers
from certmaild.driving import run_with_reactor
from certmaild.own_facts import OwnFacts, gather
from certmaild.peering.dns_records import Checked, State, Wanted, check_records, sts_policy, wanted_records, zone_lines

COLUMNS = {"state": "check", "name": "name", "type": "type", "value": "should be", "found": "found"}
WIDEST = 72
"""Letters in a column: a key of DKIM takes several lines."""


@click.command()
@click.option("--zone", is_flag=True, help="Print a fragment of a zone file, and ask nobody.")
@json_option
@pass_place
@click.pass_context
def dns(context: click.Context, place: Place, zone: bool, as_json: bool) -> None:
    """DNS records the domains should have, and how they stand.

    Exit status: 0 all are right, 1 some are not, 75 DNS could not be asked.
    """
    config = place.config
    facts = gather(config)
    wanted = wanted_records(config, facts)
    if zone:
        click.echo("\n".join(zone_lines(wanted)))
        for line in _advice(config, facts):
            click.echo(f"; {line}" if line else ";")
        return
    checked = run_with_reactor(lambda reactor: _check(reactor, config, wanted))
    rows = [_row(one, as_json) for one in checked]
    if as_json:
        show_json({"records": rows, "mta_sts_policy": None if facts.authority else sts_policy(facts)})
    else:
        show(rows, COLUMNS, as_json=False, empty="", widest=WIDEST)
        for line in _notes(checked):
            click.echo(line)
        counts = Counter(one.state for one in checked)
        click.echo("\n" + ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state]) + ".")
        click.echo("\n".join(("", *_advice(config, facts))))
    if any(one.state in (State.MISSING, State.DIFFERS) for one in checked):
        context.exit(FAILED)
    if any(one.state is State.UNKNOWN for one in checked):
        context.exit(TRY_AGAIN)


def _notes(checked: list[Checked]) -> Iterator[str]:
    """What is to be said about single records; a DNS server's silence about many of them once."""
    for one in checked:
        if one.note and one.state is not State.UNKNOWN:
            yield f"{one.wanted.name} {one.wanted.kind.name}: {one.note}."
    for reason, count in Counter(one.note for one in checked if one.state is State.UNKNOWN).items():
        yield f"Unknown for {count} record{'s' if count > 1 else ''}: {reason}."
    if any(one.state is State.UNKNOWN for one in checked):
        yield "The DNS servers are those of [resolver] addresses, else of /etc/resolv.conf: see to these, or try again."


async def _check(reactor: Any, config: Config, wanted: list[Wanted]) -> list[Checked]:
    resolver = Resolver(reactor, configured_servers(config.resolvers))
    return await check_records(resolver, wanted, can_be_secure=resolver.can_be_secure)


def _row(one: Checked, as_json: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "name": one.wanted.name,
        "type": one.wanted.kind.name,
        "value": one.wanted.value,
        "state": one.state.value,
        "found": list(one.found) if as_json else "" if one.state is State.RIGHT else " | ".join(one.found),
    }
    return {**row, "purpose": one.wanted.purpose, "note": one.note or None} if as_json else row


def _advice(config: Config, facts: OwnFacts) -> list[str]:
    """What belongs to the records and is no record, or cannot be one yet."""
    lines = []
    if not facts.sources:
        lines.append(
            "The configuration does not say which addresses mail is sent from: with [outbound] source = [...] "
            "SPF and the reverse records are checked too."
        )
    if not KeyFiles(config.data).pairs():
        lines.append("There are no DKIM keys yet: certmaild dkim make makes them.")
    if facts.next_pin is None:
        lines.append("There is no next key, whose TLSA record would be out before it serves: see certmaild cert next.")
    if facts.authority is not None:
        lines.append(
            "MTA-STS is left out: it needs a certificate by a public authority ([tls] certificate). "
            "DANE (the TLSA records) works with this one."
        )
        return lines
    if config.listen.https is not None:
        return lines
    lines += ["", "MTA-STS needs this file on a web server with a public certificate, for each domain at"]
    lines += [f"https://mta-sts.{domain}/.well-known/mta-sts.txt" for domain in config.mail_domains]
    return [*lines, "", *sts_policy(facts).splitlines()]
