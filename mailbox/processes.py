"""Which process this is, and whether another one still lives: for what a process leaves behind when it is killed."""

import os
import secrets
from functools import cache
from pathlib import Path

from certmaild.mailbox.layout import Stage

_PROC = Path("/proc")
_START_FIELD = 19
"""Of /proc/PID/stat after the command's name: field 22, the start in clock ticks since the boot."""

_ENDED = (b"Z", b"X")
"""States of a process that has ended, and whose parent has not asked how."""


@cache
def boot_id() -> bytes:
    """16 bytes that differ after each restart of the machine; random where the system has none to say."""
    try:
        return bytes.fromhex((_PROC / "sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return secrets.token_bytes(16)


def process_start(pid: int) -> int | None:
    """When a living process started, in clock ticks since the boot; 0 if unknown; None if there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
        fields = stat[stat.rindex(b")") + 2 :].split()
        return None if fields[0] in _ENDED else int(fields[_START_FIELD])
    except FileNotFoundError:
        if (_PROC / "self/stat").exists():
            return None
    except (OSError, ValueError, IndexError):
        pass
    return 0 if _answers(pid) else None


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def this_process(now_s: int) -> Stage:
    """The stage row of an upload that this process begins."""
    pid = os.getpid()
    return Stage(boot_id(), pid, process_start(pid) or 0, now_s)


def still_lives(stage: Stage) -> bool:
    """Whether the process that wrote a stage row runs."""
    if stage.boot_id != boot_id():
        return False
    started = process_start(stage.pid)
    return started is not None and stage.process_start in (0, started)
