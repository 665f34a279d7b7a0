"""`certmaild setup`: what to type into a mail program for one account."""

from pathlib import Path

import click

from certmaild.client_setup.names import guessed_names
from certmaild.client_setup.profile import mobileconfig
from certmaild.client_setup.programs import KEYS, Steps, steps_for
from certmaild.client_setup.settings import ClientSettings, Speaks, in_words, settings_for
from certmaild.commands.common import ADDRESS, Failed, Place, Store, json_option, pass_place, show, show_json
from certmaild.keystore.certificates import PrivateFiles, write_file
from certmaild.mailbox.account_lists import show_account
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.guests import read_guest


@click.command()
@click.argument("address", type=ADDRESS)
@click.option("--program", type=click.Choice(KEYS), help="Only this mail program.")
@click.option("--pop3", is_flag=True, help="By POP3 instead of IMAP.")
@click.option(
    "--profile",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a profile (.mobileconfig) for Apple's devices to this file; it holds no password.",
)
@json_option
@pass_place
def setup(place: Place, address: Address, program: str | None, pop3: bool, profile: Path | None, as_json: bool) -> None:
    """What to type into a mail program.

    ADDRESS is a member's address or alias, or a guest's account name or ordinary address.
    No password is shown: certmaild device add makes one.
    """
    with place.store() as store:
        settings = _settings(store, address)
    by = Speaks.POP3 if pop3 else None
    steps = [one for one in steps_for(settings, by=by) if program in (None, one.key)]
    if not steps:
        raise Failed(f"The server {'does not speak POP3' if pop3 else 'lacks a listener'} for it: see [listen].")
    if profile is not None:
        speaks = by or settings.incoming[0].speaks
        write_file(profile.absolute(), mobileconfig(place.config, settings, by=speaks), 0o644)
    authority = PrivateFiles(place.config.data).authority if place.config.tls.private else None
    if as_json:
        show_json(_as_json(settings, steps, authority))
        return
    click.echo(in_words(settings))
    if settings.ordinary is not None:
        click.echo(
            f"A guest's account; the user name may also be {settings.ordinary}, and the first password is the code."
        )
    for one in steps:
        _show(one, authority)
    if profile is not None:
        click.echo(f"\nThe profile is in {profile}.")
    if settings.are_found and guessed_names(settings.account.rpartition("@")[2]):
        click.echo("\nThunderbird finds all this by itself if the DNS records of certmaild dns are published.")


def _settings(store: Store, address: Address) -> ClientSettings:
    async def look() -> ClientSettings:
        view = await show_account(store.engine, store.secrets, address)
        guest = await store.engine.read(lambda txn: read_guest(txn, store.secrets, view.user_id))
        return settings_for(store.config, view.address, ordinary=None if guest is None else guest.ordinary)

    return store.driver.run(look())


def _show(steps: Steps, authority: Path | None) -> None:
    click.echo(f"\n{steps.program}\n  {steps.where}")
    if authority is not None:
        click.echo(f"  First trust this server's authority: {steps.trust.format(ca=authority)}")
    rows = [{"field": f"  {field}", "value": value} for field, value in steps.fields]
    show(rows, {"field": "  field", "value": "what to type"}, as_json=False, empty="")
    if steps.note:
        click.echo(f"  {steps.note}")


def _as_json(settings: ClientSettings, steps: list[Steps], authority: Path | None) -> dict[str, object]:
    servers = [
        {"protocol": one.speaks.value, "host": one.host, "port": one.port, "security": one.security.value}
        for one in (*settings.incoming, *settings.outgoing)
    ]
    return {
        "user_name": settings.account,
        "ordinary_address": settings.ordinary,
        "servers": servers,
        "authority": None if authority is None else str(authority),
        "programs": [
            {"program": one.program, "where": one.where, "fields": dict(one.fields), "note": one.note or None}
            for one in steps
        ],
    }
