"""Real mail servers that take mail on loopback and send it on over TLS that they verify: Exim and OpenSMTPD."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from home_support import Home
from receiving_support import Place, own_address, running_exim, running_opensmtpd

NAME = "out.partner.example"


@contextmanager
def sending_exim(folder: Path, home: Home, *, dane: bool = False) -> Iterator[Place]:
    """Where it takes mail for anybody; it goes by MX, to servers whose certificate it proves by ``home``'s authority.

    With ``dane``, by TLSA records instead. It says what it did in logs/mainlog of its folder.
    """
    place = Place(own_address(), 1025)
    proof = "hosts_require_dane = *" if dane else f"hosts_try_dane =\n  tls_verify_certificates = {home.ca_file}"
    settings = (
        f"primary_hostname = {NAME}\nacl_smtp_rcpt = take\ndns_dnssec_ok = 1\ntls_advertise_hosts =\n"
        "begin acl\ntake:\n  accept\nbegin routers\n"
        "out:\n  driver = dnslookup\n  transport = out\n  self = send\n  dnssec_request_domains = *\nbegin transports\n"
        "out:\n  driver = smtp\n  hosts_require_tls = *\n  tls_verify_hosts = *\n  tls_verify_cert_hostnames = *\n"
        f"  {proof}\nbegin retry\n* * F,1h,1m\n"
    )
    with running_exim(folder, place, settings, files={"/etc/resolv.conf": home.resolv_conf}):
        yield place


@contextmanager
def sending_opensmtpd(folder: Path, home: Home, authorities: Path) -> Iterator[Place]:
    """Where it takes mail for anybody; it goes by MX, to servers whose certificate it proves by these authorities."""
    place = Place(own_address(), 1025)
    settings = (
        f'listen on {place.address} port {place.port} hostname "{NAME}"\n'
        f'action "out" relay helo "{NAME}" tls\nmatch from any for any action "out"\n'
    )
    # The authorities that it knows are a file of the system's.
    files = {"/etc/resolv.conf": home.resolv_conf, "/etc/ssl/certs/ca-certificates.crt": authorities}
    with running_opensmtpd(folder, place, settings, files=files):
        yield place
