"""What surrounds a guest's way in: the DNS of his ordinary domain, and a Postfix that takes what is sent there.

That Postfix is the MX host of every domain, at port 25 of a loopback address of its own. No domain proves itself, so
that mail for it invites (``when = "unproven"``).
"""

import email
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import dns.message
import dns.rrset
from sink import Sink

ORDINARY = "ordinary.example"
"""Where guests have their ordinary addresses."""
GUESTS = "guest.example.com"
"""Of their account names."""
PATIENCE_S = 30


class OrdinaryZone:
    """A DNS server on a free UDP port of 127.0.0.1: all domains have their MX host at ``address``; no DNSSEC."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def resolver(self) -> str:
        """For ``[resolver] addresses``."""
        return f"127.0.0.1#{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            octets, peer = self._socket.recvfrom(4096)
            response = dns.message.make_response(dns.message.from_wire(octets))
            question = response.question[0]
            name, kind = question.name.to_text().lower(), question.rdtype.name
            if kind == "MX" and not name.startswith("_"):
                response.answer.append(dns.rrset.from_text(name, 300, "IN", "MX", f"10 mail.{ORDINARY}."))
            elif kind == "A" and name == f"mail.{ORDINARY}.":
                response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", self._address))
            self._socket.sendto(response.to_wire(), peer)


@dataclass
class Post:
    """What has come to ordinary addresses."""

    sink: Sink

    def received(self, address: str) -> list[EmailMessage]:
        """Messages for an address, oldest first."""
        return [one for one in self.everything() if recipient_of(one) == address.lower()]

    def everything(self, domain: str = "") -> list[EmailMessage]:
        """Messages for whomever, at any domain or this one."""
        paths = (self.sink.folder / "mail" / "all" / "new").glob("*")
        found = [email.message_from_bytes(path.read_bytes(), policy=default) for path in sorted(paths, key=_age)]
        return [one for one in found if recipient_of(one).endswith(domain)]

    def wait_for(self, address: str, count: int = 1, *, within_s: float = PATIENCE_S) -> list[EmailMessage]:
        """The same, once there are so many."""
        give_up = time.monotonic() + within_s
        while len(found := self.received(address)) < count:
            if time.monotonic() > give_up:
                raise RuntimeError(f"{len(found)} of {count} messages came for {address}: {self.sink.log[-3000:]}")
            time.sleep(0.02)  # another program's folder gives no event to wait on
        return found


def recipient_of(message: EmailMessage) -> str:
    """The address of the envelope, which Postfix notes, in lower case."""
    return str(message["X-Original-To"]).lower()


def _age(path: Path) -> float:
    return path.stat().st_mtime


@dataclass
class GuestWorld:
    """What runs."""

    post: Post
    zone: OrdinaryZone

    def tables(self, *, invite: str = "", outbound: str = "") -> str:
        """TOML of a daemon that invites; further lines for these tables."""
        return (
            f'[invite]\ndomain = "{GUESTS}"\n{invite}\n'
            f'[outbound]\nloopback = true\nretry = "1s"\nlongest_retry = "2s"\n{outbound}\n'
            f'[resolver]\naddresses = ["{self.zone.resolver}"]\n'
        )


@contextmanager
def guest_world(folder: Path, *settings: str) -> Iterator[GuestWorld]:
    """All of it; Postfix's sockets lie below ``folder``, whose name is short. ``settings`` are lines of its main.cf."""
    own = ("virtual_mailbox_domains = static:all", "virtual_mailbox_maps = static:all/")
    # Nobody else on this machine has port 25 of it.
    address = f"127.{random.randrange(16, 250)}.{random.randrange(250)}.{random.randrange(1, 250)}"
    with Sink(folder / "sink", settings=(*own, *settings), port=25, address=address) as sink:
        yield GuestWorld(Post(sink), OrdinaryZone(address))
