"""Which clouds of mail programs' makers are known, by where they come from and by what they say of themselves.

Only what somebody has written down is listed; an operator adds what he sees (`[relays] networks` and `programs`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from certmaild.protocols.interfaces import ClientId

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Cloud:
    """The servers of one maker."""

    name: str
    """What people call it."""
    networks: tuple[Network, ...] = ()
    programs: tuple[str, ...] = ()
    """How ``name`` or ``vendor`` of ID (RFC 2971) begins, in lower case."""


OUTLOOK = Cloud(
    "Outlook",
    # "Using hybrid Modern Authentication with Outlook for iOS and Android", Microsoft, names these as where its cloud
    # logs in from; logs of IMAP servers show 52.125.x.x for Outlook on Android, and mail submitted for its users came
    # from 52.125.138.56 with EHLO mail.outlook.com.
    (IPv4Network("52.125.128.0/20"), IPv4Network("52.127.96.0/23")),
)
NYLAS = Cloud(
    "Nylas",
    # inbox/crispin.py of github.com/nylas/sync-engine: ("name" "Nylas Sync Engine" "vendor" "Nylas" ...).
    programs=("nylas",),
)
KNOWN = OUTLOOK, NYLAS
CONFIGURED = "a mail program's cloud"
"""The name of what the operator's own settings recognise."""


@dataclass(frozen=True, slots=True)
class Clouds:
    """Those that are known, and the operator's."""

    own: Cloud = field(default_factory=lambda: Cloud(CONFIGURED))

    def by_address(self, peer: str) -> Cloud | None:
        """Whose server has this IP address."""
        try:
            address = ip_address(peer)
        except ValueError:
            return None
        mapped = getattr(address, "ipv4_mapped", None) or address
        return next((one for one in (*KNOWN, self.own) if any(mapped in network for network in one.networks)), None)

    def by_words(self, client_id: ClientId) -> Cloud | None:
        """Whose server says so of itself."""
        said = [value.strip().lower() for name, value in client_id if name.lower() in ("name", "vendor")]
        return next((one for one in (*KNOWN, self.own) if any(_begin(said, one.programs))), None)


def _begin(said: Sequence[str], programs: Sequence[str]) -> list[str]:
    return [one for one in said if one.startswith(tuple(programs))] if programs else []


def clouds(networks: Sequence[Network], programs: Sequence[str]) -> Clouds:
    """With the operator's own networks and programs."""
    return Clouds(Cloud(CONFIGURED, tuple(networks), tuple(one.lower() for one in programs if one)))
