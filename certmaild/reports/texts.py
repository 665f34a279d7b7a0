"""Every sentence that the server writes to senders. One value a language; no sentence stands anywhere else.

``{...}`` is filled in by `certmaild.reports.words`. Lines are wrapped there; no text holds a link, and none may.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from certmaild.outbound.interfaces import Occasion


class Advice(Enum):
    """What the reader can do now."""

    ADDRESS = auto()
    MAILBOX_FULL = auto()
    TOO_LARGE = auto()
    NOT_ASCII = auto()
    NEEDS_REQUIRETLS = auto()
    UNPROVEN = auto()
    REFUSED = auto()
    OWN_RULES = auto()
    UNREACHED = auto()
    LATER = auto()
    WAIT = auto()
    WAIT_UNPROVEN = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Texts:
    """One language."""

    language: str
    """For Content-Language (RFC 3282)."""
    subject: Mapping[Occasion, str]
    opening: Mapping[Occasion, str]
    several: str
    """In a subject, for more than one recipient."""
    author: str
    """Display name of the server as a writer."""
    your_message: str
    subject_line: str
    """Empty where the subject is not the reader's own."""
    to: str
    happened: str
    answer: str
    why: str
    relayed: str
    proven: str
    unverified: str
    in_clear: str
    delivered: str
    attempts: str
    until: str
    advice_title: str
    advice: Mapping[Advice, str]
    closing: str
    link_left_out: str


ENGLISH = Texts(
    language="en",
    subject={
        Occasion.FAILED: "Not delivered: your message to {whom}",
        Occasion.DELAYED: "Not delivered yet: your message to {whom}",
        Occasion.WARNED: "Held back: your message to {whom}",
        Occasion.RELAYED: "Handed on: your message to {whom}",
        Occasion.DELIVERED: "Delivered: your message to {whom}",
    },
    opening={
        Occasion.FAILED: "Your message was not delivered, and nothing more will be tried.",
        Occasion.DELAYED: "Your message is not delivered yet. It is kept here and will be tried again.",
        Occasion.WARNED: "Your message is held back here, because the way to its recipient is not safe.",
        Occasion.RELAYED: "Your message was handed to the recipient's mail server.",
        Occasion.DELIVERED: "Your message lies in the recipient's mailbox.",
    },
    several="{count} recipients",
    author="Mail server {hostname}",
    your_message="Your message was taken here on {date}.",
    subject_line="Its subject is: {subject}",
    to="To {address}",
    happened="What happened: {words}",
    answer="The answer of {host}: {reply}",
    why="Why this way: {reason}.",
    relayed="What happened: the server {host} took the message and answers for it from now on. It will send no word"
    " when the message arrives.",
    proven="The connection was encrypted by {version}, and the server proved who it is ({how}).",
    unverified="The connection was encrypted by {version}; who the server is was not proven, as agreed for this"
    " destination.",
    in_clear="The connection was not encrypted, as agreed for this destination.",
    delivered="What happened: the message was sealed for the recipient and put into the mailbox.",
    attempts="Tries so far: {attempts}.",
    until="It will be tried until {date}.",
    advice_title="What you can do: {advice}",
    advice={
        Advice.ADDRESS: "look for a typing mistake in the address, or ask the recipient for the right one; then send"
        " the message again.",
        Advice.MAILBOX_FULL: "tell the recipient another way that the mailbox is full, and send the message again when"
        " there is room.",
        Advice.TOO_LARGE: "send it in several smaller messages.",
        Advice.NOT_ASCII: "ask the recipient for an address that is written in plain English letters; that server"
        " cannot take any other.",
        Advice.NEEDS_REQUIRETLS: "send it again without asking for TLS on the whole way, if the content allows it; the"
        " servers there do not promise it.",
        Advice.UNPROVEN: "reach the recipient another way, and tell the people who run that mail server what happened."
        " Nothing was sent in clear. Send the message again when they have mended it.",
        Advice.REFUSED: "ask the recipient to show the answer above to the people who run that mail server: it refuses"
        " the message by its own rules.",
        Advice.OWN_RULES: "ask the people who run this server; their address is below.",
        Advice.UNREACHED: "reach the recipient another way, or send the message again later.",
        Advice.LATER: "send the message again later.",
        Advice.WAIT: "just wait. If it is urgent, reach the recipient another way.",
        Advice.WAIT_UNPROVEN: "just wait. Nothing was sent in clear, and the message goes out as soon as that server"
        " proves itself. If it is urgent, reach the recipient another way, and tell the people who run that"
        " mail server what happened.",
        Advice.NOTHING: "nothing is to be done.",
    },
    closing="This was written by the mail server {hostname}. Nobody reads replies to it; the people who run this"
    " server have the address {postmaster}.",
    link_left_out="[link left out]",
)

_CALL = (
    "tell the recipient another way, such as by telephone, that your message waits. What he or she needs to read it is"
    " said in the message about the code that you have had."
)

NOTICE = replace(
    ENGLISH,
    subject={
        Occasion.FAILED: "Not notified: {whom}",
        Occasion.DELAYED: "Not notified yet: {whom}",
        Occasion.WARNED: "Not notified yet: {whom}",
        Occasion.RELAYED: "Notified: {whom}",
        Occasion.DELIVERED: "Notified: {whom}",
    },
    opening={
        Occasion.FAILED: "Your message waits, sealed, in the recipient's mailbox here. But the notice that tells the"
        " recipient of it could not be delivered, so nobody but you knows that it is there.",
        Occasion.DELAYED: "Your message waits, sealed, in the recipient's mailbox here. But the notice that tells the"
        " recipient of it could not be delivered so far. It will be tried again.",
        Occasion.WARNED: "Your message waits, sealed, in the recipient's mailbox here. But the notice that tells the"
        " recipient of it is held back, because the way to his or her mail server is not safe.",
        Occasion.RELAYED: "The notice that your message waits was handed to the recipient's mail server.",
        Occasion.DELIVERED: "The notice that your message waits was delivered.",
    },
    your_message="The notice was written on {date}.",
    subject_line="",
    advice={
        **dict.fromkeys(Advice, _CALL),
        Advice.ADDRESS: "see whether the address is right. If it is wrong, send your message again to the right one:"
        " nobody opens the mailbox of the wrong one without the code. If it is right, " + _CALL,
        Advice.NOTHING: ENGLISH.advice[Advice.NOTHING],
        Advice.WAIT: "just wait, or " + _CALL,
        Advice.WAIT_UNPROVEN: "just wait, or " + _CALL,
    },
)
"""Of a notice to a guest, for who wrote to him."""
