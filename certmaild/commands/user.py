"""`certmaild user`: accounts."""

from dataclasses import asdict, replace
from enum import Enum
from typing import Any

import click

from certmaild.commands.common import (
    ADDRESS,
    SIZE,
    NoLimit,
    Place,
    cell,
    confirmed,
    count,
    for_people,
    json_option,
    limit_of,
    octets_text,
    pass_place,
    read_secret,
    show,
    show_json,
)
from certmaild.mailbox.account_lists import AccountView, list_accounts, show_account
from certmaild.mailbox.accounts import NewAccount
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.layout_accounts import NO_OPTIONS, Account, Option, Role, SentCopies, State

COLUMNS = {
    "address": "address",
    "role": "role",
    "state": "state",
    "used": "used",
    "limit": "limit",
    "messages": "messages",
    "pending": "pending",
    "aliases": "aliases",
}
SHOWN = {
    "address": "address",
    "aliases": "aliases",
    "role": "role",
    "state": "state",
    "used": "used",
    "quota": "limit",
    "messages": "messages",
    "messages limit": "messages_limit",
    "pending": "pending",
    "sent": "sent",
    "retrieve marks seen": "retrieve_marks_seen",
    "service folders": "service_folders",
    "created": "created",
    "user id": "user_id",
}
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
sent_option = click.option(
    "--sent",
    type=click.Choice(["client", "server"]),
    help="Who keeps copies of what is sent: the mail program (default), or the server, as POP3 needs it.",
)
role_option = click.option(
    "--role",
    type=click.Choice([one.name.lower() for one in Role]),
    help="member (default); guest; app, which only submits; auditor and admin, who are members too.",
)
stdin_option = click.option("--password-stdin", is_flag=True, help="Take a human password (asked for on a terminal).")


@click.group()
def user() -> None:
    """Make, list and change accounts."""


def _row(view: AccountView) -> dict[str, object]:
    return {**asdict(view), "used": octets_text(view.octets), "limit": octets_text(view.octets_limit)}


def _show_new(made: NewAccount, as_json: bool) -> None:
    """Secrets are printed here and kept nowhere."""
    if as_json:
        show_json(
            {
                "address": made.address,
                "device_password": made.device_password,
                "recovery_code": made.recovery_code,
                "user_id": made.user_id,
            }
        )
        return
    click.echo(f"Account:         {made.address}")
    if made.device_password is not None:
        click.echo(f"Device password: {made.device_password}")
    click.echo(f"Recovery code:   {made.recovery_code}")
    click.echo("These are shown this once. Print the recovery code: without a secret nobody can open the mailbox.")


@user.command()
@click.argument("address", type=ADDRESS)
@stdin_option
@click.option("--quota", type=SIZE, help="Octets the account may hold, such as 5GiB.")
@click.option("--messages", type=click.IntRange(min=1), help="Messages the account may hold.")
@sent_option
@role_option
@click.option(
    "--service-folders/--no-service-folders",
    default=True,
    help="Whether the server keeps the folder Devices for the user (default, but for programs).",
)
@json_option
@pass_place
def add(
    place: Place,
    address: Address,
    password_stdin: bool,
    quota: int | None,
    messages: int | None,
    sent: str | None,
    role: str | None,
    service_folders: bool,
    as_json: bool,
) -> None:
    """Make an account. Without a password it gets a device password; always a recovery code."""
    for_people(place.config, address)
    password = read_secret("New password", confirm=True) if password_stdin else None
    its_role = Role.MEMBER if role is None else Role[role.upper()]
    with place.store() as store:
        made = store.driver.run(
            store.accounts.create(
                address,
                password=password,
                rounds=store.rounds(),
                octets_limit=quota,
                messages_limit=messages,
                role=its_role,
                sent_copies=None if sent is None else SentCopies[sent.upper()],
                options=Option.SERVICE_FOLDERS if service_folders and its_role is not Role.APP else NO_OPTIONS,
            )
        )
    _show_new(made, as_json)


@user.command("list")
@json_option
@pass_place
def list_users(place: Place, as_json: bool) -> None:
    """All accounts."""
    with place.store() as store:
        views = store.driver.run(list_accounts(store.engine, store.secrets))
    rows = [_row(view) for view in views]
    if not as_json:
        # Their names would fold every other column.
        rows = [row | {"aliases": len(view.aliases)} for row, view in zip(rows, views, strict=True)]
    show(rows, COLUMNS, as_json=as_json, empty="There is no account.")


@user.command("show")
@click.argument("address", type=ADDRESS)
@json_option
@pass_place
def show_user(place: Place, address: Address, as_json: bool) -> None:
    """One account."""
    with place.store() as store:
        view = store.driver.run(show_account(store.engine, store.secrets, address))
    _show_one(view, as_json)


def _show_one(view: AccountView, as_json: bool) -> None:
    row = _row(view)
    if as_json:
        show_json(row)
        return
    shown = row | {"messages_limit": row["messages_limit"] or "no limit"}
    for name, field in SHOWN.items():
        click.echo(f"{name + ':':21}{cell(shown[field])}")


def _set_state(place: Place, address: Address, state: State) -> None:
    with place.store() as store:
        store.driver.run(store.accounts.set_state(address, state))
    click.echo(f"{address.lookup} is {state.name.lower()}.")


@user.command()
@click.argument("address", type=ADDRESS)
@pass_place
def disable(place: Place, address: Address) -> None:
    """Refuse its mail and its log-ins; what is stored stays."""
    _set_state(place, address, State.DISABLED)


@user.command()
@click.argument("address", type=ADDRESS)
@pass_place
def enable(place: Place, address: Address) -> None:
    """Undo disable."""
    _set_state(place, address, State.ACTIVE)


@user.command("set")
@click.argument("address", type=ADDRESS)
@sent_option
@role_option
@click.option(
    "--retrieve-marks-seen/--retrieve-marks-nothing",
    default=None,
    help="Whether a message that POP3 fetched counts as read for IMAP clients.",
)
@click.option(
    "--service-folders/--no-service-folders",
    default=None,
    help="Whether the server keeps the folder Devices; without it what lies there becomes ordinary mail.",
)
@click.option("--quota", type=limit_of(SIZE), help="Octets the account may hold, such as 5GiB, or none for no limit.")
@click.option("--messages", type=limit_of(count), help="Messages the account may hold, or none for no limit.")
@json_option
@pass_place
def set_settings(
    place: Place,
    address: Address,
    sent: str | None,
    role: str | None,
    retrieve_marks_seen: bool | None,
    service_folders: bool | None,
    quota: int | NoLimit | None,
    messages: int | NoLimit | None,
    as_json: bool,
) -> None:
    """Change the settings that are named; the others stay. The running server takes them at once."""
    changes: dict[str, Any] = {}
    if role is not None:
        changes["role"] = Role[role.upper()]
    if sent is not None:
        changes["sent_copies"] = SentCopies[sent.upper()]
    if quota is not None:
        changes["octets_limit"] = quota if isinstance(quota, int) else None
    if messages is not None:
        changes["messages_limit"] = messages if isinstance(messages, int) else None
    wanted = {Option.RETRIEVE_MARKS_SEEN: retrieve_marks_seen, Option.SERVICE_FOLDERS: service_folders}
    options = {option: is_wanted for option, is_wanted in wanted.items() if is_wanted is not None}
    if not changes and not options:
        raise click.UsageError("Name at least one setting; certmaild user show ADDRESS shows them.")

    def change(account: Account) -> Account:
        chosen = account.options
        for option, is_wanted in options.items():
            chosen = chosen | option if is_wanted else chosen & ~option
        return replace(account, options=chosen, **changes)

    with place.store() as store:
        words = changes | {str(option.name).lower(): is_wanted for option, is_wanted in options.items()}
        store.driver.run(store.accounts.change(address, change, detail=_in_words(words)))
        view = store.driver.run(show_account(store.engine, store.secrets, address))
    _show_one(view, as_json)


def _in_words(changes: dict[str, Any]) -> str:
    """Settings in the audit log."""
    texts = {name: value.name.lower() if isinstance(value, Enum) else cell(value) for name, value in changes.items()}
    return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in texts.items())


@user.command()
@click.argument("address", type=ADDRESS)
@click.option("--parked", is_flag=True, help="Drop what starting over parked, not the account itself.")
@yes_option
@pass_place
def remove(place: Place, address: Address, parked: bool, yes: bool) -> None:
    """Remove an account with all its mail, for ever."""
    confirmed(f"Remove {address.lookup} and all its mail, for ever?", yes)
    with place.store() as store:
        if parked:
            count = store.driver.run(store.accounts.remove_parked(address))
            click.echo(f"Dropped {count} parked account{'' if count == 1 else 's'} of {address.lookup}.")
            return
        count = store.driver.run(store.accounts.remove(address))
    click.echo(f"Removed {address.lookup} with {count} message{'' if count == 1 else 's'}.")


@user.command()
@click.argument("address", type=ADDRESS)
@click.option("--start-over", is_flag=True, help="With no secret left: a new, empty mailbox; the old one is parked.")
@stdin_option
@yes_option
@json_option
@pass_place
def password(place: Place, address: Address, start_over: bool, password_stdin: bool, yes: bool, as_json: bool) -> None:
    """Set a new password; a secret of the user is needed.

    The old password, a device password or the recovery code authorises it.
    On standard input: the old secret, then the new password, a line each.
    """
    if start_over:
        confirmed(f"Without a secret the mail of {address.lookup} stays closed. Start over with none?", yes)
        new = read_secret("New password", confirm=True) if password_stdin else None
        with place.store() as store:
            made = store.driver.run(store.accounts.start_over(address, password=new, rounds=store.rounds()))
        _show_new(made, as_json)
        return
    old = read_secret("Old password, device password or recovery code")
    with place.store() as store, store.driver.run(store.accounts.unlock(address, old)) as unlocked:
        new = read_secret("New password", confirm=True)
        store.driver.run(store.accounts.set_password(unlocked, new, rounds=store.rounds()))
    click.echo(f"The password of {address.lookup} is changed.")
