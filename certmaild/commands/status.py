"""`certmaild status`: the store in numbers."""

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time

import click

from certmaild.commands.common import Place, json_option, octets_text, pass_place, show_json
from certmaild.config import MAX_WORKERS
from certmaild.doorkeeper import CONNECTIONS
from certmaild.gatekeeper import SESSIONS
from certmaild.mailbox.account_lists import list_accounts
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.processes import still_lives


@click.command()
@json_option
@pass_place
def status(place: Place, as_json: bool) -> None:
    """Accounts, mail, what waits, room on the disk, the processes.

    What waits arrived sealed, and is taken in when its owner logs in.
    """
    with place.store() as store:
        views = store.driver.run(list_accounts(store.engine, store.secrets))
        room = store.engine.free_octets()
        data = store.config.data
    serving = _serving(place.config.volatile)
    states = Counter(view.state for view in views)
    found: dict[str, object] = {
        "data": str(data),
        "accounts": {state: states[state] for state in ("active", "disabled", "parked")},
        "octets": sum(view.octets for view in views),
        "messages": sum(view.messages for view in views),
        "pending": sum(view.pending for view in views),
        "free_octets": room,
        "processes": [asdict(one) for one in serving],
    }
    if as_json:
        show_json(found)
        return
    click.echo(f"Store:     {data}")
    click.echo("Accounts:  " + ", ".join(f"{states[one]} {one}" for one in ("active", "disabled", "parked")))
    click.echo(f"Mail:      {found['messages']} messages, {octets_text(sum(view.octets for view in views))}")
    click.echo(f"Pending:   {found['pending']} messages wait for their owners to log in")
    click.echo(f"Room:      {_room_text(room)}")
    if not serving:
        click.echo("Daemon:    does not run")
    for one in serving:
        name = f"Worker {one.worker}:" if one.worker else "Daemon:"
        counts = f", {one.connections} connections, {one.sessions} logged in" if one.worker else ""
        click.echo(f"{name:<11}process {one.pid}, since {_time_text(one.since_s)}{counts}")


@dataclass(frozen=True, slots=True)
class Serving:
    """A process of the running daemon; only workers count where others can see it."""

    worker: int
    """Its number; 0 is the supervisor, or the only process."""
    pid: int
    since_s: int
    """Seconds since 1970."""
    connections: int | None
    sessions: int | None


def _serving(volatile: Path) -> list[Serving]:
    """The processes that live, the supervisor or the only one first."""
    if not (volatile / "data.mdb").exists():
        return []
    shared = VolatileStore(volatile, time, slots=MAX_WORKERS)
    try:
        processes = {slot: one for slot, one in shared.processes().items() if still_lives(one)}
        connections, sessions = shared.counted(CONNECTIONS), shared.counted(SESSIONS)
    finally:
        shared.close()
    return [
        Serving(
            slot,
            one.pid,
            one.begun_s,
            connections.get(slot, 0) if slot else None,
            sessions.get(slot, 0) if slot else None,
        )
        for slot, one in sorted(processes.items())
    ]


def _room_text(room: int) -> str:
    if room > 0:
        return f"{octets_text(room)} until new mail is refused"
    return "none: new mail is refused until the disk has more than free_disk again"


def _time_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
