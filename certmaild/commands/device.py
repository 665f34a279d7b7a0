"""`certmaild device`: device passwords."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import click

from certmaild.commands.common import (
    ADDRESS,
    DURATION,
    NETWORK,
    Failed,
    Place,
    Store,
    json_option,
    parse_device_id,
    pass_place,
    read_secret,
    show,
    show_json,
)
from certmaild.correspondence import Correspondence
from certmaild.mailbox.account_lists import list_devices
from certmaild.mailbox.accounts import Unlocked
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.devices import id_text
from certmaild.mailbox.identifiers import CredentialId
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.mailbox.layout_accounts import MAIL_SCOPES, Role, Scope
from certmaild.mailbox.ways_in import label_of, limits_for
from certmaild.reports.service_mail import NotWritable
from certmaild.services.texts import announced_by_command, moment

COLUMNS = {
    "id": "id",
    "kind": "kind",
    "name": "name",
    "scopes": "scopes",
    "created": "created",
    "last_used": "last used",
    "networks": "networks",
    "expires": "expires",
    "program": "program",
    "cloud": "cloud",
}
SCOPES = {"all": MAIL_SCOPES, "read": Scope.IMAP_READ, "submit": Scope.SUBMIT}
SECRET = "Password, another device password or recovery code"  # noqa: S105  # a question, not a secret


@click.group()
def device() -> None:
    """Add, list and revoke ways in."""


@device.command()
@click.argument("address", type=ADDRESS)
@click.argument("name", default="")
@click.option("--name", "also_name", default="", help="The same as NAME.")
@click.option(
    "--scope",
    type=click.Choice(list(SCOPES)),
    help="What it opens: all (default), read (IMAP without changing anything), submit (sending alone).",
)
@click.option(
    "--network",
    "networks",
    type=NETWORK,
    multiple=True,
    help="From where it may be used, such as 192.0.2.0/24; may be given again. Default: from anywhere.",
)
@click.option(
    "--expires", "lasts_s", type=DURATION, help="How long it works, such as 30d. Default: until it is revoked."
)
@json_option
@pass_place
def add(
    place: Place,
    address: Address,
    name: str,
    also_name: str,
    scope: str | None,
    networks: tuple[str, ...],
    lasts_s: int | None,
    as_json: bool,
) -> None:
    """Make a further device password. Only the user's keys show NAME, such as phone.

    A password, another device password or the recovery code authorises it: asked for, or on standard input. The user
    is told by a sealed message, which all his other devices show.
    """
    name = name or also_name
    secret = read_secret(SECRET)
    with place.store() as store, store.driver.run(store.accounts.unlock(address, secret)) as unlocked:
        limits = limits_for(unlocked.role)
        if scope is not None:
            if SCOPES[scope] not in limits.scopes:
                raise Failed(f"{address.lookup} is an app, which only submits: say --scope submit, or none.")
            limits = replace(limits, scopes=SCOPES[scope])
        expires = 0 if lasts_s is None else int(time.time()) + lasts_s
        limits = replace(limits, networks=networks, expires=expires)
        word = None if unlocked.role is Role.APP else partial(_word, store, unlocked, name)
        credential_id, text = store.driver.run(store.accounts.add_device(unlocked, name, limits, word=word))
    if as_json:
        show_json({"id": id_text(credential_id), "name": name, "device_password": text})
        return
    click.echo(f"Device password: {text}")
    click.echo("It is shown this once.")


async def _word(store: Store, unlocked: Unlocked, name: str, credential_id: CredentialId) -> Callable[[WriteTxn], None]:
    """What tells the user in his INBOX of a new device."""
    correspondence = Correspondence(store.engine, store.secrets, store.config, partners=None, seconds=time.time)
    domain = unlocked.address.rpartition("@")[2]
    letter = announced_by_command(name or id_text(credential_id), store.by, moment(int(time.time())), domain)
    letter["From"] = f"certmaild <devices@{domain}>"
    try:
        return (await correspondence.mail.place(letter, unlocked.user_id)).file
    except NotWritable:
        return lambda txn: None


@device.command("list")
@click.argument("address", type=ADDRESS)
@click.option("--names", is_flag=True, help="Show names too, which takes a secret of the user on standard input.")
@json_option
@pass_place
def list_ways(place: Place, address: Address, names: bool, as_json: bool) -> None:
    """The ways into an account; the day of last use, and no secret."""
    with place.store() as store:
        views = store.driver.run(list_devices(store.engine, store.secrets, address))
        found: dict[int, str] = {}
        if names:
            with store.driver.run(store.accounts.unlock(address, read_secret(SECRET))) as unlocked:
                found = {one.credential_id: label_of(one.row, one.credential_id, unlocked.keys) for one in views}
    rows: list[dict[str, object]] = [
        {
            "id": id_text(view.credential_id),
            "kind": view.kind,
            "name": found.get(view.credential_id) or None,
            "scopes": view.scopes,
            "created": view.created,
            "last_used": view.last_used,
            "networks": view.networks,
            "expires": view.expires,
            "program": f"{view.client.program} {view.client.program_version}".strip() or None,
            "network": view.client.network or None,
            "cloud": view.client.relay or None,
            "cloud_refused": view.client.relay_refused,
        }
        for view in views
    ]
    show(rows, COLUMNS, as_json=as_json, empty="There is no way in.")


@device.command()
@click.argument("address", type=ADDRESS)
@click.argument("device_id", metavar="ID")
@pass_place
def revoke(place: Place, address: Address, device_id: str) -> None:
    """Take a way in away; its sessions end within a second. ID is from device list."""
    credential_id = parse_device_id(device_id)
    with place.store() as store:
        if not store.driver.run(store.accounts.revoke(address, credential_id)):
            raise Failed(f"{address.lookup} has no way in with the id {device_id}: look at certmaild device list.")
    click.echo(f"Revoked {device_id} of {address.lookup}.")
