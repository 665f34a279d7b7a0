"""What a command needs from its connection."""

from typing import Protocol

from certmaild.protocols.interfaces import Login


class Wire(Protocol):
    """The connection of one session, as commands see it."""

    @property
    def peer(self) -> str:
        """The client's IP address."""

    @property
    def compressing(self) -> bool:
        """Whether COMPRESS is on."""

    def write(self, data: bytes) -> None:
        """Send octets in order; never blocks (see `flush`)."""

    async def flush(self) -> None:
        """Wait until the client has read enough for more to be written. Raises `ConnectionGone`."""

    async def read_line(self, limit: int) -> bytes:
        """The next line without CRLF. Raises `ConnectionGone`, and `Bye` above ``limit`` octets."""

    async def changed(self, timeout_s: float) -> bool:
        """Wait for the mailbox to change, a line to come, or the time to pass; whether a line has come."""

    def watch_mailbox(self) -> None:
        """Begin to note changes of the mailbox that was opened, for `changed` and for a revoked login."""

    async def log_in(self, username: bytes, password: bytes) -> Login:
        """Prove a user; raises as `Gatekeeper.log_in` does."""

    def compress(self) -> None:
        """From the next octet on both directions are deflated (RFC 4978)."""
