"""Whose fault it was: the peer's branches and ours are different."""


class ProtocolError(Exception):
    """Base of this floor's errors."""


class GrammarError(ProtocolError):
    """The peer's bytes do not follow the grammar."""


class StateError(ProtocolError):
    """Well-formed, but not now."""
