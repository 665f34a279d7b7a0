"""The real daemon in a folder of its own, started with `twistd`: what the benchmarks and the integration tests drive.

Everything goes through the front door: `certmaild init`, `certmaild user add`, `twistd -n certmaild`. Nothing here
imports certmaild, so that a mistake in it cannot hide one in the server.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

BIN = Path(sys.executable).parent
START_TIME_S = 60
STOP_TIME_S = 60
LISTENERS = ("imaps", "pop3s", "smtp", "submission", "submissions")


@dataclass(slots=True)
class Account:
    """One user as a client knows him."""

    address: str
    password: str
    recovery_code: str


def free_ports(count: int) -> list[int]:
    """Ports that nobody had a moment ago on 127.0.0.1."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def cpu_of(pid: int) -> float:
    """Seconds of CPU, user and system, that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_command(*words: str, stdin: str = "", timeout_s: float = 120) -> str:
    """Standard output of a `certmaild` command; raises with its standard error if it fails."""
    done = subprocess.run(
        [str(BIN / "certmaild"), *words], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise RuntimeError(f"certmaild {' '.join(words)}: exit {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


@dataclass(slots=True)
class Daemon:
    """`twistd -n certmaild` over ``folder``; ports are free ones of 127.0.0.1."""

    folder: Path
    domain: str = "example.com"
    settings: str = ""
    """Further TOML, put before the first table."""
    tables: str = ""
    """Further TOML tables, put at the end."""
    ports: dict[str, int] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def set_up(self) -> "Daemon":
        """Write the configuration and run `certmaild init`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.configure()
        run_command("--config", str(self.config), "init", "--hostname", "localhost", "--domain", self.domain)
        return self

    def configure(self) -> None:
        """Write the configuration, on ports that are free now."""
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        listeners = "\n".join(f"{name} = {port}" for name, port in self.ports.items())
        self.config.write_text(
            f'hostname = "localhost"\ndomains = ["{self.domain}"]\ndata = "{self.data}"\n{self.settings}\n'
            f'[listen]\naddress = ["127.0.0.1"]\n{listeners}\n{self.tables}\n'
        )

    @property
    def config(self) -> Path:
        return self.folder / "certmaild.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "twistd.log"

    @property
    def ca_file(self) -> Path:
        return self.data / "ca.pem"

    def tls_context(self) -> ssl.SSLContext:
        """A client context that verifies the daemon's certificate against its own CA."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def command(self, *words: str, stdin: str = "") -> str:
        """Standard output of ``certmaild --config ... words``."""
        return run_command("--config", str(self.config), *words, stdin=stdin)

    def add_user(self, name: str, *, password: str | None = None, quota: str | None = None) -> Account:
        """Make ``name@domain``, with a device password unless a human ``password`` is given."""
        address = name if "@" in name else f"{name}@{self.domain}"
        words = ["user", "add", address, "--json"]
        if quota is not None:
            words += ["--quota", quota]
        if password is not None:
            words.append("--password-stdin")
        made = json.loads(self.command(*words, stdin=password + "\n" if password else ""))
        return Account(address, password or made["device_password"], made["recovery_code"])

    def add_users(self, names: list[str]) -> list[Account]:
        """Make many accounts with device passwords, by the same command in one process: starting it is the cost."""
        script = (
            "import sys; from certmaild.commands.main import run\n"
            "for line in sys.stdin:\n"
            " if run(['--config', sys.argv[1], 'user', 'add', line.strip(), '--json']): sys.exit(1)"
        )
        addresses = [f"{name}@{self.domain}" for name in names]
        words = [sys.executable, "-c", script, str(self.config)]
        done = subprocess.run(words, input="\n".join(addresses), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        made, at = [], 0
        for address in addresses:
            one, at = json.JSONDecoder().raw_decode(done.stdout, at)
            at += 1
            made.append(Account(address, one["device_password"], one["recovery_code"]))
        return made

    def start(self) -> "Daemon":
        """Start `twistd` and wait until every listener answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(BIN / "twistd"), "-n", "--pidfile=", "certmaild", "--config", str(self.config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIME_S
        for port in self.ports.values():
            self._await_listener(port, deadline)
        return self

    def _await_listener(self, port: int, deadline: float) -> None:
        assert self.process is not None
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"twistd exited {self.process.returncode}: {self.log.read_text()[-4000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL: no chance to finish anything."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(STOP_TIME_S)
        self.process = None
        return status

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def cpu_s(self) -> float:
        """Seconds of CPU, user and system, that the daemon has used."""
        return cpu_of(self.pid)

    def anonymous_kib(self) -> int:
        """RssAnon: LMDB's map, which the kernel can drop at any time, is not in it."""
        return self._status("RssAnon")

    def peak_kib(self) -> int:
        """VmHWM: the peak resident size, LMDB's map included."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise KeyError(name)

    def __enter__(self) -> "Daemon":
        if self.process is None:
            self.set_up().start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
