"""Lends the interpreter to a thread for a moment, so that two busy threads do not tear at it.

Every call into LMDB lets go of the interpreter's lock. Beside a busy reactor the writer thread would have to win it
back a dozen times for each message, and each time both threads are put to sleep and woken: measured, a fifth of all
CPU. So the reactor's thread stands aside, at most `LOAN_S`, while a group of writes runs. Nothing depends on it but
speed: who waits too long goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

LOAN_S = 0.004
"""How long the reactor's thread stands aside: below the 5 ms that nothing may block it."""
PATIENCE_S = 0.02
"""How long a thread asks for the loan before it goes on without."""


@contextmanager
def borrowed(call_from_thread: Callable[..., Any]) -> Iterator[None]:
    """In another thread than the reactor's: what runs inside has the interpreter to itself, for `LOAN_S` at most."""
    lent, returned = Event(), Event()
    call_from_thread(_stand_aside, lent, returned)
    lent.wait(PATIENCE_S)
    try:
        yield
    finally:
        returned.set()


def _stand_aside(lent: Event, returned: Event) -> None:
    """On the reactor's thread. A loan that is over before it began costs nothing."""
    lent.set()
    returned.wait(LOAN_S)
