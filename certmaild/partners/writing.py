"""A partner's record as people read it: key by key as it is written, and in one line."""

from certmaild.keystore.certificates import certificates_in
from certmaild.keystore.tls_values import Level, Pem, authorities_pem
from certmaild.partners.reading import format_pin
from certmaild.partners.record import Direction, PartnerRecord

_LEVELS = {
    Level.MAY: "TLS if offered, else clear text",
    Level.ENCRYPT: "TLS, whoever it is",
    Level.VERIFY: "a valid certificate for the name of the MX",
    Level.SECURE: "a valid certificate for the domain",
    Level.DANE: "DANE, else a valid certificate for the name of the MX",
    Level.DANE_ONLY: "DANE",
    Level.STS: "an enforced MTA-STS policy",
    Level.PIN: "a pinned key",
}
_DIRECTIONS = {Direction.BOTH: "both ways", Direction.IN: "for mail from there", Direction.OUT: "for mail to there"}


def written(record: PartnerRecord) -> dict[str, object]:
    """The keys of ``[[partner]]`` with their values as texts, truth values and lists."""
    ca = record.ca
    return {
        "domain": record.domain,
        "subdomains": record.subdomains,
        "route": list(record.route),
        "level": record.level.value,
        "names": list(record.names),
        "ca": ca.text if isinstance(ca, Pem) else None if ca is None else str(ca),
        "pins": [format_pin(pin) for pin in record.pins],
        "minimum": record.minimum,
        "direction": record.direction.value,
        "client_certificate": None if record.client is None else str(record.client.certificate),
        "client_key": None if record.client is None else str(record.client.key),
        "networks": [str(network) for network in record.networks],
        "from": None if record.start is None else record.start.isoformat(),
        "certificate_in": record.certificate_in,
    }


def summary(record: PartnerRecord) -> str:
    """The terms in one line of words, without the domain and the date."""
    parts = [f"level {record.level.value} ({_proof(record)})"] if record.counts_out else []
    parts.append(_DIRECTIONS[record.direction])
    if record.subdomains:
        parts.append("with its subdomains")
    if record.route:
        parts.append("by way of " + ", ".join(record.route))
    if record.minimum != "1.2":
        parts.append(f"TLS {record.minimum} or later")
    if record.client is not None:
        parts.append("we show a certificate of ours")
    if record.asks_certificate:
        parts.append("his clients show a certificate")
    if record.networks:
        parts.append("from " + ", ".join(str(network) for network in record.networks))
    if record.start is not None:
        parts.append(f"from {record.start} on")
    return "; ".join(parts)


_BY_CERTIFICATE = (Level.VERIFY, Level.SECURE, Level.DANE, Level.STS)


def _proof(record: PartnerRecord) -> str:
    """What his servers must prove."""
    words = _LEVELS[record.level]
    if record.names and record.level in (Level.VERIFY, Level.SECURE, Level.DANE):
        words = "a valid certificate for " + " or ".join(record.names)
    if record.ca is not None and record.level in _BY_CERTIFICATE:
        words += ", by " + authority_names(record)
    return words


def authority_names(record: PartnerRecord) -> str:
    """Who may have signed his certificates, and until when they may; the system's authorities are not named."""
    if record.ca is None:
        return "the authorities of this system"
    if not isinstance(record.ca, Pem):
        return f"the authority in {record.ca}"
    return " or ".join(
        f"{one.subject.rfc4514_string() or 'an authority without a name'} (until {one.not_valid_after_utc:%Y-%m-%d})"
        for one in certificates_in(authorities_pem(record.ca))
    )
