"""A private certificate authority and a server certificate for the first start, and their renewal.

Layout in the data directory: ``ca.pem`` (what clients are told to trust), ``tls/ca-key.pem``, ``tls/key.pem`` (both
mode 0600) and ``tls/chain.pem``, the server's certificate followed by the authority's.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certmaild.keystore.errors import CertificateUnfit
from certmaild.keystore.primitives import PrivateKeyTypes, PublicKeyTypes, ec, hashes, serialization

AUTHORITY_DAYS = 3650
LEAF_DAYS = 397
"""Below what Apple's clients accept from any authority."""
RENEW_DAYS = 30
"""A leaf with less than this left is due."""
ALWAYS = ("localhost", "127.0.0.1", "::1")
"""Names that every certificate of our own carries."""
_BACKDATE = timedelta(hours=1)
"""For clients whose clocks are behind."""


@dataclass(frozen=True, slots=True)
class PrivateFiles:
    """Where our own authority and certificate lie under a data directory."""

    data: Path

    @property
    def authority(self) -> Path:
        """What clients trust."""
        return self.data / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """Signs renewed certificates."""
        return self.data / "tls" / "ca-key.pem"

    @property
    def chain(self) -> Path:
        """The server's certificate, then the authority's."""
        return self.data / "tls" / "chain.pem"

    @property
    def key(self) -> Path:
        """The server's key."""
        return self.data / "tls" / "key.pem"

    @property
    def next_key(self) -> Path:
        """The key that takes its place, so that its hash can be published and pinned before; may not exist."""
        return self.data / "tls" / "next-key.pem"


def make_private(data: Path, names: Sequence[str], now: datetime | None = None) -> PrivateFiles:
    """Make the authority, a key and a certificate for ``names`` (host names and IP addresses), and for localhost.

    Raises `FileExistsError` when there is an authority: clients trust it, so it is never replaced silently.
    """
    now = now or datetime.now(UTC)
    files = PrivateFiles(data)
    if files.authority.exists():
        raise FileExistsError(f"{files.authority} exists already")
    files.chain.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, now)
    write_file(files.authority_key, _key_pem(authority_key), 0o600)
    write_file(files.key, _key_pem(key), 0o600)
    _write_chain(files, _leaf(authority, authority_key, key.public_key(), names, now), authority)
    write_file(files.authority, authority.public_bytes(serialization.Encoding.PEM), 0o644)
    return files


def renew_leaf(data: Path, names: Sequence[str], now: datetime | None = None) -> PrivateFiles:
    """Replace the server's certificate by a fresh one for the same key, so that key and chain match at any moment."""
    now = now or datetime.now(UTC)
    files = PrivateFiles(data)
    authority = read_certificates(files.authority)[0]
    authority_key, key = read_key(files.authority_key), read_key(files.key)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey) or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateUnfit(f"the keys in {files.key.parent} are not the ones that certmaild made")
    _write_chain(files, _leaf(authority, authority_key, key.public_key(), names, now), authority)
    return files


def make_next_key(data: Path) -> bool:
    """Make the key that a later `roll_key` takes; False if there is one."""
    files = PrivateFiles(data)
    if files.next_key.exists():
        return False
    write_file(files.next_key, _key_pem(ec.generate_private_key(ec.SECP256R1())), 0o600)
    return True


def roll_key(data: Path, names: Sequence[str], now: datetime | None = None) -> PrivateFiles:
    """Let the next key be the server's key, under a fresh certificate. Raises `FileNotFoundError` without a next key.

    A crash between the two leaves a certificate for the former key: `is_due` says so, and `renew_leaf` makes it good.
    """
    files = PrivateFiles(data)
    files.next_key.rename(files.key)
    return renew_leaf(data, names, now)


def is_due(files: PrivateFiles, names: Sequence[str], now: datetime | None = None) -> bool:
    """Whether the certificate of our own runs out within `RENEW_DAYS`, lacks one of ``names`` or is for another key."""
    leaf = read_certificates(files.chain)[0]
    if leaf.public_key() != read_key(files.key).public_key():
        return True
    has = set(certificate_names(leaf))
    left = leaf.not_valid_after_utc - (now or datetime.now(UTC))
    return left < timedelta(days=RENEW_DAYS) or any(_canonical(name) not in has for name in (*names, *ALWAYS))


UNREADABLE = (
    *(ValueError, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
"""What `cryptography` raises for certificates of strangers that OpenSSL reads more kindly, at any look into them."""


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """Host names (lower case, A-labels) and IP addresses of the subjectAltName extension."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return hosts + [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises `CertificateUnfit`, whose text names the file."""
    try:
        return certificates_in(_read(path, "certificate"))
    except ValueError:
        raise CertificateUnfit(f"the certificate file {path} holds no PEM certificate that can be read") from None


def certificates_in(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM text, at least one. Raises `ValueError`."""
    return x509.load_pem_x509_certificates(pem)


def certificates_text(path: Path) -> str:
    """The certificates of a PEM file as PEM text, and nothing else that stands there. Raises `CertificateUnfit`."""
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in read_certificates(path))
    return pem.decode("ascii")


def certificate_der(certificate: x509.Certificate) -> bytes:
    """The certificate, DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def key_pin(certificate: x509.Certificate) -> bytes:
    """SHA-256 of SubjectPublicKeyInfo (RFC 7469 section 2.4); TLSA's 3 1 1 too."""
    return _pin(certificate.public_key())


def private_key_pin(path: Path) -> bytes:
    """The same for the public half of a key file. Raises `CertificateUnfit`."""
    return _pin(read_key(path).public_key())


def _pin(key: PublicKeyTypes) -> bytes:
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki).digest()


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate."""
    return certificate.fingerprint(hashes.SHA256())


def read_key(path: Path) -> PrivateKeyTypes:
    """The private key of a PEM file. Raises `CertificateUnfit`, whose text names the file."""
    octets = _read(path, "key")
    try:
        return serialization.load_pem_private_key(octets, None)
    except TypeError:
        raise CertificateUnfit(f"the key file {path} is encrypted; certmaild needs it without a passphrase") from None
    except Exception:
        raise CertificateUnfit(f"the key file {path} holds no PEM private key that can be read") from None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        hint = "; the user that the server runs as must be able to" if isinstance(fault, PermissionError) else ""
        raise CertificateUnfit(f"the {what} file {path} cannot be read: {fault.strerror}{hint}") from None


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"certmaild private CA {serial & 0xFFFFFFFF:08x}")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    now: datetime,
) -> x509.Certificate:
    alternatives = _alternative_names((*names, *ALWAYS))
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    common = next(name for name in (*names, *ALWAYS))[:64]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(min(now + timedelta(days=LEAF_DAYS), authority.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _canonical(name: str) -> str:
    """An IP address as text, or a host name in lower-case A-labels."""
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    name = name.rstrip(".").lower()
    return name if name.isascii() else name.encode("idna").decode("ascii")


def _alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: dict[str, x509.GeneralName] = {}
    for name in map(_canonical, names):
        try:
            found[name] = x509.IPAddress(ip_address(name))
        except ValueError:
            found[name] = x509.DNSName(name)
    return list(found.values())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_chain(files: PrivateFiles, leaf: x509.Certificate, authority: x509.Certificate) -> None:
    pem = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in (leaf, authority))
    write_file(files.chain, pem, 0o644)


def write_file(path: Path, octets: bytes, mode: int) -> None:
    """Replace a file as a whole, durably."""
    fresh = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
