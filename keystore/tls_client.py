"""The client's side of TLS: connections that prove what a `Demand` asks, or say in words why not.

TLS 1.2 with AEAD and ECDHE, or 1.3, as at the server's edge; SNI always, but for IP addresses; no session is ever
resumed, so none is shared between demands. A handshake is completed whatever the certificates are, and
`Handshake.prove` judges them: the caller says nothing inside TLS before that.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, cast

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from certmaild.keystore.certificates import UNREADABLE, certificates_in
from certmaild.keystore.errors import CertificateUnfit, TlsUnproven
from certmaild.keystore.tls import CIPHERS, CertificateFiles, read_identity
from certmaild.keystore.tls_proof import Finding, Shown, chain_hash, is_address, judge, names_of, read_shown
from certmaild.keystore.tls_values import Authorities, ClientFiles, Demand, Proof, ShownTls, TlsResult, authorities_pem

_Trust = Authorities | Literal["system"] | None
_CONTEXTS = 64
"""Kept at most; the one made first goes."""
_HEAD = 11
"""Octets of a server's first record up to the version in its hello (RFC 5246 section 7.4.1.3)."""
_OLD: Final = {b"\x03\x00": "SSL 3.0", b"\x03\x01": "TLS 1.0", b"\x03\x02": "TLS 1.1"}

_VERSION: Final = ("unsupported protocol", "alert protocol version", "wrong ssl version", "version too low")
_NO_TLS: Final = (
    "wrong version number",
    "http request",
    "packet length too long",
    "record layer failure",
    "bad record",
)
_CIPHER: Final = ("alert handshake failure", "no shared cipher", "alert insufficient security", "no ciphers available")
_OURS: Final = (
    "certificate required",
    "alert bad certificate",
    "alert unknown ca",
    "alert certificate",
    "access denied",
)
_NAME: Final = ("unrecognized name", "unrecognised name")


class TlsClients:
    """Makes connections. What it read from files is read again when they change."""

    def __init__(self, authorities: Authorities | None = None) -> None:
        """``authorities`` (PEM) stand for the system's."""
        self._authorities = authorities
        self._contexts: dict[tuple[object, ...], SSL.Context] = {}

    def begin(self, demand: Demand) -> "Handshake":
        """TLS for one connection. Raises `CertificateUnfit` if a file of ours cannot be used."""
        trust: _Trust = None if demand.tlsa else demand.ca or self._authorities or "system"
        key = (_stamp(trust), demand.minimum, demand.client, *map(_stamp, _files(demand.client)))
        context = self._contexts.get(key)
        if context is None:
            context = _context(trust, demand.minimum, demand.client)
            while len(self._contexts) >= _CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[key] = context
        return Handshake(demand, context)

    def forget(self) -> None:
        """Read the system's authorities again, for connections that begin from now on."""
        self._contexts.clear()


@implementer(IOpenSSLClientConnectionCreator)
class Handshake:
    """TLS on one connection: what Twisted takes for ``startTLS``, and what came of it."""

    def __init__(self, demand: Demand, context: SSL.Context) -> None:
        self._demand = demand
        self._connection = _Connection(context, None)
        self._connection.set_connect_state()
        if not is_address(demand.server_name):
            self._connection.set_tlsext_host_name(demand.server_name.encode("ascii"))

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Called by Twisted, once."""
        return self._connection

    def prove(self) -> Proof:
        """What the server has proved, after the handshake. Raises `TlsUnproven`."""
        connection = self._connection
        try:
            # Octets of a stranger's, which OpenSSL reads more kindly than cryptography does.
            sent = tuple(connection.get_peer_cert_chain(as_cryptography=True) or ())
            chain = tuple(connection.get_verified_chain(as_cryptography=True) or ())
            found = tuple(Finding(number, depth, one.to_cryptography()) for number, depth, one in connection.found)
            how = judge(self._demand, Shown(sent, chain, found))
        except UNREADABLE:
            raise TlsUnproven("it shows a certificate that cannot be read", TlsResult.VALIDATION_FAILURE) from None
        return Proof(
            version=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name() or "",
            group=connection.get_group_name() or "",
            verified=how is not None,
            how=how or "unverified",
            policy=self._demand.policy,
            names=tuple(names_of(sent[0])),
            chain_sha256=chain_hash(sent),
        )

    def shown(self) -> ShownTls | None:
        """What the server showed; None where the handshake did not come so far, or it shows what cannot be read."""
        connection = self._connection
        try:
            sent = tuple(connection.get_peer_cert_chain(as_cryptography=True) or ())
        except UNREADABLE:
            return None
        version, cipher = connection.get_protocol_version_name(), connection.get_cipher_name() or ""
        return read_shown(sent, version, cipher, connection.get_group_name() or "") if sent else None

    def is_fault_of_tls(self, fault: BaseException | None) -> bool:
        """Whether TLS itself ended the connection: in 1.3 a server judges our certificate after the handshake."""
        return bool(_reason(fault))

    def explain(self, fault: BaseException | None) -> TlsUnproven:
        """Why a handshake came to nothing, from what Twisted gave to ``connectionLost``."""
        reason = _reason(fault)
        return TlsUnproven(self._words(reason), TlsResult.VALIDATION_FAILURE)

    def _words(self, reason: str) -> str:
        if any(one in reason for one in _VERSION):
            return self._connection.old_version(self._demand.minimum)
        if any(one in reason for one in _NO_TLS):
            return "it does not speak TLS after it said that it would"
        if any(one in reason for one in _OURS):
            what = "it refuses our certificate" if self._demand.client else "it demands a certificate of ours"
            return f"{what} ({reason})"
        if any(one in reason for one in _NAME):
            return f"it has no certificate for the name {self._demand.server_name}"
        if any(one in reason for one in _CIPHER):
            return "it has no way to encrypt that is safe enough (TLS 1.2 with ECDHE and AEAD, or TLS 1.3)"
        return f"it broke off the TLS handshake ({reason})" if reason else "it broke off the TLS handshake"


class _Connection(SSL.Connection):
    """Remembers what OpenSSL found, and how the server's first record began: that tells which old version it wanted."""

    _head = b""

    def __init__(self, context: SSL.Context, socket: None) -> None:
        super().__init__(context, socket)
        self.found: list[tuple[int, int, crypto.X509]] = []

    def bio_write(self, buf: bytes | bytearray | memoryview) -> int:
        """Octets from the server."""
        if len(self._head) < _HEAD:
            self._head += bytes(buf[: _HEAD - len(self._head)])
        return super().bio_write(buf)

    def old_version(self, minimum: str) -> str:
        """What he offers instead of what was asked."""
        is_hello = self._head[:1] == b"\x16" and self._head[5:6] == b"\x02"
        old = _OLD.get(self._head[9:11]) if is_hello else None
        if old is None and is_hello and minimum == "1.3":
            old = "TLS 1.2"
        if old is not None:
            return f"it offers only {old}; TLS {minimum} is the least that is accepted"
        return f"it does not offer TLS {minimum} or later"


def _context(trust: _Trust, minimum: str, client: ClientFiles | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION if minimum == "1.3" else SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_PEER, _note)
    if trust == "system":
        context.set_default_verify_paths()
    elif trust is not None:
        _trust(context.get_cert_store(), trust)
    if client is not None:
        identity = read_identity(CertificateFiles(client.certificate, client.key))
        context.use_certificate(identity.chain[0])
        for certificate in identity.chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(identity.key)  # type: ignore[arg-type]  # `read_identity` tried it
    return context


def _trust(store: crypto.X509Store | None, trust: Authorities) -> None:
    """Each certificate counts, also that of an authority that has another above it, or the server's own."""
    assert store is not None
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    try:
        for certificate in certificates_in(authorities_pem(trust)):
            store.add_cert(crypto.X509.from_cryptography(certificate))
    except (OSError, ValueError):
        what = f"the file {trust}" if isinstance(trust, Path) else "the text of a partner's authorities"
        raise CertificateUnfit(f"{what} holds no PEM certificates that can be read") from None


def _note(connection: SSL.Connection, certificate: crypto.X509, number: int, depth: int, ok: int) -> bool:
    """Keep what OpenSSL finds, and go on: `Handshake.prove` judges."""
    if not ok:
        cast(_Connection, connection).found.append((number, depth, certificate))
    return True


def _files(client: ClientFiles | None) -> Sequence[Path]:
    return (client.certificate, client.key) if client else ()


def _stamp(file: Authorities | str | None) -> tuple[object, ...]:
    """Changes when the file does."""
    if not isinstance(file, Path):
        return (file,)
    try:
        status = file.stat()
    except OSError as fault:
        raise CertificateUnfit(f"the file {file} cannot be read: {fault.strerror}") from None
    return (file, status.st_mtime_ns, status.st_size, status.st_ino)


def _reason(fault: BaseException | None) -> str:
    """OpenSSL's last words; empty when the connection just ended."""
    if not isinstance(fault, SSL.Error) or not fault.args or not isinstance(fault.args[0], list) or not fault.args[0]:
        return ""
    return str(fault.args[0][-1][-1])
