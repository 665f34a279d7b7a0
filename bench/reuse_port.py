"""`twistd` with listening sockets for each worker (SO_REUSEPORT) instead of shared ones: `ingest.py --reuse-port`.

Only to compare: the kernel then gives each new connection to a worker by a hash of its addresses, without asking who
has how many, and what waits at a worker that dies is lost.
"""

import socket
import sys
from typing import Any

from twisted.internet.posixbase import PosixReactorBase

from certmaild import house, listeners, supervisor, worker
from certmaild.listeners import BACKLOG, BoundSocket

kept: list[socket.socket] = []


def bound(address: str, port: int, *, listens: bool) -> socket.socket:
    """A socket that shares its port; one that does not listen is given no connection."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((address, port))
    if listens:
        made.listen(BACKLOG)
    return made


def supervise() -> None:
    """Be `twistd`, whose workers are given sockets of their own."""
    open_plainly, spawn_plainly = supervisor.WorkerProcess.open, PosixReactorBase.spawnProcess

    def open_apart(self: supervisor.WorkerProcess, shared: list[BoundSocket], **message: object) -> None:
        own = [BoundSocket(one.listener, bound(*one.socket.getsockname(), listens=True)) for one in shared]
        kept.extend(one.socket for one in own)
        open_plainly(self, own, **message)

    def spawn(self: Any, protocol: Any, executable: str, args: list[str], *rest: Any, **more: Any) -> Any:
        return spawn_plainly(
            self, protocol, executable, [executable, "-P", __file__, "worker", args[-1]], *rest, **more
        )

    listeners._socket = lambda address, port: bound(address, port, listens=False)
    supervisor.WorkerProcess.open = open_apart
    PosixReactorBase.spawnProcess = spawn
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        # Nobody else could take what a worker that steps back leaves.
        house.share_fairly = lambda *_: None
        worker.main(sys.argv[2:])
    else:
        supervise()
