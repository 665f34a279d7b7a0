"""The real daemon at its place in the world: mx.example.com at port 25, found by DNS, in a network of its own.

Its zone holds what `certmaild dns` prints, signed. Other servers run beside it, at addresses of their own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon import Daemon
from dns_support import DnsNetwork
from network_support import private_network

HOST, ADDRESS = "mx.example.com", "192.0.2.1"
RESOLVER = "127.0.0.1#53"


@dataclass
class Home:
    """What runs."""

    folder: Path
    daemon: Daemon

    @property
    def ca_file(self) -> Path:
        """That other servers' own users may read."""
        return self.folder / "ca.pem"

    @property
    def resolv_conf(self) -> Path:
        return self.folder / "resolv.conf"

    @property
    def wrapper(self) -> Sequence[str]:
        """Words before a command, which finds this network's DNS where programs look for it."""
        return ("unshare", "-m", "sh", "-c", f'mount --bind {self.resolv_conf} /etc/resolv.conf && exec "$@"', "sh")


@contextmanager
def home(
    folder: Path,
    *addresses: str,
    tables: str = "",
    own_zone: str = "",
    zones: "dict[str, str] | None" = None,
    ports: "dict[str, int] | None" = None,
) -> Iterator[Home]:
    """The daemon for example.com; ``addresses`` for others, records beside its own, and other (unsigned) zones.

    ``ports`` are where they stand beside 25.
    """
    daemon = Daemon(
        folder / "daemon",
        tables=f'{tables}\n[resolver]\naddresses = ["{RESOLVER}"]\n[outbound]\nsource = ["{ADDRESS}"]\nretry = "1s"\n',
        hostname=HOST,
        addresses=("127.0.0.1", ADDRESS),
        own_ports={"smtp": 25, **(ports or {})},
    ).set_up()
    zone = daemon.command("dns", "--zone") + own_zone
    made = Home(folder, daemon)
    made.ca_file.write_bytes(daemon.ca_file.read_bytes())
    made.resolv_conf.write_text("nameserver 127.0.0.1\noptions edns0 trust-ad\n")
    with (
        private_network([ADDRESS, *addresses]),
        DnsNetwork(folder, {"example.com": zone, **(zones or {})}, signed=["example.com"], port=53),
        daemon.start(),
    ):
        yield made
