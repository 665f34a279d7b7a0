"""Debian's Postfix in a folder of its own: what tests and benchmarks send to, send from and compare with.

All its files lie below the folder, written here; main.cf and master.cf in /etc/postfix are not read, and no service of
the system is touched. It needs root (Postfix insists on its users) and the package postfix.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path("/usr/sbin/postfix")
START_TIME_S = 20
STARTED = "daemon started"

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/state
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
import_environment = MAIL_CONFIG
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination =
local_recipient_maps =
alias_maps =
message_size_limit = 0
mailbox_size_limit = 0
virtual_mailbox_limit = 0
"""
"""What every one has unless its own settings name it."""

SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def why_not() -> str | None:
    """What is missing for Postfix to run here, in words."""
    if os.geteuid() != 0:
        return "Postfix starts as root only"
    if not PROGRAM.exists():
        return f"{PROGRAM} missing: apt-get install postfix"
    return None


def service(listen: str, *settings: str) -> str:
    """A line of ``master.cf`` for an smtpd at ``address:port``, with settings of its own."""
    return f"{listen} inet n - n - - smtpd\n" + _options(settings)


def transport(name: str, *settings: str) -> str:
    """A line of ``master.cf`` for a way out with settings of its own, whose lines in the log say ``postfix/NAME/``."""
    return f"{name} unix - - n - - smtp\n" + _options((f"syslog_name=postfix/{name}", *settings))


def _options(settings: Sequence[str]) -> str:
    return "".join(f"  -o {{{one.replace('=', ' = ', 1)}}}\n" for one in settings)


@dataclass
class Postfix:
    """One in ``folder``, the folder of its configuration too; keep its name short, for Unix sockets lie below."""

    folder: Path
    settings: Sequence[str] = ()
    """Further lines of ``main.cf``, ``name = value``."""
    services: Sequence[str] = ()
    """Further lines of ``master.cf``."""
    wrapper: Sequence[str] = ()
    """Words before the command that starts it."""

    def set_up(self) -> "Postfix":
        """Write its configuration. Raises `RuntimeError`, saying what is missing."""
        if reason := why_not():
            raise RuntimeError(reason)
        for name in ("queue", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        open_the_way(self.folder)
        subprocess.run(["chown", "postfix", str(self.folder / "state")], check=True)
        given = {one.partition("=")[0].strip() for one in self.settings}
        common = MAIN_CF.format(folder=self.folder).splitlines()
        main = [one for one in common if one.partition("=")[0].strip() not in given]
        main += self.settings
        (self.folder / "main.cf").write_text("".join(f"{one}\n" for one in main))
        (self.folder / "master.cf").write_text("".join(f"{one.rstrip()}\n" for one in self.services) + SERVICES)
        return self

    @property
    def log(self) -> str:
        path = self.folder / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def await_log(self, text: str, count: int = 1, *, within_s: float = 60) -> str:
        """The log, once it has ``text`` so often."""
        deadline = time.monotonic() + within_s
        while (log := self.log).count(text) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"Postfix does not say {text!r} {count} times: {log[-3000:]}\n{self._said()[-2000:]}"
                )
            time.sleep(0.05)  # it gives no event to wait on
        return log

    def start(self) -> "Postfix":
        """Start it; returns when it takes connections."""
        begun = self.log.count(STARTED)
        self._run("start", *self.wrapper)
        try:
            self.await_log(STARTED, begun + 1, within_s=START_TIME_S)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it."""
        self._run("stop")

    def send(self, sender: str, content: bytes, *to: str) -> None:
        """Give it a message, as a program on its machine does."""
        words = ["/usr/sbin/sendmail", "-C", str(self.folder), "-f", sender, "-i", *to]
        subprocess.run(words, input=content.replace(b"\r\n", b"\n"), check=True, capture_output=True, timeout=60)

    def _run(self, word: str, *before: str) -> None:
        # A file, never a pipe: what it starts keeps it open, and whoever reads the pipe would wait for their end.
        with (self.folder / "command.log").open("ab") as log:
            done = subprocess.run(
                [*before, str(PROGRAM), "-c", str(self.folder), word],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"postfix {word}: {self._said()[-2000:]}{self.log[-2000:]}")

    def _said(self) -> str:
        """By its commands, which the log does not have."""
        return (self.folder / "command.log").read_text(errors="replace")

    def __enter__(self) -> "Postfix":
        return self.set_up().start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def open_the_way(folder: Path) -> None:
    """Let the servers' own users walk into ``folder`` when it lies in a private temporary folder."""
    for one in (folder, *folder.parents):
        if one in (Path("/"), Path("/tmp")):
            return
        if one.stat().st_mode & 0o011 != 0o011 and one.is_relative_to(tempfile.gettempdir()):
            one.chmod(one.stat().st_mode | 0o011)
