"""Keep secrets in this process: no core dumps, no reading through /proc by processes of the same user."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def harden() -> None:
    """Forbid core dumps and attaching debuggers (Linux; elsewhere only the former). Called before keys are read.

    A forked child inherits the first; the second falls back at exec, so an exec'd worker calls this again.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
