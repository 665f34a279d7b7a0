"""Certificates of every kind for tests: authorities, chains, what nobody issued, and what is wrong with them."""

import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

NOW = datetime.now(UTC)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass
class Certified:
    """A certificate with its key, and those above it that are sent with it."""

    certificate: x509.Certificate
    key: Key
    above: list[x509.Certificate] = field(default_factory=list)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, *self.above))

    @property
    def chain(self) -> tuple[bytes, ...]:
        """As it is shown in a handshake, DER."""
        return tuple(one.public_bytes(serialization.Encoding.DER) for one in (self.certificate, *self.above))

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def pin(self) -> bytes:
        return sha256(self.spki).digest()

    def write(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """The chain and the key as files."""
        chain, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        chain.write_bytes(self.chain_pem)
        key.write_bytes(self.key_pem)
        key.chmod(0o600)
        return chain, key

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let it show this certificate."""
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(*self.write(Path(folder)))

    def server(self, folder: Path, minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
        """A server's context with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = minimum
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # hostile and outdated servers exist
        context.load_cert_chain(*self.write(folder, f"server-{id(self)}"))
        return context


def _key(kind: str) -> Key:
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, int(kind))


@dataclass
class Authority(Certified):
    """One that issues certificates."""

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write_pem(self, folder: Path, name: str = "ca") -> Path:
        path = folder / f"{name}.pem"
        path.write_bytes(self.pem)
        return path

    def issue(
        self,
        *names: str,
        start: timedelta = timedelta(hours=-1),
        end: timedelta = timedelta(days=30),
        purposes: tuple[ObjectIdentifier, ...] = (SERVER,),
        key: str | Key = "ec",
        sends_authority: bool = True,
        is_authority: bool = False,
        common_name: str = "server",
    ) -> "Authority":
        """A certificate for host names and IP addresses; times are from now."""
        own = _key(key) if isinstance(key, str) else key
        builder = _builder(common_name, self.certificate.subject, own, start, end, is_authority=is_authority)
        builder = _extended(builder, names, () if is_authority else purposes)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Authority(certificate, own, [self.certificate, *self.above] if sends_authority else [])


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _extended(
    builder: x509.CertificateBuilder, names: Sequence[str], purposes: Sequence[ObjectIdentifier]
) -> x509.CertificateBuilder:
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
    return builder


SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""Python 3.13 refuses an authority that does not say so."""


def _builder(
    name: str, issuer: x509.Name, key: Key, start: timedelta, end: timedelta, *, is_authority: bool
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + start)
        .not_valid_after(NOW + end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    return builder.add_extension(SIGNS_CERTIFICATES, True) if is_authority else builder


def authority(name: str = "Test authority") -> Authority:
    """A root."""
    key = _key("ec")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(name, subject, key, timedelta(days=-1), timedelta(days=900), is_authority=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def self_signed(
    *names: str,
    start: timedelta = timedelta(hours=-1),
    end: timedelta = timedelta(days=30),
    purposes: tuple[ObjectIdentifier, ...] = (),
) -> Certified:
    """A certificate that nobody issued."""
    key = _key("ec")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    builder = _builder("server", subject, key, start, end, is_authority=False)
    return Certified(_extended(builder, names, purposes).sign(key, hashes.SHA256()), key)
