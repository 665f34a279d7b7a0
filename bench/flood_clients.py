"""The flood of `bench/flood.py`, a process of its own: PORT CA_FILE VICTIM CONNECTIONS PIPELINED.

Prints a line when the first attempt was answered, then tries wrong passwords from 127.0.9.1 until standard input ends,
and prints how they were answered.
"""

import json
import ssl
import sys
import threading
import time
from collections import Counter

from clients import Lines
from login import connect_from


class Flooder:
    """Threads that share one count of answers."""

    def __init__(self, port: int, ca_file: str, victim: str, pipelined: int) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=ca_file)
        self._victim = victim
        self._pipelined = pipelined
        self.answers: Counter[str] = Counter()
        self.first = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        """Attempts, connection after connection, until it is over."""
        while not self.over.is_set():
            try:
                self._attempt()
            except OSError:
                self.answers["closed"] += 1

    def _attempt(self) -> None:
        lines = Lines(connect_from("127.0.9.1", self._port, self._context))
        if lines.line().startswith(b"* BYE"):
            self.answers["closed"] += 1
            time.sleep(0.01)
            return
        tries = (f'{n} LOGIN "{self._victim}" "wrong {time.perf_counter_ns()}"\r\n' for n in range(self._pipelined))
        lines.send("".join(tries).encode())
        for _ in range(self._pipelined):
            answer = lines.line()
            kind = (
                "refused" if b"AUTHENTICATIONFAILED" in answer else "put_off" if b"UNAVAILABLE" in answer else "other"
            )
            self.answers[kind] += 1
            self.first.set()
        lines.close()


def main() -> None:
    """Flood until standard input ends."""
    port, ca_file, victim, connections, pipelined = sys.argv[1:]
    flooder = Flooder(int(port), ca_file, victim, int(pipelined))
    for _ in range(int(connections)):
        threading.Thread(target=flooder.run, daemon=True).start()
    flooder.first.wait()
    print("{}", flush=True)
    sys.stdin.read()
    flooder.over.set()
    print(json.dumps(flooder.answers), flush=True)


if __name__ == "__main__":
    main()
