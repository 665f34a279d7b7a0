"""The states of an SMTP conversation and the legal moves between them (RFC 5321 section 4.1.4, RFC 3030)."""

from enum import Enum, auto
from typing import Final


class State(Enum):
    """Where the conversation stands."""

    CONNECTED = auto()
    IDENTIFIED = auto()
    SENDER = auto()
    RECIPIENTS = auto()
    DATA = auto()
    CHUNKS = auto()
    """Between BDAT chunks of one message."""
    CHUNK = auto()
    """Inside a BDAT chunk."""
    LAST_CHUNK = auto()
    AUTH = auto()
    STARTING_TLS = auto()
    CLOSED = auto()


class Move(Enum):
    """What changes the state; a command counts once it is accepted."""

    HELO = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    BDAT = auto()
    BDAT_LAST = auto()
    CHUNK_END = auto()
    CONTENT_END = auto()
    RSET = auto()
    AUTH = auto()
    AUTH_END = auto()
    STARTTLS = auto()
    CLOSE = auto()


_TALKING = (State.CONNECTED, State.IDENTIFIED, State.SENDER, State.RECIPIENTS, State.CHUNKS)

TRANSITIONS: Final[dict[tuple[State, Move], State]] = {
    **{(state, Move.HELO): State.IDENTIFIED for state in _TALKING},
    (State.IDENTIFIED, Move.MAIL): State.SENDER,
    (State.SENDER, Move.RCPT): State.RECIPIENTS,
    (State.RECIPIENTS, Move.RCPT): State.RECIPIENTS,
    (State.RECIPIENTS, Move.DATA): State.DATA,
    (State.RECIPIENTS, Move.BDAT): State.CHUNK,
    (State.RECIPIENTS, Move.BDAT_LAST): State.LAST_CHUNK,
    (State.CHUNKS, Move.BDAT): State.CHUNK,
    (State.CHUNKS, Move.BDAT_LAST): State.LAST_CHUNK,
    (State.CHUNK, Move.CHUNK_END): State.CHUNKS,
    (State.CHUNK, Move.CONTENT_END): State.IDENTIFIED,
    (State.LAST_CHUNK, Move.CONTENT_END): State.IDENTIFIED,
    (State.DATA, Move.CONTENT_END): State.IDENTIFIED,
    (State.CONNECTED, Move.RSET): State.CONNECTED,
    **{(state, Move.RSET): State.IDENTIFIED for state in _TALKING[1:]},
    (State.IDENTIFIED, Move.AUTH): State.AUTH,
    (State.AUTH, Move.AUTH_END): State.IDENTIFIED,
    (State.CONNECTED, Move.STARTTLS): State.STARTING_TLS,
    (State.IDENTIFIED, Move.STARTTLS): State.STARTING_TLS,
    **{(state, Move.CLOSE): State.CLOSED for state in State},
}
"""Legal moves; a missing pair is a bad sequence of commands."""
