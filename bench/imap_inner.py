"""What one IMAP command costs inside the server, without sockets: microseconds a message, on the memory engine.

Run: ``PYTHONPATH=.:tests python bench/imap_inner.py [MESSAGES]``.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from imap_support import House, Line

HEADER = (
    b"From: Ann Smith <ann%d@example.org>\r\nTo: joe@example.com, bob@example.com\r\nSubject: hello number %d\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <%d@example.org>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
)
COMMANDS = (
    b"FETCH 1:* FLAGS",
    b"UID FETCH 1:* (UID FLAGS)",
    b"FETCH 1:* FAST",
    b"FETCH 1:* (UID ENVELOPE)",
    b"FETCH 1:* BODYSTRUCTURE",
    b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)]",
    b"FETCH 1:* BODY.PEEK[]",
    b"FETCH 1:* BODY[]",
    b"STORE 1:* +FLAGS (\\Flagged)",
    b"SEARCH UNSEEN",
    b"COPY 1:* Trash",
)


def measure(house: House, line: Line, command: bytes) -> float:
    """The best of three, in seconds."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        answer = line.send(b"x " + command + b"\r\n")
        house.clock.advance(0)
        answer += line.take()
        best = min(best, time.perf_counter() - began)
        assert b"x OK" in answer[-120:], answer[-120:]
    return best


def main() -> None:
    """Print a line a command."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as directory:
        house = House(Path(directory))
        body = os.urandom(4500).hex().encode() + b"\r\n"
        house.deliver(*[HEADER % (n, n, n) + body for n in range(messages)])
        line = house.select()
        for command in COMMANDS:
            print(f"{measure(house, line, command) * 1e6 / messages:9.2f} us  {command.decode()}")


if __name__ == "__main__":
    main()
