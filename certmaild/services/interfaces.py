"""What the desk gives to whoever answers at one service address, and what it wants back."""

from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Protocol

from certmaild.mailbox.identifiers import Mid
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.protocols.interfaces import Login


def command_lines(subject: str, text: str, *, is_answer: bool) -> list[str]:
    """What may be a command: the subject, then the lines of the text; not the empty ones.

    Of an answer the first line of its text alone: how its mail program quotes is not always to be seen.
    """
    own = [line.strip() for line in text.split("\n") if line.strip()]
    if is_answer:
        return own[:1]
    return [line for line in (subject.strip(), *own) if line]


@dataclass(frozen=True, slots=True)
class Request:
    """A message to a service address, from an authenticated session of a user's own."""

    login: Login
    """Its keys are held until the answer is there, no longer."""
    service: str
    """The local part, lower-case: ``devices``."""
    domain: str
    """Of the address written to, as A-labels."""
    tag: str | None
    """Of ``devices+tag``."""
    subject: str
    """One line, without ``Re:`` and the like."""
    text: str
    """The first text part's own lines: without quotes and signature, ended by line feeds."""
    message_id: str | None
    in_reply_to: str | None
    """Message-IDs with their angle brackets."""
    is_answer: bool = False
    """To another message: its subject may be a stranger's words."""
    queue_ids: tuple[str, ...] = ()
    """What may be ids of queued messages, 12 hexadecimal digits each, from anywhere in the message: to be looked for,
    never obeyed."""

    @property
    def lines(self) -> list[str]:
        """What may be a command: see `command_lines`."""
        return command_lines(self.subject, self.text, is_answer=self.is_answer)


@dataclass(frozen=True, slots=True)
class Answer:
    """A letter, and what is done in the transaction that files it under this id in the requester's INBOX."""

    letter: EmailMessage
    also: Callable[[WriteTxn, Mid], None]
    """May be run again; a `Refusal` that it raises leaves nothing done, and is the answer to the message."""


class Clerk(Protocol):
    """Answers what is written to one service address."""

    async def answer(self, request: Request) -> EmailMessage | Answer | None:
        """Do what is asked and say so; None when the request was no command of his, and help is sent.

        What he changed is committed when he answers, or with the answer. From, To, Subject and threading are added
        where they are missing; the answer is sealed for the requester alone.
        """
        ...
