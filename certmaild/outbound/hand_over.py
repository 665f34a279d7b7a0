"""Messages handed over on one open connection: what the server must be able to do, what became of each recipient."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from certmaild.mailbox.addresses import canonical_domain
from certmaild.mailbox.errors import AddressError
from certmaild.outbound.replies import problem_of
from certmaild.outbound.values import BodyKind, Delivered, Envelope, Fate, OutgoingMessage, Problem, Recipient
from certmaild.protocols.smtp.client.connection import ClientConnection, Sent
from certmaild.protocols.smtp.client.grammar import Offers, Reply, format_rcpt
from certmaild.protocols.smtp.grammar import NULL_PATH, Path
from certmaild.protocols.smtp.parameters import DeliverBy, MailArguments, RcptArguments
from certmaild.protocols.transport import Clock

MESSAGES = 500
"""On one connection, where the server says no less (LIMITS MAILMAX, RFC 9422)."""
_MIB = 1 << 20


class HandOver:
    """One connection on which messages are sent: `certmaild.outbound.interfaces.CourierConnection`."""

    def __init__(self, connection: ClientConnection, host: str, clock: Clock) -> None:
        """``connection`` has said hello and proved what it must."""
        self._connection = connection
        self._host = host
        self._clock = clock
        self._left = min(MESSAGES, connection.offers.mail_max or MESSAGES)

    @property
    def is_open(self) -> bool:
        """Whether another message may be sent."""
        return self._left > 0 and self._connection.is_ready

    async def send(self, message: OutgoingMessage, last_octets: Callable[[], None]) -> Mapping[Recipient, Fate]:
        """Send a message; the fate of each recipient."""
        now = int(self._clock.seconds())
        offers = self._connection.offers
        problem = self._unable(message, now)
        if problem is not None:
            return dict.fromkeys(message.recipients, problem)
        mail = mail_of(message.envelope, message.size, now)
        taken = message.recipients[: offers.rcpt_max]
        fates: dict[Recipient, Fate] = dict.fromkeys(message.recipients[len(taken) :], self._too_many())
        wanted = {}
        for recipient in taken:
            rcpt = RcptArguments(_path(recipient.path, mail.utf8), recipient.notify, recipient.orcpt)
            try:
                format_rcpt(rcpt, offers, utf8=mail.utf8)
            except ValueError:
                fates[recipient] = self._unspeakable()
            else:
                wanted[recipient] = rcpt
        if wanted:
            self._left -= 1
            sent = await self._connection.send(mail, list(wanted.values()), message.content, last_octets)
            for recipient, reply in zip(wanted, sent.replies, strict=True):
                fates[recipient] = self._fate(reply, sent)
        return fates

    async def close(self) -> None:
        """QUIT, and a moment for the reply."""
        await self._connection.quit()

    def _fate(self, reply: Reply | None, sent: Sent) -> Fate:
        if reply is not None and reply.is_positive:
            connection = self._connection
            return Delivered(self._host, str(reply), connection.proof, connection.offers.dsn)
        if reply is not None:
            return problem_of(reply, self._host)
        why = sent.over.words if sent.over else "it did not answer"
        words = f"The server {self._host} did not answer for the message: {why}. It is tried again."
        return Problem(False, 451, "4.4.2", words, self._host)

    # What the server must be able to do

    def _unable(self, message: OutgoingMessage, now: int) -> Problem | None:
        """Why this server cannot have this message, before a word is said."""
        envelope, offers, host = message.envelope, self._connection.offers, self._host
        if envelope.require_tls and (problem := self.unable_to_require_tls()):
            return problem
        if envelope.needs_utf8 and not offers.utf8:
            words = (
                f"The message has characters in its addresses or header that the server {host} cannot take: "
                "it does not offer internationalised mail (SMTPUTF8)."
            )
            return Problem(True, 553, "5.6.7", words, host)
        if offers.size and message.size > offers.size:
            words = (
                f"The message is too large for the server {host}: it has {message.size / _MIB:.1f} MiB, "
                f"and {offers.size / _MIB:.1f} MiB are allowed there."
            )
            return Problem(True, 552, "5.3.4", words, host)
        return self._unable_in_time(envelope, offers, now)

    def unable_to_require_tls(self) -> Problem | None:
        """Why no message with REQUIRETLS may be sent here (RFC 8689 section 4.2.1)."""
        proof = self._connection.proof
        if proof is None or not proof.verified:
            words = f"The sender demands proven TLS all the way, and the server {self._host} has not proven itself."
            return Problem(False, 451, "4.7.5", words, self._host, concerns_tls=True)
        if not self._connection.offers.require_tls:
            words = (
                f"The sender demands TLS all the way (REQUIRETLS), and the server {self._host} does not promise it. "
                "The message can be sent without that demand."
            )
            return Problem(True, 550, "5.7.30", words, self._host, concerns_tls=True)
        return None

    def _unable_in_time(self, envelope: Envelope, offers: Offers, now: int) -> Problem | None:
        """RFC 2852 section 4."""
        if envelope.deliver_by_s is None or not envelope.by_mode.startswith("R"):
            return None
        left = envelope.deliver_by_s - now
        if left <= 0 or (offers.deliver_by and left < offers.deliver_by_minimum):
            return Problem(True, 554, "5.4.7", "The time that the sender gave for delivery is over.", self._host)
        if not offers.deliver_by:
            words = f"The server {self._host} promises no time of delivery (DELIVERBY), as the sender asks."
            return Problem(True, 554, "5.3.3", words, self._host)
        return None

    def _too_many(self) -> Problem:
        words = f"The server {self._host} takes fewer recipients at once; this one follows."
        return Problem(False, 452, "4.5.3", words, self._host)

    def _unspeakable(self) -> Problem:
        words = f"The address has characters that the server {self._host} cannot take."
        return Problem(True, 553, "5.6.7", words, self._host)


def mail_of(envelope: Envelope, size: int, now: int) -> MailArguments:
    """What MAIL is to say of a message, at a time in seconds since 1970.

    SMTPUTF8 is asked for only where the message needs it: a server that does not offer it can then have the others.
    """
    by = None
    if envelope.deliver_by_s is not None:
        modes = envelope.by_mode
        by = DeliverBy(envelope.deliver_by_s - now, returns=modes.startswith("R"), traces=modes.endswith("T"))
    return MailArguments(
        _path(envelope.reverse_path, envelope.needs_utf8),
        size=size,
        utf8=envelope.needs_utf8,
        # What is stored was recoded: nothing goes out as BINARYMIME.
        body=BodyKind.SEVEN_BIT if envelope.body is BodyKind.SEVEN_BIT else BodyKind.EIGHT_BIT,
        require_tls=envelope.require_tls,
        returns_full=not (envelope.returns_headers_only or envelope.require_tls),
        envid=envelope.envid,
        priority=envelope.priority,
        deliver_by=by,
    )


def _path(path: Path, utf8: bool) -> Path:
    """With a domain in A-labels where only ASCII may go."""
    if utf8 or path == NULL_PATH or path.domain.isascii():
        return path
    try:
        return replace(path, domain=canonical_domain(path.domain))
    except AddressError:
        return path
