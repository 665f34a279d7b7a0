"""A real, running reactor for tests of what waits on sockets: it turns in a thread of its own."""

import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread

T = TypeVar("T")
_lock = threading.Lock()
_thread: threading.Thread | None = None


def running_reactor() -> Any:
    """The global reactor, started at the first call, and until the process ends."""
    global _thread
    from twisted.internet import reactor

    with _lock:
        if _thread is None:
            begun = threading.Event()
            reactor.callWhenRunning(begun.set)  # type: ignore[attr-defined]
            run = reactor.run  # type: ignore[attr-defined]
            _thread = threading.Thread(target=run, kwargs={"installSignalHandlers": False}, daemon=True)
            _thread.start()
            assert begun.wait(30)
    return reactor


def on_reactor(work: Callable[[], "Coroutine[Any, Any, T] | T"]) -> T:
    """What ``work`` gives or raises, run (and awaited, if it gives a coroutine) on the reactor's thread."""

    def begin() -> Any:
        given = work()
        return Deferred.fromCoroutine(given) if isinstance(given, Coroutine) else given

    return blockingCallFromThread(running_reactor(), begin)  # type: ignore[no-any-return]
