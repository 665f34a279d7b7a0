"""What DNS said, as plain values, and the port by which anybody asks (RFC 1035, RFC 2308)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Generic, Protocol, TypeVar, cast

import dns.name
import dns.rdata
import dns.reversename
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TLSA import TLSA
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from certmaild.keystore.tls_values import Tlsa

R = TypeVar("R")
S = TypeVar("S")


class DnsStatus(Enum):
    """How a question ended."""

    FOUND = "found"
    NO_DATA = "no data"
    """The name exists, without a record of this type (RFC 2308 section 2.2)."""
    NO_NAME = "no such name"
    """NXDOMAIN."""
    FAILED = "failed"
    """No server answered, or none could: SERVFAIL, broken DNSSEC, time-out. Temporary; says nothing about the name."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[R]):
    """The end of one question."""

    status: DnsStatus
    name: str
    """Whose records these are: the name asked for, or where its CNAMEs lead; lower case, without the last dot."""
    records: tuple[R, ...] = ()
    """Not empty if and only if the status is FOUND."""
    secure: bool = False
    """DNSSEC vouches for all of it, CNAMEs and absence included (RFC 4035 section 3.2.3)."""
    ttl_s: int = 0
    reason: str = field(default="", compare=False)
    """Why it failed, in words."""
    bogus: bool = False
    """It failed because DNSSEC signatures do not hold (RFC 8914), as far as the server says so."""

    @property
    def failed(self) -> bool:
        """Nothing is known: try again later."""
        return self.status is DnsStatus.FAILED

    def map(self, convert: Callable[[R], S]) -> "Answer[S]":
        """The same with other records."""
        records = tuple(convert(one) for one in self.records)
        return Answer(self.status, self.name, records, self.secure, self.ttl_s, self.reason, self.bogus)


class Lookup(Protocol):
    """Asks DNS. The functions below give its answers their types."""

    async def ask(self, name: str, kind: RdataType) -> Answer[dns.rdata.Rdata]:
        """The records of a name in A-labels; CNAMEs are followed. Never raises for what DNS or the network does."""
        ...


@dataclass(frozen=True, slots=True)
class Mx:
    """One MX record."""

    preference: int
    host: str
    """Empty: the null MX (RFC 7505)."""


def host_text(name: dns.name.Name) -> str:
    """Lower case, without the last dot; the root is empty."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


async def ask_a(lookup: Lookup, name: str) -> Answer[str]:
    """IPv4 addresses."""
    return (await lookup.ask(name, RdataType.A)).map(lambda one: cast(A, one).address)


async def ask_aaaa(lookup: Lookup, name: str) -> Answer[str]:
    """IPv6 addresses."""
    return (await lookup.ask(name, RdataType.AAAA)).map(lambda one: cast(AAAA, one).address)


async def ask_mx(lookup: Lookup, name: str) -> Answer[Mx]:
    """MX records as they stand, in no order."""
    answer = await lookup.ask(name, RdataType.MX)
    return answer.map(lambda one: Mx(cast(MX, one).preference, host_text(cast(MX, one).exchange)))


async def ask_txt(lookup: Lookup, name: str) -> Answer[bytes]:
    """TXT records, the strings of each joined without anything between (RFC 7208 section 3.3)."""
    return (await lookup.ask(name, RdataType.TXT)).map(lambda one: b"".join(cast(TXT, one).strings))


async def ask_tlsa(lookup: Lookup, name: str) -> Answer[Tlsa]:
    """TLSA records, usable or not."""

    def convert(one: dns.rdata.Rdata) -> Tlsa:
        tlsa = cast(TLSA, one)
        return Tlsa(tlsa.usage, tlsa.selector, tlsa.mtype, tlsa.cert)

    return (await lookup.ask(name, RdataType.TLSA)).map(convert)


async def ask_cname(lookup: Lookup, name: str) -> Answer[str]:
    """The alias's own record, not followed."""
    return (await lookup.ask(name, RdataType.CNAME)).map(lambda one: host_text(cast(CNAME, one).target))


async def ask_ptr(lookup: Lookup, address: str) -> Answer[str]:
    """Host names of an IP address. Raises `ValueError` for what is none."""
    name = dns.reversename.from_address(str(ip_address(address)))
    return (await lookup.ask(host_text(name), RdataType.PTR)).map(lambda one: host_text(cast(PTR, one).target))
