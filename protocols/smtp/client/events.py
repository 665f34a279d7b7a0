"""What a client's session tells: one value for each thing that the server decided."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from certmaild.protocols.smtp.client.grammar import Offers, Reply


class Signal(Enum):
    """What `Session.next_event` gives when there is no event."""

    NEED_DATA = auto()


NEED_DATA: Final = Signal.NEED_DATA


@dataclass(frozen=True, slots=True)
class Hello:
    """He answered EHLO, HELO or LHLO."""

    offers: Offers


@dataclass(frozen=True, slots=True)
class TlsReady:
    """Shake hands now, and go on with a new session."""


@dataclass(frozen=True, slots=True)
class TlsRefused:
    """He offered STARTTLS and will not."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """AUTH succeeded."""


@dataclass(frozen=True, slots=True)
class Refused:
    """He will not talk to us at all: greeting, EHLO or AUTH refused. Send what `take_output` holds, then close."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Decided:
    """The fate of one recipient of the transaction, by his index."""

    index: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class ContentWanted:
    """Somebody will have it: `write` the content, then `finish`."""


@dataclass(frozen=True, slots=True)
class Over:
    """Every recipient is decided, and another transaction may begin."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Close. A reply counts for all that is undecided; without one he said QUIT's, or nothing that helps."""

    reply: Reply | None = None


Event = Hello | TlsReady | TlsRefused | LoggedIn | Refused | Decided | ContentWanted | Over | Closed
