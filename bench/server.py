"""What every server under measurement offers, certmaild and its peers alike."""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from usage import Meter

START_TIME_S = 60
STOP_TIME_S = 60
LISTENERS = ("imaps", "pop3s", "smtp", "submission", "submissions")


@dataclass(slots=True)
class Account:
    """One user as a client knows him."""

    address: str
    password: str
    recovery_code: str = ""


def free_ports(count: int) -> list[int]:
    """Ports that nobody had a moment ago on 127.0.0.1."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Server:
    """A server in a folder of its own, on free ports of 127.0.0.1, its CPU and memory counted."""

    readable_at_250: ClassVar[bool]
    """Whether a message can be read once its 250 is sent; else it waits in a queue first."""

    folder: Path
    domain: str = "example.com"
    ports: dict[str, int] = field(default_factory=dict)
    meter: Meter | None = field(default=None, init=False)
    kept: dict[str, Account] = field(default_factory=dict, init=False)
    """Accounts that a workload uses again in its next round, by name."""

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that clients must trust."""
        raise NotImplementedError

    def add_users(self, names: list[str]) -> list[Account]:
        """Make ``name@domain`` for each."""
        raise NotImplementedError

    def start(self) -> "Server":
        """Start it and wait until every listener answers."""
        raise NotImplementedError

    def stop(self) -> object:
        """End it; returns when every process has gone."""
        raise NotImplementedError

    def tls_context(self) -> ssl.SSLContext:
        """A client context that verifies the server's certificate against its own CA."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def cpu_s(self) -> float:
        """Seconds of CPU, user and system, that all its processes have used since it started."""
        assert self.meter is not None
        return self.meter.cpu_s()

    def anonymous_kib(self) -> int:
        """RssAnon of all its processes: LMDB's map, which the kernel can drop at any time, is not in it."""
        assert self.meter is not None
        return self.meter.anonymous_kib()

    def proportional_kib(self) -> int:
        """Pss of all its processes: a page shared by many counts once in total."""
        assert self.meter is not None
        return self.meter.proportional_kib()

    def peak_kib(self) -> int:
        """VmHWM: the peak resident size, mapped files included, of its largest process."""
        assert self.meter is not None
        return self.meter.peak_kib()

    def _await_listeners(self, check: Callable[[], None]) -> None:
        """Return when every port answers; ``check`` raises if the server has given up."""
        deadline = time.monotonic() + START_TIME_S
        for port in self.ports.values():
            while True:
                check()
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
