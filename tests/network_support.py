"""A network of this machine's own for tests: a namespace with addresses of documentation networks, as root on Linux.

Sockets that the thread which entered it opens, and processes that it starts, are inside; nothing outside is reached.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

_NEW_NET = 0x40000000  # CLONE_NEWNET


@contextmanager
def private_network(addresses: Iterable[str]) -> Iterator[None]:
    """Be in a fresh network namespace whose loopback interface has these addresses beside its own."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("needs root on Linux, for a network namespace")
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEW_NET):
            pytest.skip(f"no network namespace to be had: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            for address in addresses:
                length = 128 if ":" in address else 32
                extra = ["nodad"] if length == 128 else []
                subprocess.run(["ip", "address", "add", f"{address}/{length}", "dev", "lo", *extra], check=True)
            yield
        finally:
            if libc.setns(outside, _NEW_NET):
                raise OSError(ctypes.get_errno(), "cannot go back to the network that was left")
    finally:
        os.close(outside)
