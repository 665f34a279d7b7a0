"""A server of `tests/*_daemon.py` in a process of its own, asked by lines on its standard input."""

import ssl
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

TESTS = Path(__file__).parent


class Program:
    """It prints its port and the file of its authority, answers each line with one, and ends with its input."""

    def __init__(self, name: str, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / name), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
        )
        assert self.process.stdout is not None
        port, authority = self.process.stdout.readline().split()
        self.port = int(port)
        self.context = ssl.create_default_context(cafile=authority)

    def ask(self, line: str) -> str:
        """What it answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0
