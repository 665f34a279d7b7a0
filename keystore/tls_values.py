"""What one outgoing TLS connection must prove, and what it proved: plain values (PRODUCT section 5.1, KEYS 19.4)."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path


class Level(Enum):
    """How much a destination must prove before mail is handed to it, as Postfix names it."""

    MAY = "may"
    """Clear text if need be. Only by a partner's record."""
    ENCRYPT = "encrypt"
    """TLS, whoever it is."""
    VERIFY = "verify"
    """A certificate by a known authority for the MX's name, or a name that the record gives."""
    SECURE = "secure"
    """The same, for the destination's own domain or a name that the record gives: no name from unsigned DNS counts."""
    DANE = "dane"
    """TLSA records where DNSSEC gives some (RFC 7672), else `VERIFY`."""
    DANE_ONLY = "dane-only"
    """TLSA records, or nothing is sent."""
    STS = "sts"
    """An MTA-STS policy in mode enforce (RFC 8461), or nothing is sent."""
    PIN = "pin"
    """The public key of the server's certificate is one of those that the record gives."""


class TlsResult(Enum):
    """Why a connection did not prove what it must, as TLS reports name it (RFC 8460 section 4.3)."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    """Anything that no other one names."""
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """A certificate of ours and its key, both PEM, for partners that ask for one."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificates as text: what a stored partner record keeps, so that no file must stay readable for it."""

    text: str = field(repr=False)


Authorities = Path | Pem
"""Who may have signed a certificate: a PEM file, or the text of one."""


def authorities_pem(authorities: Authorities) -> bytes:
    """The certificates, PEM. Raises `OSError` for a file that cannot be read."""
    return authorities.text.encode() if isinstance(authorities, Pem) else authorities.read_bytes()


@dataclass(frozen=True, slots=True)
class Demand:
    """What one connection must prove. The strongest of the planner's findings, already decided.

    Exactly one way of proof applies: ``tlsa`` if there are any, else ``pins`` if there are any, else a chain to ``ca``
    (None: the system's authorities) for one of ``names``, unless ``level`` asks for less.
    """

    level: Level
    server_name: str
    """Sent as SNI: the MX's name, or the next hop's (RFC 7672 section 8.1, RFC 8461 section 4.3)."""
    names: tuple[str, ...] = ()
    """Acceptable names, lower-case A-labels; ``.example.com`` stands for any name below it, ``*.`` for one label."""
    ca: Authorities | None = None
    pins: tuple[bytes, ...] = ()
    """SHA-256 of SubjectPublicKeyInfo (RFC 7469 section 2.4)."""
    tlsa: tuple[Tlsa, ...] = ()
    minimum: str = "1.2"
    client: ClientFiles | None = None
    policy: str = ""
    """What decided, in words for reports: ``partner example.org``, ``DANE``, ``MTA-STS``, ``default``."""

    @property
    def needs_tls(self) -> bool:
        """Whether nothing may be sent in clear."""
        return self.level is not Level.MAY


@dataclass(frozen=True, slots=True)
class Proof:
    """What a connection has proved; kept with each delivery."""

    version: str
    """As OpenSSL names it, ``TLSv1.3``."""
    cipher: str
    group: str
    verified: bool
    """Whether we know whom we talk to; False where `Level.ENCRYPT` or `Level.MAY` was enough."""
    how: str
    """``DANE 3 1 1``, ``certificate for mx.example.org``, ``pin``, ``unverified``."""
    policy: str
    """`Demand.policy`."""
    names: tuple[str, ...] = ()
    """In the server's certificate."""
    chain_sha256: bytes = field(default=b"", repr=False)
    """SHA-256 of the DER certificates as sent, one after the other."""


@dataclass(frozen=True, slots=True)
class ShownTls:
    """What a server showed in a handshake, proven or not."""

    version: str
    """As `Proof.version`."""
    cipher: str
    group: str
    names: tuple[str, ...]
    """In its certificate."""
    issuer: str
    not_after: datetime
    """Of the first certificate of those it sent to run out."""
    pin: bytes = field(repr=False)
    """SHA-256 of its public key."""
    fingerprint: bytes = field(repr=False)
    """SHA-256 of its certificate."""
