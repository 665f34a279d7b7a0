"""What a client certificate on port 25 proves: a pinned key, or a chain to an authority that a partner named.

Public authorities no longer issue certificates for clients (KEYS section 19.4), so whose key it is, is said by a pin or
by a private authority, and the extended key usage is not asked to say ``clientAuth``: ``serverAuth`` will do, for many
servers have one certificate for both directions, and so will none. A pinned key is all that its certificate must show:
its dates and names do not count, as with DANE-EE (RFC 7671 section 5.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from certmaild.keystore.certificates import UNREADABLE, certificate_names
from certmaild.keystore.errors import CertificateUnfit
from certmaild.keystore.primitives import serialization

_STRANGE = "is not by an authority that counts for this domain"
_USAGES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


@dataclass(frozen=True, slots=True)
class ClientChain:
    """What a client has shown, its own certificate first; it has proved that it has that one's key."""

    certificates: tuple[x509.Certificate, ...] = field(repr=False)

    @staticmethod
    def read(chain: Sequence[bytes]) -> "ClientChain | None":
        """From DER, as it came. None: nothing was shown that can be read."""
        try:
            read = ClientChain(tuple(x509.load_der_x509_certificate(one) for one in chain)) if chain else None
            return read if read is None or read.pin else None
        except UNREADABLE:
            return None

    @property
    def pin(self) -> bytes:
        """SHA-256 of the key's SubjectPublicKeyInfo (RFC 7469 section 2.4)."""
        spki = (
            self.certificates[0]
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        return sha256(spki).digest()

    def is_for(self, names: Sequence[str]) -> bool:
        """Whether it is for one of ``names``; ``.example.com`` stands for any name below it, ``*.`` for one label."""
        try:
            own = certificate_names(self.certificates[0])
        except UNREADABLE:
            return False
        return any(_matches(has, name) for has in own for name in names)


class Authority:
    """Authorities, read from PEM. Raises `CertificateUnfit` for what holds none."""

    def __init__(self, pem: bytes) -> None:
        try:
            certificates = x509.load_pem_x509_certificates(pem)
        except ValueError:
            raise CertificateUnfit("the partner's authorities hold no PEM certificate that can be read") from None
        self._subjects = {certificate.subject for certificate in certificates}
        self._store = Store(certificates)

    def verify(self, chain: ClientChain, now: datetime) -> None:
        """Raises `CertificateUnfit`, whose text goes on from the certificate."""
        try:
            self._verify(chain, now)
        except UNREADABLE:
            raise CertificateUnfit("cannot be read") from None

    def _verify(self, chain: ClientChain, now: datetime) -> None:
        leaf, others = chain.certificates[0], chain.certificates[1:]
        if not any(certificate.issuer in self._subjects for certificate in chain.certificates):
            raise CertificateUnfit(_STRANGE)
        if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
            raise CertificateUnfit(
                f"is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
            )
        policy = PolicyBuilder().store(self._store).time(now).extension_policies(ca_policy=_CA, ee_policy=_EE)
        try:
            policy.build_client_verifier().verify(leaf, list(others))
        except VerificationError:
            raise CertificateUnfit(_STRANGE) from None


def _matches(has: str, name: str) -> bool:
    if name.startswith("*."):
        return has.partition(".")[2] == name[2:]
    return has.endswith(name) if name.startswith(".") else has == name


def _is_authority(policy: Policy, certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("no authority")


def _may_sign(policy: Policy, certificate: x509.Certificate, extension: x509.KeyUsage | None) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("may not sign certificates")


def _serves_tls(policy: Policy, certificate: x509.Certificate, extension: x509.ExtendedKeyUsage | None) -> None:
    if extension is not None and not any(usage in extension for usage in _USAGES):
        raise ValueError("is not for TLS")


_CA = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
)
_EE = ExtensionPolicy.permit_all().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _serves_tls)
