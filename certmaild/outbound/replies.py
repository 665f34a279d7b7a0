"""What a server's reply means for the sender: a `Problem` in plain words (RFC 5321 section 4.2, RFC 3463)."""

from typing import Final

from certmaild.outbound.values import Problem
from certmaild.protocols.smtp.client.grammar import Reply

_MEANING: Final = {
    "1.0": "the address is wrong",
    "1.1": "there is no such mailbox",
    "1.2": "it does not know the domain of the address",
    "1.3": "the address is not written correctly",
    "1.4": "the address is not unique",
    "1.6": "the mailbox has moved",
    "1.7": "it does not accept the sender's address",
    "1.8": "it does not accept the sender's domain",
    "1.10": "the domain takes no mail",
    "2.0": "something is wrong with the mailbox",
    "2.1": "the mailbox is switched off",
    "2.2": "the mailbox is full",
    "2.3": "the message is too large for the mailbox",
    "2.4": "the mailing list cannot be expanded",
    "3.1": "its disk is full",
    "3.2": "it takes no mail at the moment",
    "3.4": "the message is too large",
    "4.5": "it is overloaded",
    "4.6": "the message goes in circles",
    "5.3": "these are too many recipients at once",
    "6.0": "it does not accept the form of the message",
    "6.7": "it does not take addresses outside ASCII",
    "7.26": "the sender's domain did not prove the message's origin (SPF, DKIM, DMARC)",
    "7.30": "it cannot promise to pass the message on by TLS only",
}
"""By subject and detail of the enhanced code."""
_LATER: Final = "cannot take the message now, and asks to try again later"
_NEVER: Final = "refuses the message"
TOO_MANY_RECIPIENTS = "5.5.3"


def problem_of(reply: Reply, host: str) -> Problem:
    """The fate of a recipient, or of a whole message, that a server has refused."""
    subject = reply.enhanced.partition(".")[2]
    permanent = reply.is_permanent and reply.enhanced != TOO_MANY_RECIPIENTS
    verb = f"{_NEVER}" if permanent else _LATER
    meaning = _MEANING.get(subject)
    if meaning is None and subject.startswith("7."):
        meaning = "that is its policy"
    words = f"The server {host} {verb}: {meaning}." if meaning else f"The server {host} {verb}."
    enhanced = reply.enhanced if permanent == reply.is_permanent else "4.5.3"
    return Problem(
        permanent,
        reply.code if permanent == reply.is_permanent else 452,
        enhanced or f"{5 if permanent else 4}.0.0",
        words,
        host,
        str(reply),
    )
