"""One IMAP command as the session hands it over: tag, name, and its arguments with literals in place."""

from dataclasses import dataclass
from typing import Protocol

from certmaild.protocols.errors import GrammarError


class LiteralStream(Protocol):
    """The message literals of an APPEND, taken in as they arrive (RFC 9051 section 6.3.12, RFC 3502).

    The command's text so far ends where the literal stands. Read it to its end (`read` until ``b""``), then ask
    `next_text` for what stands behind it; while `more` is true another literal follows that text. A command that
    raises instead need not read on: what the client still sends is thrown away.
    """

    @property
    def size(self) -> int:
        """Octets of the literal at hand, within the message size limit."""
        ...

    @property
    def binary(self) -> bool:
        """Whether it is a ``literal8`` (RFC 3516)."""
        ...

    @property
    def more(self) -> bool:
        """Whether a literal is at hand that was not read to its end."""
        ...

    async def read(self) -> bytes:
        """The next octets (up to what one read of the socket gave), ``b""`` at the end; lets the client send first."""
        ...

    async def next_text(self) -> bytes:
        """The text behind the literal, up to the next one or to the end of the command."""
        ...


@dataclass(slots=True)
class Command:
    """A command to run.

    ``name`` is in capitals, with its prefix for ``UID`` commands (``b"UID FETCH"``). ``arguments`` alternate between
    text (even places, at least one) and literal octets (odd places); the ``{n}`` announcements and the final CRLF are
    taken out, the space after the name too. Of an APPEND only a literal in the place of the folder name is here: its
    messages come by ``stream``, always.
    """

    tag: bytes
    name: bytes
    arguments: tuple[bytes, ...]
    stream: LiteralStream | None = None

    @property
    def by_uid(self) -> bool:
        """Whether it is the ``UID`` form of the command."""
        return self.name.startswith(b"UID ")

    def no_arguments(self) -> None:
        """Raises `GrammarError` when anything stands behind the name (a space there is forgiven)."""
        if self.arguments not in ((b"",), (b" ",)):
            raise GrammarError("no arguments expected")
