"""The one thing that a connection does when time is up."""

from collections.abc import Callable

from certmaild.protocols.transport import Clock, Timer


class Countdown:
    """At most one call is due: setting it again cancels the one before."""

    __slots__ = ("_clock", "_timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: Timer | None = None

    def set(self, seconds: float, call: Callable[[], object]) -> None:
        """Call after so many seconds."""
        self.cancel()
        self._timer = self._clock.callLater(seconds, call)

    def cancel(self) -> None:
        """Call nothing."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
