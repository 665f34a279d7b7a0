"""The real daemon in a folder of its own, started with `twistd`: what the benchmarks and the integration tests drive.

Everything goes through the front door: `certmaild init`, `certmaild user add`, `twistd -n certmaild`. Nothing here
imports certmaild, so that a mistake in it cannot hide one in the server.
"""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from server import LISTENERS, START_TIME_S, STOP_TIME_S, Account, Server, free_ports
from usage import Meter

BIN = Path(sys.executable).parent


def run_command(*words: str, stdin: str = "", timeout_s: float = 120) -> str:
    """Standard output of a `certmaild` command; raises with its standard error if it fails."""
    done = subprocess.run(
        [str(BIN / "certmaild"), *words], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise RuntimeError(f"certmaild {' '.join(words)}: exit {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


@dataclass
class Daemon(Server):
    """`twistd -n certmaild` over ``folder``."""

    readable_at_250 = True

    settings: str = ""
    """Further TOML, put before the first table."""
    tables: str = ""
    """Further TOML tables, put at the end."""
    workers: int = 0
    hostname: str = "localhost"
    """Its certificate is for ``localhost`` too."""
    addresses: tuple[str, ...] = ("127.0.0.1",)
    own_ports: "dict[str, int]" = field(default_factory=dict)
    """Those that shall not be free ones, by listener."""
    twistd: tuple[str, ...] = (str(BIN / "twistd"),)
    process: "subprocess.Popen[bytes] | None" = None

    def set_up(self) -> "Daemon":
        """Write the configuration and run `certmaild init`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.configure()
        run_command("--config", str(self.config), "init", "--hostname", self.hostname, "--domain", self.domain)
        return self

    def configure(self) -> None:
        """Write the configuration, on ports that are free now."""
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True)) | self.own_ports
        addresses = ", ".join(f'"{one}"' for one in self.addresses)
        listeners = "\n".join(f"{name} = {port}" for name, port in self.ports.items())
        self.config.write_text(
            f'hostname = "{self.hostname}"\ndomains = ["{self.domain}"]\ndata = "{self.data}"\n'
            f"workers = {self.workers}\n{self.settings}\n"
            f"[listen]\naddress = [{addresses}]\n{listeners}\n{self.tables}\n"
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

    def command(self, *words: str, stdin: str = "") -> str:
        """Standard output of ``certmaild --config ... words``."""
        return run_command("--config", str(self.config), *words, stdin=stdin)

    def add_user(
        self, name: str, *, password: str | None = None, quota: str | None = None, service_folders: bool = False
    ) -> Account:
        """Make ``name@domain``, with a device password unless a human ``password`` is given.

        Without ``service_folders`` (whose default is another in the command) no message but the test's own is there.
        """
        address = name if "@" in name else f"{name}@{self.domain}"
        words = ["user", "add", address, "--json", *([] if service_folders else ["--no-service-folders"])]
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
            "add = ['--config', sys.argv[1], 'user', 'add', '--json', '--no-service-folders']\n"
            "for line in sys.stdin:\n"
            " if run([*add, line.strip()]): sys.exit(1)"
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
        """Start `twistd` and wait until it says that it serves; its ports are bound before that."""
        self.meter = Meter()
        with self.log.open("ab") as log:
            begun = log.tell()
            self.process = subprocess.Popen(
                self.meter.wrap([*self.twistd, "-n", "--pidfile=", "certmaild", "--config", str(self.config)]),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        self.meter.roots = [self.process.pid]
        deadline = time.monotonic() + START_TIME_S
        while b"certmaild serves" not in self.log.read_bytes()[begun:]:
            self._check_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"twistd does not serve: {self.log.read_text()[-4000:]}")
            time.sleep(0.01)
        return self

    def _check_alive(self) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"twistd exited {self.process.returncode}: {self.log.read_text()[-4000:]}")

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL: no chance to finish anything."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        workers = _children(self.process.pid)
        self.process.send_signal(number)
        status = self.process.wait(STOP_TIME_S)
        self.process = None
        # Workers outlive a supervisor that was killed by a moment, and listen on its ports.
        deadline = time.monotonic() + STOP_TIME_S
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            if time.monotonic() > deadline:
                raise RuntimeError(f"workers {workers} go on without their supervisor")
            time.sleep(0.01)
        if self.meter is not None:
            self.meter.close()
        return status

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> "Daemon":
        if self.process is None:
            self.set_up().start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
