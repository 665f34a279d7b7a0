"""The server's side of TLS: one policy for all listeners, a certificate by name, fresh ones without a restart.

TLS 1.2 with AEAD and ECDHE, or 1.3; OpenSSL's own group order (X25519MLKEM768 first); no renegotiation, compression
or early data. A client that offers another protocol by ALPN is refused with ``no_application_protocol`` (ALPACA).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from certmaild.keystore.certificates import certificate_names, read_certificates, read_key
from certmaild.keystore.errors import CertificateUnfit
from certmaild.keystore.half_close import ServerConnection, TlsLayer
from certmaild.keystore.primitives import PrivateKeyTypes

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; 1.3 has no others than AEAD."""
_FOREIGN = frozenset(
    b"http/0.9 http/1.0 http/1.1 h2 h2c h3 spdy/1 spdy/2 spdy/3 ftp imap pop3 managesieve xmpp-client xmpp-server nntp "
    b"nnsp irc ldap dot doq sip/2 mqtt postgresql acme-tls/1 smb stun.turn stun.nat-discovery webrtc c-webrtc coap "
    b"tds/8.0 ntske/1 sunrpc radius/1.0".split()
)
"""ALPN ids (IANA) that say the client means something else than mail on this port."""


class Application(Enum):
    """What is spoken inside, with the ALPN ids that belong to it."""

    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"
    """IANA has no ALPN id for it."""
    WEB = "http/1.1"
    """The fixed files; the one listener that takes web clients, and no others."""

    @property
    def alpn(self) -> tuple[bytes, ...]:
        """Its ALPN ids."""
        return () if self is Application.SMTP else (str(self.value).encode("ascii"),)


_SMTP_UNREGISTERED = (b"smtp", b"esmtp")
"""What Exim offers; answered without ALPN."""


class ForeignProtocol(SSL.Error):
    """The client offered other protocols than ours: ends the handshake with ``no_application_protocol``.

    It has the shape of OpenSSL's errors, so that Twisted sends the alert and closes as for any failed handshake.
    """

    def __init__(self) -> None:
        super().__init__([("SSL routines", "", "no application protocol")])


def choose_protocol(application: Application, offered: Sequence[bytes]) -> bytes | None:
    """The ALPN id to answer with, or None to go on without. Raises `ForeignProtocol` (RFC 7301 section 3.2)."""
    for ours in application.alpn:
        if ours in offered:
            return ours
    if application is Application.WEB:
        foreign = True
    elif application is Application.SMTP:
        foreign = not any(name in _SMTP_UNREGISTERED for name in offered)
    else:
        foreign = any(name in _FOREIGN for name in offered)
    if foreign:
        raise ForeignProtocol
    return None


# Certificates.


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A chain (the server's certificate first) and its key, both PEM."""

    certificate: Path
    key: Path
    name: str | None = None
    """The server name it is for, ``*.`` in front for one label of any name; None is the default certificate."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A chain and key that were read and fit together."""

    chain: tuple[x509.Certificate, ...] = field(repr=False)
    key: PrivateKeyTypes = field(repr=False)

    @property
    def not_after(self) -> datetime:
        """When the first certificate of the chain to expire expires."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)

    @property
    def names(self) -> list[str]:
        """Host names and addresses in the server's certificate."""
        return certificate_names(self.chain[0])


def read_identity(files: CertificateFiles) -> Identity:
    """Read and check: the key is the certificate's, the next certificate issued each. Raises `CertificateUnfit`."""
    chain = read_certificates(files.certificate)
    key = read_key(files.key)
    if key.public_key() != chain[0].public_key():
        raise CertificateUnfit(f"the key file {files.key} does not belong to the certificate in {files.certificate}")
    for certificate, issuer in pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            raise CertificateUnfit(
                f"the certificate file {files.certificate} is no chain in which each certificate's issuer follows it"
            ) from None
    identity = Identity(tuple(chain), key)
    _context(identity, Application.SMTP, "1.2")
    return identity


def warnings(files: CertificateFiles, hostname: str | None = None, now: datetime | None = None) -> list[str]:
    """Sentences about what works but not for long or not for everybody; empty when all is well."""
    identity = read_identity(files)
    now = now or datetime.now(UTC)
    said = []
    if identity.not_after <= now:
        said.append(f"the certificate in {files.certificate} expired on {identity.not_after:%Y-%m-%d}")
    elif (left := (identity.not_after - now).days) < 14:
        said.append(f"the certificate in {files.certificate} expires in {left} days")
    if identity.chain[0].not_valid_before_utc > now:
        said.append(f"the certificate in {files.certificate} is not valid yet")
    if hostname is not None and not _covers(identity.names, hostname):
        said.append(f"the certificate in {files.certificate} does not name {hostname}")
    return said


def unserved(default: CertificateFiles, by_name: Sequence[CertificateFiles], wanted: Sequence[str]) -> list[str]:
    """Those of the ``wanted`` host names for which no certificate would be shown. Raises `CertificateUnfit`."""
    own = read_identity(default).names
    others = {_name(files.name or ""): read_identity(files).names for files in by_name}
    lacking = []
    for name in map(_name, wanted):
        shown = others.get(name) or others.get("*." + name.partition(".")[2]) or own
        if not _covers(shown, name):
            lacking.append(name)
    return lacking


def _covers(names: Sequence[str], host: str) -> bool:
    host = host.lower().rstrip(".")
    return host in names or "*." + host.partition(".")[2] in names


# Contexts.


def _context(identity: Identity | None, application: Application, minimum: str) -> SSL.Context:
    """A server context; without an identity it completes no handshake."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION if minimum == "1.3" else SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    # Sessions live in tickets, not in memory; the ticket key is the context's and goes with it.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"certmaild/" + application.name.encode("ascii"))

    def select(connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
        chosen = choose_protocol(application, offered)
        return SSL.NO_OVERLAPPING_PROTOCOLS if chosen is None else chosen

    context.set_alpn_select_callback(select)
    if identity is not None:
        try:
            context.use_certificate(identity.chain[0])
            for certificate in identity.chain[1:]:
                context.add_extra_chain_cert(certificate)
            context.use_privatekey(identity.key)  # type: ignore[arg-type]  # TypeError for what TLS cannot use
            context.check_privatekey()
        except (SSL.Error, TypeError, ValueError) as fault:
            raise CertificateUnfit(f"OpenSSL refuses the certificate or its key: {fault}") from None
    return context


class TlsEdge:
    """All listeners' contexts, replaced together; connections that stand keep theirs."""

    def __init__(
        self, default: CertificateFiles, names: Sequence[CertificateFiles] = (), *, minimum: str = "1.2"
    ) -> None:
        """``names`` each have a `CertificateFiles.name`. Raises `CertificateUnfit`."""
        self.load(default, names, minimum=minimum)

    def load(self, default: CertificateFiles, names: Sequence[CertificateFiles] = (), *, minimum: str = "1.2") -> None:
        """Read all files, build all contexts, then swap. Raises `CertificateUnfit`, and all stays as it was."""
        identity = read_identity(default)
        by_name = {_name(files.name or ""): read_identity(files) for files in names}
        contexts = {application: _Contexts(identity, by_name, application, minimum) for application in Application}
        self._files, self._names, self._minimum = default, tuple(names), minimum
        self.identity, self._contexts = identity, contexts

    def reload(self) -> None:
        """Read the same files again; ones that have expired do not replace ones that have not.

        Raises `CertificateUnfit`, and all stays as it was.
        """
        now = datetime.now(UTC)
        if read_identity(self._files).not_after <= now < self.identity.not_after:
            raise CertificateUnfit(f"the certificate in {self._files.certificate} has expired; the former one is kept")
        self.load(self._files, self._names, minimum=self._minimum)

    def rotate_tickets(self) -> None:
        """New contexts from what was read before, so that tickets given so far open nothing. Daily."""
        self._contexts = {application: contexts.again() for application, contexts in self._contexts.items()}

    def creator(
        self,
        application: Application,
        *,
        strict_names: Callable[[], bool] = bool,
        asks_client: Callable[[], bool] = bool,
    ) -> IOpenSSLServerConnectionCreator:
        """What Twisted takes for ``startTLS`` and `TLSMemoryBIOFactory`; follows every `load`.

        While ``strict_names`` says so, a client that names no server, or one that is in no certificate, gets no
        handshake. While ``asks_client`` says so, a client is asked for a certificate: any is taken, and none too, for
        what it proves is judged by whoever wanted to know (`ServerConnection.peer_chain`).
        """
        return cast(IOpenSSLServerConnectionCreator, ServerCreator(self, application, strict_names, asks_client))

    def connection(self, application: Application, strict_names: bool, asks_client: bool = False) -> ServerConnection:
        """A server's connection over memory."""
        contexts = self._contexts[application]
        chosen = contexts.asking if asks_client else contexts.strict if strict_names else contexts.default
        connection = ServerConnection(chosen, None)
        connection.set_accept_state()
        return connection


class _Contexts:
    """The contexts of one application: by server name, the default, and one that insists on a name."""

    def __init__(
        self, identity: Identity, by_name: Mapping[str, Identity], application: Application, minimum: str
    ) -> None:
        self._made_of = (identity, by_name, application, minimum)
        self._own = _context(identity, application, minimum)
        self._own_names = identity.names
        self._by_name = {name: _context(one, application, minimum) for name, one in by_name.items()}
        self.default = _context(identity, application, minimum)
        self.default.set_tlsext_servername_callback(self._choose)
        self.asking = _context(identity, application, minimum)
        self.asking.set_tlsext_servername_callback(self._choose)
        self.asking.set_verify(SSL.VERIFY_PEER, _take_any)
        # A resumed session has no chain to judge: whoever may have to show one makes a full handshake.
        self.asking.set_options(SSL.OP_NO_TICKET)
        self._nothing = _context(None, application, minimum)
        self.strict = _context(identity, application, minimum)
        self.strict.set_tlsext_servername_callback(self._insist)

    def again(self) -> "_Contexts":
        return _Contexts(*self._made_of)

    def _find(self, connection: SSL.Connection) -> SSL.Context | None:
        name = _name((connection.get_servername() or b"").decode("ascii", "replace"))
        found = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        if found is None and _covers(self._own_names, name):
            return self._own
        return found

    def _choose(self, connection: SSL.Connection) -> None:
        """SNI unknown or absent: the default certificate (RFC 8461 section 4.3, RFC 7672 section 8.1)."""
        found = self._find(connection)
        if found is not None and found is not self._own:
            connection.set_context(found)

    def _insist(self, connection: SSL.Connection) -> None:
        connection.set_context(self._find(connection) or self._nothing)


def _take_any(connection: SSL.Connection, certificate: object, error: int, depth: int, preverified: int) -> bool:
    """Who must show something is judged when he says in whose name he comes; others are not disturbed."""
    return True


def _name(name: str) -> str:
    return name.lower().rstrip(".")


@implementer(IOpenSSLServerConnectionCreator)
class ServerCreator:
    """Twisted's way to a server connection: asks the edge each time, so that reloaded certificates count at once."""

    def __init__(
        self,
        edge: TlsEdge,
        application: Application,
        strict_names: Callable[[], bool],
        asks_client: Callable[[], bool],
    ) -> None:
        self._edge = edge
        self._application = application
        self._strict_names = strict_names
        self._asks_client = asks_client

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Called by Twisted at the start of each handshake."""
        connection = self._edge.connection(self._application, self._strict_names(), self._asks_client())
        connection.tls = cast(TlsLayer, tlsProtocol)
        return connection
