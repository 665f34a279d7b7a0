"""Which servers take mail for a domain, and how surely DNS said so (RFC 5321 section 5.1, RFC 7505).

A host's name is *vouched for* when DNSSEC, or the operator's own words, led from the domain to it. What then has to be
proven there is `certmaild.outbound.planner`'s business.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain, zip_longest

from twisted.internet.defer import Deferred, gatherResults

from certmaild.dns.values import Answer, DnsStatus, Lookup, Mx, ask_a, ask_aaaa, ask_mx
from certmaild.outbound.values import Problem
from certmaild.partners.reading import host_name

MAX_HOSTS = 16
"""Of a domain's MX records the first by preference; nobody needs more, and each costs questions."""
MAX_ADDRESSES = 8
"""Of each IP version, of one host."""

Allowed = Callable[[str], bool]
"""Whether mail may be sent to an IP address that DNS gave."""
Own = Callable[[str, Sequence[str]], bool]
"""Whether a host, by name or addresses, is this server."""


@dataclass(frozen=True, slots=True)
class FoundHost:
    """One server, and its addresses."""

    name: str
    """As the MX record (or the operator) names it: lower-case A-labels; an IP address for a literal."""
    preference: int
    name_vouched: bool
    addresses: tuple[str, ...] = ()
    """In the order to be tried: both IP versions in turn. Empty: see ``problem``."""
    canonical: str = ""
    """Where its CNAMEs lead; its name without any."""
    addresses_secure: bool = False
    """DNSSEC vouches for the addresses, and for each CNAME on the way."""
    problem: Problem | None = None
    """Why it has no addresses."""

    @property
    def is_literal(self) -> bool:
        """Whether its name is an IP address."""
        return self.name == self.canonical and self.addresses == (self.name,)


@dataclass(frozen=True, slots=True)
class Found:
    """The servers of a domain in the order to be tried."""

    domain: str
    expanded: str
    """Where the domain's own CNAMEs lead."""
    hosts: tuple[FoundHost, ...]
    """Not empty, each with addresses."""
    vouched: bool
    """DNSSEC vouches for the list."""


def may_be_reached(address: str, *, loopback: bool = False) -> bool:
    """Whether mail may go to an address that a stranger's DNS gave.

    Not to this machine, its link or a group: a server that trusts its own machine would relay what comes from there.
    Private networks are allowed, because organisations have MX records of their own inside; a stranger who points there
    meets a server that cannot prove the stranger's name. ``loopback`` allows this machine too.
    """
    ip: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return loopback
    return not (ip.is_unspecified or ip.is_multicast or ip.is_link_local or (ip.version == 4 and ip.is_reserved))


class Destinations:
    """Finds servers by DNS."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        is_own: Own = lambda name, addresses: False,
        allowed: Allowed = may_be_reached,
        shuffle: Callable[[list[FoundHost]], None] = random.shuffle,
    ) -> None:
        self._lookup = lookup
        self._is_own = is_own
        self._allowed = allowed
        self._shuffle = shuffle

    async def find(self, domain: str) -> Found | Problem:
        """The servers of a domain (lower-case A-labels, or an address literal in brackets)."""
        if domain.startswith("["):
            return self._literal(domain)
        answer = await ask_mx(self._lookup, domain)
        if answer.failed:
            return _dns_failed(domain, answer)
        if answer.status is DnsStatus.NO_NAME:
            return Problem(True, 550, "5.1.2", f"There is no domain {domain}. Please check the address.")
        if answer.status is DnsStatus.NO_DATA:
            return await self._implicit(domain, answer)
        if [mx.host for mx in answer.records] == [""]:
            words = f"The domain {domain} says that it takes no mail. Please check the address."
            return Problem(True, 556, "5.1.10", words)
        return await self._by_mx(domain, answer)

    async def resolve(self, name: str) -> FoundHost:
        """One host that the operator named: a host name or an IP address, anywhere."""
        if _is_ip(name):
            return FoundHost(name, 0, True, (name,), name)
        return await self._with_addresses(FoundHost(name, 0, True), lambda address: True)

    def _literal(self, domain: str) -> Found | Problem:
        """RFC 5321 section 4.1.3."""
        text = domain.strip("[]")
        text = text[5:] if text.lower().startswith("ipv6:") else text
        if not _is_ip(text):
            return Problem(True, 550, "5.1.2", f"The address literal {domain} is not an IP address.")
        text = str(ip_address(text))
        if not self._allowed(text) or self._is_own(text, (text,)):
            return Problem(True, 550, "5.1.2", f"No mail is sent to the address literal {domain}.")
        return Found(domain, domain, (FoundHost(text, 0, True, (text,), text),), True)

    async def _implicit(self, domain: str, answer: Answer[Mx]) -> Found | Problem:
        """A domain without MX records is its own server."""
        host = await self._with_addresses(FoundHost(domain, 0, answer.secure), self._allowed)
        if host.problem is not None:
            if not host.problem.permanent:
                return host.problem
            words = f"The domain {domain} has no mail server. Please check the address."
            return Problem(True, 550, "5.1.2", words)
        if self._is_own(domain, host.addresses):
            return _loop(domain)
        return Found(domain, host.canonical, (host,), answer.secure)

    async def _by_mx(self, domain: str, answer: Answer[Mx]) -> Found | Problem:
        wanted = [
            FoundHost(mx.host, mx.preference, answer.secure) for mx in set(answer.records) if _is_host_name(mx.host)
        ]
        self._shuffle(wanted)
        wanted.sort(key=lambda host: host.preference)
        looked_up = [Deferred.fromCoroutine(self._with_addresses(host, self._allowed)) for host in wanted[:MAX_HOSTS]]
        hosts: list[FoundHost] = list(await gatherResults(looked_up, consumeErrors=True))
        own = [host.preference for host in hosts if self._is_own(host.name, host.addresses)]
        if own:
            # Who is at least as far away as we are would send it back to us (RFC 5321 section 5.1).
            hosts = [host for host in hosts if host.preference < min(own)]
        usable = tuple(host for host in hosts if host.problem is None)
        if usable:
            return Found(domain, answer.name, usable, answer.secure)
        for host in hosts:
            if host.problem is not None and not host.problem.permanent:
                return host.problem
        if own:
            return _loop(domain)
        return Problem(True, 550, "5.4.4", f"None of the mail servers that the domain {domain} names can be found.")

    async def _with_addresses(self, host: FoundHost, allowed: Allowed) -> FoundHost:
        """The host with its addresses, or its problem."""
        both = [Deferred.fromCoroutine(ask(self._lookup, host.name)) for ask in (ask_aaaa, ask_a)]
        answers: list[Answer[str]] = list(await gatherResults(both, consumeErrors=True))
        found = [answer for answer in answers if answer.status is DnsStatus.FOUND]
        each = [tuple(one for one in answer.records if allowed(one))[:MAX_ADDRESSES] for answer in answers]
        addresses = tuple(one for one in chain.from_iterable(zip_longest(*each)) if one is not None)
        if addresses:
            secure = all(answer.secure for answer in found)
            return replace(host, addresses=addresses, canonical=found[0].name, addresses_secure=secure)
        for answer in answers:
            if answer.failed:
                return replace(host, problem=_dns_failed(host.name, answer))
        words = f"The mail server {host.name} has no address to which mail may be sent."
        return replace(host, problem=Problem(True, 550, "5.4.4", words, host.name))


def _dns_failed(name: str, answer: Answer[Mx] | Answer[str]) -> Problem:
    words = f"DNS could not be asked for {name}: {answer.reason}."
    return Problem(False, 451, "4.4.3", words, concerns_tls=answer.bogus)


def _loop(domain: str) -> Problem:
    words = f"Mail for the domain {domain} is directed to this server, which does not have that domain."
    return Problem(True, 554, "5.4.6", words)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_host_name(text: str) -> bool:
    try:
        return bool(text) and host_name(text) == text and not _is_ip(text)
    except ValueError:
        return False
