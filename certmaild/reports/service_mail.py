"""The one way for the server itself to write to somebody: into a mailbox here, or by the queue to an address elsewhere.

A letter to a mailbox here is sealed at once and passes no wire; one that leaves follows ``[outbound]`` and its smart
host, whatever partner's domain it goes to. It is prepared outside of a transaction and filed inside the caller's.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8

from twisted.logger import Logger

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import ownership
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.arrivals import Recipient, SealedArrival, queue_order, seal_for, write_arrivals
from certmaild.mailbox.blobs import BlobWriter, StoredBlob
from certmaild.mailbox.cards import Facts, encode_card, facts_of
from certmaild.mailbox.directory import RecipientFacts
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.outbound.departure import Departure
from certmaild.outbound.dkim_sign import Signer
from certmaild.outbound.interfaces import Work
from certmaild.outbound.spool import Spool, Submission
from certmaild.outbound.values import DEFAULT_NOTIFY, BodyKind, Destination, Envelope, Notify, RouteKind
from certmaild.outbound.values import Recipient as OutsideRecipient
from certmaild.protocols.smtp.grammar import NULL_PATH, Path
from certmaild.reports.links import make_plain
from certmaild.reports.names import ServerName
from certmaild.reports.texts import ENGLISH
from certmaild.routing import Router
from certmaild.trace import format_date

log = Logger()
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_REASON = "written by this server itself"


@dataclass(frozen=True, slots=True)
class Placed:
    """A letter for a mailbox here, under the id that it has there from the moment it is filed."""

    mid: Mid
    file: Work


class NotWritable(Exception):
    """Nobody is reached under this address: no mailbox here, or no queue to send by. Its text is a sentence."""


class ServiceMail:
    """Writes letters. Without a ``spool`` only mailboxes here are reached; ``signer`` signs what leaves."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        router: Callable[[], Router],
        name: Callable[[], ServerName],
        *,
        seconds: Callable[[], float],
        spool: Spool | None = None,
        signer: Callable[[], Signer | None] = lambda: None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._router = router
        self._name = name
        self._seconds = seconds
        self._spool = spool
        self._signer = signer
        self._random = random

    @property
    def name(self) -> ServerName:
        """As whom it writes now."""
        return self._name()

    async def write(self, letter: EmailMessage, to: str) -> None:
        """Write to an address, ``postmaster`` alone for our own. What the header lacks is added; Bcc is not allowed.

        Durable when it returns. Raises `NotWritable`, `StoreUnavailable`.
        """
        await self._engine.write(await self.prepare_letter(letter, to), grows=True)

    async def prepare_letter(self, letter: EmailMessage, to: str) -> Work:
        """What `write` does, for a transaction that may be another's. Raises as `prepare` does."""
        path = _path(to)
        return await self.prepare(self.octets(letter, path), path)

    def octets(self, letter: EmailMessage, to: Path) -> bytes:
        """The letter as it is sent, with From, To, Date, Message-ID and Auto-Submitted (RFC 3834) where it has none.

        A link that it quotes is left out (`make_plain`).
        """
        name = self._name()
        if not make_plain(letter, ENGLISH.link_left_out, (name.hostname, name.domain)):
            log.warn("a letter of the server's own held a link, which was left out")
        missing = {
            "From": f"certmaild <{name.postmaster}>",
            "To": _shown_to(to) if to.domain else name.postmaster,
            "Date": format_date(self._seconds()).decode("ascii"),
            "Message-ID": f"<{self._random(16).hex()}@{name.hostname}>",
            "Auto-Submitted": "auto-generated",
        }
        for field_name, value in missing.items():
            if field_name not in letter:
                letter[field_name] = value
        _keep_to_lines(letter)
        return letter.as_bytes(policy=SMTP if str(to).isascii() else SMTPUTF8)

    async def place(
        self, letter: EmailMessage, user_id: UserId, *, special_use: int = 0, flags: int = 0, to: str | None = None
    ) -> Placed:
        """What files a letter in a mailbox here: in INBOX, or the folder of this special use.

        ``special_use``: a `SpecialUse` or `ServiceFolder`; ``flags``: system flags that it comes with. ``to`` stands in
        its header; default: the main address. Raises `NotWritable`, `StoreUnavailable`.
        """
        reader = await self._router().mailbox(NULL_PATH, user_id)
        if reader is None or reader.user_id != user_id:
            raise NotWritable("There is no mailbox here for that account.")
        return await self.place_for(reader, letter, special_use=special_use, flags=flags, to=to)

    async def place_for(
        self,
        reader: RecipientFacts,
        letter: EmailMessage,
        *,
        special_use: int = 0,
        flags: int = 0,
        to: str | None = None,
    ) -> Placed:
        """The same for a mailbox that may be made in the transaction that files it. Raises `StoreUnavailable`."""
        path = _path(to or reader.address)
        blob, facts = await self._stored(self.octets(letter, path))
        return self._into(reader, path, blob, facts, self._random(6).hex(), self._seconds(), special_use, flags)

    async def replace(
        self, user_id: UserId, mid: Mid, letter: EmailMessage, *, special_use: int = 0, flags: int = 0
    ) -> Placed:
        """What puts a letter in the place of another: of that nobody reads a word from the commit on.

        It is expunged at the user's next absorb, in which the new one comes. Raises as `place`.
        """
        placed = await self.place(letter, user_id, special_use=special_use, flags=flags)
        secrets, now = self._secrets, int(self._seconds())

        def work(txn: WriteTxn) -> None:
            ownership.forfeit(txn, secrets, user_id, mid, now)
            queue_order(txn, secrets, user_id, mid)
            placed.file(txn)

        return Placed(placed.mid, work)

    def is_inside(self, path: Path) -> bool:
        """Whether mail for this path stays in the house, if it goes anywhere."""
        try:
            return not path.domain or self._router().is_hosted(canonical(str(path)).domain)
        except AddressError:
            return False

    async def prepare(
        self, content: bytes, to: Path, *, owner: UserId | None = None, require_tls: bool = False
    ) -> Work:
        """What files a letter of these octets, header first, in a transaction that may be another's.

        Nobody hears of what becomes of it: its reverse-path is null. ``owner``: whose mailbox it goes to, whatever
        becomes of the address. ``require_tls``: REQUIRETLS on its way out, as
        for reports on a message that had it (RFC 8689 section 4.3). Raises `NotWritable`, `StoreUnavailable`.
        """
        reader = await self._router().mailbox(to, owner)
        inside = self.is_inside(to)
        if inside and reader is None:
            raise NotWritable("There is no mailbox here for that address.")
        if reader is None and self._spool is None:
            raise NotWritable("This server does not send to other domains.")
        queue_id = self._random(6).hex()
        blob, facts = await self._stored(content)
        now = self._seconds()
        if reader is not None:
            return self._into(reader, to, blob, facts, queue_id, now).file
        return self._out(_Leaving(to, content, blob, facts, queue_id, now, require_tls))

    async def prepare_notice(
        self, letter: EmailMessage, to: Path, *, told: Path | None = None, sender: UserId | None = None
    ) -> Work:
        """What queues word to a guest at his ordinary address, by `RouteKind.NOTICE`; header as by `octets`.

        ``told`` hears when it does not arrive: ``sender``, where he has an account; None: nobody does. Raises
        `NotWritable` for an address of our own, where whoever reads it reads the message too, and as `prepare` does.
        """
        if self.is_inside(to) or self._spool is None:
            raise NotWritable("There is no mailbox elsewhere for that address.")
        content = self.octets(letter, to)
        blob, facts = await self._stored(content)
        now, queue_id = self._seconds(), self._random(6).hex()
        return self._out(
            _Leaving(to, content, blob, facts, queue_id, now, kind=RouteKind.NOTICE, told=told, sender=sender)
        )

    async def _stored(self, content: bytes) -> tuple[StoredBlob, Facts]:
        writer = BlobWriter(self._engine, self._seconds, padding=self._name().padding, random=self._random)
        scanner = self._name().limits.new_scanner()
        scanner.feed(content)
        pause = writer.write(content)
        if pause is not None:
            await pause
        blob = await writer.finish()
        facts = facts_of(scanner.finish())
        return blob.with_facts(facts.frame), facts

    def _into(
        self,
        reader: RecipientFacts,
        to: Path,
        blob: StoredBlob,
        facts: Facts,
        queue_id: str,
        now: float,
        special_use: int = 0,
        flags: int = 0,
    ) -> Placed:
        address = str(to) if to.domain else reader.address
        prefix = (
            f"Return-Path: <>\r\nDelivered-To: {address}\r\n"
            f"Received: by {self._name().hostname} id {queue_id}\r\n\tfor <{address}>; "
        ).encode() + format_date(now)
        prefix += b"\r\n"
        card = encode_card(
            blob,
            facts,
            internal_date=int(now),
            prefix=prefix,
            original_recipient=address.encode("utf-8"),
            special_use=special_use,
            flags=flags,
        )
        arrival: SealedArrival = seal_for(
            Recipient(reader.user_id, reader.public_key, card, blob.size + len(prefix)), self._random
        )
        secrets = self._secrets

        def work(txn: WriteTxn) -> None:
            write_arrivals(txn, secrets, blob, [arrival])

        return Placed(arrival.mid, work)

    def _out(self, letter: "_Leaving") -> Work:
        try:
            address = canonical(str(letter.to))
        except AddressError:
            raise NotWritable("That is no address.") from None
        departure = Departure(self._signer())
        departure.take_header(letter.content[: max(letter.facts.header_octets - 2, 0)])
        departure.feed(letter.content)
        path = Path(letter.to.local, address.domain)
        notify = frozenset({Notify.NEVER}) if letter.told is None else DEFAULT_NOTIFY
        queue_id, now = letter.queue_id, letter.now
        received = f"Received: by {self._name().hostname} id {queue_id};\r\n\t".encode() + format_date(now) + b"\r\n"
        submission = Submission(
            queue_id,
            letter.blob,
            letter.facts.header_octets,
            letter.facts.final_crlf,
            received + departure.signatures(now),
            _envelope(letter, departure, path),
            letter.sender,
            [(OutsideRecipient(path, letter.kind, _REASON, notify), Destination(letter.kind, address.domain))],
        )
        secrets, spool = self._secrets, self._spool
        assert spool is not None

        def work(txn: WriteTxn) -> None:
            write_arrivals(txn, secrets, letter.blob, ())
            spool.enqueue(txn, submission, now)

        return work


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A letter to an address elsewhere."""

    to: Path
    content: bytes = field(repr=False)
    blob: StoredBlob
    facts: Facts
    queue_id: str
    now: float
    require_tls: bool = False
    kind: RouteKind = RouteKind.SERVICE
    told: Path | None = None
    """See `Envelope.told`."""
    sender: UserId | None = None
    """Whose account that is."""


def _envelope(letter: _Leaving, departure: Departure, path: Path) -> Envelope:
    needs_utf8 = not (str(path).isascii() and departure.header.isascii())
    return Envelope(
        NULL_PATH,
        BodyKind.SEVEN_BIT if departure.is_seven_bit else BodyKind.EIGHT_BIT,
        utf8=needs_utf8,
        needs_utf8=needs_utf8,
        require_tls=letter.require_tls,
        tls_optional=departure.makes_tls_optional,
        told=letter.told,
    )


def _path(to: str) -> Path:
    local, at, domain = to.rpartition("@")
    return Path(local, domain) if at else Path(domain, "")


def _keep_to_lines(letter: EmailMessage) -> None:
    """Let no field hold a control character.

    What others wrote may look like an encoded word (RFC 2047), which the library decodes and writes out as it is, with
    line ends in it: the next line would be a field, or the text.
    """
    for name in dict.fromkeys(letter):
        values = [str(value) for value in letter.get_all(name, [])]
        if any(_CONTROL.search(value) for value in values):
            del letter[name]
            for value in values:
                letter[name] = _CONTROL.sub(" ", value).replace("=?", "= ?")


def _shown_to(to: Path) -> str:
    """Who is written to; nobody by name for an address that the library would take for encoded words."""
    return str(to) if "=?" not in str(to) else "undisclosed-recipients:;"
