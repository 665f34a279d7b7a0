"""The states of a conversation as the client sees it, and the legal moves (RFC 5321 section 4.1.4, RFC 2033, 3030)."""

from enum import Enum, auto
from typing import Final


class State(Enum):
    """Where the conversation stands."""

    CONNECTED = auto()
    """Waiting for the greeting."""
    GREETED = auto()
    """EHLO or LHLO was sent."""
    FALLING_BACK = auto()
    """HELO was sent."""
    READY = auto()
    STARTING_TLS = auto()
    IN_HANDSHAKE = auto()
    """This session is over; a new one begins inside TLS."""
    AUTHENTICATING = auto()
    ENVELOPE = auto()
    """MAIL and RCPT are under way, with pipelining DATA too."""
    GOING_AHEAD = auto()
    """DATA was sent by itself."""
    CONTENT = auto()
    ENDING = auto()
    """The content is sent; its reply, or a reply for each recipient (LMTP), is awaited."""
    RESETTING = auto()
    QUITTING = auto()
    CLOSED = auto()


class Move(Enum):
    """What changes the state."""

    GREETING = auto()
    EHLO_REFUSED = auto()
    HELLO = auto()
    START_TLS = auto()
    TLS_READY = auto()
    TLS_REFUSED = auto()
    LOG_IN = auto()
    LOGGED_IN = auto()
    SEND = auto()
    ASK_FOR_DATA = auto()
    GO_AHEAD = auto()
    NOBODY = auto()
    """No recipient was taken, but DATA was: an empty content follows (RFC 2920 section 3.1)."""
    END = auto()
    OVER = auto()
    RSET = auto()
    QUIT = auto()
    CLOSE = auto()


TRANSITIONS: Final[dict[tuple[State, Move], State]] = {
    (State.CONNECTED, Move.GREETING): State.GREETED,
    (State.GREETED, Move.EHLO_REFUSED): State.FALLING_BACK,
    (State.GREETED, Move.HELLO): State.READY,
    (State.FALLING_BACK, Move.HELLO): State.READY,
    (State.READY, Move.START_TLS): State.STARTING_TLS,
    (State.STARTING_TLS, Move.TLS_READY): State.IN_HANDSHAKE,
    (State.STARTING_TLS, Move.TLS_REFUSED): State.READY,
    (State.READY, Move.LOG_IN): State.AUTHENTICATING,
    (State.AUTHENTICATING, Move.LOGGED_IN): State.READY,
    (State.READY, Move.SEND): State.ENVELOPE,
    (State.ENVELOPE, Move.ASK_FOR_DATA): State.GOING_AHEAD,
    (State.ENVELOPE, Move.GO_AHEAD): State.CONTENT,
    (State.GOING_AHEAD, Move.GO_AHEAD): State.CONTENT,
    (State.ENVELOPE, Move.NOBODY): State.ENDING,
    (State.ENVELOPE, Move.OVER): State.READY,
    (State.ENVELOPE, Move.RSET): State.RESETTING,
    (State.GOING_AHEAD, Move.RSET): State.RESETTING,
    (State.CONTENT, Move.END): State.ENDING,
    (State.CONTENT, Move.RSET): State.RESETTING,
    (State.ENDING, Move.RSET): State.RESETTING,
    (State.ENDING, Move.OVER): State.READY,
    (State.RESETTING, Move.OVER): State.READY,
    (State.READY, Move.QUIT): State.QUITTING,
    **{(state, Move.CLOSE): State.CLOSED for state in State},
}
"""Legal moves; a missing pair is a mistake of the caller."""
