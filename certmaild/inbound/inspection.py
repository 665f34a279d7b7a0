"""Looks at one message from another server while it comes in, and says what is to become of it.

Two judges: the partners' records, which refuse what does not come as agreed, and what the domain of From asks for by
DMARC, which is done where the configuration says so.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address

from twisted.logger import Logger

from certmaild.inbound.checks import MAX_AUTHORS, Checks, Found, Tools
from certmaild.inbound.partner_gate import PartnerGate, PartnerProof
from certmaild.inbound.results_field import (
    arc_entry,
    dkim_entries,
    dmarc_entry,
    format_results,
    partner_entry,
    spf_entry,
)
from certmaild.inbound.verdicts import DmarcResult, Policy, Result
from certmaild.mailbox.addresses import Address, canonical, canonical_domain
from certmaild.mailbox.errors import AddressError
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.interfaces import Hop
from certmaild.protocols.smtp.parameters import MailArguments
from certmaild.trace import parse_authors

log = Logger()

_ANY_DOMAIN = re.compile(rb'@([^\s@<>()",;:\\]+)')
_SEALED_PASS = re.compile(rb"\bdmarc\s*=\s*pass\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InspectionSettings:
    """What inspections take from the configuration."""

    authserv_id: str
    """In Authentication-Results (RFC 8601 section 2.5)."""
    checks: bool = True
    """SPF, DKIM, ARC and DMARC."""
    unchecked_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Own servers, whose mail others have looked at."""
    honours_dmarc: bool = True
    """What a domain asks for is done; else it is only written down."""
    arc_sealers: frozenset[str] = frozenset()
    """Domains whose seal that DMARC held when they got the message counts for as much as DMARC."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A message that is taken."""

    results: bytes = b""
    """Authentication-Results, complete lines; empty where nothing was looked at."""
    is_junk: bool = False
    """It goes to the folder of junk."""
    sender_is_proven: bool = False
    """Whoever sends it may use MAIL FROM: what answers to that address goes to no third person."""
    vouched: frozenset[str] = frozenset()
    """Domains of From that vouch for the message by DMARC."""


NOT_LOOKED_AT = Verdict()
"""On a message of our own users."""


class Inspector:
    """What the inspections of all messages share. ``hash_address`` makes of an address what the log may show."""

    def __init__(
        self,
        gate: PartnerGate,
        hash_address: Callable[[str], str],
        settings: InspectionSettings,
        tools: Tools | None = None,
    ) -> None:
        self.gate = gate
        self.hash_address = hash_address
        self.settings = settings
        self.tools = tools

    def begin(self, hop: Hop, mail: MailArguments) -> "Inspection | None":
        """One for a transaction that nobody has logged in for; None where there is nothing to look at."""
        checks = self.tools if self.tools is not None and self._checks_mail_of(hop.peer) else None
        if checks is None and self.gate.judges_nobody:
            return None
        return Inspection(self, hop, mail, checks)

    def _checks_mail_of(self, peer: str) -> bool:
        settings = self.settings
        return settings.checks and not _is_in(peer, settings.unchecked_networks)


class Inspection:
    """One message's. Its methods are called in the order in which they stand here."""

    def __init__(self, inspector: Inspector, hop: Hop, mail: MailArguments, tools: Tools | None) -> None:
        """``tools`` None: only the partners' records count."""
        self._inspector = inspector
        self._settings = inspector.settings
        self._hop = hop
        self._sender = str(mail.reverse_path)
        self._claim = self._judge(domain_of(self._sender))
        self._only_roles = True
        self._checks: Checks | None = None
        if tools is not None:
            self._checks = Checks(tools, hop.peer, self._sender, hop.helo)

    def check_recipient(self, path: Path) -> None:
        """Raises `Refusal` for mail in a partner's name that does not come as agreed; postmaster gets it anyhow."""
        if not path.is_role:
            self._only_roles = False
            if isinstance(self._claim, Refusal):
                raise self._claim

    @property
    def proves_partner(self) -> bool:
        """Whether MAIL FROM is of a partner known by certificate or network; or is null, on such a connection."""
        return self._known_partner is not None or (not self._sender and self._hop.is_partner)

    @property
    def _known_partner(self) -> str | None:
        return self._claim.domain if isinstance(self._claim, PartnerProof) and self._claim.knows_him else None

    def partner_addresses(self, froms: Sequence[bytes]) -> list[Address]:
        """Of those who wrote the message in a proven partner's name: MAIL FROM, and authors of his domains.

        ``froms`` are the values of its From fields. Empty where no partner proved himself.
        """
        if self._known_partner is None:
            return []
        found = [self._sender]
        for value in froms:
            with suppress(Refusal):
                found += parse_authors(value)
        addresses: dict[Address, None] = {}
        for text in found[:MAX_AUTHORS]:
            with suppress(AddressError):
                address = canonical(text)
                if _is_within(address.domain, self._known_partner):
                    addresses[address] = None
        return list(addresses)

    def take_header(self, header: bytes) -> None:
        """The header block as it came, without the blank line."""
        if self._checks is not None:
            self._checks.take_header(header)

    def take_body(self, octets: bytes) -> None:
        """The next piece of what follows the blank line."""
        if self._checks is not None:
            self._checks.take_body(octets)

    async def finish(self, froms: Sequence[bytes]) -> Verdict:
        """What becomes of the message; ``froms`` are the values of its From fields. Raises `Refusal`."""
        authors, is_clear = author_domains(froms)
        found = None if self._checks is None else await self._checks.finish(authors)
        proofs = self._check_authors(authors, found)
        entries = [] if found is None else _entries(found)
        entries += [partner_entry(proof) for proof in proofs]
        is_junk = False
        sender_is_proven = isinstance(self._claim, PartnerProof) and self._claim.knows_him
        if found is not None:
            sender_is_proven = sender_is_proven or (found.spf.result is Result.PASS and not found.spf.is_helo)
            if not is_clear:
                entries.append("dmarc=permerror (From cannot be read)")
                is_junk = self._settings.honours_dmarc
            known = {proof.domain for proof in proofs if proof.knows_him}
            for one in found.dmarc:
                overridden = self._overridden(one, found, known)
                entries.append(dmarc_entry(one) + (f" policy.override={overridden}" if overridden else ""))
                is_junk = (not overridden and self._carry_out(one)) or is_junk
        results = format_results(self._settings.authserv_id, entries) if entries else b""
        vouched = frozenset(one.domain for one in found.dmarc if one.result is Result.PASS) if found else frozenset()
        return Verdict(results, is_junk, sender_is_proven, vouched)

    def cancel(self) -> None:
        """The message will not be taken."""
        if self._checks is not None:
            self._checks.cancel()

    def _judge(self, domain: str | None) -> PartnerProof | Refusal | None:
        if domain is None:
            return None
        hop = self._hop
        hashed = partial(self._inspector.hash_address, self._sender.lower())
        return self._inspector.gate.judge(domain, hop.peer, hop.tls, session=hop.session, sender=hashed)

    def _check_authors(self, authors: Sequence[str], found: Found | None) -> list[PartnerProof]:
        """What was proved of the partners that MAIL FROM and From name.

        A partner's own signature is as good as his connection: so his mail gets through mailing lists.
        """
        proofs = {self._claim.domain: self._claim} if isinstance(self._claim, PartnerProof) else {}
        signed = {one.domain for one in found.dkim if one.result is Result.PASS} if found is not None else set()
        for author in authors:
            claim = self._judge(author)
            if isinstance(claim, PartnerProof):
                proofs[claim.domain] = claim
            elif claim is not None and author not in signed and not self._only_roles:
                raise Refusal(550, "5.7.1", f"From: {claim.text}")
        return list(proofs.values())

    def _overridden(self, one: DmarcResult, found: Found, known: set[str]) -> str:
        """What counts for more than a failure of DMARC; empty: nothing."""
        if one.result is not Result.FAIL:
            return ""
        if any(_is_within(one.domain, domain) for domain in known):
            return "partner"
        arc = found.arc
        is_trusted = arc.result is Result.PASS and arc.sealer in self._settings.arc_sealers
        return "arc" if is_trusted and _SEALED_PASS.search(arc.sealed_results) else ""

    def _carry_out(self, one: DmarcResult) -> bool:
        """Whether the message is junk. Raises `Refusal` where the domain asks for that."""
        if one.result is not Result.FAIL or one.is_test or not self._settings.honours_dmarc:
            return False
        if one.policy is Policy.REJECT:
            log.info(
                "mail refused by the DMARC policy of {domain}; session {session}",
                domain=one.domain,
                session=self._hop.session,
            )
            raise Refusal(
                550,
                "5.7.1",
                f"{one.domain} asks (by DMARC) that mail be refused which neither its SPF nor its DKIM vouches for",
            )
        return one.policy is Policy.QUARANTINE


@lru_cache(maxsize=1024)
def _is_in(peer: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    address = ip_address(peer.partition("%")[0])
    return any(address in network for network in networks)


def _is_within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith("." + parent)


def _entries(found: Found) -> list[str]:
    entries = [spf_entry(found.spf), *dkim_entries(found.dkim)]
    if found.arc.result is not Result.NONE:
        entries.append(arc_entry(found.arc))
    return entries


def domain_of(address: str) -> str | None:
    """Lower-case A-labels; None for the null path and for what is no domain.

    Whatever stands before the last ``@``, and with a last dot too: programs show such an address as that domain's.
    """
    try:
        return canonical_domain(address.rpartition("@")[2].strip().removesuffix(".")) if address else None
    except AddressError:
        return None


def author_domains(froms: Sequence[bytes]) -> tuple[list[str], bool]:
    """The domains that From fields name, each once, and whether that is all there is to it.

    It is not where a field cannot be read, where nobody is named, and where more are than anybody looks at.
    """
    domains: dict[str, None] = {}
    is_clear = True
    for value in froms:
        try:
            found = [domain_of(author) for author in parse_authors(value)]
        except Refusal:
            # Some program may read it as any of these.
            found = [None, *(domain_of(name.decode("utf-8", "replace")) for name in _ANY_DOMAIN.findall(value))]
        is_clear = is_clear and None not in found
        domains |= {domain: None for domain in found if domain is not None}
    return list(domains), is_clear and 0 < len(domains) <= MAX_AUTHORS
