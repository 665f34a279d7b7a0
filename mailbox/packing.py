"""Compression by zstd. Each thread has contexts of its own: one that two threads use at once gives wrong octets."""

from threading import local

import zstandard

from certmaild.mailbox.errors import Damaged


class _Contexts(local):
    """One thread's."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def pack(octets: bytes | memoryview, level: int = 3) -> bytes:
    """One zstd frame."""
    compressor = _contexts.compressors.get(level)
    if compressor is None:
        compressor = _contexts.compressors[level] = zstandard.ZstdCompressor(level=level, write_checksum=False)
    return compressor.compress(octets)


def unpack(packed: bytes | memoryview, most_octets: int) -> bytes:
    """The octets of one zstd frame, at most so many. Raises `Damaged`."""
    try:
        return _contexts.decompressor.decompress(packed, max_output_size=most_octets)
    except zstandard.ZstdError as broken:
        raise Damaged("compressed octets") from broken


def unpack_all(packed: bytes | memoryview, octets: int) -> bytearray:
    """The octets of zstd frames end to end, which must be so many. Raises `Damaged`."""
    content = bytearray(octets)
    try:
        reader = _contexts.decompressor.stream_reader(packed, read_across_frames=True)
        if (octets and reader.readinto(content) != octets) or reader.read(1):
            raise Damaged("length of compressed octets")
    except zstandard.ZstdError as broken:
        raise Damaged("compressed octets") from broken
    return content
