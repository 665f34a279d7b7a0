"""Debian's Postfix as the server that a partner's mail goes to: takes everything for one domain, over TLS.

Files lie under one folder, written here; no service of the system is touched. Needs root and the package postfix.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from peer import write_certificate
from postfix import Postfix, service
from server import free_ports

DOMAIN = "sink.example"
MAIL_ID = 8
"""Debian's user and group `mail`."""


@dataclass
class Sink:
    """Postfix on ``port`` of ``address``, named ``localhost`` in its certificate, for `DOMAIN`."""

    folder: Path
    keeps: bool = True
    """Whether it writes what it takes to a file; else it throws it away, and only the log says that it came."""
    settings: tuple[str, ...] = ()
    """Further lines of ``main.cf``."""
    port: int = field(default=0)
    address: str = "127.0.0.1"
    _postfix: Postfix = field(init=False, repr=False)

    def set_up(self) -> "Sink":
        """Write certificate and configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self.port = self.port or free_ports(1)[0]
        settings = (
            "myhostname = localhost",
            "mynetworks =",
            f"virtual_mailbox_domains = {DOMAIN}",
            "virtual_mailbox_maps = static:all",
            f"virtual_mailbox_base = {self.folder}/mail",
            f"virtual_uid_maps = static:{MAIL_ID}",
            f"virtual_gid_maps = static:{MAIL_ID}",
            "virtual_minimum_uid = 1",
            f"virtual_transport = {'virtual' if self.keeps else 'discard:'}",
            "virtual_destination_concurrency_limit = 2",
            f"smtpd_tls_cert_file = {self.folder}/server.pem",
            f"smtpd_tls_key_file = {self.folder}/server.key",
            "smtpd_tls_security_level = encrypt",
            "smtpd_tls_mandatory_protocols = >=TLSv1.2",
            *self.settings,
        )
        self._postfix = Postfix(self.folder, settings, [service(f"{self.address}:{self.port}")]).set_up()
        (self.folder / "mail").mkdir(exist_ok=True)
        (self.folder / "mail").chmod(0o1777)
        write_certificate(self.folder)
        return self

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def log(self) -> str:
        return self._postfix.log

    def start(self) -> "Sink":
        """Start it; returns when it takes connections."""
        self._postfix.start()
        return self

    def stop(self) -> None:
        """End it."""
        self._postfix.stop()

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
        lines = {"route": f'["{self.address}:{self.port}"]', "level": f'"{level}"', "ca": f'"{self.ca_file}"', **more}
        body = "\n".join(f"{key} = {value}" for key, value in lines.items())
        return f'[[partner]]\ndomain = "{DOMAIN}"\nnames = ["localhost"]\n{body}\n'
