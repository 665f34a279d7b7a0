"""The states of a POP3 conversation and the legal moves between them (RFC 1939 section 3)."""

from enum import Enum, auto
from typing import Final


class State(Enum):
    """Where the conversation stands (RFC 1939 section 3; USER and AUTH have their own place)."""

    AUTHORIZATION = auto()
    NAMED = auto()
    """After USER."""
    EXCHANGE = auto()
    """Within AUTH."""
    LOGGING_IN = auto()
    TRANSACTION = auto()
    UPDATE = auto()
    CLOSED = auto()


class Move(Enum):
    """What changes the state."""

    USER = auto()
    AUTH = auto()
    CREDENTIALS = auto()
    REFUSED = auto()
    ACCEPTED = auto()
    COMMIT = auto()
    CLOSE = auto()


_BEFORE: Final = (State.AUTHORIZATION, State.NAMED)
TRANSITIONS: Final[dict[tuple[State, Move], State]] = {
    **{(state, Move.USER): State.NAMED for state in _BEFORE},
    **{(state, Move.AUTH): State.EXCHANGE for state in _BEFORE},
    (State.NAMED, Move.CREDENTIALS): State.LOGGING_IN,
    (State.EXCHANGE, Move.CREDENTIALS): State.LOGGING_IN,
    (State.NAMED, Move.REFUSED): State.AUTHORIZATION,
    (State.EXCHANGE, Move.REFUSED): State.AUTHORIZATION,
    (State.LOGGING_IN, Move.REFUSED): State.AUTHORIZATION,
    (State.LOGGING_IN, Move.ACCEPTED): State.TRANSACTION,
    (State.TRANSACTION, Move.COMMIT): State.UPDATE,
    **{(state, Move.CLOSE): State.CLOSED for state in State},
}
"""Legal moves; a missing pair is a mistake of this program."""
