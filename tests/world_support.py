"""A small world of mail servers for the real daemon: DNS with DNSSEC, one Postfix that is many servers, a web server.

Each domain of `DOMAINS` is wrong in one way, or right in one way. All of it lives in a network namespace of its own
(`private_network`), with MX hosts at port 25 and an MTA-STS host at port 443, as the standards want them.
"""

import os
import shutil
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from dns_support import DnsNetwork, tlsa
from https_support import WebServer, send_text, web_server
from postfix import Postfix, service, why_not
from tls_support import Certified, authority

WEB = "192.0.2.40"
MAILBOX = "received/"
POLICY = "version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"


@dataclass(frozen=True)
class Domain:
    """One domain, and how its server is."""

    name: str
    address: str
    names: tuple[str, ...] = ()
    """In the certificate; none: ``mx.NAME``."""
    days: int = 90
    by: str = "world"
    """Which authority issued it."""
    settings: tuple[str, ...] = ()
    """For Postfix's smtpd, like ``-o`` takes them."""
    signed: bool = False
    """The zone has DNSSEC."""
    tlsa: str = ""
    """``right`` or ``wrong``."""
    sts: str = ""
    """The mode of its MTA-STS policy."""
    program: str = "postfix"

    @property
    def host(self) -> str:
        return f"mx.{self.name}"


_OLD = ("smtpd_tls_protocols=TLSv1", "smtpd_tls_mandatory_protocols=TLSv1", "tls_medium_cipherlist=ALL:@SECLEVEL=0")
DOMAINS = (
    Domain("right.example", "192.0.2.11"),
    Domain("expired.example", "192.0.2.12", days=-3),
    Domain("misnamed.example", "192.0.2.13", names=("mx.elsewhere.example",)),
    Domain("unknown.example", "192.0.2.14", by="nobody"),
    Domain("clear.example", "192.0.2.15", settings=("smtpd_tls_security_level=none",)),
    Domain("old.example", "192.0.2.16", settings=_OLD),
    Domain("midway.example", "192.0.2.17", program="midway"),
    Domain("stripped.example", "192.0.2.18", program="stripper"),
    Domain("dane.example", "192.0.2.19", by="nobody", signed=True, tlsa="right"),
    Domain("forged.example", "192.0.2.20", signed=True, tlsa="wrong"),
    Domain("sts.example", "192.0.2.21", sts="enforce"),
    Domain("stsbroken.example", "192.0.2.22", names=("mx.elsewhere.example",), sts="enforce"),
    Domain("ststest.example", "192.0.2.23", sts="testing"),
    Domain("agreed.example", "192.0.2.15"),
    Domain("pinned.example", "192.0.2.14"),
    Domain("wrongpin.example", "192.0.2.14"),
    Domain("own.example", "192.0.2.24", by="private"),
    Domain("secure.example", "192.0.2.11"),
)
BY_NAME = {one.name: one for one in DOMAINS}
"""`agreed`, `pinned`, `wrongpin` and `secure` have their MX at the servers of others: a partner's record decides."""
SHARED = {
    "agreed.example": "clear",
    "pinned.example": "unknown",
    "wrongpin.example": "unknown",
    "secure.example": "right",
}
ADDRESSES = (*dict.fromkeys(one.address for one in DOMAINS), WEB)

_ANSWERS = """\
/^full@/ 452 4.2.2 Mailbox is full, try later
/^gone@/ 550 5.1.1 No such person
"""


@dataclass
class World:
    """What runs."""

    folder: Path
    dns: DnsNetwork
    web: WebServer
    postfix: Postfix
    certificates: dict[str, Certified] = field(default_factory=dict)

    @property
    def maildir(self) -> Path:
        return self.folder / "postfix" / MAILBOX / "new"

    def received(self, subject: str = "") -> list[Message]:
        """Messages that the servers took, those with a word in their subject."""
        found = [message_from_bytes(path.read_bytes()) for path in sorted(self.maildir.glob("*"))]
        return [one for one in found if subject in (one["Subject"] or "")]

    def await_received(self, subject: str, within_s: float = 30) -> Message:
        """The one message with this in its subject."""
        give_up = time.monotonic() + within_s
        while not (found := self.received(subject)):
            assert time.monotonic() < give_up, f"{subject} did not come: {self.log()[-3000:]}"
            time.sleep(0.05)  # Postfix gives no event to wait on
        assert len(found) == 1, f"{subject} came {len(found)} times"
        return found[0]

    def log(self) -> str:
        """Postfix's."""
        return self.postfix.log


@contextmanager
def world(folder: Path, *, utf8: bool = True) -> Iterator[World]:
    """All of it, in the network that the caller is in; `SSL_CERT_FILE` makes the world's authority the system's.

    ``folder`` is one that Postfix's own user reaches (`open_folder`).
    """
    authorities = {name: authority(name) for name in ("world", "nobody", "private")}
    files = {name: one.write_pem(folder, name) for name, one in authorities.items()}
    issued = {
        one.name: authorities[one.by].issue(
            *(one.names or (one.host,)), start=timedelta(days=min(0, one.days) - 1), end=timedelta(days=one.days)
        )
        for one in DOMAINS
        if one.name not in SHARED
    }
    for name, server in SHARED.items():
        issued[name] = issued[f"{server}.example"]
    zones = {one.name: _zone(one, issued[one.name]) for one in DOMAINS}
    zones |= {"null.example": "@ MX 0 .", "nowhere.example": "www A 192.0.2.99"}
    web = authorities["world"].issue(*(f"mta-sts.{one.name}" for one in DOMAINS if one.sts))
    with ExitStack() as running:
        signed = [one.name for one in DOMAINS if one.signed]
        dns = running.enter_context(DnsNetwork(folder, zones, signed=signed, dead=["dead.example"]))
        server = running.enter_context(web_server(web, address=WEB, port=443))
        postfix = running.enter_context(_postfix(folder / "postfix", issued, utf8))
        made = World(folder, dns, server, postfix, issued)
        server.pages["/.well-known/mta-sts.txt"] = _answer_policy
        for one in DOMAINS:
            if one.program != "postfix":
                running.enter_context(_impostor(one))
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(files["world"])
        try:
            yield made
        finally:
            if before is None:
                del os.environ["SSL_CERT_FILE"]
            else:
                os.environ["SSL_CERT_FILE"] = before


def _zone(one: Domain, issued: Certified) -> str:
    lines = [f"@ MX 10 mx.{SHARED[one.name]}.example." if one.name in SHARED else "@ MX 10 mx", f"mx A {one.address}"]
    if one.tlsa:
        octets = issued.spki if one.tlsa == "right" else b"another key"
        lines.append(f"_25._tcp.mx TLSA {tlsa(octets)}")
    if one.sts:
        lines += ['_mta-sts TXT "v=STSv1; id=1;"', f"mta-sts A {WEB}"]
        lines.append('_smtp._tls TXT "v=TLSRPTv1; rua=mailto:tlsrpt@right.example"')
    return "\n".join(lines)


def _answer_policy(asked: BaseHTTPRequestHandler) -> None:
    one = BY_NAME[(asked.headers["Host"] or "").removeprefix("mta-sts.")]
    send_text(asked, POLICY.format(mode=one.sts, mx=one.host))


def _postfix(folder: Path, issued: dict[str, Certified], utf8: bool) -> Postfix:
    """All the servers that are one."""
    received = folder / "received"
    received.mkdir(parents=True)
    shutil.chown(received, "postfix")
    uid = received.stat().st_uid
    answers = folder / "answers"
    answers.write_text(_ANSWERS)
    for name, shown in issued.items():
        (folder / f"{name}.pem").write_bytes(shown.key_pem + shown.chain_pem)
    services = [
        service(
            f"{one.address}:25",
            f"myhostname={one.host}",
            f"smtpd_tls_chain_files={folder}/{one.name}.pem",
            *one.settings,
        )
        for one in DOMAINS
        if one.program == "postfix" and one.name not in SHARED
    ]
    settings = (
        "myhostname = world.example",
        "inet_interfaces = all",
        f"smtputf8_enable = {'yes' if utf8 else 'no'}",
        f"virtual_mailbox_domains = {' '.join(one.name for one in DOMAINS)}",
        f"virtual_mailbox_maps = static:{MAILBOX}",
        f"virtual_mailbox_base = {folder}",
        f"virtual_uid_maps = static:{uid}",
        f"virtual_gid_maps = static:{uid}",
        "virtual_minimum_uid = 1",
        "smtpd_tls_received_header = yes",
        "smtpd_tls_security_level = may",
        "smtpd_tls_loglevel = 1",
        f"smtpd_recipient_restrictions = check_recipient_access regexp:{answers}, permit_auth_destination, reject",
        "smtpd_peername_lookup = no",
        "smtpd_client_connection_count_limit = 0",
        "smtpd_client_connection_rate_limit = 0",
    )
    return Postfix(folder, settings, services)


# Servers and men in the middle that Postfix cannot be.


@contextmanager
def _impostor(one: Domain) -> Iterator[None]:
    kind = {"midway": _Midway, "stripper": _Stripper}[one.program]

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server((one.address, 25), kind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


HEARD: list[bytes] = []
"""Every line that a client said to an impostor."""


class _Midway(socketserver.StreamRequestHandler):
    """Offers STARTTLS and then refuses it; would take everything in clear."""

    def handle(self) -> None:
        self.wfile.write(b"220 mx.midway.example ESMTP\r\n")
        for line in self.rfile:
            HEARD.append(line)
            word = line.split()[0].upper() if line.split() else b""
            if word == b"EHLO":
                self.wfile.write(b"250-mx.midway.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
            elif word == b"STARTTLS":
                self.wfile.write(b"454 4.7.0 TLS not available due to local problem\r\n")
            elif word == b"QUIT":
                self.wfile.write(b"221 2.0.0 Bye\r\n")
                return
            else:
                self.wfile.write(b"250 2.0.0 OK\r\n")


class _Stripper(socketserver.StreamRequestHandler):
    """A man in the middle before a good server: takes STARTTLS out of what it offers, and reads along."""

    def handle(self) -> None:
        with socket.create_connection((BY_NAME["right.example"].address, 25)) as other:

            def back() -> None:
                with suppress(OSError), other.makefile("rb") as lines:
                    for line in lines:
                        self.wfile.write(line.replace(b"STARTTLS", b"XXXXXXXX"))

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            with suppress(OSError):
                for line in self.rfile:
                    HEARD.append(line)
                    other.sendall(line)
                other.shutdown(socket.SHUT_WR)
            thread.join(5)


def needs_programs() -> None:
    """Skip where one of the real servers is missing."""
    if reason := why_not():
        pytest.skip(reason)
    for program in ("/usr/sbin/unbound", "/usr/sbin/nsd"):
        if not Path(program).exists():
            pytest.skip(f"{program} is not installed")
