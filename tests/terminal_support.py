"""A screen program driven on a pseudo-terminal: keys in, text out."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path


class Terminal:
    """A program on a pseudo-terminal of 80 by 24, driven by its keys and read by what it writes; leave it by `with`."""

    def __init__(self, *words: str, home: Path) -> None:
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "vt100", "LANG": "C.UTF-8"}
        self._master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            words, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, cwd=home, start_new_session=True
        )
        os.close(terminal)
        self._written = b""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def wait_for(self, pattern: str, timeout_s: float = 30) -> str:
        """What was written up to and with ``pattern``, since it was last asked, without control sequences."""
        deadline = time.monotonic() + timeout_s
        while True:
            text = re.sub(
                rb"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78DEHM])|[\x0e\x0f]", b"", self._written
            ).decode()
            if found := re.search(pattern, text):
                self._written = b""
                return text[: found.end()]
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._master], [], [], left)[0]
            assert ready, f"{pattern!r} did not come: {text!r}"
            try:
                self._written += os.read(self._master, 65536)
            except OSError:  # The program has closed the terminal.
                raise AssertionError(f"{pattern!r} did not come before the end: {text!r}") from None

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def end(self, timeout_s: float = 30) -> int:
        """Wait for the program's own end, reading on meanwhile; its exit status."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None and time.monotonic() < deadline:
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    os.read(self._master, 65536)
                except OSError:
                    break
        return self._process.wait(max(1.0, deadline - time.monotonic()))
