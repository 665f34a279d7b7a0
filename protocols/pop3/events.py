"""What a POP3 session asks of its server: one value per thing to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from certmaild.protocols.pop3.grammar import Credentials


class Signal(Enum):
    """What `Session.next_event` gives when there is no event."""

    NEED_DATA = auto()
    PAUSED = auto()
    """An event waits for its answer."""
    MORE = auto()
    """Lines are left; ask again once other connections had their turn."""


@dataclass(frozen=True, slots=True)
class LogIn:
    """To be answered by `accept` or `refuse`."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Send:
    """Send these pieces, then `done`."""

    pieces: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Retrieve:
    """RETR, or TOP with ``lines``: send the message at ``index``, then `done`; or `refuse`."""

    index: int
    lines: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """QUIT: remove the messages at these indexes, then `done` or `refuse`; the session is at its end."""

    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """Send what `take_output` holds, then close."""


Event = LogIn | Send | Retrieve | Update | Closed
