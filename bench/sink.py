"""Debian's Postfix as the server that a partner's mail goes to: takes everything for one domain, over TLS.

Files lie under one folder, written here; no service of the system is touched. Needs root and the package postfix.
"""

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from peer import MASTER_CF, open_the_way, write_certificate
from server import free_ports

DOMAIN = "sink.example"
START_TIME_S = 20
MAIL_ID = 8
"""Debian's user and group `mail`."""

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/state
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
import_environment = MAIL_CONFIG
myhostname = localhost
mydestination =
local_recipient_maps =
alias_maps =
mynetworks =
inet_interfaces = loopback-only
inet_protocols = ipv4
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = static:all
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{mail}
virtual_gid_maps = static:{mail}
virtual_minimum_uid = 1
virtual_transport = {transport}
virtual_destination_concurrency_limit = 2
smtpd_tls_cert_file = {folder}/server.pem
smtpd_tls_key_file = {folder}/server.key
smtpd_tls_security_level = encrypt
smtpd_tls_mandatory_protocols = >=TLSv1.2
message_size_limit = 0
mailbox_size_limit = 0
virtual_mailbox_limit = 0
{settings}
"""


def why_not() -> str | None:
    """What is missing for Postfix to run here, in words."""
    if os.geteuid() != 0:
        return "Postfix starts as root only"
    if not Path("/usr/sbin/postfix").exists():
        return "/usr/sbin/postfix missing: apt-get install postfix"
    return None


@dataclass
class Sink:
    """Postfix on ``port`` of 127.0.0.1, named ``localhost`` in its certificate, for `DOMAIN`."""

    folder: Path
    keeps: bool = True
    """Whether it writes what it takes to a file; else it throws it away, and only the log says that it came."""
    settings: tuple[str, ...] = ()
    """Further lines of ``main.cf``."""
    port: int = field(default=0)

    def set_up(self) -> "Sink":
        """Write certificate and configuration."""
        reason = why_not()
        if reason is not None:
            raise RuntimeError(reason)
        for name in ("", "queue", "state", "mail"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        open_the_way(self.folder)
        self.folder.chmod(0o755)
        subprocess.run(["chown", "postfix", str(self.folder / "state")], check=True)
        (self.folder / "mail").chmod(0o1777)
        self.port = self.port or free_ports(1)[0]
        write_certificate(self.folder)
        transport = "virtual" if self.keeps else "discard:"
        (self.folder / "main.cf").write_text(
            MAIN_CF.format(
                folder=self.folder, domain=DOMAIN, mail=MAIL_ID, transport=transport, settings="\n".join(self.settings)
            )
        )
        services = MASTER_CF[: MASTER_CF.index("127.0.0.1:{submission}")] + MASTER_CF[MASTER_CF.index("pickup") :]
        (self.folder / "master.cf").write_text(services.format(smtp=self.port))
        return self

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def log(self) -> str:
        path = self.folder / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> "Sink":
        """Start it; returns when it takes connections."""
        before = self.log.count("daemon started")
        self._postfix("start")
        deadline = time.monotonic() + START_TIME_S
        while self.log.count("daemon started") == before:
            if time.monotonic() > deadline:
                raise RuntimeError(f"Postfix does not start: {self.log[-2000:]}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End it."""
        self._postfix("stop")

    def _postfix(self, word: str) -> None:
        words = ["/usr/sbin/postfix", "-c", str(self.folder), word]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"postfix {word}: {done.stderr}{self.log[-2000:]}")

    def __enter__(self) -> "Sink":
        return self.set_up().start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def delivered(self) -> int:
        """Copies that it has written, or thrown away."""
        return self.log.count(" status=sent ")

    def numbers(self) -> list[int]:
        """What stands in the field X-Number of each message it has written."""
        path = self.folder / "mail" / "all"
        if not path.exists():
            return []
        return [int(found) for found in re.findall(rb"^X-Number: (\d+)\r?$", path.read_bytes(), re.MULTILINE)]

    def partner(self, level: str = "secure", **more: str) -> str:
        """The ``[[partner]]`` with which certmaild sends here."""
        lines = {"route": f'["127.0.0.1:{self.port}"]', "level": f'"{level}"', "ca": f'"{self.ca_file}"', **more}
        body = "\n".join(f"{key} = {value}" for key, value in lines.items())
        return f'[[partner]]\ndomain = "{DOMAIN}"\nnames = ["localhost"]\n{body}\n'
