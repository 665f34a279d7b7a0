"""Files a finished message for all its recipients at once: arrivals, the sender's copy, the outgoing queue, reports.

Everything is prepared first and committed in one transaction, so a message is taken for all who were accepted, or for
nobody (DESIGN section 3).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import Protocol, TypeVar

from certmaild.inbound.inspection import NOT_LOOKED_AT, Verdict
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.arrivals import SLICE, Recipient, seal_all, write_arrivals
from certmaild.mailbox.blobs import StoredBlob
from certmaild.mailbox.cards import Facts, encode_card
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_accounts import SentCopies
from certmaild.mailbox.values import SpecialUse, SystemFlag
from certmaild.outbound.departure import Departure
from certmaild.outbound.interfaces import News, Occasion, QueuedMessage, Reporter, Work
from certmaild.outbound.spool import Spool, Submission
from certmaild.outbound.values import BodyKind, Delivered, Destination, Envelope, Notify, RouteKind
from certmaild.outbound.values import Recipient as OutsideRecipient
from certmaild.protocols.interfaces import Login
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.interfaces import Hop
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments
from certmaild.routing import Partner, Relay, Sealed, VerifiedTls
from certmaild.trace import format_date, format_prefix, format_received

T = TypeVar("T")


class InThread(Protocol):
    """Runs work for many recipients off the reactor's thread (``deferToThreadPool``)."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What delivery takes from the configuration."""

    hostname: str
    """In Received, and our authserv-id (RFC 8601)."""
    limits: Limits = field(default_factory=Limits)
    padding: bool = True
    """Padme padding of frames (KEYS section 8)."""
    privacy: bool = True
    """Where a member submits from stays out of Received."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A message whose content has come to its end."""

    queue_id: str
    hop: Hop
    mail: MailArguments
    blob: StoredBlob
    facts: Facts
    began_s: float
    """When MAIL came."""
    sealed: Sequence[tuple[Sealed, RcptArguments]]
    """The local recipients, each once."""
    outside: Sequence[tuple[Relay, RcptArguments]] = ()
    header: bytes = b""
    """As it is stored, without the blank line."""
    departure: Departure | None = None
    """Known where somebody is outside."""
    verdict: Verdict = NOT_LOOKED_AT
    """Of who looked at it, on its way from another server."""


class Filing:
    """Files messages. Without a ``spool`` none goes outside; without a ``reporter`` no success is reported."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        directory: Directory,
        settings: DeliverySettings,
        *,
        seconds: Callable[[], float],
        in_thread: InThread,
        spool: Spool | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.settings = settings
        self._engine = engine
        self._secrets = secrets
        self._directory = directory
        self._seconds = seconds
        self._in_thread = in_thread
        self._spool = spool
        self._reporter = reporter
        self._date = (0, b"")

    def date(self, now: float) -> bytes:
        """`format_date`, made once a second."""
        if self._date[0] != int(now):
            self._date = (int(now), format_date(now))
        return self._date[1]

    async def file(self, message: Finished) -> None:
        """Commit it. Raises `StoreUnavailable`; nothing is kept then but staged frames."""
        now = self._seconds()
        until = held_until(message.mail, message.began_s)
        here, waiting = (message.sealed, ()) if until is None or until <= now else ((), message.sealed)
        recipients = await self._all_cards(message, [route for route, _ in here], now)
        if message.hop.login is not None:
            recipients += await self._sent_copy(message.hop.login, message, int(now))
        sealed = await seal_all(recipients, self._in_thread)
        wanted = [(route, arguments) for route, arguments in here if Notify.SUCCESS in arguments.notify]
        report = await self._success_report(message, wanted, int(now)) if wanted else None
        submission = self._submission(message, waiting, now) if message.outside or waiting else None
        secrets, blob, spool = self._secrets, message.blob, self._spool

        def work(txn: WriteTxn) -> None:
            write_arrivals(txn, secrets, blob, sealed)
            if submission is not None and spool is not None:
                spool.enqueue(txn, submission, now)
            if report is not None:
                report(txn)

        await self._engine.write(work, grows=True)

    async def _all_cards(self, message: Finished, routes: Sequence[Sealed], now: float) -> list[Recipient]:
        if len(routes) <= SLICE:
            return self._cards(routes, message, now)
        recipients: list[Recipient] = []
        for at in range(0, len(routes), SLICE):
            work = partial(self._cards, routes[at : at + SLICE], message, now)
            recipients += await self._in_thread(work)
        return recipients

    def _cards(self, routes: Sequence[Sealed], message: Finished, now: float) -> list[Recipient]:
        reverse_path = str(message.mail.reverse_path)
        received = self._received(message)
        date = self.date(now)
        blob = message.blob
        recipients = []
        for route in routes:
            to = route.address.wire
            prefix = format_prefix(reverse_path, to, received, date, message.verdict.results)
            card = encode_card(
                blob,
                message.facts,
                internal_date=int(now),
                prefix=prefix,
                reverse_path=reverse_path.encode(),
                original_recipient=to.encode(),
                special_use=SpecialUse.JUNK if message.verdict.is_junk else 0,
            )
            recipients.append(
                Recipient(route.recipient.user_id, route.recipient.public_key, card, blob.size + len(prefix))
            )
        return recipients

    def _received(self, message: Finished) -> bytes:
        return format_received(
            message.hop,
            hostname=self.settings.hostname,
            queue_id=message.queue_id,
            utf8=message.mail.utf8,
            privacy=self.settings.privacy,
        )

    async def _sent_copy(self, login: Login, message: Finished, now: int) -> Sequence[Recipient]:
        """The sender's own copy, where the server keeps it (``sent = "server"``)."""
        sender = await self._directory.recipient(canonical(login.address))
        if sender is None or sender.sent_copies is not SentCopies.SERVER:
            return ()
        blob = message.blob
        card = encode_card(blob, message.facts, internal_date=now, special_use=SpecialUse.SENT, flags=SystemFlag.SEEN)
        return (Recipient(sender.user_id, sender.public_key, card, blob.size),)

    def _submission(self, message: Finished, waiting: Sequence[tuple[Sealed, RcptArguments]], now: float) -> Submission:
        """What the queue gets. ``waiting``: recipients here who get it later (RFC 4865)."""
        departure = message.departure or Departure()
        recipients = [_outside(route, arguments) for route, arguments in message.outside]
        recipients += [_held(route, arguments) for route, arguments in waiting]
        addresses = [message.mail.reverse_path, *(recipient.path for recipient, _ in recipients)]
        utf8 = message.mail.utf8
        envelope = replace(
            envelope_of(message.mail, message.began_s),
            body=BodyKind.SEVEN_BIT if departure.is_seven_bit else BodyKind.EIGHT_BIT,
            needs_utf8=utf8 and not (departure.header.isascii() and all(str(path).isascii() for path in addresses)),
            tls_optional=departure.makes_tls_optional,
        )
        return Submission(
            message.queue_id,
            message.blob,
            message.facts.header_octets,
            message.facts.final_crlf,
            self._received(message) + b";\r\n\t" + self.date(now) + b"\r\n" + departure.signatures(now),
            envelope,
            None if message.hop.login is None else message.hop.login.user_id,
            recipients,
        )

    async def _success_report(
        self, message: Finished, wanted: Sequence[tuple[Sealed, RcptArguments]], now: int
    ) -> Work | None:
        """Word to the sender that the message lies in the mailboxes of those (RFC 3461 section 6.2.2).

        Not to an address that anybody may have written into MAIL FROM: its owner would hear of mail that is not his.
        """
        is_his = message.hop.login is not None or message.verdict.sender_is_proven
        if self._reporter is None or not message.mail.reverse_path.local or not is_his:
            return None
        fate = Delivered("", "", None)
        news = [News(_held(*one)[0], Occasion.DELIVERED, fate, 1, now) for one in wanted]

        async def header() -> bytes:
            return message.header

        login = message.hop.login
        queued = QueuedMessage(
            message.queue_id,
            envelope_of(message.mail, message.began_s),
            None if login is None else login.user_id,
            now,
            message.blob.size,
            header,
        )
        return await self._reporter.prepare(queued, news)


def held_until(mail: MailArguments, began_s: float) -> int | None:
    """Until when a message that MAIL began then is to be held, in seconds since 1970 (RFC 4865)."""
    return ceil(began_s) + mail.hold_for_s if mail.hold_for_s else mail.hold_until_s


def envelope_of(mail: MailArguments, began_s: float) -> Envelope:
    """What MAIL said, with times of the clock; without what only the content can say."""
    by = mail.deliver_by
    return Envelope(
        mail.reverse_path,
        utf8=mail.utf8,
        require_tls=mail.require_tls,
        envid=mail.envid,
        returns_headers_only=not mail.returns_full,
        priority=mail.priority,
        deliver_by_s=None if by is None else int(began_s) + by.seconds,
        by_mode="" if by is None else ("R" if by.returns else "N") + "T" * by.traces,
        hold_until_s=held_until(mail, began_s),
    )


def _outside(route: Relay, arguments: RcptArguments) -> tuple[OutsideRecipient, Destination]:
    """A recipient for the queue, and the lane that leads to him."""
    if isinstance(route, VerifiedTls):
        kind, domain = RouteKind.VERIFIED_TLS, route.address.domain
    else:
        kind, domain = RouteKind.PARTNER if isinstance(route, Partner) else RouteKind.PLAIN, route.domain
    path = Path(arguments.forward_path.local, route.address.domain)
    return (
        OutsideRecipient(path, kind, route.reason, arguments.notify, arguments.orcpt),
        Destination(kind, domain),
    )


def _held(route: Sealed, arguments: RcptArguments) -> tuple[OutsideRecipient, Destination]:
    """One with a mailbox here."""
    domain = route.address.domain
    path = Path(arguments.forward_path.local, domain)
    recipient = OutsideRecipient(path, RouteKind.SEALED, "a mailbox here", arguments.notify, arguments.orcpt)
    return recipient, Destination(RouteKind.SEALED, domain)
