"""Starting the other programs of this folder: generators in processes of their own, and the peer."""

import os
import subprocess
import sys
from pathlib import Path


def start(name: str, *words: object) -> "subprocess.Popen[bytes]":
    """Run ``name`` of this folder with this interpreter, its standard input and output as pipes."""
    command = [sys.executable, str(Path(__file__).with_name(name)), *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())


def environment() -> dict[str, str]:
    """Ours, but that a program finds its neighbours: with PYTHONSAFEPATH, as under tox, it would not."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
