"""`certmaild group`: addresses that stand for several others."""

import click

from certmaild.commands.common import (
    ADDRESS,
    Place,
    Store,
    cell,
    confirmed,
    hosted,
    json_option,
    pass_place,
    show,
    show_json,
)
from certmaild.commands.user import yes_option
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.groups import Groups, Senders
from certmaild.mailbox.layout_guests import GroupRow

senders_option = click.option(
    "--senders",
    type=click.Choice([str(one) for one in Senders]),
    help="Who may write to it: members of this server (default), those in the list, or anyone, other servers too.",
)


@click.group()
def group() -> None:
    """Groups: one address, and a copy for each member."""


def _groups(store: Store) -> Groups:
    config = store.config
    return Groups(store.engine, store.secrets, hosted=config.domains, most=config.limits.group_members, by=store.by)


def _say(row: GroupRow) -> None:
    count = len(row.members)
    click.echo(f"{row.display} has {count} member{'' if count == 1 else 's'}; it is written to by {row.senders}.")


def _put(place: Place, address: Address, members: tuple[Address, ...], senders: str | None, *, adds: bool) -> None:
    hosted(place.config, address)
    with place.store() as store:
        chosen = None if senders is None else Senders(senders)
        row = store.driver.run(_groups(store).put(address, members, senders=chosen, adds=adds))
    _say(row)


@group.command()
@click.argument("address", type=ADDRESS)
@click.argument("members", type=ADDRESS, nargs=-1)
@senders_option
@pass_place
def add(place: Place, address: Address, members: tuple[Address, ...], senders: str | None) -> None:
    """Make the group ADDRESS, or add MEMBERS to it. They may be groups, and addresses elsewhere."""
    _put(place, address, members, senders, adds=True)


@group.command("set")
@click.argument("address", type=ADDRESS)
@click.argument("members", type=ADDRESS, nargs=-1)
@senders_option
@pass_place
def replace(place: Place, address: Address, members: tuple[Address, ...], senders: str | None) -> None:
    """Give a group these MEMBERS and no others.

    Without any, only who may write to it is changed.
    """
    _put(place, address, members, senders, adds=not members)


@group.command()
@click.argument("address", type=ADDRESS)
@click.argument("members", type=ADDRESS, nargs=-1)
@yes_option
@pass_place
def remove(place: Place, address: Address, members: tuple[Address, ...], yes: bool) -> None:
    """Take MEMBERS out of a group; without any, remove the group."""
    if not members:
        confirmed(f"Remove the group {address.lookup}?", yes)
    with place.store() as store:
        if members:
            _say(store.driver.run(_groups(store).drop(address, members)))
            return
        store.driver.run(_groups(store).remove(address))
    click.echo(f"Removed the group {address.lookup}.")


@group.command("list")
@json_option
@pass_place
def list_all(place: Place, as_json: bool) -> None:
    """All groups."""
    with place.store() as store:
        found = store.driver.run(_groups(store).list_all())
    rows: list[dict[str, object]] = [
        {"group": one.display, "senders": one.senders, "count": len(one.members), "members": one.members}
        for one in found
    ]
    columns = {"group": "group", "senders": "written to by", "count": "members"}
    show(rows, columns, as_json=as_json, empty="There is no group.")


@group.command("show")
@click.argument("address", type=ADDRESS)
@json_option
@pass_place
def show_one(place: Place, address: Address, as_json: bool) -> None:
    """One group, and whom it reaches, each address once.

    Groups within it are expanded.
    """
    with place.store() as store:
        row, reached = store.driver.run(_groups(store).show(address))
    values: dict[str, object] = {
        "group": row.display,
        "senders": row.senders,
        "members": row.members,
        "reaches": tuple(one.display for one in reached.members),
    }
    if as_json:
        show_json(values)
        return
    for name, value in values.items():
        click.echo(f"{name + ':':10}{cell(value)}")
