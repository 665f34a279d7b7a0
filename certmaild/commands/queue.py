"""`certmaild queue`: mail on its way to other servers."""

import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import click

from certmaild.commands.common import Failed, Place, Store, json_option, octets_text, pass_place, show, show_json
from certmaild.commands.queue_text import (
    asks,
    details,
    is_for,
    message_json,
    messages_text,
    printable,
    row_of,
    sender_text,
    span_text,
    time_text,
)
from certmaild.mailbox.identifiers import QueueId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout_queue import QUEUE_ID_OCTETS
from certmaild.outbound.orders import MessageView, Orders
from certmaild.outbound.spool import Spool
from certmaild.outbound.timing import times_of
from certmaild.outbound.values import Recipient

LIST_COLUMNS = {"id": "id", "age": "since", "size": "size", "sender": "from", "to": "to", "state": "state"}
SHOWN = 500
SLICE = 200
"""Messages changed in one transaction."""
T = TypeVar("T")


@click.group()
def queue() -> None:
    """See and steer mail that is on its way to other servers.

    Works beside the running server and without it. An ID is what list shows, and what the sender's program was told
    with the 250.
    """


@dataclass
class _Desk:
    """The queue of an opened store."""

    store: Store
    orders: Orders
    now_s: int

    def find(self, queue_id: QueueId) -> MessageView | None:
        return self.store.driver.run(_awaited(self.store.engine.read(lambda txn: self.orders.view(txn, queue_id))))

    def view(self, queue_id: QueueId) -> MessageView:
        found = self.find(queue_id)
        if found is None:
            raise Failed(f"No message {queue_id.hex()} is in the queue, or it was done more than three days ago.")
        return found

    def ids(self, *, done: bool) -> list[QueueId]:
        return self.store.driver.run(_awaited(self.store.engine.read(lambda txn: self.orders.ids(txn, done=done))))

    def is_for(self, txn: ReadTxn, queue_id: QueueId, to: str) -> bool:
        """Whether a message is still to go to a domain or address."""
        view = self.orders.view(txn, queue_id)
        return view is not None and any(is_for(one.recipient, to) for one in view.copies if one.is_open)

    def change(self, work: Callable[[WriteTxn], int]) -> int:
        return self.store.driver.run(_awaited(self.store.engine.write(work)))


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _desk(place: Place, store: Store) -> _Desk:
    return _Desk(store, Orders(Spool(store.secrets.queue, times_of(place.config.outbound))), int(time.time()))


def _parse_id(text: str) -> QueueId:
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(octets) != QUEUE_ID_OCTETS:
        raise click.BadParameter(f"{text!r} is not an id such as certmaild queue list shows.")
    return QueueId(octets)


ID = _parse_id


# Looking.


@queue.command("list")
@click.option("--to", "to", metavar="DOMAIN|ADDRESS", help="Only what is for this domain or address.")
@click.option("--done", is_flag=True, help="Also what was done within three days.")
@click.option("--limit", type=click.IntRange(min=1), default=SHOWN, show_default=True, help="The oldest so many.")
@json_option
@pass_place
def list_all(place: Place, to: str | None, done: bool, limit: int, as_json: bool) -> None:
    """What is queued, the oldest first, and why it is not there yet."""
    with place.store() as store:
        desk = _desk(place, store)
        ids = desk.ids(done=done)
        rows: list[dict[str, object]] = []
        left = 0
        for queue_id in ids:
            if len(rows) == limit and to is None:
                left = len(ids) - limit
                break
            view = desk.find(queue_id)
            if view is None:
                continue
            copies = [one for one in view.copies if to is None or is_for(one.recipient, to)]
            if not copies:
                continue
            if len(rows) == limit:
                left += 1
                continue
            rows.append(message_json(view, copies) if as_json else row_of(view, copies, desk.now_s))
    show(rows, LIST_COLUMNS, as_json=as_json, empty="The queue is empty.")
    if left:
        click.echo(f"{left} more; --limit shows them.", err=True)


@queue.command("show")
@click.argument("queue_id", metavar="ID", type=ID)
@json_option
@pass_place
def show_one(place: Place, queue_id: QueueId, as_json: bool) -> None:
    """One message: what was tried, answered and proven.

    For each recipient.
    """
    with place.store() as store:
        desk = _desk(place, store)
        view, now_s = desk.view(queue_id), desk.now_s
    if as_json:
        show_json(message_json(view, view.copies))
        return
    click.echo(f"Message:   {view.queue_id}, {octets_text(view.size)}")
    click.echo(f"From:      {sender_text(view)}")
    click.echo(f"Accepted:  {time_text(view.accepted_s)}, {span_text(now_s - view.accepted_s)} ago")
    if any(one.is_open for one in view.copies):
        held = "held: no time passes for it" if view.is_held else f"tried until {time_text(view.expires_s)}"
        click.echo(f"Time:      {held}")
    if wishes := asks(view):
        click.echo(f"Asks for:  {', '.join(wishes)}")
    for one in view.copies:
        click.echo(f"\nTo:        {printable(str(one.recipient.path))}")
        for name, words in details(view, one, now_s):
            click.echo(f"  {name + ':':<9}{words}")


# Ordering.

ids_argument = click.argument("ids", metavar="ID...", type=ID, nargs=-1)
to_option = click.option("--to", "to", metavar="DOMAIN|ADDRESS", help="All that is for this domain or address.")
all_option = click.option("--all", "everything", is_flag=True, help="All that is queued.")


@queue.command()
@ids_argument
@to_option
@all_option
@pass_place
def retry(place: Place, ids: tuple[QueueId, ...], to: str | None, everything: bool) -> None:
    """Try at once what waits for its next try."""
    _order(place, ids, to, everything, "tried at once", "waits for another try", lambda orders: orders.retry)


@queue.command()
@ids_argument
@to_option
@all_option
@pass_place
def hold(place: Place, ids: tuple[QueueId, ...], to: str | None, everything: bool) -> None:
    """Send no further, until released. A held message does not run out of time."""
    _order(place, ids, to, everything, "held", "can be held", lambda orders: orders.hold)


@queue.command()
@ids_argument
@to_option
@all_option
@pass_place
def release(place: Place, ids: tuple[QueueId, ...], to: str | None, everything: bool) -> None:
    """Try again what was held."""
    _order(place, ids, to, everything, "released", "is held", lambda orders: orders.release)


Order = Callable[[WriteTxn, QueueId, int], int]


def _order(
    place: Place,
    ids: tuple[QueueId, ...],
    to: str | None,
    everything: bool,
    done: str,
    otherwise: str,
    order: Callable[[Orders], Order],
) -> None:
    if sum((bool(ids), to is not None, everything)) != 1:
        raise click.UsageError("Name the messages by ID, or say --to or --all.")
    with place.store() as store:
        desk = _desk(place, store)
        for queue_id in ids:
            desk.view(queue_id)
        chosen = list(ids) if ids else desk.ids(done=False)
        change = order(desk.orders)

        def work(txn: WriteTxn, some: list[QueueId]) -> int:
            return sum(change(txn, one, desk.now_s) > 0 for one in some if to is None or desk.is_for(txn, one, to))

        slices = (chosen[at : at + SLICE] for at in range(0, len(chosen), SLICE))
        changed = sum(desk.change(partial(work, some=some)) for some in slices)
    if not changed:
        look = f"queue show {ids[0].hex()}" if ids else "queue list --done"
        raise Failed(f"Nothing of it {otherwise}: certmaild {look} says how it stands.")
    click.echo(f"{messages_text(changed)} {'is' if changed == 1 else 'are'} {done}.")


@queue.command()
@ids_argument
@click.option("--to", "to", metavar="DOMAIN|ADDRESS", help="Only for recipients there; without ID, of all messages.")
@click.option("--reason", help="Why; with --report the sender reads it. Asked for if it is not given.")
@click.option("--report/--silent", default=True, show_default=True, help="Whether the sender gets a report.")
@pass_place
def drop(place: Place, ids: tuple[QueueId, ...], to: str | None, reason: str | None, report: bool) -> None:
    """Give up messages for the recipients that do not have them yet."""
    if not ids and to is None:
        raise click.UsageError("Name the messages by ID, or say --to.")
    if reason is None and sys.stdin.isatty():
        reason = str(click.prompt("Why", err=True))
    if not reason or not reason.strip():
        raise click.UsageError("Say why with --reason; the sender will ask.")
    words = " ".join(reason.split())
    with place.store() as store:
        desk = _desk(place, store)
        for queue_id in ids:
            desk.view(queue_id)

        def work(txn: WriteTxn, some: list[QueueId]) -> int:
            return sum(desk.orders.drop(txn, one, words, desk.now_s, report=report, wanted=_wanted(to)) for one in some)

        chosen = list(ids) if ids else desk.ids(done=False)
        slices = (chosen[at : at + SLICE] for at in range(0, len(chosen), SLICE))
        changed = sum(desk.change(partial(work, some=some)) for some in slices)
    if not changed:
        who = "Nobody" if to is None else f"Nobody at {to}"
        look = f"queue show {ids[0].hex()}" if ids else "queue list --done"
        raise Failed(f"{who} waits for it: certmaild {look} says what became of it.")
    told = "The running server reports it to the sender." if report else "The sender is not told."
    click.echo(f"Dropped for {changed} recipient{'s' if changed > 1 else ''}. {told}")


def _wanted(to: str | None) -> Callable[[Recipient], bool]:
    return lambda recipient: to is None or is_for(recipient, to)
