"""What each step costs that the octets of a large attachment go through, without sockets and store.

Prints seconds of CPU for 10^9 octets of base64, each step alone, in pieces of one frame.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable

from figures import print_figure

from certmaild.keystore.primitives import open_frame, seal_frame
from certmaild.mailbox.decoding import Base64Decoder
from certmaild.mailbox.mime import Scanner
from certmaild.mailbox.packing import pack, unpack
from certmaild.protocols.pop3.grammar import Stuffer
from certmaild.protocols.smtp.content import ChunkContent, DataContent

ROUNDS = 100
HEADER = (
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: image/png\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n"
)


def main() -> None:
    """Time each step."""
    octets = base64.encodebytes(os.urandom(57 * 3360)).replace(b"\n", b"\r\n")
    packed, key, context = pack(octets), os.urandom(32), b"a frame's place"
    sealed = seal_frame(key, context, packed)
    scanner = Scanner()
    scanner.feed(HEADER)
    by_data, by_chunks, dots = DataContent(normalise=False), ChunkContent(), Stuffer()
    steps: dict[str, Callable[[], object]] = {
        "in: undo DATA": lambda: by_data.feed(octets),
        "in: undo BDAT": lambda: by_chunks.feed(octets),
        "in: MIME scanner": lambda: scanner.feed(octets),
        "in and out: SHA-256": lambda: hashlib.sha256(octets),
        "in: zstd": lambda: pack(octets),
        "in: Cobblestone": lambda: seal_frame(key, context, packed),
        "out: Cobblestone": lambda: open_frame(key, context, sealed),
        "out: zstd": lambda: unpack(packed, len(octets)),
        "out: POP3 dots": lambda: dots.feed(octets),
        "out: BINARY": lambda: Base64Decoder().feed(octets),
    }
    for name, step in steps.items():
        begun = time.process_time()
        for _ in range(ROUNDS):
            step()
        spent = time.process_time() - begun
        print_figure(name, cpu_s_per_gb=spent / ROUNDS / len(octets) * 1e9)


if __name__ == "__main__":
    main()
