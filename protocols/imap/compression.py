"""COMPRESS=DEFLATE (RFC 4978), with bounded memory and no compression context shared by two messages."""

import zlib

from certmaild.protocols.imap.errors import Bye

WINDOW_BITS = 12
MEMORY_LEVEL = 5
LEVEL = 6
INFLATE_OCTETS = 64 * 1024
"""Most that one step makes of received octets, so that a small bomb never becomes a large buffer."""


class Deflation:
    """Both directions of a compressed connection."""

    __slots__ = ("_full", "_in", "_out", "_unfinished", "_waiting")

    def __init__(self) -> None:
        self._out = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
        # A client may use the largest window whatever ours is.
        self._in = zlib.decompressobj(-zlib.MAX_WBITS)
        self._waiting = b""
        self._full = False
        self._unfinished = False

    def deflate(self, data: bytes, *, end: bool) -> bytes:
        """Compressed octets; ``end`` brings out all of it and forgets it, so that nothing later refers to it."""
        packed = self._out.compress(data)
        self._unfinished = self._unfinished or bool(data)
        if end and self._unfinished:
            self._unfinished = False
            packed += self._out.flush(zlib.Z_FULL_FLUSH)
        return packed

    def receive(self, data: bytes) -> None:
        """Take octets from the connection."""
        self._waiting += data

    @property
    def is_full(self) -> bool:
        """Whether so much waits that the client should."""
        return len(self._waiting) >= INFLATE_OCTETS

    def inflate(self) -> bytes:
        """The next octets in clear, at most `INFLATE_OCTETS`; empty when more must be received first.

        Raises `Bye` for what is not deflated, or when the client ended the stream.
        """
        if not self._waiting and not self._full:
            return b""
        try:
            clear = self._in.decompress(self._waiting, INFLATE_OCTETS)
        except zlib.error:
            raise Bye(b"The compressed data is damaged.") from None
        self._waiting = self._in.unconsumed_tail
        self._full = len(clear) == INFLATE_OCTETS
        if self._in.eof:
            raise Bye(b"The compressed data has ended.")
        return clear
