"""TLS contexts: certificates by name, ALPN, versions, reload; the private authority against other verifiers."""

import contextlib
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface.verify import verifyObject

from certmaild.keystore import certificates, tls
from certmaild.keystore.errors import CertificateUnfit
from certmaild.keystore.tls import Application, CertificateFiles, TlsEdge


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> certificates.PrivateFiles:
    return certificates.make_private(tmp_path_factory.mktemp("private"), ["mail.example.com"])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> certificates.PrivateFiles:
    return certificates.make_private(tmp_path_factory.mktemp("other"), ["mail.example.org"])


def files(own: certificates.PrivateFiles, name: str | None = None) -> CertificateFiles:
    return CertificateFiles(own.chain, own.key, name)


class Client:
    """Python's ssl over memory, driven against one of our connections."""

    def __init__(self, context: ssl.SSLContext, name: str | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def shake(self, server: SSL.Connection) -> None:
        """Until both are done; raises what either raises, the client's view first."""
        fault: Exception | None = None
        client_done = server_done = False
        for _ in range(20):
            if not client_done:
                try:
                    self.tls.do_handshake()
                    client_done = True
                except ssl.SSLWantReadError:
                    pass
            if self.outgoing.pending:
                server.bio_write(self.outgoing.read())
            if not server_done:
                try:
                    server.do_handshake()
                    server_done = True
                except SSL.WantReadError:
                    pass
                except SSL.Error as refused:
                    fault, server_done = refused, True
            with contextlib.suppress(SSL.WantReadError):
                self.incoming.write(server.bio_read(1 << 16))
            if fault is not None or (client_done and server_done):
                break
        if fault is not None:
            raise fault
        assert client_done and server_done


def client_context(own: certificates.PrivateFiles | None, *alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if own is None else str(own.authority))
    if own is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if hasattr(ssl, "VERIFY_X509_STRICT"):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def serial_seen(client: Client) -> int:
    octets = client.tls.getpeercert(binary_form=True)
    assert octets is not None
    return x509.load_der_x509_certificate(octets).serial_number


def serial_of(own: certificates.PrivateFiles) -> int:
    return certificates.read_certificates(own.chain)[0].serial_number


@pytest.mark.parametrize("name", ["localhost", "mail.example.com", "127.0.0.1", "::1"])
def test_first_certificate_is_verified_by_python_in_strict_mode(private: certificates.PrivateFiles, name: str) -> None:
    client = Client(client_context(private), name)
    client.shake(TlsEdge(files(private)).connection(Application.IMAP, False))
    assert client.tls.version() == "TLSv1.3"


def test_first_certificate_is_verified_by_cryptography(private: certificates.PrivateFiles) -> None:
    leaf, *rest = certificates.read_certificates(private.chain)
    store = Store(certificates.read_certificates(private.authority))
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("mail.example.com"))
    assert verifier.verify(leaf, rest)[0] == leaf


def test_first_certificate_is_verified_by_openssl_s_command(private: certificates.PrivateFiles) -> None:
    done = subprocess.run(
        [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "localhost",
            "-CAfile",
            str(private.authority),
            str(private.chain),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_keys_are_for_the_owner_only(private: certificates.PrivateFiles) -> None:
    assert private.key.stat().st_mode & 0o777 == 0o600
    assert private.authority_key.stat().st_mode & 0o777 == 0o600
    assert private.key.parent.stat().st_mode & 0o777 == 0o700


def test_authority_is_never_replaced(private: certificates.PrivateFiles) -> None:
    with pytest.raises(FileExistsError):
        certificates.make_private(private.data, ["x.example"])


def test_renewal_keeps_authority_and_key(tmp_path: Path) -> None:
    own = certificates.make_private(tmp_path, ["a.example"])
    authority, key, serial = own.authority.read_bytes(), own.key.read_bytes(), serial_of(own)
    assert not certificates.is_due(own, ["a.example"])
    assert certificates.is_due(own, ["a.example", "b.example"])
    assert certificates.is_due(own, ["a.example"], datetime.now(UTC) + timedelta(days=380))
    certificates.renew_leaf(tmp_path, ["a.example", "b.example"])
    assert (own.authority.read_bytes(), own.key.read_bytes()) == (authority, key)
    assert serial_of(own) != serial
    assert not certificates.is_due(own, ["b.example"])


def test_certificate_by_server_name(private: certificates.PrivateFiles, other: certificates.PrivateFiles) -> None:
    edge = TlsEdge(files(private), [files(other, "mail.example.org"), files(other, "*.wild.example")])
    expected = {
        "mail.example.org": other,
        "MAIL.example.org.": other,
        "one.wild.example": other,
        "two.one.wild.example": private,
        "mail.example.com": private,
        "unknown.example": private,
        None: private,
    }
    for name, own in expected.items():
        client = Client(client_context(None), name)
        client.shake(edge.connection(Application.SMTP, False))
        assert serial_seen(client) == serial_of(own), name


@pytest.mark.parametrize("name", ["unknown.example", None])
def test_strict_names_refuse_unknown_and_absent(private: certificates.PrivateFiles, name: str | None) -> None:
    with pytest.raises((SSL.Error, ssl.SSLError)):
        Client(client_context(None), name).shake(TlsEdge(files(private)).connection(Application.IMAP, True))


def test_strict_names_take_a_named_server(private: certificates.PrivateFiles, other: certificates.PrivateFiles) -> None:
    edge = TlsEdge(files(private), [files(other, "mail.example.org")])
    for name, own in (("mail.example.com", private), ("mail.example.org", other)):
        client = Client(client_context(None), name)
        client.shake(edge.connection(Application.IMAP, True))
        assert serial_seen(client) == serial_of(own)


@pytest.mark.parametrize(
    ("application", "offered", "chosen"),
    [
        (Application.IMAP, ["imap"], "imap"),
        (Application.IMAP, ["http/1.1", "imap"], "imap"),
        (Application.POP3, ["pop3"], "pop3"),
        (Application.IMAP, [], None),
        (Application.IMAP, ["x-unheard-of"], None),
        (Application.SMTP, [], None),
        (Application.SMTP, ["smtp"], None),
        (Application.WEB, [], None),
        (Application.WEB, ["h2", "http/1.1"], "http/1.1"),
    ],
)
def test_alpn_accepted(
    private: certificates.PrivateFiles, application: Application, offered: list[str], chosen: str | None
) -> None:
    client = Client(client_context(private, *offered), "localhost")
    client.shake(TlsEdge(files(private)).connection(application, False))
    assert client.tls.selected_alpn_protocol() == chosen


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("application", "offered"),
    [
        (Application.IMAP, ["http/1.1"]),
        (Application.IMAP, ["h2", "http/1.1"]),
        (Application.IMAP, ["pop3"]),
        (Application.POP3, ["ftp"]),
        (Application.SMTP, ["h2"]),
        (Application.SMTP, ["x-unheard-of"]),
        (Application.WEB, ["h2"]),
        (Application.WEB, ["imap", "pop3"]),
        (Application.WEB, ["x-unheard-of"]),
    ],
)
def test_foreign_alpn_is_fatal(
    private: certificates.PrivateFiles, application: Application, offered: list[str], strict: bool
) -> None:
    server = TlsEdge(files(private)).connection(application, strict)
    client = Client(client_context(private, *offered), "localhost")
    with pytest.raises(tls.ForeignProtocol):
        client.shake(server)
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        client.tls.do_handshake()


def test_foreign_alpn_sends_its_alert_through_twisted(private: certificates.PrivateFiles) -> None:
    creator = TlsEdge(files(private)).creator(Application.IMAP)
    assert verifyObject(IOpenSSLServerConnectionCreator, creator)
    factory = TLSMemoryBIOFactory(creator, False, Factory.forProtocol(Protocol))
    server, transport = factory.buildProtocol(None), StringTransport()
    server.makeConnection(transport)
    client = Client(client_context(private, "http/1.1"), "localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    server.dataReceived(client.outgoing.read())
    assert transport.disconnecting or transport.disconnected
    client.incoming.write(transport.value())
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        client.tls.do_handshake()


def test_old_versions_and_suites_are_refused(private: certificates.PrivateFiles) -> None:
    edge = TlsEdge(files(private))
    cbc = client_context(None)
    cbc.maximum_version = ssl.TLSVersion.TLSv1_2
    cbc.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA")
    with pytest.raises((SSL.Error, ssl.SSLError)):
        Client(cbc).shake(edge.connection(Application.IMAP, False))
    good = client_context(None)
    good.maximum_version = ssl.TLSVersion.TLSv1_2
    client = Client(good)
    client.shake(edge.connection(Application.IMAP, False))
    assert client.tls.version() == "TLSv1.2"
    with pytest.raises((SSL.Error, ssl.SSLError)):
        Client(good).shake(TlsEdge(files(private), minimum="1.3").connection(Application.IMAP, False))


def test_reload_swaps_and_a_bad_file_changes_nothing(tmp_path: Path, other: certificates.PrivateFiles) -> None:
    own = certificates.make_private(tmp_path, ["localhost"])
    edge = TlsEdge(files(own))
    creator = edge.creator(Application.POP3)

    def serial() -> int:
        client = Client(client_context(None))
        client.shake(creator.serverConnectionForTLS(None))
        return serial_seen(client)

    first = serial()
    certificates.renew_leaf(tmp_path, ["localhost"])
    assert serial() == first
    edge.reload()
    second = serial()
    assert second != first
    key = own.key.read_bytes()
    own.key.write_bytes(other.key.read_bytes())
    with pytest.raises(CertificateUnfit, match="does not belong"):
        edge.reload()
    assert serial() == second
    own.key.write_bytes(key)
    certificates.renew_leaf(tmp_path, ["localhost"], datetime.now(UTC) - timedelta(days=500))
    with pytest.raises(CertificateUnfit, match="expired"):
        edge.reload()
    assert serial() == second
    edge.rotate_tickets()
    assert serial() == second


def test_what_is_wrong_with_files_is_said(tmp_path: Path, private: certificates.PrivateFiles) -> None:
    nothing, text = tmp_path / "nothing.pem", tmp_path / "text.pem"
    text.write_text("no certificate")
    for certificate, key, words in (
        (nothing, private.key, "cannot be read: No such file"),
        (private.chain, nothing, "cannot be read: No such file"),
        (text, private.key, "no PEM certificate"),
        (private.chain, text, "no PEM private key"),
        (private.chain, private.authority_key, "does not belong"),
    ):
        with pytest.raises(CertificateUnfit, match=words):
            tls.read_identity(CertificateFiles(certificate, key))


def test_a_chain_out_of_order_is_refused(
    tmp_path: Path, private: certificates.PrivateFiles, other: certificates.PrivateFiles
) -> None:
    mixed = tmp_path / "mixed.pem"
    leaf = private.chain.read_bytes().split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n"
    mixed.write_bytes(leaf + other.authority.read_bytes())
    with pytest.raises(CertificateUnfit, match="no chain"):
        tls.read_identity(CertificateFiles(mixed, private.key))


def test_an_encrypted_key_is_refused_in_words(tmp_path: Path, private: certificates.PrivateFiles) -> None:
    subprocess.run(
        ["openssl", "pkey", "-in", private.key, "-aes256", "-passout", "pass:x", "-out", tmp_path / "key.pem"],
        check=True,
    )
    with pytest.raises(CertificateUnfit, match="encrypted"):
        tls.read_identity(CertificateFiles(private.chain, tmp_path / "key.pem"))


def test_warnings(private: certificates.PrivateFiles) -> None:
    own = files(private)
    assert tls.warnings(own, "mail.example.com") == []
    assert "does not name" in tls.warnings(own, "www.example.com")[0]
    assert "expires in" in tls.warnings(own, now=datetime.now(UTC) + timedelta(days=390))[0]
    assert "expired" in tls.warnings(own, now=datetime.now(UTC) + timedelta(days=500))[0]
