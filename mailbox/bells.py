"""Bells: how a process that has committed wakes the others, so that none need look for changes many times a second.

Each serving process has a named pipe in one directory, 0700, and reads from it; who committed writes one octet to each.
What changed stands in the ring of the store (`certmaild.mailbox.ring`), never here: a bell that is rung for nothing
costs a look, one that is not heard costs the time until the next look that is made anyway.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

log = Logger()

PAUSE_S = 0.005
"""After a look a process does not hear its bell for so long: the commits of a burst are looked at together."""
_AT_ONCE = 4096
_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Reactor(Protocol):
    """What a bell needs of the reactor (`IReactorFDSet`, `IReactorTime`)."""

    def addReader(self, reader: object) -> None:
        """Call its ``doRead`` when there is something to read."""
        ...

    def removeReader(self, reader: object) -> None:
        """No longer."""
        ...

    def callLater(self, delay: float, callable: Callable[[], object]) -> object:
        """Run something later."""
        ...


class Bells:
    """The others' bells, to be rung on one thread.

    ``slot`` is the own number, whose bell is not rung, and ``slots`` the highest number of the daemon's processes; the
    command line has no number and finds the bells that are there.
    """

    def __init__(self, directory: Path, *, slot: int | None = None, slots: int | None = None) -> None:
        self.directory = directory
        self._names = None if slots is None else [str(one) for one in range(slots + 1) if one != slot]
        self._open: dict[str, int] = {}

    def ring(self) -> None:
        """Wake every other process that listens. Never waits, never raises."""
        for name in self._found() if self._names is None else self._names:
            # A pipe that is full wakes its reader already.
            with suppress(BlockingIOError):
                if not self._ring(name):
                    self._ring(name)

    def _found(self) -> Iterable[str]:
        try:
            return [one.name for one in self.directory.iterdir()]
        except OSError:
            return ()

    def _ring(self, name: str) -> bool:
        """Ring one. False if it was open and its reader is gone: another may listen by that name."""
        pipe = self._open.get(name)
        if pipe is None:
            try:
                pipe = self._open[name] = os.open(self.directory / name, os.O_WRONLY | _FLAGS)
            except OSError:
                # Nobody listens there, or no more files may be open.
                return True
        try:
            os.write(pipe, b"\0")
        except BrokenPipeError:
            os.close(self._open.pop(name))
            return False
        return True

    def close(self) -> None:
        """Let go of all."""
        while self._open:
            os.close(self._open.popitem()[1])


@implementer(IReadDescriptor)
class Bell:
    """The own bell, from `hang` to `take_down`."""

    def __init__(self, directory: Path, slot: int, reactor: Reactor) -> None:
        self._path = directory / str(slot)
        self._reactor = reactor
        self._heard: Callable[[], object] = lambda: None
        self._ends: list[int] = []
        self._later: Any = None

    def hang(self, heard: Callable[[], object]) -> None:
        """Call ``heard`` when somebody rings, on the reactor's thread. Where no pipe can be made, say so in the log."""
        try:
            self._make()
        except OSError as fault:
            log.warn("no pipe at {path}, so changes are seen late: {fault}", path=str(self._path), fault=str(fault))
            return
        self._heard = heard
        self._listen()

    def _make(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What a killed process left: who still has that open finds nobody reading, and opens ours.
        self._path.unlink(missing_ok=True)
        os.mkfifo(self._path, 0o600)
        # With an end for writing of our own there is no end of file when others go.
        for way in (os.O_RDONLY, os.O_WRONLY):
            self._ends.append(os.open(self._path, way | _FLAGS))

    def _listen(self) -> None:
        self._later = None
        self._reactor.addReader(self)

    def fileno(self) -> int:
        """For the reactor."""
        return self._ends[0] if self._ends else -1

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "bell"

    def doRead(self) -> None:
        """Called by the reactor: somebody rang. Emptied first, so that whoever rings from now on is heard again."""
        with suppress(BlockingIOError):
            os.read(self._ends[0], _AT_ONCE)
        self._reactor.removeReader(self)
        self._later = self._reactor.callLater(PAUSE_S, self._listen)
        self._heard()

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor when it stops, or reading failed."""
        self.take_down()

    def take_down(self) -> None:
        """Listen no more, and leave nothing behind; may be called twice."""
        if not self._ends:
            return
        if self._later is not None:
            self._later.cancel()
            self._later = None
        else:
            self._reactor.removeReader(self)
        while self._ends:
            os.close(self._ends.pop())
        self._path.unlink(missing_ok=True)
