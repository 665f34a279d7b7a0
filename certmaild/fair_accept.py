"""Connections shared evenly among workers that accept from the same sockets.

The kernel wakes every worker for a new connection, and the first to ask gets it: left alone, one worker would serve
nearly everybody while all are idle. A worker that has more connections than another therefore steps back for a moment;
if nobody takes the connection, since the others are busy or gone, it does.
"""

from collections.abc import Callable
from typing import Any

YIELD_S = 0.002
AT_ONCE = 16
"""Connections taken together when nobody else came for them."""


def share_fairly(port: Any, reactor: Any, is_ahead: Callable[[], bool]) -> None:
    """Have a listening port of Twisted step back while ``is_ahead`` says that another worker has fewer connections."""
    accept: Callable[[], None] = port.doRead
    waited = False

    def come_back() -> None:
        nonlocal waited
        waited = True
        if port.connected:
            port.startReading()

    def do_read() -> None:
        nonlocal waited
        if not waited and is_ahead():
            port.stopReading()
            reactor.callLater(YIELD_S, come_back)
            return
        # One by one, so that a burst is shared as well. Twisted would take 100 and more.
        port.numberAccepts = AT_ONCE if waited else 1
        waited = False
        accept()

    port.doRead = do_read
