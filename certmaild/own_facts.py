"""What this server is to others: its name, ports, addresses, keys and authority. Partners and DNS are told these."""

from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from certmaild.config_values import Config
from certmaild.keystore.certificates import (
    PrivateFiles,
    certificate_names,
    certificates_text,
    fingerprint,
    key_pin,
    private_key_pin,
    read_certificates,
)
from certmaild.keystore.errors import CertificateUnfit


@dataclass(frozen=True, slots=True)
class OwnFacts:
    """Facts to hand over; none of them is secret."""

    host: str
    """In EHLO, both ways; the name in the certificate."""
    domains: tuple[str, ...]
    """Hosted ones first, then the guests'."""
    port: int
    """Where other servers deliver."""
    contact: str
    names: tuple[str, ...]
    """In the certificate."""
    not_after: datetime
    fingerprints: tuple[bytes, ...]
    """SHA-256 of each certificate of the chain, the server's first."""
    pin: bytes
    next_pin: bytes | None
    """Of the key to come."""
    authority: str | None = field(repr=False)
    """PEM of our own authority; None: the certificate is by somebody else's."""
    sources: tuple[str, ...]
    """IP addresses that mail comes from, as far as the configuration says; empty: those of ``host`` in DNS."""
    most_octets: int
    """Largest message taken."""


def gather(config: Config) -> OwnFacts:
    """The facts as the files say now. Raises `CertificateUnfit`."""
    tls = config.tls
    chain = read_certificates(tls.default.certificate)
    port = config.listen.smtp
    return OwnFacts(
        config.hostname,
        config.mail_domains,
        port if isinstance(port, int) else 25,
        config.postmaster or f"postmaster@{config.domains[0]}",
        tuple(certificate_names(chain[0])),
        chain[0].not_valid_after_utc,
        tuple(fingerprint(one) for one in chain),
        key_pin(chain[0]),
        _next_pin(tls.next_key),
        certificates_text(PrivateFiles(config.data).authority) if tls.private else None,
        _sources(config),
        config.limits.message_size,
    )


def _next_pin(path: Path | None) -> bytes | None:
    """From a key, or from the certificate that is to come."""
    if path is None or not path.exists():
        return None
    try:
        return private_key_pin(path)
    except CertificateUnfit:
        return key_pin(read_certificates(path)[0])


def _sources(config: Config) -> tuple[str, ...]:
    """Addresses set to connect from, else those listened on, unless these stand for any."""
    given = config.outbound.source or config.listen.address
    found = [one for one in given if not ip_address(one).is_unspecified]
    return tuple(one for one in found if config.outbound.source or not ip_address(one).is_loopback)
