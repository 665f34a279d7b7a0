"""Tells senders what became of their messages: what the queue's runner and the filing of mail ask (`Reporter`)."""

import os
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from certmaild.outbound.interfaces import News, Occasion, QueuedMessage, Work
from certmaild.outbound.values import Envelope, Notify, RouteKind
from certmaild.reports.delivery_report import Reported, format_delivery_report
from certmaild.reports.service_mail import NotWritable, ServiceMail
from certmaild.reports.texts import ENGLISH, NOTICE

log = Logger()
_ASKED_BY = {
    Occasion.FAILED: Notify.FAILURE,
    Occasion.DELAYED: Notify.DELAY,
    Occasion.WARNED: Notify.DELAY,
    Occasion.RELAYED: Notify.SUCCESS,
    Occasion.DELIVERED: Notify.SUCCESS,
}


class SenderReports:
    """Delivery status reports by mail: sealed into a mailbox here, by the queue to whoever sent from elsewhere."""

    def __init__(
        self, mail: ServiceMail, *, seconds: Callable[[], float], random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._mail = mail
        self._seconds = seconds
        self._random = random

    async def prepare(self, message: QueuedMessage, news: Sequence[News]) -> Work | None:
        """What files one report on all ``news`` that the sender asked for; None if there is none, or no way to him.

        Raises `StoreUnavailable`.
        """
        whom = message.envelope.reports_to
        wanted = [_as_said(one) for one in news if _is_wanted(one, message.envelope)]
        if not wanted or not whom.local:
            return None
        is_notice = all(one.recipient.route is RouteKind.NOTICE for one in wanted)
        content = format_delivery_report(
            self._mail.name,
            Reported(message.envelope, message.accepted_s, await message.header()),
            wanted,
            now_s=int(self._seconds()),
            name=self._random(16).hex(),
            stays_here=self._mail.is_inside(whom),
            texts=NOTICE if is_notice else ENGLISH,
        )
        try:
            return await self._mail.prepare(
                content, whom, owner=message.sender, require_tls=message.envelope.require_tls
            )
        except NotWritable as reason:
            log.warn("no report on message {queue_id}: {reason}", queue_id=message.queue_id, reason=str(reason))
            return None


def _is_wanted(one: News, envelope: Envelope) -> bool:
    """By NOTIFY; a relay also where DELIVERBY asks for a trace (RFC 2852 section 4)."""
    notify = one.recipient.notify
    traced = one.occasion is Occasion.RELAYED and "T" in envelope.by_mode and Notify.NEVER not in notify
    return traced or _ASKED_BY[one.occasion] in notify


def _as_said(one: News) -> News:
    """What was held for a mailbox here is delivered, not handed on."""
    if one.recipient.route is RouteKind.SEALED and one.occasion is Occasion.RELAYED:
        return News(one.recipient, Occasion.DELIVERED, one.fate, one.attempts, one.last_try_s)
    return one
