"""What surrounds a guest's way in: the DNS of his ordinary domain, and a Postfix that takes what is sent there.

The daemon sends through that Postfix as its smart host, proven by an authority that ``SSL_CERT_FILE`` names. Every
domain has an MX record and proves itself by nothing, so that mail for it invites (``when = "unproven"``).
"""

import email
import os
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
PATIENCE_S = 60


class OrdinaryZone:
    """A DNS server on a free UDP port of 127.0.0.1: MX and A for every domain, no TLSA, no policy, no DNSSEC."""

    def __init__(self) -> None:
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
                response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "127.0.0.1"))
            self._socket.sendto(response.to_wire(), peer)


@dataclass
class Post:
    """What has come to ordinary addresses."""

    sink: Sink

    def received(self, address: str) -> list[EmailMessage]:
        """Messages for an address, oldest first."""
        found = []
        for path in sorted((self.sink.folder / "mail" / "all" / "new").glob("*"), key=lambda one: one.stat().st_mtime):
            message = email.message_from_bytes(path.read_bytes(), policy=default)
            # Postfix puts the address of the envelope here.
            if str(message["X-Original-To"]).lower() == address.lower():
                found.append(message)
        return found

    def wait_for(self, address: str, count: int = 1, *, within_s: float = PATIENCE_S) -> list[EmailMessage]:
        """The same, once there are so many."""
        give_up = time.monotonic() + within_s
        while len(found := self.received(address)) < count:
            if time.monotonic() > give_up:
                raise RuntimeError(f"{len(found)} of {count} messages came for {address}: {self.sink.log[-3000:]}")
            time.sleep(0.02)  # another program's folder gives no event to wait on
        return found


@dataclass
class GuestWorld:
    """What runs."""

    post: Post
    zone: OrdinaryZone

    def tables(self, *, invite: str = "", outbound: str = "") -> str:
        """TOML of a daemon that invites; further lines for these tables."""
        smart_host = f'"localhost:{self.post.sink.port}"'
        return (
            f'[invite]\ndomain = "{GUESTS}"\n{invite}\n'
            f'[outbound]\nsmart_host = {smart_host}\nretry = "1s"\nlongest_retry = "2s"\n{outbound}\n'
            f'[resolver]\naddresses = ["{self.zone.resolver}"]\n'
        )


@contextmanager
def guest_world(folder: Path, *settings: str) -> Iterator[GuestWorld]:
    """All of it; Postfix's sockets lie below ``folder``, whose name is short. ``settings`` are lines of its main.cf."""
    own = ("virtual_mailbox_domains = static:all", "virtual_mailbox_maps = static:all/", "virtual_alias_maps =")
    sink = Sink(folder / "sink", settings=(*own, *settings)).set_up()
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(sink.ca_file)
    try:
        with sink:
            yield GuestWorld(Post(sink), OrdinaryZone())
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before
