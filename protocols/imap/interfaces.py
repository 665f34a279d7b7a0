"""What a command needs from its connection."""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from certmaild.protocols.interfaces import Login


class Woken(Enum):
    """Why `Wire.wait` came back."""

    INPUT = "the client sent something"
    CHANGE = "the mailbox changed"
    TIME = "the time has passed"


class Wire(Protocol):
    """The connection of one session, as commands see it."""

    @property
    def compressing(self) -> bool:
        """Whether COMPRESS is on."""
        ...

    def write(self, data: bytes) -> None:
        """Send octets in order; never blocks (see `flush`)."""

    def separate(self) -> None:
        """What follows shares no compression context with what went before: called between two messages."""

    async def flush(self) -> None:
        """Wait until the client has read enough for more to be written. Raises `ConnectionGone`."""

    async def read_line(self, limit: int) -> bytes:
        """The next line without CRLF. Raises `ConnectionGone`, and `Bye` above ``limit`` octets."""
        ...

    async def wait(self, timeout_s: float) -> Woken:
        """Wait for input, a change of the mailbox or the time. Raises `ConnectionGone`, and `Bye` on shut-down."""
        ...

    def later(self, seconds: float, work: Callable[[], None]) -> Callable[[], None]:
        """Do something after so long, and send what it wrote; what is given back calls it off. Not once closed."""
        ...

    async def log_in(self, username: bytes, password: bytes) -> Login:
        """Prove a user and open the session to him; raises as `Gatekeeper.log_in` and `open_mailbox` do."""
        ...

    async def introduce(self) -> None:
        """Tell who watches clients what this one says of itself, if it is logged in. Raises `LogInForbidden`."""

    def compress(self) -> None:
        """From the next octet on both directions are deflated (RFC 4978)."""
