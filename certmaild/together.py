"""Lets the same work for several messages run in a row.

Sealing one message between reading sockets and speaking SMTP takes a third longer than sealing several one after the
other, since every time all its code and tables have left the processor's caches. So what came whole in one turn of the
reactor is worked on together at its end.
"""

from collections import deque

from twisted.internet.defer import Deferred

from certmaild.protocols.transport import Clock

TURN_S = 0.004
"""After so long the reactor looks at everything else first."""


class Together:
    """`joined` fires when the reactor has heard everybody; those who wait go on one after the other, in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[Deferred[None]] = deque()

    def joined(self) -> "Deferred[None]":
        """Await it before the work that is to run in a row."""
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._clock.callLater(0, self._go_on)
        return turn

    def _go_on(self) -> None:
        waiting, until = self._waiting, self._clock.seconds() + TURN_S
        while waiting:
            # Taken out last: who joins meanwhile finds the line going.
            waiting[0].callback(None)
            waiting.popleft()
            if self._clock.seconds() > until:
                break
        if waiting:
            self._clock.callLater(0, self._go_on)
