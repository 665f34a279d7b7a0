"""Files a finished message for all its recipients at once: arrivals, the sender's copy, the outgoing queue, reports.

Everything is prepared first and committed in one transaction, so a message is taken for all who were accepted, or for
nobody (DESIGN section 3).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.arrivals import SLICE, Recipient, seal_all, write_arrivals
from certmaild.mailbox.blobs import StoredBlob
from certmaild.mailbox.cards import Facts, encode_card
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_accounts import SentCopies
from certmaild.mailbox.values import SpecialUse, SystemFlag
from certmaild.protocols.interfaces import Login
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.interfaces import Hop
from certmaild.protocols.smtp.parameters import MailArguments
from certmaild.routing import Sealed
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
    sealed: Sequence[Sealed]
    """The local recipients, each once."""


class Filing:
    """Files messages."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        directory: Directory,
        settings: DeliverySettings,
        *,
        seconds: Callable[[], float],
        in_thread: InThread,
    ) -> None:
        self.settings = settings
        self._engine = engine
        self._secrets = secrets
        self._directory = directory
        self._seconds = seconds
        self._in_thread = in_thread
        self._date = (0, b"")

    def date(self, now: float) -> bytes:
        """`format_date`, made once a second."""
        if self._date[0] != int(now):
            self._date = (int(now), format_date(now))
        return self._date[1]

    async def file(self, message: Finished) -> None:
        """Commit it. Raises `StoreUnavailable`; nothing is kept then but staged frames."""
        now = self._seconds()
        recipients = await self._all_cards(message, now)
        if message.hop.login is not None:
            recipients += await self._sent_copy(message.hop.login, message, int(now))
        sealed = await seal_all(recipients, self._in_thread)
        secrets, blob = self._secrets, message.blob

        def work(txn: WriteTxn) -> None:
            write_arrivals(txn, secrets, blob, sealed)

        await self._engine.write(work, grows=True)

    async def _all_cards(self, message: Finished, now: float) -> list[Recipient]:
        routes = message.sealed
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
            prefix = format_prefix(reverse_path, to, received, date)
            card = encode_card(
                blob,
                message.facts,
                internal_date=int(now),
                prefix=prefix,
                reverse_path=reverse_path.encode(),
                original_recipient=to.encode(),
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
