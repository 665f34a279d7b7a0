"""A message's octets: reading by offset over encrypted frames, and writing a new one with its scan."""

from typing import Protocol

from certmaild.mailbox.blobs import StoredBlob
from certmaild.mailbox.mime import Scan


class Content(Protocol):
    """The octets of ``BODY[]``: the recipient's trace prefix, then the blob (KEYS section 5.1)."""

    @property
    def size(self) -> int:
        """RFC822.SIZE."""

    @property
    def prefix(self) -> int:
        """Octets of the trace prefix: what to add to the offsets of the part table."""

    async def read(self, offset: int, length: int) -> bytes:
        """Octets from ``offset``, at most ``length`` and at most 256 KiB; empty at the end.

        Raises `MessageGone` when it was expunged and its frames are removed, `Damaged`.
        """

    async def whole(self) -> bytes:
        """All of it, checked against the digest; for messages up to 1 MiB."""


class MessageWriter(Protocol):
    """One message on its way in."""

    async def write(self, data: bytes) -> None:
        """Take the next octets, any number; returns when there is room for more."""

    async def finish(self) -> tuple[StoredBlob, Scan]:
        """Durable as far as staged; give both to `NewMessage`."""

    def abort(self) -> None:
        """Forget it; what was staged is removed."""
