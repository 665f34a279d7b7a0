"""Files a finished message for all its recipients at once: arrivals, the sender's copy, the outgoing queue, reports.

Everything is prepared first and committed in one transaction, so a message is taken for all who were accepted, or for
nobody (DESIGN section 3).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import Protocol, TypeVar

from certmaild.guests.invitations import Invitations, Prepared, waits_for_joining
from certmaild.guests.senders import read_waiting
from certmaild.inbound.inspection import NOT_LOOKED_AT, Verdict
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import daily_counts
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.arrivals import SLICE, Recipient, seal_all, write_arrivals
from certmaild.mailbox.blobs import StoredBlob
from certmaild.mailbox.cards import Facts, encode_card
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.errors import AddressTaken, StoreUnavailable
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_accounts import SentCopies
from certmaild.mailbox.layout_guests import Counted
from certmaild.mailbox.values import ServiceFolder, SpecialUse, SystemFlag
from certmaild.outbound.departure import Departure
from certmaild.outbound.interfaces import News, Occasion, QueuedMessage, Reporter, Work
from certmaild.outbound.spool import Spool, Submission
from certmaild.outbound.values import BodyKind, Delivered, Destination, Envelope, Notify, Problem, RouteKind
from certmaild.outbound.values import Recipient as OutsideRecipient
from certmaild.protocols.interfaces import Login
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.interfaces import Hop, Listener
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments
from certmaild.reports.service_mail import NotWritable
from certmaild.routing import Invite, Partner, Relay, Sealed, VerifiedTls, is_on_trial
from certmaild.trace import format_date, format_prefix, format_received

T = TypeVar("T")
_TRIES = 4
LONG_HEADER = 16 * 1024
"""Octets; one of more is read in a thread where only words of it are wanted."""


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
    invited: Sequence[tuple[Invite, RcptArguments]] = ()
    """People who get a mailbox by it."""
    refused: Sequence[tuple[Address, RcptArguments, Refusal]] = ()
    """Who was taken at RCPT, and cannot be reached: the sender hears of them."""
    header: bytes = b""
    """As it is stored, without the blank line."""
    departure: Departure | None = None
    """Known where somebody is outside."""
    verdict: Verdict = NOT_LOOKED_AT
    """Of who looked at it, on its way from another server."""
    partners: Sequence[Address] = ()
    """Who wrote it in a proven partner's name: guests may write back to them."""


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
        invitations: Invitations | None = None,
    ) -> None:
        self.settings = settings
        self._engine = engine
        self._secrets = secrets
        self._directory = directory
        self._seconds = seconds
        self._in_thread = in_thread
        self._spool = spool
        self._reporter = reporter
        self._invitations = invitations
        self._date = (0, b"")

    def date(self, now: float) -> bytes:
        """`format_date`, made once a second."""
        if self._date[0] != int(now):
            self._date = (int(now), format_date(now))
        return self._date[1]

    async def file(self, message: Finished) -> None:
        """Commit it. Raises `StoreUnavailable`, and `Refusal` where too many are invited; nothing is kept then."""
        for _ in range(_TRIES):
            try:
                return await self._file(message)
            except AddressTaken:
                # Somebody who was to be invited has been meanwhile, or his name was given to another.
                message = await self._without_taken(message)
        raise StoreUnavailable("an address stands in the way of a new account")

    async def _without_taken(self, message: Finished) -> Finished:
        sealed = {route.recipient.user_id: (route, arguments) for route, arguments in message.sealed}
        invited = []
        for invite, arguments in message.invited:
            recipient = await self._directory.recipient(invite.address)
            if recipient is None or is_on_trial(recipient):
                invited.append((invite, arguments))
            else:
                sealed.setdefault(recipient.user_id, (Sealed(recipient, invite.address), arguments))
        return replace(message, sealed=tuple(sealed.values()), invited=tuple(invited))

    async def _file(self, message: Finished) -> None:
        now = self._seconds()
        until = held_until(message.mail, message.began_s)
        guests, words = await self._guests(message, int(now))
        local = [*message.sealed]
        if guests is not None:
            made = {one.address: one.recipient for one in guests.guests}
            local += [
                (Sealed(made[invite.address], invite.address, f"a new mailbox here: {invite.reason}"), given)
                for invite, given in message.invited
            ]
        here, waiting = (local, ()) if until is None or until <= now else ((), local)
        recipients = await self._all_cards(message, [route for route, _ in here], now)
        if message.hop.login is not None:
            recipients += await self._sent_copy(message.hop.login, message, int(now))
        sealed = await seal_all(recipients, self._in_thread)
        reports = await self._reports(message, here, int(now))
        submission = self._submission(message, waiting, now) if message.outside or waiting else None
        count = self._count(message, int(now))
        secrets, blob, spool = self._secrets, message.blob, self._spool

        def work(txn: WriteTxn) -> None:
            count(txn)
            if guests is not None:
                guests.write(txn)
            write_arrivals(txn, secrets, blob, sealed)
            if submission is not None and spool is not None:
                spool.enqueue(txn, submission, now)
            for write in (*words, *reports):
                write(txn)

        await self._engine.write(work, grows=True)

    def _count(self, message: Finished, now: int) -> Work:
        """Counts the recipients elsewhere of a user; refuses what is more than he may have in 24 hours."""
        login, more, secrets = message.hop.login, len(message.outside), self._secrets
        limit = self.settings.limits.recipients_elsewhere

        def work(txn: WriteTxn) -> None:
            if login is None or not more:
                return
            before = daily_counts.count(txn, secrets, login.user_id, Counted.SENT, now)
            if before + more > limit:
                raise too_many_elsewhere(limit, limit - before)
            daily_counts.note(txn, secrets, login.user_id, Counted.SENT, now, more)

        return work

    async def _guests(self, message: Finished, now: int) -> tuple[Prepared | None, Sequence[Work]]:
        """New guests, and words about the message to those there are, and to its sender."""
        there = [route.recipient for route, _ in message.sealed if route.recipient.guest is not None]
        if self._invitations is None or not (there or message.invited):
            return None, ()
        login = message.hop.login
        if login is None and not message.partners:
            return None, ()
        account = None if login is None else await self._directory.account(login.user_id)
        address = message.partners[0].wire if login is None else login.address
        reason = message.invited[0][0].reason if message.invited else ""
        reading = partial(read_waiting, message.header, address, account, reason, now)
        waiting = await self._in_thread(reading) if len(message.header) > LONG_HEADER else reading()
        words = await self._invitations.prepare_words(there, waiting, message.partners)
        if not message.invited:
            return None, words
        try:
            return await self._invitations.prepare([invite for invite, _ in message.invited], waiting), words
        except NotWritable as reason_why:
            raise Refusal(550, "5.7.1", f"Nobody can be invited: {reason_why}") from None

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
                special_use=_folder(message, route),
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
        recipients += [_held(_by_account(route), arguments) for route, arguments in waiting]
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

    async def _reports(
        self, message: Finished, here: Sequence[tuple[Sealed, RcptArguments]], now: int
    ) -> Sequence[Work]:
        """Word to the sender that the message lies in mailboxes (RFC 3461 section 6.2.2), and of who is not reached.

        Not to an address that anybody may have written into MAIL FROM: its owner would hear of mail that is not his.
        """
        is_his = message.hop.login is not None or message.verdict.sender_is_proven
        if self._reporter is None or not message.mail.reverse_path.local or not is_his:
            return ()
        news = [
            News(_held(*one)[0], Occasion.DELIVERED, Delivered("", "", None), 1, now)
            for one in here
            if Notify.SUCCESS in one[1].notify
        ]
        news += [_failed(*one, now) for one in message.refused]
        if not news:
            return ()

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
        report = await self._reporter.prepare(queued, news)
        return () if report is None else (report,)


def too_many_elsewhere(limit: int, left: int) -> Refusal:
    """What a user hears who would write to more people elsewhere than one may; a stolen password sends no more."""
    return Refusal(
        450,
        "4.7.1",
        f"An account may write to {limit} recipients of other servers in 24 hours, and {max(left, 0)} are left: write"
        " to fewer, or wait, or ask the administrator",
    )


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
    path = Path(route.address.local, domain)
    recipient = OutsideRecipient(path, RouteKind.SEALED, route.reason, arguments.notify, arguments.orcpt)
    return recipient, Destination(RouteKind.SEALED, domain)


def _by_account(route: Sealed) -> Sealed:
    """As it is found again later: by the account name of a guest, whose ordinary address is somewhere else's."""
    row = route.recipient.guest
    return route if row is None or not row.ordinary else replace(route, address=canonical(route.recipient.address))


def _failed(address: Address, arguments: RcptArguments, refusal: Refusal, now: int) -> News:
    path = Path(arguments.forward_path.local, address.domain)
    recipient = OutsideRecipient(path, RouteKind.VERIFIED_TLS, refusal.text, arguments.notify, arguments.orcpt)
    fate = Problem(True, refusal.code, refusal.enhanced, f"{refusal.text}.")
    return News(recipient, Occasion.FAILED, fate, 1, now)


def _folder(message: Finished, route: Sealed) -> int:
    """Where a message goes; 0: INBOX."""
    login = message.hop.login
    sender = None if login is None else login.address
    if message.hop.listener is not Listener.INBOUND and sender is None:
        # Held for him until now.
        sender = str(message.mail.reverse_path)
    if waits_for_joining(route.recipient, sender):
        return ServiceFolder.LATER
    return SpecialUse.JUNK if message.verdict.is_junk else 0
