"""Lends the interpreter to a thread for a moment, so that two busy threads do not tear at it.

Every call into LMDB lets go of the interpreter's lock. Beside a busy reactor the writer thread would have to win it
back a dozen times for each message, and each time both threads are put to sleep and woken. So the reactor's thread
stands aside, at most `LOAN_S`, while a group of writes runs. Nothing depends on it but speed: who waits too long goes
on.
"""

from collections.abc import Callable
from threading import Event
from typing import Any

LOAN_S = 0.004
"""How long the reactor's thread stands aside: below the 5 ms that nothing may block it."""
PATIENCE_S = 0.02
"""How long a thread asks for the loan before it goes on without."""


class Loan:
    """For one thread beside the reactor's, whose ``callFromThread`` this is: `begin`, work, `end`."""

    def __init__(self, call_from_thread: Callable[..., Any]) -> None:
        self._call_from_thread = call_from_thread
        self._returned: Event | None = None

    def begin(self) -> None:
        """Have the interpreter to itself when this returns, for `LOAN_S` at most."""
        lent, returned = Event(), Event()
        self._returned = returned
        self._call_from_thread(_stand_aside, lent, returned)
        lent.wait(PATIENCE_S)

    def end(self) -> None:
        """Give it back, if it was lent."""
        if self._returned is not None:
            self._returned.set()
            self._returned = None


def _stand_aside(lent: Event, returned: Event) -> None:
    """On the reactor's thread. A loan that is over before it began costs nothing."""
    lent.set()
    returned.wait(LOAN_S)
