"""Looks at one message from another server while it comes in, and says what is to become of it."""

from collections.abc import Callable, Sequence

from certmaild.inbound.partner_gate import PartnerGate, PartnerProof
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.errors import AddressError
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.interfaces import Hop
from certmaild.protocols.smtp.parameters import MailArguments
from certmaild.trace import parse_authors


class Inspector:
    """What the inspections of all messages share. ``hash_address`` makes of an address what the log may show."""

    def __init__(self, gate: PartnerGate, hash_address: Callable[[str], str]) -> None:
        self.gate = gate
        self.hash_address = hash_address

    def begin(self, hop: Hop, mail: MailArguments) -> "Inspection":
        """One for a transaction that nobody has logged in for."""
        return Inspection(self, hop, mail)


class Inspection:
    """One message's. Its methods are called in the order in which they stand here."""

    def __init__(self, inspector: Inspector, hop: Hop, mail: MailArguments) -> None:
        self._inspector = inspector
        self._hop = hop
        self._sender = str(mail.reverse_path)
        self._claim = self._judge(domain_of(self._sender))
        self._only_roles = True

    def check_recipient(self, path: Path) -> None:
        """Raises `Refusal` for mail in a partner's name that does not come as agreed; postmaster gets it anyhow."""
        if not path.is_role:
            self._only_roles = False
            if isinstance(self._claim, Refusal):
                raise self._claim

    def check_authors(self, authors: Sequence[bytes]) -> None:
        """The same for the values of the From fields."""
        for domain in author_domains(authors):
            claim = self._judge(domain)
            if isinstance(claim, Refusal) and not self._only_roles:
                raise Refusal(550, "5.7.1", f"From: {claim.text}")

    def _judge(self, domain: str | None) -> PartnerProof | Refusal | None:
        if domain is None:
            return None
        hop = self._hop
        return self._inspector.gate.judge(
            domain, hop.peer, hop.tls, session=hop.session, sender=self._inspector.hash_address(self._sender.lower())
        )


def domain_of(address: str) -> str | None:
    """Lower-case A-labels; None for the null path and for what is no address."""
    try:
        return canonical(address).domain if address else None
    except AddressError:
        return None


def author_domains(authors: Sequence[bytes]) -> list[str]:
    """The domains that From fields name, each once; those of fields that cannot be read are missing."""
    domains: dict[str, None] = {}
    for value in authors:
        try:
            found = [domain_of(author) for author in parse_authors(value)]
        except Refusal:
            continue
        domains |= {domain: None for domain in found if domain is not None}
    return list(domains)
