"""Takes messages from SMTP (DESIGN section 3, KEYS section 6).

Content goes, piece by piece, through the header edit into the blob writer and the MIME scanner. At its end
`certmaild.filing` commits everything in one transaction; only then is the message accepted.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.filing import DeliverySettings, Filing, Finished, InThread, held_until
from certmaild.guests.decision import Decided, Decisions
from certmaild.guests.invitations import Invitations
from certmaild.guests.marks import is_automatic_answer, read_marks
from certmaild.guests.trial import Asked, Trials
from certmaild.guests.trial_texts import ALONE as TRIAL_ALONE
from certmaild.inbound.inspection import NOT_LOOKED_AT, Inspection, Inspector, Verdict
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.blobs import BlobWriter
from certmaild.mailbox.cards import facts_of
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.errors import AddressError, StoreFull, StoreUnavailable
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.mime import Scanner
from certmaild.outbound.departure import Departure
from certmaild.outbound.dkim_sign import Signer
from certmaild.outbound.interfaces import Reporter
from certmaild.outbound.spool import Spool
from certmaild.protocols.interfaces import Login
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.interfaces import Hop
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments
from certmaild.protocols.smtp.xtext import encode_xtext
from certmaild.routing import Group, Invite, Refuse, Relay, Route, Router, Sealed, Service, Trial, Undecided
from certmaild.services.desk import ALONE, MOST_OCTETS, TOO_LONG, Desk
from certmaild.tally import Tally
from certmaild.trace import (
    MAX_RECEIVED,
    HeaderCollector,
    HeaderFacts,
    parse_authors,
    read_header,
)
from certmaild.unfinished import Unfinished

log = Logger()

EARLY_OCTETS = 256 * 1024
"""Content up to here is scanned and sealed at its end, in a row with other messages'; more of it as it comes."""
ROOM_TIME = 0.25
"""Seconds that an answer about free disk is good for; the commit itself checks again."""


NOT_YOURS = Refusal(550, "5.7.1", "Sender address is not yours")
TOO_LATE = Refusal(501, "5.5.4", "The message is to be held longer than this server does")
NO_ROOM = Refusal(452, "4.3.1", "Not enough storage, please try again later")
BUSY = Refusal(451, "4.3.0", "Storage not available, please try again later")
LOOP = Refusal(554, "5.4.6", "Too many Received fields, the message goes in circles")


NO_ROUTE = Refusal(550, "5.7.1", "No route to this recipient")
TOO_MANY = Refusal(550, "5.5.3", "This group has more members than a message may have recipients")
TOO_MANY_LATER = Refusal(452, "4.5.3", "Too many recipients with those of this group, send it another time")
EMPTY_GROUP = Refusal(550, "5.2.4", "Nobody is in this group")


class Delivery:
    """Reception of mail into the store: what `certmaild.protocols.smtp.interfaces.Reception` asks.

    ``others_first`` (`Turns.others_first`) lets the reactor hear everybody before messages are worked on;
    ``inspector`` looks at mail from other servers; ``desk`` takes what is written to service addresses;
    without ``decisions`` and ``invitations`` nobody becomes a guest, without ``trials`` nobody may try.
    """

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        directory: Directory,
        router: Router,
        settings: DeliverySettings,
        *,
        seconds: Callable[[], float],
        in_thread: InThread,
        others_first: Callable[[], Awaitable[None]] | None = None,
        random: Callable[[int], bytes] = os.urandom,
        tally: Tally | None = None,
        inspector: Inspector | None = None,
        spool: Spool | None = None,
        reporter: Reporter | None = None,
        signer: Callable[[], Signer | None] = lambda: None,
        desk: Desk | None = None,
        decisions: Decisions | None = None,
        invitations: Invitations | None = None,
        trials: Trials | None = None,
    ) -> None:
        self.engine = engine
        self.directory = directory
        self.router = router
        self.filing = Filing(
            engine,
            secrets,
            directory,
            settings,
            seconds=seconds,
            in_thread=in_thread,
            spool=spool,
            reporter=reporter,
            invitations=invitations,
        )
        self.decisions = decisions
        self.signer = signer
        self.desk = desk
        self.trials = trials
        self.seconds = seconds
        self.in_thread = in_thread
        self.others_first = others_first
        self.random = random
        self.inspector = inspector
        self.unfinished = Unfinished(settings.limits, tally)
        self._room = (0.0, 0)
        self._is_full = False

    @property
    def settings(self) -> DeliverySettings:
        """May be replaced at any time."""
        return self.filing.settings

    @settings.setter
    def settings(self, settings: DeliverySettings) -> None:
        self.filing.settings = settings

    async def begin(self, hop: Hop, mail: MailArguments) -> "MailTransaction":
        """A transaction.

        Raises `Refusal`: 452 4.3.1 without room, 550 5.7.1 for a sender that is not one's own, 501 5.5.4 for what is to
        be held too long.
        """
        now = self.seconds()
        if self._free_octets() <= mail.size:
            raise NO_ROOM
        if hop.login is not None and mail.reverse_path.local and not await self.owns(hop.login, str(mail.reverse_path)):
            raise NOT_YOURS
        if (held_until(mail, now) or 0) > now + self.filing.settings.limits.hold_time:
            raise TOO_LATE
        return MailTransaction(self, hop, mail, now)

    def _free_octets(self) -> int:
        """Room in the store, asked of the file system four times a second at most."""
        now = self.seconds()
        if not 0 <= now - self._room[0] < ROOM_TIME:
            self._room = (now, self.engine.free_octets())
            self._tell_of_room(is_full=self._room[1] <= 0)
        return self._room[1]

    def _tell_of_room(self, *, is_full: bool) -> None:
        """Log when mail begins and ceases to be refused for want of room."""
        if is_full and not self._is_full:
            log.warn("new mail is refused: the disk of the store has less than free_disk left; make room")
        elif self._is_full and not is_full:
            log.info("new mail is taken again: the disk of the store has more than free_disk left")
        self._is_full = is_full

    async def owns(self, login: Login, text: str) -> bool:
        """Whether an address is the account's own: its main one, an alias, either with a ``+tag``."""
        try:
            address = canonical(text)
        except AddressError:
            return False
        return await self.directory.owns(login.user_id, address)


class MailTransaction:
    """One message on its way in."""

    def __init__(self, delivery: Delivery, hop: Hop, mail: MailArguments, began_s: float) -> None:
        self._delivery = delivery
        self._hop = hop
        self._mail = mail
        self._counted_peer = None if hop.login is not None or hop.is_partner else hop.peer
        self._inspection: Inspection | None = None
        if hop.login is None and delivery.inspector is not None:
            self._inspection = delivery.inspector.begin(hop, mail)
        self._counted = 0
        self._began_s = began_s
        self._sealed: dict[bytes, tuple[Sealed, RcptArguments]] = {}
        self._outside: dict[bytes, tuple[Relay | Undecided, RcptArguments]] = {}
        self._invited: dict[bytes, tuple[Invite, RcptArguments]] = {}
        self._refused: list[tuple[Address, RcptArguments, Refusal]] = []
        """In groups, who could not be reached."""
        self._mark = ""
        self._is_written = False
        self._departure: Departure | None = None
        self._service: Service | None = None
        self._trial: Trial | None = None
        self.queue_id = delivery.random(6).hex()
        self._blob: BlobWriter | None = None
        self._scanner: Scanner | None = None
        self._header: HeaderCollector | None = None
        self._facts: HeaderFacts | None = None
        self._stored_header = b""
        self._has_ended = False
        self._early: list[bytes] = []

    async def add_recipient(self, recipient: RcptArguments) -> None:
        """Take one more; who is named twice, also by an alias, gets one copy."""
        if self._inspection is not None:
            self._inspection.check_recipient(recipient.forward_path)
        route = await self._route(recipient)
        if isinstance(route, Refuse):
            raise route.refusal
        if isinstance(route, Service):
            await self._add_service(route)
            return
        if self._service is not None:
            raise ALONE
        if self._trial is not None or isinstance(route, Trial):
            self._add_trial(route)
        elif isinstance(route, Group):
            await self._add_group(route, recipient)
        else:
            self._add(route, recipient)

    async def _route(self, recipient: RcptArguments) -> Route:
        login = self._hop.login
        return await self._delivery.router.route(
            recipient.forward_path,
            sender=None if login is None else login.address,
            declared_size=self._mail.size,
            require_tls=self._mail.require_tls,
            is_partner=self._hop.is_partner if self._inspection is None else self._inspection.proves_partner,
        )

    def _add(self, route: Route, recipient: RcptArguments) -> None:
        if isinstance(route, Sealed):
            self._sealed.setdefault(route.recipient.user_id, (route, recipient))
        elif isinstance(route, Invite):
            self._invited.setdefault(route.address.base.key, (route, recipient))
        elif isinstance(route, Relay | Undecided):
            self._outside.setdefault(route.address.key, (route, recipient))
            self._departure = self._departure or Departure(self._delivery.signer())
        else:
            raise Refusal(550, "5.7.1", "No route to this recipient")

    async def _add_group(self, group: Group, recipient: RcptArguments) -> None:
        """A copy for each member; of those who get none the sender hears. Raises `Refusal` if nobody gets one."""
        present = len(self._sealed) + len(self._outside) + len(self._invited)
        if present + len(group.members) > self._delivery.filing.settings.limits.expanded_recipients:
            raise TOO_MANY_LATER if present else TOO_MANY
        refused: list[tuple[Address, RcptArguments, Refusal]] = []
        for member in group.members:
            arguments = member_arguments(group, member, recipient)
            route = await self._route(arguments)
            if isinstance(route, Sealed | Invite | Relay | Undecided):
                self._add(route, arguments)
                continue
            refusal = route.refusal if isinstance(route, Refuse) else NO_ROUTE
            # Who is in it is told to nobody but members of this server.
            if await self._is_member():
                refused.append((member, arguments, refusal))
            else:
                text = f"{refusal.text} (somebody in this group)"
                refused.append((group.address, recipient, Refusal(refusal.code, refusal.enhanced, text)))
        if len(refused) == len(group.members):
            raise refused[0][2] if refused else EMPTY_GROUP
        self._refused += refused

    async def _is_member(self) -> bool:
        login = self._hop.login
        who = None if login is None else await self._delivery.directory.account(login.user_id)
        return who is not None and who.role.is_member

    def _add_trial(self, route: Route) -> None:
        trials = self._delivery.trials
        if trials is None or not isinstance(route, Trial) or self._sealed or self._trial is not None:
            raise Refusal(452, "4.5.3", TRIAL_ALONE)
        trials.check(str(self._mail.reverse_path))
        self._trial = route

    async def _add_service(self, service: Service) -> None:
        login, desk = self._hop.login, self._delivery.desk
        if login is None or desk is None:
            raise Refusal(550, "5.7.1", "No route to this recipient")
        if self._sealed or self._outside or self._invited or self._service is not None:
            raise ALONE
        await desk.check(login)
        self._service = service

    def write(self, content: bytes) -> Awaitable[None] | None:
        """Pass content on through the header edit."""
        blob, scanner, header = self._open()
        self._delivery.unfinished.take(self._counted_peer, len(content))
        self._counted += len(content)
        if self._service is not None and self._counted > MOST_OCTETS:
            raise TOO_LONG
        self._early.append(content)
        if self._counted <= EARLY_OCTETS:
            return None
        content, self._early = b"".join(self._early), []
        content = header.feed(content)
        if not content or self._trial is not None:
            return None
        if scanner.may_take_long(len(content)):
            return _answerable(self._take_slowly(content, blob, scanner))
        self._look_at(content, scanner)
        try:
            pause = blob.write(content)
        except StoreUnavailable as error:
            raise refusal_for(error) from error
        return None if pause is None else _answerable(pause)

    async def finish(self) -> str:
        """Seal for every recipient, commit, and give the queue id."""
        if self._service is not None:
            return await self._command(self._service)
        if self._trial is not None:
            return await self._ask_for(self._trial)
        if self._early and self._delivery.others_first is not None:
            # What came whole in one turn of the reactor is then worked on in a row, while code and tables are still in
            # the processor's caches.
            await self._delivery.others_first()
        blob, scanner, header = self._open()
        rest = header.feed(b"".join(self._early)) + header.finish()
        self._early = []
        try:
            if scanner.may_take_long(len(rest)):
                await self._take_slowly(rest, blob, scanner)
            elif rest:
                self._look_at(rest, scanner)
                if (pause := blob.write(rest)) is not None:
                    await pause
            await self._check_authors()
            verdict = await self._inspect()
            relays, refused = await self._decide()
            stored = await blob.finish()
            self._blob = None
        except StoreUnavailable as error:
            raise refusal_for(error) from error
        facts = facts_of(
            await self._delivery.in_thread(scanner.finish) if scanner.may_take_long() else scanner.finish()
        )
        stored = stored.with_facts(facts.frame)
        try:
            await self._delivery.filing.file(
                Finished(
                    self.queue_id,
                    self._hop,
                    self._mail,
                    stored,
                    facts,
                    self._began_s,
                    tuple(self._sealed.values()),
                    relays,
                    tuple(self._invited.values()),
                    refused,
                    self._stored_header,
                    self._departure,
                    verdict,
                    self._partners(),
                )
            )
        except BaseException as error:
            _let_run(stored.forget(self._delivery.engine))
            if isinstance(error, StoreUnavailable):
                raise refusal_for(error) from error
            raise
        finally:
            self._end()
        return self.queue_id

    async def _command(self, service: Service) -> str:
        """Have the desk answer; the content, all of which is in memory, is never stored."""
        login, desk = self._hop.login, self._delivery.desk
        assert login is not None and desk is not None
        _, _, header = self._open()
        content = header.feed(b"".join(self._early)) + header.finish()
        self._early, self._blob = [], None
        try:
            await self._check_authors()
            await desk.take(login, service, content)
        except StoreUnavailable as error:
            raise refusal_for(error) from error
        finally:
            self._end()
        return self.queue_id

    async def _ask_for(self, trial: Trial) -> str:
        """Have who writes a mailbox to try; the content was looked at as it came, and is never stored."""
        trials = self._delivery.trials
        assert trials is not None
        _, _, header = self._open()
        header.feed(b"".join(self._early))
        header.finish()
        self._early, self._blob = [], None
        try:
            verdict = await self._inspect()
            froms = () if self._facts is None else self._facts.froms
            asked = Asked(trial.address, str(self._mail.reverse_path), self._stored_header, froms, verdict)
            await trials.take(asked)
        except StoreUnavailable as error:
            raise refusal_for(error) from error
        finally:
            self._end()
        return self.queue_id

    def abort(self) -> None:
        """Drop it; what was staged goes to the collector."""
        self._end()
        if self._inspection is not None:
            self._inspection.cancel()
        blob, self._blob = self._blob, None
        if blob is not None:
            _let_run(blob.abort())

    async def _take_slowly(self, content: bytes, blob: BlobWriter, scanner: Scanner) -> None:
        await self._delivery.in_thread(partial(self._look_at, content, scanner))
        if self._has_ended:
            raise BUSY
        if (pause := blob.write(content)) is not None:
            await pause

    def _look_at(self, content: bytes, scanner: Scanner) -> None:
        scanner.feed(content)
        if self._departure is not None:
            self._departure.feed(content)

    def _open(self) -> tuple[BlobWriter, Scanner, HeaderCollector]:
        if self._has_ended:
            raise BUSY
        if self._blob is None or self._scanner is None or self._header is None:
            delivery = self._delivery
            limits = delivery.filing.settings.limits
            self._blob = BlobWriter(
                delivery.engine, delivery.seconds, padding=delivery.filing.settings.padding, random=delivery.random
            )
            self._scanner = limits.new_scanner()
            body = (lambda octets: None) if self._inspection is None else self._inspection.take_body
            self._header = HeaderCollector(self._edit, limit=limits.header_block, body=body)
        return self._blob, self._scanner, self._header

    def _end(self) -> None:
        self._has_ended = True
        self._delivery.unfinished.give_back(self._counted_peer, self._counted)
        self._counted = 0

    def _edit(self, header: bytes) -> bytes:
        header = self._stored_header = self._edited(header)
        if self._departure is not None:
            self._departure.take_header(header)
        return header

    def _edited(self, header: bytes) -> bytes:
        """The header as it is stored, the same for every recipient."""
        settings = self._delivery.filing.settings
        facts = self._facts = read_header(header, authserv_id=settings.hostname.encode())
        if facts.received > MAX_RECEIVED:
            raise LOOP
        if self._inspection is not None:
            self._inspection.take_header(header)
        if self._hop.login is None:
            return facts.header
        missing = b""
        if not facts.froms:
            # Without one nobody says whose message it is, and DKIM has nothing to sign (RFC 6409 section 8).
            missing += f"From: {canonical(self._hop.login.address).wire}\r\n".encode()
        if not facts.has_date:
            missing += b"Date: " + self._delivery.filing.date(self._delivery.seconds()) + b"\r\n"
        if not facts.has_message_id:
            name = self._delivery.random(16).hex()
            missing += f"Message-ID: <{name}@{settings.hostname}>\r\n".encode()
        marked = read_marks(facts.header)
        self._mark = marked.reason
        self._is_written = bool(self._mail.reverse_path.local) and not is_automatic_answer(facts.header)
        return missing + marked.header

    async def _decide(self) -> tuple[list[tuple[Relay, RcptArguments]], list[tuple[Address, RcptArguments, Refusal]]]:
        """Fix the routes that RCPT left open: who is outside, who cannot be reached. Raises `Refusal` if nobody can."""
        relays: list[tuple[Relay, RcptArguments]] = []
        undecided = [(one, given) for one, given in self._outside.values() if isinstance(one, Undecided)]
        decisions, decided = self._delivery.decisions, Decided()
        if decisions is not None and undecided:
            decided = await decisions.decide(undecided, self._mark, is_written=self._is_written)
            if self._has_ended:
                raise BUSY
        others = decided.others
        for one, given in self._outside.values():
            relay = decided.relays.get(one.address, one.relay) if isinstance(one, Undecided) else one
            if one.address not in others:
                relays.append((relay, given))
        for invite, given in decided.invited:
            self._invited.setdefault(invite.address.base.key, (invite, given))
        refused = [*self._refused, *decided.refused]
        if refused and not (self._sealed or relays or self._invited):
            raise refused[0][2]
        return relays, refused

    def _partners(self) -> Sequence[Address]:
        """Who wrote it in a proven partner's name."""
        if self._inspection is None or self._facts is None:
            return ()
        return self._inspection.partner_addresses(self._facts.froms)

    async def _check_authors(self) -> None:
        """On submission every From and Sender is one's own (PROTOCOLS section 7).

        What leaves bears an address of our domains: a guest's ordinary one is not ours to send from.
        """
        login, facts = self._hop.login, self._facts
        if login is None or facts is None:
            return
        seen: set[str] = set()
        for value in facts.authors:
            for author in parse_authors(value):
                if author not in seen and not await self._delivery.owns(login, author):
                    raise Refusal(550, "5.7.1", "From or Sender is not your address")
                seen.add(author)
        if self._outside and not all(self._is_ours(one) for one in (*seen, str(self._mail.reverse_path))):
            words = f"To write to other domains, put {login.address} into From (and the sender's address)"
            raise Refusal(550, "5.7.1", words)

    def _is_ours(self, address: str) -> bool:
        return not address or self._delivery.router.is_hosted(canonical(address).domain)

    async def _inspect(self) -> Verdict:
        if self._inspection is None or self._facts is None:
            return NOT_LOOKED_AT
        return await self._inspection.finish(self._facts.froms)


def member_arguments(group: Group, member: Address, recipient: RcptArguments) -> RcptArguments:
    """What RCPT would have said of a group's member; reports on him name the group (RFC 3461 section 4.2)."""
    local, _, domain = member.wire.rpartition("@")
    orcpt = recipient.orcpt
    if orcpt is None and group.address.wire.isascii():
        orcpt = b"rfc822;" + encode_xtext(group.address.wire.encode("ascii"))
    return replace(recipient, forward_path=Path(local, domain), orcpt=orcpt)


def refusal_for(error: StoreUnavailable) -> Refusal:
    """How SMTP says what the store could not do."""
    return NO_ROOM if isinstance(error, StoreFull) else BUSY


async def _answerable(pause: Awaitable[None]) -> None:
    try:
        await pause
    except StoreUnavailable as error:
        raise refusal_for(error) from error


def _let_run(work: Awaitable[None] | None) -> None:
    """Let clean-up run by itself; what it leaves behind the collector finds."""
    if work is not None:
        Deferred.fromCoroutine(_answerable(work)).addErrback(lambda failure: log.failure("clean-up", failure))
