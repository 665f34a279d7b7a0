"""Asks the configured DNS servers: what to ask, whom next, and how far an answer is believed.

The AD bit counts only from a server on this machine (RFC 7672 section 8.2):
from anywhere else somebody on the way may have set it. Everything else is dnspython's: messages, names, and that an
answer belongs to its question.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from certmaild.dns.cache import DnsCache, Key
from certmaild.dns.exchange import UDP_PAYLOAD, Server, ServerSilent, exchange, parse_message
from certmaild.dns.values import Answer, DnsStatus, host_text
from certmaild.shared_work import SharedWork

log = Logger()
ROUNDS_S = (2.0, 3.0, 5.0)
"""How long each server is waited for, in the first round, the second, the third."""
LONGEST_S = 15.0
"""After which no further server is asked."""
AT_ONCE = 256
"""Questions under way; further ones wait."""
RESOLV_CONF = Path("/etc/resolv.conf")


def system_servers(path: Path = RESOLV_CONF) -> tuple[Server, ...]:
    """The name servers of the system's resolv.conf, at most three; else one on this machine (resolv.conf(5))."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    found = []
    for words in (line.split() for line in lines):
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(Server.read(words[1]))
            except ValueError:
                log.warn("resolv.conf: not an IP address: {given}", given=words[1])
    return tuple(found[:3]) or (Server("127.0.0.1"),)


def configured_servers(addresses: Sequence[str]) -> tuple[Server, ...]:
    """Those of ``[resolver] addresses``, as ``address`` or ``address#port``; of none, the system's."""
    return tuple(Server.read(one) for one in addresses) or system_servers()


class Resolver:
    """A `Lookup` over recursive DNS servers. All calls on the reactor's thread, which no call keeps waiting."""

    def __init__(self, reactor: Any, servers: Sequence[Server], *, rounds_s: Sequence[float] = ROUNDS_S) -> None:
        self._reactor = reactor
        self._servers = list(servers)
        self._rounds_s = rounds_s
        self._places = DeferredSemaphore(AT_ONCE)
        self._under_way: SharedWork[Key, Answer[dns.rdata.Rdata]] = SharedWork()
        self.cache = DnsCache(reactor.seconds)

    def take_over(self, servers: Sequence[Server]) -> None:
        """Ask these from now on; what others said is forgotten."""
        self._servers = list(servers)
        self.cache.clear()

    @property
    def can_be_secure(self) -> bool:
        """Whether any server's word on DNSSEC is believed: without that there is no DANE."""
        return any(server.is_local for server in self._servers)

    async def ask(self, name: str, kind: RdataType) -> Answer[dns.rdata.Rdata]:
        """See `Lookup.ask`. The same question asked twice at once goes out once."""
        key = (name.lower().rstrip("."), kind)
        known = self.cache.find(key)
        if known is not None:
            return known
        return await self._under_way.result(
            key, lambda: self._places.run(lambda: Deferred.fromCoroutine(self._find(*key)))
        )

    async def _find(self, name: str, kind: RdataType) -> Answer[dns.rdata.Rdata]:
        try:
            asked = dns.name.from_text(name.encode("ascii").decode("ascii"))
        except (dns.exception.DNSException, UnicodeError):
            # Nothing in DNS can have this name: a label is empty or longer than 63 octets, or the whole than 255.
            return Answer(DnsStatus.NO_NAME, name)
        answer = await self._ask_servers(asked, kind)
        self.cache.keep((name, kind), answer)
        return answer

    async def _ask_servers(self, name: dns.name.Name, kind: RdataType) -> Answer[dns.rdata.Rdata]:
        """In turn until one knows; one that cannot say is not asked again."""
        begun = self._reactor.seconds()
        last: Answer[dns.rdata.Rdata] = Answer(DnsStatus.FAILED, host_text(name), reason="no DNS server is set")
        unable: set[Server] = set()
        for timeout_s in self._rounds_s:
            for server in [one for one in self._servers if one not in unable]:
                left_s = begun + LONGEST_S - self._reactor.seconds()
                if left_s <= 0:
                    return last
                last = await self._ask_one(server, name, kind, min(timeout_s, left_s), unable)
                if not last.failed:
                    return last
        return last

    async def _ask_one(
        self, server: Server, name: dns.name.Name, kind: RdataType, timeout_s: float, unable: set[Server]
    ) -> Answer[dns.rdata.Rdata]:
        query = dns.message.make_query(
            name, kind, use_edns=0, payload=UDP_PAYLOAD, want_dnssec=server.is_local, flags=dns.flags.RD | dns.flags.AD
        )
        try:
            message = await exchange(self._reactor, server, query, timeout_s, self._parse)
        except ServerSilent as silent:
            if server in self._servers:
                # The next question begins with another.
                self._servers.remove(server)
                self._servers.append(server)
            return Answer(DnsStatus.FAILED, host_text(name), reason=str(silent))
        answer = read_answer(message, believe=server.is_local)
        if answer.failed:
            unable.add(server)
        return answer

    async def _parse(self, octets: bytes) -> dns.message.Message:
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), parse_message, octets)


def read_answer(message: dns.message.Message, *, believe: bool) -> Answer[dns.rdata.Rdata]:
    """What a response says to its one question; ``believe``: its AD bit counts."""
    name = host_text(message.question[0].name) if message.question else ""
    rcode = message.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        bogus = any(one.code in _BOGUS for one in message.extended_errors())
        said = "its DNSSEC signatures do not hold" if bogus else f"the DNS server says {dns.rcode.to_text(rcode)}"
        return Answer(DnsStatus.FAILED, name, reason=said, bogus=bogus)
    try:
        chain = dns.message.QueryMessage.resolve_chaining(message)  # type: ignore[arg-type]  # what queries get
    except dns.exception.DNSException:
        return Answer(DnsStatus.FAILED, name, reason="the DNS server's answer makes no sense")
    secure = believe and bool(message.flags & dns.flags.AD)
    end = host_text(chain.canonical_name)
    if chain.answer is not None:
        return Answer(DnsStatus.FOUND, end, tuple(chain.answer), secure, chain.minimum_ttl)
    status = DnsStatus.NO_NAME if rcode == dns.rcode.NXDOMAIN else DnsStatus.NO_DATA
    return Answer(status, end, (), secure, chain.minimum_ttl)


_BOGUS = frozenset(
    {
        dns.edns.EDECode.DNSSEC_INDETERMINATE,
        dns.edns.EDECode.DNSSEC_BOGUS,
        dns.edns.EDECode.SIGNATURE_EXPIRED,
        dns.edns.EDECode.SIGNATURE_NOT_YET_VALID,
        dns.edns.EDECode.DNSKEY_MISSING,
        dns.edns.EDECode.RRSIGS_MISSING,
        dns.edns.EDECode.NO_ZONE_KEY_BIT_SET,
        dns.edns.EDECode.NSEC_MISSING,
    }
)
