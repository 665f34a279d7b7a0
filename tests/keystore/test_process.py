"""No core dumps, no reading of this process's memory by others."""

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_hardened_process_is_not_dumpable() -> None:
    script = (
        "import ctypes, resource\n"
        "from certmaild.keystore.process import harden\n"
        "harden()\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["0", "(0, 0)\n"]
