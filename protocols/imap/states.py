"""The four states of an IMAP session and the legal moves between them (RFC 9051 section 3)."""

from enum import Enum
from typing import Final


class State(Enum):
    """Where the session stands."""

    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


class Move(Enum):
    """What leads from one state to another."""

    LOG_IN = "log in"
    SELECT = "select"
    UNSELECT = "unselect"
    LOG_OUT = "log out"


TRANSITIONS: Final[dict[tuple[State, Move], State]] = {
    (State.NOT_AUTHENTICATED, Move.LOG_IN): State.AUTHENTICATED,
    (State.AUTHENTICATED, Move.SELECT): State.SELECTED,
    (State.SELECTED, Move.SELECT): State.SELECTED,
    (State.AUTHENTICATED, Move.UNSELECT): State.AUTHENTICATED,
    (State.SELECTED, Move.UNSELECT): State.AUTHENTICATED,
    (State.NOT_AUTHENTICATED, Move.LOG_OUT): State.LOGOUT,
    (State.AUTHENTICATED, Move.LOG_OUT): State.LOGOUT,
    (State.SELECTED, Move.LOG_OUT): State.LOGOUT,
    (State.LOGOUT, Move.LOG_OUT): State.LOGOUT,
}
"""Absent means illegal. UNSELECT without a folder stays: a SELECT that fails deselects (RFC 9051 section 6.3.2)."""
