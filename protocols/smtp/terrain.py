"""What one listener needs to know of the configuration, and the terms that follow from it for a connection."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.interfaces import Listener
from certmaild.protocols.smtp.terms import Terms


@dataclass(frozen=True, slots=True)
class Terrain:
    """One listener's part of the configuration."""

    listener: Listener
    hostname: str
    limits: Limits
    require_tls: bool = True
    """Port 25: refuse mail before TLS (``[inbound] tls``)."""
    clear_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Peers that may send to port 25 without TLS all the same."""

    @property
    def is_submission(self) -> bool:
        """Whether only users may send here (RFC 6409)."""
        return self.listener is not Listener.INBOUND

    @property
    def is_in_tls_at_once(self) -> bool:
        """Whether TLS begins with the first octet (RFC 8314 section 3)."""
        return self.listener is Listener.SUBMISSIONS

    def terms(
        self, peer: str, *, in_tls: bool, offer_starttls: bool, is_partner: bool = False, now_s: int = 0
    ) -> Terms:
        """The terms for a connection of ``peer``, an IP address, in its present condition since ``now_s``."""
        return Terms(
            hostname=self.hostname,
            limits=self.limits,
            is_submission=self.is_submission,
            in_tls=in_tls,
            offer_starttls=offer_starttls,
            require_tls=self.is_submission or (self.require_tls and not self._is_clear(peer)),
            is_partner=is_partner,
            now_s=now_s,
        )

    def _is_clear(self, peer: str) -> bool:
        networks = self.clear_networks
        return bool(networks) and any(ip_address(peer.partition("%")[0]) in network for network in networks)
