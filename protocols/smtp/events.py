"""What an SMTP session asks of its server: one value per thing to do."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import PlainCredentials
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments


class Signal(Enum):
    """What `Session.next_event` gives when there is no event."""

    NEED_DATA = auto()
    PAUSED = auto()
    YIELD = auto()
    """Enough for one turn: let others go first, then ask again."""


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED
YIELD: Final = Signal.YIELD


@dataclass(frozen=True, slots=True)
class StartTls:
    """Send what `take_output` holds, then shake hands and go on with a new session. Needs no answer."""


@dataclass(frozen=True, slots=True)
class LogIn:
    """AUTH gave these credentials; to be answered."""

    credentials: PlainCredentials


@dataclass(frozen=True, slots=True)
class Mail:
    """A sender; to be answered."""

    arguments: MailArguments


@dataclass(frozen=True, slots=True)
class Rcpt:
    """A recipient; to be answered."""

    arguments: RcptArguments


@dataclass(frozen=True, slots=True)
class Content:
    """Some octets of the message. Needs no answer."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class ContentEnd:
    """The message is complete; to be answered."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The transaction is dropped (RSET, EHLO, refused content). Needs no answer."""

    refusal: Refusal | None = None
    """Why the content was refused; the session answers it by itself."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Send what `take_output` holds, then close."""


Event = StartTls | LogIn | Mail | Rcpt | Content | ContentEnd | Aborted | Closed
