"""Who may send in a partner's name: mail that claims his domain comes as his record says, or is refused.

It needs TLS of his minimum version and, as set, his client certificate (one of his pins, or by his authority) and one
of his networks. Judged for the domain of MAIL FROM at RCPT, so that postmaster stays within reach of everybody, and for
that of the From field at the end of data. A record that is not in force yet refuses nothing; the log says what it
would.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from twisted.logger import Logger

from certmaild.keystore.client_certificates import Authority, ClientChain
from certmaild.keystore.errors import CertificateUnfit
from certmaild.keystore.tls_values import Authorities, authorities_pem
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import PartnerRecord
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.interfaces import TlsFacts

log = Logger()


@dataclass(frozen=True, slots=True)
class PartnerProof:
    """What a connection proved of a partner."""

    domain: str
    """The record's."""
    how: str
    """``client certificate by his authority``, ``pinned client certificate``, ``TLS``, with ``from his network``."""
    knows_him: bool
    """By certificate or network: not TLS alone, which anybody has."""


class PartnerGate:
    """Judges by the records of ``book`` at the time that ``seconds`` gives, since 1970."""

    def __init__(self, book: PartnerBook, seconds: Callable[[], float]) -> None:
        self._book = book
        self._seconds = seconds

    @property
    def judges_nobody(self) -> bool:
        """Whether no record counts for mail that comes in."""
        return not any(record.counts_in for record in self._book)

    def asks_for_certificates(self) -> bool:
        """Whether any partner must show one: only then are clients of port 25 asked."""
        return any(_asks(record) for record in self._book)

    def recognises(self, peer: str, tls: TlsFacts | None) -> bool:
        """Whether this is some partner's server, known by certificate or network: it gets the larger limits."""
        if tls is None:
            return False
        chain = ClientChain.read(tls.peer_chain)
        return any(
            isinstance(proof := self._prove(record, peer, tls, chain), PartnerProof) and proof.knows_him
            for record in self._book
            if record.counts_in and (record.networks or (chain and _asks(record)))
        )

    def judge(
        self, domain: str, peer: str, tls: TlsFacts | None, *, session: str, sender: Callable[[], str]
    ) -> "PartnerProof | Refusal | None":
        """What holds for mail that claims ``domain`` (lower-case A-labels); None: no partner's, or not in force yet.

        ``session`` and what ``sender`` gives, a hash, are for the log.
        """
        record = self._book.find(domain)
        if record is None or not record.counts_in:
            return None
        found = self._prove(record, peer, tls, None if tls is None else ClientChain.read(tls.peer_chain))
        if isinstance(found, PartnerProof):
            return found
        in_force = record.is_in_force(self._seconds())
        log.warn(
            "mail in the name of partner {partner} {fate}: {code} {reason}; session {session}, sender {sender}",
            partner=record.domain,
            fate="is refused" if in_force else f"would be refused from {record.start}",
            code=found.code,
            reason=found.text,
            session=session,
            sender=sender(),
        )
        return found if in_force else None

    def _prove(
        self, record: PartnerRecord, peer: str, tls: TlsFacts | None, chain: ClientChain | None
    ) -> PartnerProof | Refusal:
        domain = record.domain
        if tls is None:
            return Refusal(530, "5.7.0", f"Mail from {domain} is taken only over TLS: issue STARTTLS first")
        if record.minimum == "1.3" and tls.version != "TLSv1.3":
            return Refusal(550, "5.7.10", f"Mail from {domain} is taken only over TLS 1.3, this is {tls.version}")
        how = "TLS"
        if _asks(record):
            try:
                how = self._certificate(record, chain)
            except CertificateUnfit as unfit:
                return Refusal(550, "5.7.1", f"Mail from {domain} needs its client certificate: {unfit}")
        if record.networks:
            address = ip_address(peer.partition("%")[0])
            if not any(address in network for network in record.networks):
                return Refusal(550, "5.7.1", f"Mail from {domain} is not taken from {address}")
            how += " from his network"
        return PartnerProof(domain, how, _asks(record) or bool(record.networks))

    def _certificate(self, record: PartnerRecord, chain: ClientChain | None) -> str:
        """How the certificate proves him. Raises `CertificateUnfit`, whose text is the reason."""
        if chain is None:
            raise CertificateUnfit("none was shown, or one that cannot be read")
        if chain.pin in record.pins:
            return "pinned client certificate"
        if record.ca is None:
            raise CertificateUnfit("the key of the one that was shown is not one of those agreed on")
        authority = _authority(record.ca, _changed(record.ca))
        try:
            authority.verify(chain, datetime.fromtimestamp(self._seconds(), UTC))
        except CertificateUnfit as unfit:
            raise CertificateUnfit(f"the one that was shown {unfit}") from None
        if record.names and not chain.is_for(record.names):
            raise CertificateUnfit("the one that was shown is for none of the names agreed on")
        return "client certificate by his authority"


def _asks(record: PartnerRecord) -> bool:
    return record.asks_certificate


def _changed(authorities: Authorities) -> int:
    """When a file was last changed, so that it is read again then."""
    try:
        return authorities.stat().st_mtime_ns if isinstance(authorities, Path) else 0
    except OSError:
        return 0


@lru_cache(maxsize=256)
def _authority(authorities: Authorities, changed: int) -> Authority:
    try:
        return Authority(authorities_pem(authorities))
    except (OSError, CertificateUnfit):
        log.error("the authorities of a partner cannot be read: {authorities}", authorities=authorities)
        raise CertificateUnfit("this server cannot read the authorities agreed on") from None
