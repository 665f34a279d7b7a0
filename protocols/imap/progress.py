"""What a client is told while a command takes long (RFC 9585), so that it does not take the server for dead."""

from types import TracebackType

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.tokens import quote

PERIOD_S = 10.0
"""RFC 9585 section 4: every 10 to 15 seconds."""


class InProgress:
    """While it is entered, INPROGRESS comes every `PERIOD_S`, so nothing else may be written piece by piece.

    ``goal`` counts what there is to do, at least 1; `done` how much of it is done.
    """

    def __init__(self, context: Context, command: Command, goal: int) -> None:
        self._context = context
        # A response code ends at the first "]".
        self._tag = b"NIL" if b"]" in command.tag else quote(command.tag)
        self._goal = goal
        self.done = 0

    def __enter__(self) -> "InProgress":
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call_off()

    def _begin(self) -> None:
        self._call_off = self._context.wire.later(PERIOD_S, self._tell)

    def _tell(self) -> None:
        done = min(self.done, self._goal - 1)
        self._context.untagged(b"OK [INPROGRESS (%b %d %d)] Still at work." % (self._tag, done, self._goal))
        self._begin()
