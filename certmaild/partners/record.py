"""One partner: a domain, and the terms on which mail goes there and comes from there (PRODUCT section 5.2)."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

from certmaild.keystore.tls_values import Authorities, ClientFiles, Level


class Direction(Enum):
    """Which way a record counts."""

    BOTH = "both"
    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class PartnerRecord:
    """A ``[[partner]]`` of the configuration, or one made by ``certmaild partner add``."""

    domain: str
    """Lower-case A-labels."""
    subdomains: bool = False
    route: tuple[str, ...] = ()
    """``host:port``, ``host``, ``[192.0.2.1]:port``; empty: by MX."""
    level: Level = Level.SECURE
    names: tuple[str, ...] = ()
    """What the certificates of his servers may be for; empty: what the level says."""
    ca: Authorities | None = None
    """Authorities that count; None: the system's. For his client certificates None means that only pins count."""
    pins: tuple[bytes, ...] = ()
    """SHA-256 of SubjectPublicKeyInfo, of his servers and clients; two for a roll-over."""
    minimum: str = "1.2"
    direction: Direction = Direction.BOTH
    client: ClientFiles | None = None
    """What we show him."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where his mail may come from; empty: anywhere."""
    start: date | None = None
    """The key ``from``: enforced from the beginning of this day (UTC); before it his mail goes by the default."""
    certificate_in: bool = True
    """Whether ``ca`` and ``pins``, if there are any, are demanded of his clients too; else of his servers alone."""

    def covers(self, domain: str) -> bool:
        """Whether a lower-case A-label domain is this partner's."""
        return domain == self.domain or (self.subdomains and domain.endswith("." + self.domain))

    def is_in_force(self, now_s: float) -> bool:
        """Whether the terms count already, at a time in seconds since 1970."""
        return self.start is None or datetime.fromtimestamp(now_s, UTC).date() >= self.start

    @property
    def counts_out(self) -> bool:
        """For mail that goes there."""
        return self.direction is not Direction.IN

    @property
    def counts_in(self) -> bool:
        """For mail that comes from there."""
        return self.direction is not Direction.OUT

    @property
    def asks_certificate(self) -> bool:
        """Whether his clients must show a certificate."""
        return self.counts_in and self.certificate_in and (bool(self.pins) or self.ca is not None)
