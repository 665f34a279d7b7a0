"""The reactor's time, shared fairly by all sessions of a process: who has had a share lets the others go first.

A session works at once while the turn has time left, so that a lone client never waits. When sessions together have
used `TURN_S`, the reactor looks at its sockets and timers before any of them goes on; then each gets `SLICE_S` in
turn, those who have just been heard from before those who still work on what they sent long ago.
"""

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.protocols.transport import Clock

log = Logger()

TURN_S = 0.004
"""Work of all sessions together between two looks of the reactor at everything else."""
SLICE_S = 0.0005
"""What one session gets of it while others wait; one command at least."""

Go: TypeAlias = Callable[[], object]


class Turns:
    """One for all sessions of a process.

    A session brackets its work with `begin` and `end`, and asks `is_over` between two steps of it: if so, it puts
    itself into the queue with `later`, or awaits `others_first`. A ``go`` that waits already is not queued twice.
    """

    __slots__ = ("_began", "_clock", "_depth", "_due", "_fresh", "_used", "_waiting")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fresh: dict[Go, None] = {}
        self._waiting: dict[Go, None] = {}
        self._used = 0.0
        self._began = 0.0
        self._depth = 0
        self._due = False
        """The turn is over: all wait for `_next_turn`."""

    def begin(self, go: Go) -> bool:
        """Begin a session's work, until `end`; or False: the turn is over, and ``go`` is called in a later one."""
        if not self._depth:
            if self._due:
                if go not in self._waiting:
                    self._fresh[go] = None
                return False
            self._began = self._clock.seconds()
        self._depth += 1
        return True

    def end(self) -> None:
        """The session needs input, or waits for something else."""
        self._depth -= 1
        if not self._depth and not self._due:
            self._charge(self._clock.seconds() - self._began)

    def is_over(self) -> bool:
        """Whether the session at work has had its share."""
        if not self._depth:
            # Resumed by a commit or a thread, outside of `begin`: nobody noted when.
            if not self._due:
                self._charge(SLICE_S)
            return self._due
        took = self._clock.seconds() - self._began
        return took > SLICE_S if self._due else self._used + took > TURN_S

    def later(self, go: Go) -> None:
        """Call ``go`` when all who wait now have had their share."""
        self._fresh.pop(go, None)
        self._waiting[go] = None
        self._be_due()

    def others_first(self) -> "Deferred[None]":
        """Fires when all who wait now have had their share."""
        turn: Deferred[None] = Deferred()
        self.later(lambda: turn.callback(None))
        return turn

    def _charge(self, seconds: float) -> None:
        self._used += seconds
        if self._used >= TURN_S:
            self._be_due()

    def _be_due(self) -> None:
        if not self._due:
            self._due = True
            self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        """Give shares until the time of a turn is used. One who has waited begins, whoever else has come."""
        began = self._began = self._clock.seconds()
        queue = self._waiting or self._fresh
        while queue and self._began - began < TURN_S:
            go = next(iter(queue))
            del queue[go]
            self._depth = 1
            try:
                go()
            except Exception:
                log.failure("a session failed in its turn")
            self._depth = 0
            self._began = self._clock.seconds()
            queue = self._fresh or self._waiting
        self._used = 0.0
        self._due = False
        if queue:
            self._be_due()
