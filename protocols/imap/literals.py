"""The literals of an APPEND as its command reads them: pulled from the session, the client told to send in time."""

from typing import Protocol

from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.events import LiteralChunk, LiteralDone, LiteralStarted, TextBehind


class Source(Protocol):
    """Where the pieces come from."""

    def accept_literal(self) -> None:
        """Tell the client to send."""

    async def next_piece(self) -> LiteralChunk | LiteralDone | TextBehind:
        """The next piece of the command. Raises `ConnectionGone`, `Bye`."""
        ...


class Literals:
    """A `LiteralStream`."""

    __slots__ = ("_literal", "_reading", "_size_limit", "_source")

    def __init__(self, source: Source, literal: LiteralStarted, size_limit: int) -> None:
        self._source = source
        self._literal: LiteralStarted | None = literal
        self._size_limit = size_limit
        self._reading = False

    @property
    def size(self) -> int:
        """Octets of the literal at hand."""
        return self._literal.size if self._literal else 0

    @property
    def binary(self) -> bool:
        """Whether it is a ``literal8``."""
        return self._literal is not None and self._literal.binary

    @property
    def more(self) -> bool:
        """Whether a literal is at hand that was not read to its end."""
        return self._literal is not None

    async def read(self) -> bytes:
        """The next octets, ``b""`` at the end; lets the client send first."""
        if self._literal is None:
            return b""
        if not self._reading:
            self._reading = True
            self._source.accept_literal()
        piece = await self._source.next_piece()
        if isinstance(piece, LiteralChunk):
            return piece.data
        self._literal = None
        return b""

    async def next_text(self) -> bytes:
        """The text behind the literal. Raises `No` (TOOBIG) when it announces one that is too large."""
        while await self.read():
            pass
        piece = await self._source.next_piece()
        assert isinstance(piece, TextBehind)
        self._literal, self._reading = piece.literal, False
        if piece.literal is not None and piece.literal.size > self._size_limit:
            raise No(b"Literal too large.", b"TOOBIG")
        return piece.text
