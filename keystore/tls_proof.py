"""Whether a server's certificates prove what a `Demand` asks: TLSA records, pins, or a chain and a name.

OpenSSL builds and checks the chain while the handshake runs, and its findings are judged here afterwards, before a word
is said inside TLS. What fails is a `TlsUnproven`, with words for people and the type that TLS reports know.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity

from certmaild.keystore.certificates import UNREADABLE, certificate_names
from certmaild.keystore.errors import TlsUnproven
from certmaild.keystore.primitives import serialization
from certmaild.keystore.tls_values import Demand, Level, ShownTls, Tlsa, TlsResult

# X509_V_ERR_*, in <openssl/x509_vfy.h>.
_NO_ISSUER = 2
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = 18
_SELF_SIGNED_ABOVE = 19
_NO_ISSUER_HERE = 20
_LEAF_ALONE = 21
_WRONG_PURPOSE = 26
_WEAK = frozenset({66, 67, 68})
"""A key or a hash below what OpenSSL's security level asks."""
_ENDS_UNKNOWN = frozenset({_NO_ISSUER, _SELF_SIGNED_ABOVE, _NO_ISSUER_HERE})
"""The chain holds, as far as it goes; its end is none of our authorities."""
_UNKNOWN = _ENDS_UNKNOWN | {_SELF_SIGNED, _LEAF_ALONE}

_DIGESTS: Final[dict[int, Callable[[bytes], bytes]]] = {
    0: lambda octets: octets,
    1: lambda octets: hashlib.sha256(octets).digest(),
    2: lambda octets: hashlib.sha512(octets).digest(),
}
_TRUST_ANCHOR, _END_ENTITY = 2, 3
_SHOWN_NAMES = 3
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that OpenSSL found wrong with a certificate of the chain."""

    number: int
    """X509_V_ERR_*."""
    depth: int
    """0 is the server's own certificate."""
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server showed."""

    sent: tuple[x509.Certificate, ...]
    """His own certificate first; in TLS 1.2 and later there always is one."""
    chain: tuple[x509.Certificate, ...]
    """What OpenSSL built of it, from his own upwards."""
    findings: tuple[Finding, ...]

    @property
    def leaf(self) -> x509.Certificate:
        """His own certificate."""
        return self.sent[0]


def judge(demand: Demand, shown: Shown) -> str | None:
    """How a server proved whom it is, as `Proof.how`; None where the demand asks for none and there is none.

    Raises `TlsUnproven`.
    """
    if demand.tlsa:
        return _by_tlsa(demand, shown)
    if demand.level is Level.DANE_ONLY:
        raise TlsUnproven("it publishes no TLSA records that DNSSEC proves", TlsResult.DANE_REQUIRED)
    if demand.pins or demand.level is Level.PIN:
        return _by_pin(demand, shown.leaf)
    try:
        _check_chain(shown.findings)
        return f"certificate for {_check_name(demand, shown.leaf)}"
    except TlsUnproven:
        if demand.level in (Level.MAY, Level.ENCRYPT):
            return None
        raise


# DANE


def _by_tlsa(demand: Demand, shown: Shown) -> str:
    for record in demand.tlsa:
        # Neither name nor time count: the record names this very key (RFC 7672 section 3.1.1).
        if record.usage == _END_ENTITY and _is_named(record, shown.leaf):
            return _dane(record)
    for record in demand.tlsa:
        above = shown.chain[1:]
        if record.usage == _TRUST_ANCHOR and any(_is_named(record, certificate) for certificate in above):
            _check_chain([one for one in shown.findings if one.number not in _ENDS_UNKNOWN])
            _check_name(demand, shown.leaf)
            return _dane(record)
    raise TlsUnproven("it shows a certificate that no TLSA record (DANE) announces", TlsResult.VALIDATION_FAILURE)


def _is_named(record: Tlsa, certificate: x509.Certificate) -> bool:
    octets = _SELECTED[record.selector](certificate) if record.selector in _SELECTED else b""
    digest = _DIGESTS.get(record.matching)
    return bool(octets) and digest is not None and digest(octets) == record.data


def _dane(record: Tlsa) -> str:
    return f"DANE {record.usage} {record.selector} {record.matching}"


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _public_key(certificate: x509.Certificate) -> bytes:
    """SubjectPublicKeyInfo; empty for a key of a kind that is not known."""
    try:
        return certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, UnsupportedAlgorithm):
        return b""


_SELECTED: Final[dict[int, Callable[[x509.Certificate], bytes]]] = {0: _der, 1: _public_key}


# Pins


def _by_pin(demand: Demand, leaf: x509.Certificate) -> str:
    key = _public_key(leaf)
    if key and hashlib.sha256(key).digest() in demand.pins:
        return "pin"
    raise TlsUnproven("it shows a certificate whose key is not one of those agreed on", TlsResult.VALIDATION_FAILURE)


def chain_hash(sent: Iterable[x509.Certificate]) -> bytes:
    """`Proof.chain_sha256`."""
    return hashlib.sha256(b"".join(_der(certificate) for certificate in sent)).digest()


def read_shown(sent: Sequence[x509.Certificate], version: str, cipher: str, group: str) -> ShownTls | None:
    """What can be said of a server's certificates, his own first; None where they cannot be read."""
    try:
        key = _public_key(sent[0])
        names, issuer = tuple(names_of(sent[0])), common_name(sent[0].issuer)
        not_after = min(one.not_valid_after_utc for one in sent)
    except UNREADABLE:
        return None
    pin, fingerprint = hashlib.sha256(key).digest(), hashlib.sha256(_der(sent[0])).digest()
    return ShownTls(version, cipher, group, names, issuer, not_after, pin, fingerprint)


# Chain and name


def _check_chain(findings: Sequence[Finding]) -> None:
    for finding in sorted(findings, key=_gravity):
        raise _unproven(finding)


def _gravity(finding: Finding) -> int:
    """The most telling first: an unknown authority, then time, then the rest."""
    return 0 if finding.number in _UNKNOWN else 1 if finding.number == _EXPIRED else 2


def _unproven(finding: Finding) -> TlsUnproven:
    number, certificate = finding.number, finding.certificate
    whose = "its certificate" if finding.depth == 0 else f"the certificate of {common_name(certificate.subject)}"
    if number == _SELF_SIGNED:
        return TlsUnproven("its certificate is issued by nobody but itself", TlsResult.CERTIFICATE_NOT_TRUSTED)
    if number in _UNKNOWN:
        issuer = common_name(certificate.issuer)
        return TlsUnproven(
            f"its certificate is issued by an authority that is not known here ({issuer}), "
            "or it does not send the certificates in between",
            TlsResult.CERTIFICATE_NOT_TRUSTED,
        )
    if number == _EXPIRED:
        day = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        return TlsUnproven(f"{whose} expired on {day}", TlsResult.CERTIFICATE_EXPIRED)
    if number == _NOT_YET_VALID:
        day = f"{certificate.not_valid_before_utc:%Y-%m-%d}"
        return TlsUnproven(f"{whose} is not valid before {day}", TlsResult.VALIDATION_FAILURE)
    if number in _WEAK:
        return TlsUnproven(f"{whose} has a key or a signature that is too weak", TlsResult.VALIDATION_FAILURE)
    if number == _WRONG_PURPOSE:
        return TlsUnproven(f"{whose} is not meant for a server", TlsResult.VALIDATION_FAILURE)
    return TlsUnproven(f"{whose} does not hold (X.509 error {number})", TlsResult.VALIDATION_FAILURE)


def _check_name(demand: Demand, leaf: x509.Certificate) -> str:
    """The name of the demand that the certificate has."""
    wanted = demand.names or (demand.server_name,)
    has = names_of(leaf)
    for name in wanted:
        if _has_name(leaf, has, name):
            return name
    if not has:
        raise TlsUnproven("its certificate names no server", TlsResult.CERTIFICATE_HOST_MISMATCH)
    more = f" and {len(has) - _SHOWN_NAMES} more" if len(has) > _SHOWN_NAMES else ""
    first = ", ".join(_printable(name) for name in has[:_SHOWN_NAMES])
    raise TlsUnproven(
        f"its certificate is for {first}{more}, not for {' or '.join(wanted)}", TlsResult.CERTIFICATE_HOST_MISMATCH
    )


def names_of(certificate: x509.Certificate) -> list[str]:
    """Host names and addresses in a certificate of somebody else's; none where they cannot be read."""
    try:
        return certificate_names(certificate)
    except UNREADABLE:
        return []


def _has_name(leaf: x509.Certificate, has: Sequence[str], name: str) -> bool:
    if name.startswith("."):
        return any(one.endswith(name) and len(one) > len(name) for one in has)
    if name.startswith("*."):
        return any(one.partition(".")[2] == name[2:] and not one.startswith(".") for one in has)
    try:
        wanted = _identity(name)
        verify_service_identity(extract_patterns(leaf), [wanted], [])
    except (VerificationError, CertificateError, ValueError):
        return False
    return True


def _identity(name: str) -> DNS_ID | IPAddress_ID:
    return IPAddress_ID(name) if is_address(name) else DNS_ID(name)


def is_address(name: str) -> bool:
    """Whether a server is named by an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def common_name(name: x509.Name) -> str:
    found = [*name.get_attributes_for_oid(NameOID.COMMON_NAME), *name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return _printable(str(found[0].value)) if found else "without a name"


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)[:_SHOWN_CHARACTERS]
