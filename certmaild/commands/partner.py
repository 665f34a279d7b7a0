"""`certmaild partner`: domains whose mail servers exchange mail with this one under agreed terms."""

import os
import pwd
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from certmaild.commands.common import Failed, Place, Store, cell, json_option, pass_place, show, show_json
from certmaild.config_file import PartnerFile
from certmaild.config_values import Config
from certmaild.keystore.certificates import certificates_text, key_pin, read_certificates
from certmaild.keystore.errors import CertificateUnfit
from certmaild.keystore.tls import CertificateFiles, read_identity
from certmaild.keystore.tls_values import Level, Pem
from certmaild.mailbox.layout_partners import Act, PartnerEntry
from certmaild.mailbox.partner_log import current_entries
from certmaild.partners.book import PartnerBook
from certmaild.partners.reading import format_pin, host_name, read_partner
from certmaild.partners.record import PartnerRecord
from certmaild.partners.stored import (
    PartnerKnown,
    PartnerUnknown,
    add_partner,
    change_partner,
    read_log,
    remove_partner,
    stored_file,
    stored_record,
)
from certmaild.partners.writing import authority_names, summary, written

F = TypeVar("F", bound=Callable[..., Any])
NONE = "none"
CONFIGURATION, COMMAND = "configuration", "command"
LIST_COLUMNS = {"domain": "domain", "kept": "made by", "terms": "terms", "state": "state"}
HISTORY_COLUMNS = {"at": "when", "by": "who", "act": "what", "domain": "domain", "terms": "terms from then on"}


@click.group()
def partner() -> None:
    """Partners: on what terms mail goes to and from other domains.

    What is made here counts at once. Records of the configuration file are shown too, and changed only there.
    """


def who() -> str:
    """The person at the keyboard, as far as the system knows; asked before the command becomes the data's owner."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER")
    return f"{behind} as {name}" if behind and os.geteuid() == 0 and behind != name else name


def domain_argument(value: str) -> str:
    """A domain on the command line, in A-labels."""
    try:
        return host_name(value)
    except ValueError as wrong:
        raise click.BadParameter(f"{wrong}.") from None


def date_option(value: str) -> date | str:
    """A date on the command line, or ``none``."""
    try:
        return NONE if value == NONE else date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a date such as 2027-01-31.") from None


def _authorities(value: str) -> str:
    """The certificates in a file: they go into the record, so that the file may go."""
    try:
        return NONE if value == NONE else certificates_text(Path(value))
    except CertificateUnfit as wrong:
        raise click.BadParameter(f"{wrong}.") from None


def _pin_of(value: str) -> str:
    try:
        return format_pin(key_pin(read_certificates(Path(value))[0]))
    except CertificateUnfit as wrong:
        raise click.BadParameter(f"{wrong}.") from None


def _absolute(value: str) -> str:
    return NONE if value == NONE else str(Path(value).absolute())


DOMAIN = domain_argument
OPTIONS = (
    click.option("--subdomains/--no-subdomains", default=None, help="Whether it is for all domains below it too."),
    click.option("--route", multiple=True, metavar="HOST[:PORT]", help="His servers; without it his MX records say."),
    click.option(
        "--level",
        type=click.Choice(["may", "encrypt", "verify", "secure", "dane", "dane-only", "sts", "pin"]),
        help="What his servers must prove (default: secure). With may mail can go in clear text.",
    ),
    click.option("--name", "names", multiple=True, help="A name that his certificates may be for, also *.NAME."),
    click.option("--ca", type=_authorities, metavar="FILE", help="His certificate authority (PEM); it is copied."),
    click.option("--pin", "pins", multiple=True, help="SHA-256 of a public key of his, base64 or hexadecimal."),
    click.option(
        "--pin-certificate",
        "pins_of",
        type=_pin_of,
        multiple=True,
        metavar="FILE",
        help="The same, computed from a certificate of his (PEM).",
    ),
    click.option("--minimum", type=click.Choice(["1.2", "1.3"]), help="Lowest TLS version (default: 1.2)."),
    click.option("--direction", type=click.Choice(["both", "in", "out"]), help="Which way it counts (default: both)."),
    click.option("--client-certificate", type=_absolute, metavar="FILE", help="What we show him (PEM), with its key."),
    click.option("--client-key", type=_absolute, metavar="FILE", help="The key; both files stay where they are."),
    click.option(
        "--certificate-in/--no-certificate-in",
        default=None,
        help="Whether his clients must show a certificate by --ca or --pin (default), or only his servers.",
    ),
    click.option("--network", "networks", multiple=True, help="Where his mail may come from, such as 192.0.2.0/24."),
    click.option("--from", "start", type=date_option, metavar="DATE", help="Enforced from this day on (UTC)."),
)


def terms(command: F) -> F:
    """Add the options that mirror the keys."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, by key; ``none`` empties a key."""
    given = {key: value for key, value in options.items() if value is not None and value != () and key != "pins_of"}
    if options["pins_of"]:
        given["pins"] = (*given.get("pins", ()), *options["pins_of"])
    for key, value in given.items():
        if value == NONE:
            given[key] = None
        elif value == (NONE,):
            given[key] = ()
    return given


def _checked(config: Config, file: PartnerFile) -> PartnerRecord:
    """The record, if it can count. Raises `Failed`."""
    try:
        record = read_partner(file, Path)
    except ValueError as wrong:
        raise Failed(f"{wrong}.") from None
    if record.domain in config.domains:
        raise Failed(f"{record.domain} is hosted here: mail for it stays in this server, and needs no partner.")
    if any(one.domain == record.domain for one in config.partners):
        raise Failed(
            f"{record.domain} has a [[partner]] in {config.path}, which counts before any record made by command: "
            "change it there and reload the server (SIGHUP)."
        )
    if record.client is not None:
        read_identity(CertificateFiles(record.client.certificate, record.client.key))
    return record


@partner.command()
@click.argument("domain", type=DOMAIN)
@terms
@pass_place
def add(place: Place, /, domain: str, **options: Any) -> None:
    """Make the record of DOMAIN. It counts at once, or from the date of --from."""
    by = who()
    file = PartnerFile(domain, **_given(options))
    record = _checked(place.config, file)
    with place.store() as store:
        try:
            store.driver.run(add_partner(store.engine, store.secrets, file, by=by, at_s=int(time.time())))
        except PartnerKnown:
            raise Failed(f"{domain} has a record already; certmaild partner set {domain} changes it.") from None
    click.echo(f"{domain} is a partner: {summary(record)}.")
    _next_step(record)


@partner.command("set")
@click.argument("domain", type=DOMAIN)
@terms
@pass_place
def change(place: Place, /, domain: str, **options: Any) -> None:
    """Change some terms of DOMAIN; what is not named stays. "none" empties a term."""
    by = who()
    given = _given(options)
    if not given:
        raise click.UsageError("Name at least one term to change.")
    with place.store() as store:
        entry = current_entries(store.driver.run(read_log(store.engine, store.secrets))).get(domain)
        if entry is None:
            raise Failed(_unknown(place.config, domain))
        file = msgspec.structs.replace(stored_file(entry), **given)
        record = _checked(place.config, file)
        store.driver.run(change_partner(store.engine, store.secrets, file, by=by, at_s=int(time.time())))
    click.echo(f"Changed {domain}: {summary(record)}.")
    _next_step(record)


def _next_step(record: PartnerRecord) -> None:
    if record.level is Level.MAY and record.counts_out:
        click.echo("Take care: where his server offers no TLS, mail to it goes over the network in clear text.")
    if not record.is_in_force(time.time()):
        click.echo(f"Until {record.start} mail goes by the default level.")
    if record.counts_out:
        click.echo(f"Next: certmaild partner test {record.domain} shows whether his servers keep to this.")
    else:
        click.echo(f"Next: certmaild partner hello {record.domain} gives the lines that his server needs.")


@partner.command()
@click.argument("domain", type=DOMAIN)
@pass_place
def remove(place: Place, domain: str) -> None:
    """Let the record of DOMAIN count no more; its history stays. Mail goes by the default level from now on."""
    by = who()
    with place.store() as store:
        try:
            store.driver.run(remove_partner(store.engine, store.secrets, domain, by=by, at_s=int(time.time())))
        except PartnerUnknown:
            raise Failed(_unknown(place.config, domain)) from None
    default = place.config.outbound.level.value
    click.echo(f"Removed {domain}: mail to it goes by the level {default} of [outbound] from now on.")


def _unknown(config: Config, domain: str) -> str:
    if any(one.domain == domain for one in config.partners):
        return (
            f"{domain} is a [[partner]] of {config.path}, which no command changes: "
            "edit that file and reload the server (SIGHUP)."
        )
    return f"{domain} has no record: look at certmaild partner list."


@partner.command("list")
@click.option("--history", is_flag=True, help="Who did what and when, records that are gone included.")
@json_option
@pass_place
def list_partners(place: Place, history: bool, as_json: bool) -> None:
    """All partners, or with --history everything that commands did."""
    config = place.config
    with place.store() as store:
        entries = store.driver.run(read_log(store.engine, store.secrets))
    if history:
        rows = [_history_row(entry, as_json) for entry in entries]
        show(rows, HISTORY_COLUMNS, as_json=as_json, empty="No command has made a record yet.")
        return
    found = [(record, CONFIGURATION) for record in config.partners]
    found += [(stored_record(entry), COMMAND) for entry in current_entries(entries).values()]
    found.sort(key=lambda one: (one[0].domain, one[1] != CONFIGURATION))
    in_file = {record.domain for record in config.partners}
    rows = [_list_row(record, kept, shadowed=kept == COMMAND and record.domain in in_file) for record, kept in found]
    show(rows, LIST_COLUMNS, as_json=as_json, empty="There is no partner: certmaild partner add DOMAIN makes one.")


def _list_row(record: PartnerRecord, kept: str, *, shadowed: bool) -> dict[str, object]:
    if shadowed:
        state = "does not count: the configuration has a record too"
    else:
        state = "in force" if record.is_in_force(time.time()) else f"from {record.start}"
    return {**written(record), "kept": kept, "terms": summary(record), "state": state}


def _history_row(entry: PartnerEntry, as_json: bool) -> dict[str, object]:
    at = datetime.fromtimestamp(entry.at_s, UTC)
    record = None if entry.act is Act.REMOVED else stored_record(entry)
    row: dict[str, object] = {"at": at, "by": entry.by, "act": entry.act.value, "domain": entry.domain}
    row["terms"] = None if record is None else summary(record)
    if as_json:
        row["record"] = None if record is None else written(record)
    return row


@partner.command("show")
@click.argument("domain", type=DOMAIN)
@json_option
@pass_place
def show_partner(place: Place, domain: str, as_json: bool) -> None:
    """The record by which mail to and from DOMAIN goes, key by key."""
    with place.store() as store:
        book = read_book(store)
    record = book.find(domain)
    if record is None:
        raise Failed(
            f"{domain} has no record: mail goes by the level {place.config.outbound.level.value} of [outbound]. "
            f"certmaild partner add {domain} makes one."
        )
    kept = CONFIGURATION if book.is_configured(record.domain) else COMMAND
    row = {**written(record), "kept": kept, "in_force": record.is_in_force(time.time())}
    if as_json:
        show_json(row)
        return
    if isinstance(record.ca, Pem):
        row["ca"] = authority_names(record)
    for key, value in row.items():
        click.echo(f"{key + ':':<20}{cell(value)}")


def read_book(store: Store) -> PartnerBook:
    """All partners, as the server would find them."""
    entries = current_entries(store.driver.run(read_log(store.engine, store.secrets)))
    return PartnerBook(store.config.partners, [stored_record(entry) for entry in entries.values()])
