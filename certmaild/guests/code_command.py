"""``[invite] code_command``: the operator's program that carries pickup codes, such as by SMS.

It reads the code, one line, from its standard input; the guest's ordinary address, his account name and the sender
stand behind its own arguments. What it prints is thrown away: a code stands in no log.
"""

import os
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from certmaild.keystore.codes import Code

log = Logger()
T = TypeVar("T")

TIME_S = 30
AT_ONCE = 2
"""Programs that run at a time in one process: each takes a thread."""


class InThread(Protocol):
    """Runs work off the reactor's thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class CodeCommand:
    """Runs the command that is set at the time, if there is one."""

    def __init__(self, command: Callable[[], tuple[str, ...]], in_thread: InThread) -> None:
        self._command = command
        self._in_thread = in_thread
        self._turns = DeferredSemaphore(AT_ONCE)

    @property
    def is_set(self) -> bool:
        """Whether codes are carried."""
        return bool(self._command())

    async def carry(self, code: Code, address: str, account: str, sender: str) -> bool:
        """Have the code carried; whether the program says so, within 30 s.

        Not for an address that begins with a dash, which the program would take for an option.
        """
        command = self._command()
        if not command:
            return True
        arguments = (address, account, sender)
        if any(one.startswith("-") for one in arguments):
            log.warn("the code command is not run for an address that begins with a dash")
            return False
        await self._turns.acquire()
        try:
            ended = await self._in_thread(partial(_run, [*command, *arguments], code.text))
        finally:
            self._turns.release()
        if ended is not None:
            log.error("the code command failed: {ended}", ended=ended)
        return ended is None


def _run(argv: list[str], code: str) -> str | None:
    """None when it went well; else how it ended, without what it said."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    try:
        ended = subprocess.run(
            argv,
            input=code.encode("ascii") + b"\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            timeout=TIME_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it ran for more than {TIME_S} seconds and was ended"
    except OSError as fault:
        return f"it could not be run: {fault.strerror}"
    return f"its exit status is {ended.returncode}" if ended.returncode else None
