"""`certmaild status`: the store in numbers."""

from collections import Counter

import click

from certmaild.commands.common import Place, json_option, octets_text, pass_place, show_json
from certmaild.mailbox.account_lists import list_accounts


@click.command()
@json_option
@pass_place
def status(place: Place, as_json: bool) -> None:
    """Accounts, octets and messages, and what waits to be absorbed."""
    with place.store() as store:
        views = store.driver.run(list_accounts(store.engine, store.secrets))
        room = store.engine.free_octets()
        data = store.config.data
    states = Counter(view.state for view in views)
    found: dict[str, object] = {
        "data": str(data),
        "accounts": {state: states[state] for state in ("active", "disabled", "parked")},
        "octets": sum(view.octets for view in views),
        "messages": sum(view.messages for view in views),
        "pending": sum(view.pending for view in views),
        "free_octets": room,
    }
    if as_json:
        show_json(found)
        return
    click.echo(f"Store:     {data}")
    click.echo("Accounts:  " + ", ".join(f"{states[one]} {one}" for one in ("active", "disabled", "parked")))
    click.echo(f"Mail:      {found['messages']} messages, {octets_text(sum(view.octets for view in views))}")
    click.echo(f"Pending:   {found['pending']} messages wait for their owners to log in")
    click.echo(f"Room:      {octets_text(max(room, 0))} until new mail is refused")
