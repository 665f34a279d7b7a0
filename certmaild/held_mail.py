"""Messages that their senders had held (FUTURERELEASE, RFC 4865) come into mailboxes here when their time has come.

Such a message waits in the queue as a whole. Whoever works the queue carries it like any other; for recipients with a
mailbox here the plan names no host, and the connection is this one.
"""

from collections.abc import Callable, Mapping

from certmaild.delivery import Delivery
from certmaild.outbound.interfaces import Courier, CourierConnection, Planner, Terms
from certmaild.outbound.values import (
    BodyKind,
    Delivered,
    Destination,
    Fate,
    OutgoingMessage,
    Plan,
    Problem,
    Recipient,
    RouteKind,
)
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.interfaces import Hop, Listener
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments

_WORDS = {
    "2.2": "The mailbox is full.",
    "2.1": "The mailbox was closed.",
    "1.1": "There is no such mailbox any more.",
}


class PlannerWithMailboxes:
    """A planner that knows the way to mailboxes here too."""

    def __init__(self, outside: Planner) -> None:
        self._outside = outside

    async def plan(self, destination: Destination, terms: Terms) -> Plan | Problem:
        """As `Planner.plan`."""
        if destination.kind is RouteKind.SEALED:
            return Plan(destination, ())
        return await self._outside.plan(destination, terms)


class CourierWithMailboxes:
    """A courier that goes to mailboxes here too, by a ``delivery`` that inspects nothing."""

    def __init__(self, outside: Courier, delivery: Delivery) -> None:
        self._outside = outside
        self._delivery = delivery

    async def connect(self, plan: Plan) -> CourierConnection | Problem:
        """As `Courier.connect`."""
        if plan.destination.kind is RouteKind.SEALED:
            return MailboxConnection(self._delivery)
        return await self._outside.connect(plan)


class MailboxConnection:
    """Delivers into mailboxes, as a connection to a server would."""

    is_open = True

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    async def send(self, message: OutgoingMessage, last_octets: Callable[[], None]) -> Mapping[Recipient, Fate]:
        """As `CourierConnection.send`: one transaction for all whose mailboxes take it."""
        envelope = message.envelope
        hostname = self._delivery.settings.hostname
        # Known to us: it comes to guests too, and has the limits of what was submitted.
        hop = Hop(f"held-{message.queue_id}", Listener.SUBMISSION, "127.0.0.1", hostname, True, None, None, True)
        mail = MailArguments(envelope.reverse_path, message.size, envelope.utf8, BodyKind.EIGHT_BIT)
        fates: dict[Recipient, Fate] = {}
        try:
            transaction = await self._delivery.begin(hop, mail)
        except Refusal as refusal:
            return dict.fromkeys(message.recipients, _problem(refusal))
        try:
            for recipient in message.recipients:
                try:
                    await transaction.add_recipient(RcptArguments(recipient.path))
                except Refusal as refusal:
                    fates[recipient] = _problem(refusal)
            if len(fates) < len(message.recipients):
                async for octets in message.content():
                    pause = transaction.write(octets)
                    if pause is not None:
                        await pause
                last_octets()
                queue_id = await transaction.finish()
                taken = Delivered("", f"250 2.0.0 Message taken as {queue_id}", None)
                fates |= {recipient: taken for recipient in message.recipients if recipient not in fates}
        except Refusal as refusal:
            fates |= {one: _problem(refusal) for one in message.recipients if one not in fates}
        finally:
            transaction.abort()
        return fates

    async def close(self) -> None:
        """Nothing is open."""


def _problem(refusal: Refusal) -> Problem:
    words = _WORDS.get(refusal.enhanced.partition(".")[2], "The message could not be filed.")
    return Problem(refusal.code >= 500, refusal.code, refusal.enhanced, words)
