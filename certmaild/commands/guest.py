"""`certmaild guest`: people who were invited."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

import click

from certmaild.commands.common import (
    ADDRESS,
    Failed,
    Place,
    Store,
    cell,
    confirmed,
    hosted,
    json_option,
    octets_text,
    pass_place,
    show,
    show_json,
)
from certmaild.correspondence import Correspondence
from certmaild.guests.code_command import CodeCommand
from certmaild.guests.interfaces import Sender, Waiting
from certmaild.guests.invitations import Invitations
from certmaild.guests.pickup import PickupLetters
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.errors import AccountMissing, AddressTaken
from certmaild.mailbox.guest_lists import GuestView, list_guests, show_guest
from certmaild.mailbox.layout_accounts import Role
from certmaild.routing import Invite, is_on_trial

T = TypeVar("T")
COLUMNS = {
    "address": "address",
    "account": "account",
    "state": "state",
    "inviter": "invited by",
    "invited": "invited",
    "messages": "messages",
    "used": "used",
}


@click.group()
def guest() -> None:
    """Invite, list and remove guests."""


def _row(view: GuestView) -> dict[str, object]:
    return {**asdict(view), "used": octets_text(view.octets)}


@guest.command("list")
@json_option
@pass_place
def list_all(place: Place, as_json: bool) -> None:
    """Everybody who was invited."""
    with place.store() as store:
        views = store.driver.run(list_guests(store.engine, store.secrets))
    show([_row(view) for view in views], COLUMNS, as_json=as_json, empty="Nobody was invited yet.")


@guest.command("show")
@click.argument("address", type=ADDRESS)
@json_option
@pass_place
def show_one(place: Place, address: Address, as_json: bool) -> None:
    """How a guest stands. ADDRESS is his ordinary one, or the account name."""
    with place.store() as store:
        row = _row(_found(store, address))
    if as_json:
        show_json(row)
        return
    for name, value in row.items():
        if name != "octets":
            click.echo(f"{name.replace('_', ' ') + ':':14}{cell(value)}")


@guest.command()
@click.argument("address", type=ADDRESS)
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_place
def remove(place: Place, address: Address, yes: bool) -> None:
    """Remove a guest and all mail in his mailbox. His account name is never given to anybody again."""
    with place.store() as store:
        view = _found(store, address)
        if view.role != Role.GUEST.name.lower():
            raise Failed(f"{view.account} is a {view.role}: use certmaild user remove.")
        confirmed(f"Remove {view.address} with {view.messages} messages for ever?", yes)
        count = store.driver.run(store.accounts.remove(canonical(view.account)))
    click.echo(f"{view.address} was removed with {count} messages.")


@guest.command()
@click.argument("address", type=ADDRESS)
@click.option("--by", "inviter", type=ADDRESS, required=True, help="The member who gets the code and passes it on.")
@click.option("--language", default="", help="Of the notice, such as de.")
@pass_place
def invite(place: Place, address: Address, inviter: Address, language: str) -> None:
    """Make a mailbox for ADDRESS; its code goes to the member.

    The code goes to the member's INBOX. No notice is sent to ADDRESS before
    a message waits there, so the member should say more than the code.
    """
    config = place.config
    if config.invite.domain is None:
        raise Failed("There are no guests here: the configuration's table [invite] names no domain.")
    if address.domain == config.invite.domain or address.domain in config.domains or address.is_literal:
        raise Failed(f"{address} is no address of somebody elsewhere.")
    hosted(config, inviter)
    with place.store() as store:
        account = store.driver.run(_invite(store, address, inviter, language))
    click.echo(f"{address.base} is a guest now: {account}. The code lies in the INBOX of {inviter}.")


async def _invite(store: Store, address: Address, inviter: Address, language: str) -> str:
    """Make him; his account name."""
    config = store.config
    correspondence = Correspondence(store.engine, store.secrets, config, partners=None, seconds=time.time)
    sender = await correspondence.directory.recipient(inviter)
    if sender is None or sender.role is Role.GUEST:
        raise Failed(f"{inviter} has no mailbox here that could get the code.")
    there = await correspondence.directory.recipient(address)
    if there is not None and not is_on_trial(there):
        raise Failed(f"{address.base} has a mailbox here: see certmaild guest show {address.base}")
    invitations = Invitations(
        store.engine,
        store.secrets,
        lambda: config.invite,
        PickupLetters(store.engine, store.secrets, correspondence.mail, CodeCommand(lambda: (), _here), _never),
        correspondence.notices,
        seconds=time.time,
        in_thread=_here,
    )
    waiting = Waiting(Sender(sender.address, "", sender), f"invited by {store.by}", at_s=int(time.time()))
    prepared = await invitations.prepare([Invite(address, waiting.reason, language=language)], waiting)
    try:
        await store.engine.write(prepared.write, grows=True)
    except AddressTaken:
        raise Failed(f"{address.base} has a mailbox here since this moment.") from None
    (made,) = prepared.guests
    command = CodeCommand(lambda: config.invite.code_command, _here)
    if not await command.carry(made.code, str(address.base), made.guest.account, sender.address):
        click.echo("The code command failed: the code lies in the member's INBOX alone.", err=True)
    return made.guest.account


async def _here(work: Callable[[], T]) -> T:
    return work()


def _never(after_s: float, work: Callable[[], None]) -> None:
    """The command is over before."""


def _found(store: Store, address: Address) -> GuestView:
    try:
        return store.driver.run(show_guest(store.engine, store.secrets, address))
    except AccountMissing:
        raise Failed(f"{address} was never invited, or was removed; see certmaild guest list") from None
