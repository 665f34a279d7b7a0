"""Calls that may come a little early, so that those of many sessions come together.

A session that is woken alone finds none of its objects in the processor's caches, which costs several times what it
then does. In a round with others it costs a fraction, and the reactor keeps one timer for them all.
"""

from collections.abc import Callable

from twisted.logger import Logger

from certmaild.protocols.transport import Clock, Timer

log = Logger()

EARLY = 1 / 16
"""Part of the time asked for by which a call may come before it, never after."""


class Rounds:
    """One for all sessions of a process. At most one call of a callable is due."""

    __slots__ = ("_calls", "_clock", "_next_s", "_timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[Callable[[], object], tuple[float, float]] = {}
        """When each may come at the earliest, and must come at the latest."""
        self._timer: Timer | None = None
        self._next_s = 0.0

    def add(self, call: Callable[[], object], seconds: float) -> None:
        """Have it called once, after so many seconds or somewhat fewer."""
        at_latest = self._clock.seconds() + seconds
        self._calls[call] = (at_latest - EARLY * seconds, at_latest)
        self._come_by(at_latest)

    def drop(self, call: Callable[[], object]) -> None:
        """Call it no more; nothing if it was not due."""
        self._calls.pop(call, None)
        if not self._calls and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __contains__(self, call: Callable[[], object]) -> bool:
        """Whether it is still to be called."""
        return call in self._calls

    def _come_by(self, at_latest: float) -> None:
        if self._timer is not None:
            if self._next_s <= at_latest:
                return
            self._timer.cancel()
        self._next_s = at_latest
        self._timer = self._clock.callLater(max(0.0, at_latest - self._clock.seconds()), self._round)

    def _round(self) -> None:
        """Call whoever is due, or nearly so."""
        self._timer = None
        now = self._clock.seconds()
        for call in [call for call, (at_earliest, _) in self._calls.items() if at_earliest <= now]:
            # Unless one before it dropped it.
            if self._calls.pop(call, None) is not None:
                try:
                    call()
                except Exception:
                    log.failure("a session failed in its round")
        if self._calls:
            self._come_by(min(at_latest for _, at_latest in self._calls.values()))
