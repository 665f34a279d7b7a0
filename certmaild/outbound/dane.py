"""Which TLSA records bind a server's certificate (RFC 7672 section 2.2, RFC 7671).

TLSA counts only where DNSSEC vouches for the whole way: the MX records, the host's addresses, the TLSA records. If a
record on this way cannot be had, the host is not used: else whoever suppresses an answer would switch DANE off.
"""

from dataclasses import dataclass

from certmaild.dns.values import Lookup, ask_cname, ask_tlsa
from certmaild.keystore.tls_values import Tlsa
from certmaild.outbound.destinations import FoundHost

_OCTETS = {1: 32, 2: 64}
"""Of the digests, by matching type: SHA-256, SHA-512."""


@dataclass(frozen=True, slots=True)
class DaneFinding:
    """What DANE says of one host."""

    base: str = ""
    """TLSA base domain: sent as SNI, and the first name that a certificate under DANE-TA may be for."""
    records: tuple[Tlsa, ...] = ()
    """Usable ones; empty if there are none."""
    unusable: bool = False
    """There are securely found records, but none that SMTP can use."""
    failure: str = ""
    """Not empty: the records may exist but could not be had, so the host must not be used. In words."""
    bogus: bool = False


NOTHING = DaneFinding()
"""DANE is not there."""


async def find_tlsa(lookup: Lookup, host: FoundHost, port: int) -> DaneFinding:
    """The TLSA records of a host whose name is vouched for."""
    if not host.name_vouched or host.is_literal:
        return NOTHING
    if host.addresses_secure:
        bases = [host.canonical] if host.canonical == host.name else [host.canonical, host.name]
    elif host.canonical != host.name:
        # The alias itself may stand in a signed zone though it leads out of it (RFC 7672 section 2.2.2).
        alias = await ask_cname(lookup, host.name)
        if alias.failed:
            return DaneFinding(failure=alias.reason, bogus=alias.bogus)
        bases = [host.name] if alias.secure else []
    else:
        bases = []
    for base in bases:
        answer = await ask_tlsa(lookup, f"_{port}._tcp.{base}")
        if answer.failed:
            return DaneFinding(base, failure=answer.reason, bogus=answer.bogus)
        if answer.records and answer.secure:
            usable = best_digests(tuple(one for one in answer.records if is_usable(one)))
            return DaneFinding(base, usable, unusable=not usable)
    return NOTHING


def is_usable(record: Tlsa) -> bool:
    """Whether SMTP clients use it: DANE-TA or DANE-EE (RFC 7672 section 3.1.3), of a known form."""
    if record.usage not in (2, 3) or record.selector not in (0, 1):
        return False
    if record.matching == 0:
        return bool(record.data)
    return len(record.data) == _OCTETS.get(record.matching, -1)


def best_digests(records: tuple[Tlsa, ...]) -> tuple[Tlsa, ...]:
    """Without the weaker of two digests for the same usage and selector (RFC 7671 section 9)."""
    strong = {(one.usage, one.selector) for one in records if one.matching == 2}
    return tuple(one for one in records if one.matching != 1 or (one.usage, one.selector) not in strong)
