"""One message to a partner under the terms of his record, sent at once and not by the queue: its outcome is seen."""

import textwrap
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import SMTP

from certmaild.outbound.departure import Departure
from certmaild.outbound.dkim_sign import Signer
from certmaild.outbound.interfaces import Courier, Planner, Terms
from certmaild.outbound.values import (
    BodyKind,
    Destination,
    Envelope,
    Fate,
    Notify,
    OutgoingMessage,
    Problem,
    Recipient,
    RouteKind,
)
from certmaild.partners.record import PartnerRecord
from certmaild.partners.writing import summary
from certmaild.protocols.smtp.grammar import Path
from certmaild.trace import format_date

TEXT = """\
This is a trial message; it needs no answer.

The administrators of {ours} and {theirs} are setting up
their mail servers so that each proves to the other whom it is. This message
went out under the terms that are agreed on:

{terms}

If you did not expect it, please tell {contact}.
"""


def trial_letter(record: PartnerRecord, sender: str, to: str, hostname: str, *, now_s: float, token: str) -> bytes:
    """The message, complete and in ASCII. ``token`` makes its Message-ID unlike any other."""
    letter = EmailMessage(SMTP)
    ours = sender.rpartition("@")[2]
    letter["From"], letter["To"] = sender, to
    letter["Subject"] = f"Trial of secure mail between {ours} and {record.domain}"
    letter["Date"] = format_date(now_s).decode("ascii")
    letter["Message-ID"] = f"<trial.{token}@{hostname}>"
    letter["Auto-Submitted"] = "auto-generated"
    terms = textwrap.fill(summary(record), 72, initial_indent="  ", subsequent_indent="  ")
    text = TEXT.format(ours=ours, theirs=record.domain, terms=terms, contact=sender)
    letter.set_content(text)
    return letter.as_bytes()


def signed(letter: bytes, signer: Signer, now_s: float) -> bytes:
    """With DKIM signatures, where there are keys."""
    departure = Departure(signer)
    departure.take_header(letter[: letter.index(b"\r\n\r\n") + 2])
    departure.feed(letter)
    return departure.signatures(now_s) + letter


async def send_trial(planner: Planner, courier: Courier, domain: str, sender: Path, to: Path, content: bytes) -> Fate:
    """What became of it. ``planner`` must know the record as one in force."""
    plan = await planner.plan(Destination(RouteKind.PARTNER, domain), Terms.NORMAL)
    if isinstance(plan, Problem):
        return plan
    connection = await courier.connect(plan)
    if isinstance(connection, Problem):
        return connection
    recipient = Recipient(to, RouteKind.PARTNER, "a trial of the partner's terms", frozenset({Notify.NEVER}))

    async def octets() -> AsyncIterator[bytes]:
        yield content

    message = OutgoingMessage(Envelope(sender, BodyKind.SEVEN_BIT), (recipient,), len(content), octets)
    fates = await connection.send(message, lambda: None)
    await connection.close()
    return fates[recipient]
