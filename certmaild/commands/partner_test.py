"""`certmaild partner test`: ask a domain's servers what they prove, without sending mail."""

from dataclasses import asdict
from typing import Any

import click

from certmaild.commands.common import FAILED, TRY_AGAIN, Place, json_option, pass_place, show, show_json
from certmaild.commands.partner import DOMAIN, read_book
from certmaild.commands.partner_tools import NetworkTools
from certmaild.driving import run_with_reactor
from certmaild.partners.reading import format_pin
from certmaild.peering.probe import Asked, Probe, Verdict

COLUMNS = {
    "verdict": "check",
    "host": "server",
    "at": "address",
    "tls": "TLS",
    "until": "until",
    "offers": "offers",
    "tlsa": "TLSA",
}


@click.command("test")
@click.argument("domain", type=DOMAIN)
@json_option
@pass_place
@click.pass_context
def probe_domain(context: click.Context, place: Place, domain: str, as_json: bool) -> None:
    """Ask the servers of DOMAIN what they prove; no mail is sent.

    They are judged by its record, also when that is not in force yet, else by the default. Exit status: 0 all keep to
    the terms, 1 some do not, 75 none could be asked.
    """
    config = place.config
    with place.store() as store:
        record = read_book(store).find(domain)
    level = config.outbound.level

    async def work(reactor: Any) -> Probe:
        return await NetworkTools(reactor, config).prober().probe(domain, record, level)

    found = run_with_reactor(work)
    if as_json:
        show_json(probe_json(found))
    else:
        show_probe(found)
    context.exit({Verdict.RIGHT: 0, Verdict.FAILS: FAILED, Verdict.UNREACHED: TRY_AGAIN}[found.verdict])


def show_probe(found: Probe) -> None:
    """For people: a table, the reasons below it, the verdict last."""
    click.echo(f"{found.domain}, by {found.terms}")
    click.echo(f"MTA-STS: {found.sts}\n")
    if found.asked:
        show([_row(one) for one in found.asked], COLUMNS, as_json=False, empty="")
        click.echo()
    for one in found.asked:
        for line in _reasons(one):
            click.echo(f"{one.host} [{one.address}]: {line}.")
    for name in found.unnamed:
        click.echo(f"{name}: DNS has no address for it to which mail could be sent.")
    if found.problem is not None:
        click.echo(found.problem.words)
    click.echo(f"\n{_verdict(found)}")


def _row(one: Asked) -> dict[str, object]:
    shown, offers = one.shown, one.offers
    said = []
    if offers is not None:
        names = (
            ("REQUIRETLS", offers.require_tls),
            ("DSN", offers.dsn),
            ("CHUNKING", offers.chunking),
            ("SMTPUTF8", offers.utf8),
        )
        said = [name for name, there in names if there]
        said += [f"SIZE {offers.size}"] if offers.size else []
    return {
        "verdict": one.verdict.value,
        "host": one.host,
        "at": f"{one.address} port {one.port}" if one.port != 25 else one.address,
        "tls": "-" if shown is None else f"{shown.version} {shown.group}",
        "until": None if shown is None else shown.not_after.date(),
        "offers": " ".join(said) or "-",
        "tlsa": one.tlsa,
    }


def _reasons(one: Asked) -> list[str]:
    lines = [one.words] if one.words else []
    if one.proof:
        lines.append(f"proved by {one.proof}")
    if one.shown is not None:
        names = ", ".join(one.shown.names) or "no name"
        lines.append(f"shows a certificate for {names}, by {one.shown.issuer}, key {format_pin(one.shown.pin)}")
    return [line.rstrip(".") for line in lines]


def _verdict(found: Probe) -> str:
    domain = found.domain
    if found.verdict is Verdict.RIGHT:
        return f"Right: mail to {domain} would go out. Next: certmaild partner trial {domain} sends one message."
    if found.verdict is Verdict.UNREACHED:
        return f"Nobody could be asked: try again later. Mail to {domain} would wait."
    return f"Not right: mail to {domain} would wait, or go back, because of the reasons above."


def probe_json(found: Probe) -> dict[str, object]:
    """All of it."""
    servers = []
    for one in found.asked:
        shown = one.shown
        servers.append(
            {
                "host": one.host,
                "address": one.address,
                "port": one.port,
                "verdict": one.verdict.value,
                "reason": one.words or None,
                "proof": one.proof or None,
                "tlsa": one.tlsa,
                "tls": None
                if shown is None
                else {
                    "version": shown.version,
                    "cipher": shown.cipher,
                    "group": shown.group,
                    "names": list(shown.names),
                    "issuer": shown.issuer,
                    "until": shown.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "pin": format_pin(shown.pin),
                    "sha256": shown.fingerprint.hex(),
                },
                "offers": None
                if one.offers is None
                else {key: value for key, value in asdict(one.offers).items() if isinstance(value, bool | int)},
            }
        )
    return {
        "domain": found.domain,
        "terms": found.terms,
        "verdict": found.verdict.value,
        "mta_sts": found.sts,
        "problem": None if found.problem is None else found.problem.words,
        "without_address": list(found.unnamed),
        "servers": servers,
    }
