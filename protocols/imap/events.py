"""What an IMAP session gives its server to do, and the literals that it announces."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from certmaild.protocols.imap.command import Command


@dataclass(frozen=True, slots=True)
class LiteralStarted:
    """A literal of a streamed command is announced; `Session.accept_literal` or `refuse_literal` answers it."""

    size: int
    binary: bool
    synchronizing: bool


@dataclass(frozen=True, slots=True)
class CommandReady:
    """A command to run: complete, or (with ``literal``) as far as its first streamed literal."""

    command: Command
    literal: LiteralStarted | None = None


@dataclass(frozen=True, slots=True)
class LiteralChunk:
    """Octets of the streamed literal."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LiteralDone:
    """The streamed literal has ended."""


@dataclass(frozen=True, slots=True)
class TextBehind:
    """Text behind a streamed literal, up to the next one or to the end of the command."""

    text: bytes
    literal: LiteralStarted | None


@dataclass(frozen=True, slots=True)
class Reply:
    """Octets to send at once; then, with ``close``, the end."""

    data: bytes
    close: bool = False


class Waiting(Enum):
    """No event: why."""

    NEED_DATA = auto()
    PAUSED = auto()


NEED_DATA: Final = Waiting.NEED_DATA
PAUSED: Final = Waiting.PAUSED
Event = CommandReady | LiteralChunk | LiteralDone | TextBehind | Reply | Waiting
