"""`certmaild partner trial`: one message under a partner's terms, then enforcement from a date."""

import os
import time
from dataclasses import replace
from datetime import date
from typing import Any

import click
import msgspec

from certmaild.commands.common import (
    ADDRESS,
    FAILED,
    TRY_AGAIN,
    Failed,
    Place,
    confirmed,
    hosted,
    json_option,
    pass_place,
    show_json,
)
from certmaild.commands.partner import DOMAIN, date_option, read_book, who
from certmaild.commands.partner_tools import NetworkTools
from certmaild.commands.queue_text import proof_json
from certmaild.config_values import Config
from certmaild.dkim.key_files import KeyFiles
from certmaild.driving import run_with_reactor
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.errors import AccountMissing
from certmaild.mailbox.partner_log import current_entries
from certmaild.outbound.dkim_sign import Signer
from certmaild.outbound.values import Delivered, Fate
from certmaild.partners.record import PartnerRecord
from certmaild.partners.stored import change_partner, read_log, stored_file
from certmaild.peering.trial import send_trial, signed, trial_letter
from certmaild.protocols.smtp.grammar import Path as MailPath


@click.command()
@click.argument("domain", type=DOMAIN)
@click.option("--to", type=ADDRESS, help="Who gets it (default: postmaster@DOMAIN).")
@click.option("--sender", type=ADDRESS, help="A member in whose name it goes (default: our postmaster).")
@click.option("--from", "start", type=date_option, metavar="DATE", help="If it arrives, enforce from this day on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_place
@click.pass_context
def trial(
    context: click.Context,
    place: Place,
    domain: str,
    to: Address | None,
    sender: Address | None,
    start: date | str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Send one message to DOMAIN under its record's terms.

    The record need not be in force yet. Exit status: 0 the other server took it, 1 it will not, 75 try again later.
    """
    by, config = who(), place.config
    record = _record(place, domain)
    if isinstance(start, date) and any(one.domain == record.domain for one in config.partners):
        raise Failed(f"{record.domain} is a [[partner]] of {config.path}: write from = {start} there.")
    reader = f"postmaster@{domain}" if to is None else to.lookup
    if reader.rpartition("@")[2] != domain:
        raise click.BadParameter(f"{reader} is not at {domain}.")
    if sender is None:
        writer = config.postmaster or f"postmaster@{config.domains[0]}"
    else:
        writer = _member(place, hosted(config, sender))
    confirmed(f"Send one message to {reader}?", yes)
    fate = run_with_reactor(lambda reactor: _send(reactor, config, record, domain, writer, reader))
    if as_json:
        show_json({"domain": domain, "to": reader, **_fate_json(fate)})
    else:
        _show(fate, reader)
    if not isinstance(fate, Delivered):
        context.exit(FAILED if fate.permanent else TRY_AGAIN)
    if isinstance(start, date):
        _enforce(place, record.domain, start, by)
        click.echo(f"The record of {record.domain} is enforced from {start} on.", err=as_json)
    elif not as_json:
        click.echo(
            f"Next: certmaild partner trial {domain} --from DATE, or partner set, enforces the terms from a day on."
        )


def _member(place: Place, sender: Address) -> str:
    """The address, if somebody has it: answers to the message must reach a person. Raises `AccountMissing`."""
    with place.store() as store:
        if store.driver.run(Directory(store.engine, store.secrets).find(sender)) is None:
            raise AccountMissing
    return sender.lookup


def _record(place: Place, domain: str) -> PartnerRecord:
    with place.store() as store:
        record = read_book(store).find(domain)
    if record is None:
        raise Failed(f"{domain} has no record: certmaild partner add {domain} makes one.")
    if not record.counts_out:
        raise Failed(f"The record of {domain} is for mail from there only, so there is nothing to try from here.")
    return record


async def _send(reactor: Any, config: Config, record: PartnerRecord, domain: str, writer: str, reader: str) -> Fate:
    now_s = time.time()
    letter = trial_letter(record, writer, reader, config.hostname, now_s=now_s, token=os.urandom(12).hex())
    content = signed(letter, Signer(config.domains, KeyFiles(config.data).signing), now_s)
    tools = NetworkTools(reactor, config)
    record = replace(record, start=None)
    sender, to = (MailPath(*address.rsplit("@", 1)) for address in (writer, reader))
    return await send_trial(tools.planner(record), tools.courier(), domain, sender, to, content)


def _show(fate: Fate, reader: str) -> None:
    if not isinstance(fate, Delivered):
        click.echo(fate.words)
        if fate.reply:
            click.echo(f"The server {fate.host} says: {fate.reply}")
        click.echo("Nothing else was sent. certmaild partner test shows more.")
        return
    click.echo(f"The server {fate.host} took the message to {reader}: {fate.reply}")
    if fate.proof is None:
        click.echo("It went in clear text, as the record allows.")
        return
    proof = fate.proof
    known = f"It proved itself by {proof.how}" if proof.verified else "It did not prove whom it is"
    click.echo(f"{known}; {proof.version}, {proof.cipher}, {proof.group}; judged by {proof.policy}.")


def _fate_json(fate: Fate) -> dict[str, object]:
    if not isinstance(fate, Delivered):
        state = "failed" if fate.permanent else "deferred"
        return {"state": state, "host": fate.host or None, "reason": fate.words, "reply": fate.reply or None}
    return {"state": "delivered", "host": fate.host, "reply": fate.reply, "proof": proof_json(fate.proof)}


def _enforce(place: Place, domain: str, start: date, by: str) -> None:
    with place.store() as store:
        entry = current_entries(store.driver.run(read_log(store.engine, store.secrets)))[domain]
        file = msgspec.structs.replace(stored_file(entry), start=start)
        store.driver.run(change_partner(store.engine, store.secrets, file, by=by, at_s=int(time.time())))
