"""`certmaild alias`: further addresses of an account."""

import click

from certmaild.commands.common import ADDRESS, Place, for_people, json_option, pass_place, show
from certmaild.mailbox.account_lists import list_aliases
from certmaild.mailbox.addresses import Address


@click.group()
def alias() -> None:
    """Add, remove and list further addresses of accounts."""


@alias.command()
@click.argument("address", type=ADDRESS)
@click.argument("target", type=ADDRESS)
@pass_place
def add(place: Place, address: Address, target: Address) -> None:
    """Let ADDRESS be another address of the account TARGET."""
    for_people(place.config, address)
    with place.store() as store:
        store.driver.run(store.accounts.add_alias(address, target))
    click.echo(f"{address.lookup} is an alias of {target.lookup}.")


@alias.command()
@click.argument("address", type=ADDRESS)
@pass_place
def remove(place: Place, address: Address) -> None:
    """Take the alias ADDRESS away."""
    with place.store() as store:
        store.driver.run(store.accounts.remove_alias(address))
    click.echo(f"Removed the alias {address.lookup}.")


@alias.command("list")
@json_option
@pass_place
def list_all(place: Place, as_json: bool) -> None:
    """All aliases."""
    with place.store() as store:
        found = store.driver.run(list_aliases(store.engine))
    rows: list[dict[str, object]] = [{"alias": one, "address": target} for one, target in found]
    show(rows, {"alias": "alias", "address": "address"}, as_json=as_json, empty="There is no alias.")
