"""What a server's certificates prove, by handshakes over memory: each outcome with its words and its report type."""

import contextlib
import ssl
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256, sha512
from pathlib import Path

import pytest
import tls_support
from OpenSSL import SSL
from tls_support import NOW, Authority, Certified
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface.verify import verifyObject

from certmaild.keystore.certificates import certificates_in
from certmaild.keystore.errors import CertificateUnfit, TlsUnproven
from certmaild.keystore.tls_client import Handshake, TlsClients
from certmaild.keystore.tls_proof import Finding, Shown, judge
from certmaild.keystore.tls_values import ClientFiles, Demand, Level, Pem, Proof, Tlsa, TlsResult

MX = "mx.p.example"
NOT_TRUSTED, MISMATCH = TlsResult.CERTIFICATE_NOT_TRUSTED, TlsResult.CERTIFICATE_HOST_MISMATCH
EXPIRED, FAILURE = TlsResult.CERTIFICATE_EXPIRED, TlsResult.VALIDATION_FAILURE
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def root() -> Authority:
    return tls_support.authority()


@pytest.fixture(scope="module")
def middle(root: Authority) -> Authority:
    return root.issue(is_authority=True, common_name="Test middle", sends_authority=False)


@pytest.fixture(scope="module")
def clients(root: Authority, tmp_path_factory: pytest.TempPathFactory) -> TlsClients:
    return TlsClients(root.write_pem(tmp_path_factory.mktemp("tls")))


class Server:
    """Python's ssl over memory."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.names: list[str | None] = []
        context.sni_callback = lambda _, name, __: self.names.append(name)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def step(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()


def shake(handshake: Handshake, server: Server) -> None:
    """Run the handshake; raises what the client's side raises."""
    connection = handshake.clientConnectionForTLS(None)
    for _ in range(10):
        done = False
        try:
            connection.do_handshake()
            done = True
        except SSL.WantReadError:
            pass
        finally:
            try:
                while octets := connection.bio_read(1 << 16):
                    server.incoming.write(octets)
            except SSL.WantReadError:
                pass
        try:
            server.step()
        except ssl.SSLError:
            if done:
                raise
        if server.outgoing.pending:
            connection.bio_write(server.outgoing.read())
        elif done:
            return
    raise AssertionError("the handshake does not end")


def meet(clients: TlsClients, demand: Demand, shown: Certified, folder: Path) -> Proof:
    handshake = clients.begin(demand)
    shake(handshake, Server(shown.server(folder)))
    return handshake.prove()


def refused(clients: TlsClients, demand: Demand, shown: Certified, folder: Path) -> tuple[str, TlsResult]:
    with pytest.raises(TlsUnproven) as caught:
        meet(clients, demand, shown, folder)
    assert str(caught.value) == caught.value.words
    return caught.value.words, caught.value.result


def demand(level: Level = Level.VERIFY, *names: str, **more: object) -> Demand:
    return replace(Demand(level, MX, names, policy="default"), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [Level.VERIFY, Level.SECURE, Level.STS, Level.DANE, Level.ENCRYPT, Level.MAY])
def test_a_right_certificate(level: Level, clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    shown = root.issue(MX, "192.0.2.1")
    server = Server(shown.server(tmp_path))
    handshake = clients.begin(demand(level))
    assert verifyObject(IOpenSSLClientConnectionCreator, handshake)
    shake(handshake, server)
    assert handshake.prove() == Proof(
        version="TLSv1.3",
        cipher="TLS_AES_256_GCM_SHA384",
        group=handshake.clientConnectionForTLS(None).get_group_name() or "",
        verified=True,
        how="certificate for mx.p.example",
        policy="default",
        names=("mx.p.example", "192.0.2.1"),
        chain_sha256=sha256(shown.der + root.der).digest(),
    )
    assert handshake.prove().group
    assert server.names == [MX]


def test_no_server_name_is_sent_for_an_address(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    server = Server(root.issue("192.0.2.1").server(tmp_path))
    handshake = clients.begin(Demand(Level.VERIFY, "192.0.2.1"))
    shake(handshake, server)
    assert handshake.prove().how == "certificate for 192.0.2.1"
    assert server.names == [None]
    assert refused(clients, Demand(Level.VERIFY, "192.0.2.2"), root.issue("192.0.2.1"), tmp_path) == (
        "its certificate is for 192.0.2.1, not for 192.0.2.2",
        MISMATCH,
    )


NAMES = [
    ("mx.p.example", "mx.p.example", True),
    ("MX.P.example", "mx.p.example", True),
    ("*.p.example", "mx.p.example", True),
    ("*.p.example", "a.mx.p.example", False),
    ("*.p.example", "p.example", False),
    ("p.example", "mx.p.example", False),
    ("mx.p.example", ".p.example", True),
    ("a.mx.p.example", ".p.example", True),
    ("*.p.example", ".p.example", True),
    ("p.example", ".p.example", False),
    ("evilp.example", ".p.example", False),
    ("mx.p.example", "*.p.example", True),
    ("*.p.example", "*.p.example", True),
    ("a.mx.p.example", "*.p.example", False),
    ("p.example", "*.p.example", False),
    ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example", True),
    ("192.0.2.1", "mx.p.example", False),
]


@pytest.mark.parametrize(("has", "wanted", "fits"), NAMES)
def test_names(has: str, wanted: str, fits: bool, clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    shown = root.issue(has)
    if fits:
        assert meet(clients, demand(Level.VERIFY, wanted), shown, tmp_path).how == f"certificate for {wanted}"
    else:
        words, result = refused(clients, demand(Level.VERIFY, wanted), shown, tmp_path)
        assert words == f"its certificate is for {has.lower()}, not for {wanted}"
        assert result is MISMATCH


def test_any_of_several_names_counts(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    wanted = demand(Level.SECURE, "p.example", ".p.example")
    assert meet(clients, wanted, root.issue("mx.p.example"), tmp_path).how == "certificate for .p.example"
    words, _ = refused(clients, wanted, root.issue("a.example", "b.example", "c.example", "d.example"), tmp_path)
    assert words == "its certificate is for a.example, b.example, c.example and 1 more, not for p.example or .p.example"


def test_what_is_wrong_with_a_certificate(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    other = tls_support.authority("Other\u202e authority")
    past, future = NOW - 3 * DAY, NOW + 3 * DAY
    wanted = demand()
    unknown = (
        "its certificate is issued by an authority that is not known here (Other? authority), "
        "or it does not send the certificates in between"
    )
    assert refused(clients, wanted, other.issue(MX), tmp_path) == (unknown, NOT_TRUSTED)
    assert refused(clients, wanted, other.issue(MX, sends_authority=False), tmp_path) == (unknown, NOT_TRUSTED)
    assert refused(clients, wanted, other.issue("x.example", end=-DAY, start=-2 * DAY), tmp_path)[1] is NOT_TRUSTED
    assert refused(clients, wanted, tls_support.self_signed(MX), tmp_path) == (
        "its certificate is issued by nobody but itself",
        NOT_TRUSTED,
    )
    assert refused(clients, wanted, root.issue(MX, start=-4 * DAY, end=-3 * DAY), tmp_path) == (
        f"its certificate expired on {past:%Y-%m-%d}",
        EXPIRED,
    )
    assert refused(clients, wanted, root.issue(MX, start=3 * DAY), tmp_path) == (
        f"its certificate is not valid before {future:%Y-%m-%d}",
        FAILURE,
    )
    assert refused(clients, wanted, root.issue("mx.other.example"), tmp_path) == (
        "its certificate is for mx.other.example, not for mx.p.example",
        MISMATCH,
    )
    assert refused(clients, wanted, root.issue(), tmp_path) == ("its certificate names no server", MISMATCH)
    assert refused(clients, wanted, root.issue(MX, purposes=(tls_support.CLIENT,)), tmp_path) == (
        "its certificate is not meant for a server",
        FAILURE,
    )
    assert refused(clients, wanted, root.issue(MX, key="1024"), tmp_path) == (
        "its certificate has a key or a signature that is too weak",
        FAILURE,
    )
    # The common name is no name of a server (RFC 6125).
    assert refused(clients, wanted, root.issue(common_name=MX), tmp_path)[1] is MISMATCH


def test_encrypt_and_may_take_any_of_them(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    for shown in (tls_support.self_signed(), root.issue(MX, key="1024"), root.issue("x", start=-2 * DAY, end=-DAY)):
        for level in (Level.ENCRYPT, Level.MAY):
            proof = meet(clients, demand(level), shown, tmp_path)
            assert (proof.verified, proof.how) == (False, "unverified")


def test_certificates_in_between(clients: TlsClients, root: Authority, middle: Authority, tmp_path: Path) -> None:
    assert meet(clients, demand(), middle.issue(MX), tmp_path).verified
    words, result = refused(clients, demand(), middle.issue(MX, sends_authority=False), tmp_path)
    assert words.startswith("its certificate is issued by an authority that is not known here (Test middle)")
    assert result is NOT_TRUSTED
    expired = root.issue(is_authority=True, common_name="Old middle", end=-DAY, start=-2 * DAY)
    assert refused(clients, demand(), expired.issue(MX), tmp_path) == (
        f"the certificate of Old middle expired on {NOW - DAY:%Y-%m-%d}",
        EXPIRED,
    )
    # A server's certificate signs no other one.
    leaf = root.issue("evil.example")
    assert refused(clients, demand(), leaf.issue(MX), tmp_path)[1] is NOT_TRUSTED
    for record in records(root, 2):
        assert refused(clients, demand(Level.DANE, tlsa=(record,)), leaf.issue(MX), tmp_path)[1] is FAILURE


def test_authorities_of_a_partner(clients: TlsClients, middle: Authority, tmp_path: Path) -> None:
    own = tls_support.authority("Partner")
    ca = own.write_pem(tmp_path)
    for given in (ca, Pem(own.pem.decode())):
        assert meet(clients, demand(ca=given), own.issue(MX), tmp_path).verified
        assert refused(clients, demand(ca=given), middle.issue(MX), tmp_path)[1] is NOT_TRUSTED
    assert refused(clients, demand(), own.issue(MX), tmp_path)[1] is NOT_TRUSTED
    # An authority below another one counts by itself, and so does a server's own certificate.
    assert meet(clients, demand(ca=Pem(middle.pem.decode())), middle.issue(MX), tmp_path).verified
    alone = tls_support.self_signed(MX)
    assert meet(clients, demand(ca=Pem(alone.chain_pem.decode())), alone, tmp_path).verified
    # A file that changes counts at once.
    other = tls_support.authority("Another")
    other.write_pem(tmp_path)
    assert meet(clients, demand(ca=ca), other.issue(MX), tmp_path).verified


def test_files_that_cannot_be_used(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    with pytest.raises(CertificateUnfit, match="cannot be read"):
        clients.begin(demand(ca=tmp_path / "absent.pem"))
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(CertificateUnfit, match=r"junk\.pem holds no PEM certificates"):
        clients.begin(demand(ca=tmp_path / "junk.pem"))
    with pytest.raises(CertificateUnfit, match="partner's authorities"):
        clients.begin(demand(ca=Pem("junk")))
    chain, _ = root.issue("a").write(tmp_path, "a")
    _, key = root.issue("b").write(tmp_path, "b")
    with pytest.raises(CertificateUnfit, match="does not belong"):
        clients.begin(demand(client=ClientFiles(chain, key)))


def test_pins(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    shown = root.issue("x.example", start=-2 * DAY, end=-DAY)
    pinned = demand(Level.PIN, pins=(b"\0" * 32, shown.pin))
    # Neither name, nor time, nor who issued it counts; the key does, also in the next certificate.
    for one in (shown, tls_support.authority().issue("y.example", key=shown.key)):
        proof = meet(clients, pinned, one, tmp_path)
        assert (proof.verified, proof.how) == (True, "pin")
    for wrong in (pinned, demand(Level.PIN), demand(Level.ENCRYPT, pins=(b"",))):
        words, result = refused(clients, wrong, root.issue(MX), tmp_path)
        assert words == "it shows a certificate whose key is not one of those agreed on"
        assert result is FAILURE


# DANE


def records(shown: Certified, usage: int) -> list[Tlsa]:
    found = []
    for selector, octets in ((0, shown.der), (1, shown.spki)):
        found += [
            Tlsa(usage, selector, 0, octets),
            Tlsa(usage, selector, 1, sha256(octets).digest()),
            Tlsa(usage, selector, 2, sha512(octets).digest()),
        ]
    return found


def test_dane_ee_asks_for_the_key_alone(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    shown = tls_support.authority().issue("x.example", start=-2 * DAY, end=-DAY, purposes=(tls_support.CLIENT,))
    for record in records(shown, 3):
        for level in (Level.DANE, Level.DANE_ONLY, Level.VERIFY):
            proof = meet(clients, demand(level, tlsa=(Tlsa(3, 1, 1, b"\0" * 32), record)), shown, tmp_path)
            assert (proof.verified, proof.how) == (True, f"DANE 3 {record.selector} {record.matching}")
        # A right chain does not help.
        assert refused(clients, demand(tlsa=(record,)), root.issue(MX), tmp_path) == (
            "it shows a certificate that no TLSA record (DANE) announces",
            FAILURE,
        )


def test_dane_ta_asks_for_chain_and_name(clients: TlsClients, tmp_path: Path) -> None:
    own = tls_support.authority("Own")
    below = own.issue(is_authority=True, common_name="Below")
    wanted = demand(Level.DANE, "p.example", MX)
    for anchor in (own, below):
        for record in records(anchor, 2):
            dane = replace(wanted, tlsa=(record,))
            assert meet(clients, dane, below.issue(MX), tmp_path).how == f"DANE 2 {record.selector} {record.matching}"
            words, result = refused(clients, dane, below.issue("x.example"), tmp_path)
            assert words == "its certificate is for x.example, not for p.example or mx.p.example"
            assert result is MISMATCH
            assert refused(clients, dane, below.issue(MX, start=-2 * DAY, end=-DAY), tmp_path)[1] is EXPIRED
            # The anchor is not sent: nothing to find it by (RFC 7672 section 3.1.2).
            assert refused(clients, dane, below.issue(MX, sends_authority=False), tmp_path)[1] is FAILURE
    # The middle is sent without its own authority.
    lone = Certified(*(lambda one: (one.certificate, one.key))(below.issue(MX)), above=[below.certificate])
    assert meet(clients, replace(wanted, tlsa=(records(below, 2)[4],)), lone, tmp_path).verified


def test_a_false_chain_under_a_trust_anchor(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    """The anchor's certificate is public: whoever shows it has not been certified by it."""
    evil = tls_support.authority("Evil")
    leaf = evil.issue(MX)
    for record in records(root, 2):
        dane = demand(Level.DANE, tlsa=(record,))
        for above in ([root.certificate], [evil.certificate, root.certificate], [root.certificate, evil.certificate]):
            assert refused(clients, dane, Certified(leaf.certificate, leaf.key, above), tmp_path)[1] is FAILURE
        # The same name, another key.
        same = tls_support.authority("Test authority")
        fake = same.issue(MX)
        shown = Certified(fake.certificate, fake.key, [root.certificate])
        assert refused(clients, dane, shown, tmp_path)[1] in (FAILURE, NOT_TRUSTED)


def test_a_trust_anchor_is_not_the_server_itself(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    alone = tls_support.self_signed(MX)
    for record in records(alone, 2):
        assert refused(clients, demand(Level.DANE, tlsa=(record,)), alone, tmp_path)[1] is FAILURE
    unusable = ((0, 0, 0, root.der), (1, 0, 0, b"x"), (3, 2, 1, b"x"), (3, 0, 3, b""), (3, 2, 0, b""))
    for record in (Tlsa(*one) for one in unusable):
        assert refused(clients, demand(Level.DANE, tlsa=(record,)), root.issue(MX), tmp_path)[1] is FAILURE


def test_dane_only_without_records(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    assert refused(clients, demand(Level.DANE_ONLY), root.issue(MX), tmp_path) == (
        "it publishes no TLSA records that DNSSEC proves",
        TlsResult.DANE_REQUIRED,
    )


# Handshakes that fail


def broken(clients: TlsClients, wanted: Demand, context: ssl.SSLContext) -> str:
    handshake = clients.begin(wanted)
    with pytest.raises((SSL.Error, AssertionError)) as caught:
        shake(handshake, Server(context))
    unproven = handshake.explain(caught.value)
    assert unproven.result is FAILURE
    return unproven.words


@pytest.mark.parametrize(
    ("maximum", "minimum", "words"),
    [
        (ssl.TLSVersion.TLSv1, "1.2", "it does not offer TLS 1.2 or later"),
        (ssl.TLSVersion.TLSv1_1, "1.2", "it does not offer TLS 1.2 or later"),
        (ssl.TLSVersion.TLSv1, "1.3", "it does not offer TLS 1.3 or later"),
        (ssl.TLSVersion.TLSv1_2, "1.3", "it does not offer TLS 1.3 or later"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions(
    maximum: ssl.TLSVersion, minimum: str, words: str, clients: TlsClients, root: Authority, tmp_path: Path
) -> None:
    context = root.issue(MX).server(tmp_path, ssl.TLSVersion.TLSv1)
    context.maximum_version = maximum
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert broken(clients, demand(minimum=minimum), context) == words


@pytest.mark.parametrize(
    ("wire", "minimum", "words"),
    [
        (b"\x03\x01", "1.2", "it offers only TLS 1.0; TLS 1.2 is the least that is accepted"),
        (b"\x03\x02", "1.3", "it offers only TLS 1.1; TLS 1.3 is the least that is accepted"),
        (b"\x03\x03", "1.3", "it offers only TLS 1.2; TLS 1.3 is the least that is accepted"),
    ],
)
def test_servers_too_old_to_know_what_is_asked(wire: bytes, minimum: str, words: str, clients: TlsClients) -> None:
    """They answer with the best version they have; later ones refuse by an alert, which does not name it."""
    handshake = clients.begin(demand(minimum=minimum))
    connection = handshake.clientConnectionForTLS(None)
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    hello = b"\x02\x00\x00\x26" + wire + bytes(33) + b"\x00\x2f\x00"
    connection.bio_write(b"\x16" + wire + len(hello).to_bytes(2, "big"))
    connection.bio_write(hello)
    with pytest.raises(SSL.Error) as caught:
        connection.do_handshake()
    assert handshake.explain(caught.value).words == words


def test_ciphers_of_old(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    context = root.issue(MX).server(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA384")
    words = "it has no way to encrypt that is safe enough (TLS 1.2 with ECDHE and AEAD, or TLS 1.3)"
    assert broken(clients, demand(), context) == words


def test_what_is_no_tls(clients: TlsClients) -> None:
    handshake = clients.begin(demand())
    connection = handshake.clientConnectionForTLS(None)
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    connection.bio_write(b"454 4.7.0 TLS not available\r\n")
    with pytest.raises(SSL.Error) as caught:
        connection.do_handshake()
    assert handshake.explain(caught.value).words == "it does not speak TLS after it said that it would"
    assert handshake.explain(ConnectionError()).words == "it broke off the TLS handshake"
    assert handshake.explain(None).words == "it broke off the TLS handshake"
    assert handshake.explain(SSL.Error([])).words == "it broke off the TLS handshake"
    for reason, words in (
        ("tlsv1 unrecognized name", "it has no certificate for the name mx.p.example"),
        ("tlsv13 alert certificate required", "it demands a certificate of ours (tlsv13 alert certificate required)"),
        ("tlsv1 alert internal error", "it broke off the TLS handshake (tlsv1 alert internal error)"),
    ):
        assert handshake.explain(SSL.Error([("SSL routines", "", reason)])).words == words


def test_a_certificate_of_ours(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    ours = root.issue("us.example", purposes=(tls_support.CLIENT,))
    files = ClientFiles(*ours.write(tmp_path, "ours"))
    context = root.issue(MX).server(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(root.write_pem(tmp_path))
    server = Server(context)
    handshake = clients.begin(demand(client=files))
    shake(handshake, server)
    assert handshake.prove().verified
    assert server.tls.getpeercert(binary_form=True) == ours.der
    assert clients.begin(demand(client=files)).explain(SSL.Error([("", "", "tlsv1 alert unknown ca")])).words == (
        "it refuses our certificate (tlsv1 alert unknown ca)"
    )


def test_no_session_is_resumed(clients: TlsClients, root: Authority, tmp_path: Path) -> None:
    context = root.issue(MX).server(tmp_path)
    for _ in range(2):
        server = Server(context)
        shake(clients.begin(demand()), server)
        assert not server.tls.session_reused


def test_contexts_are_kept_within_bounds(root: Authority, tmp_path: Path) -> None:
    clients = TlsClients(Pem(root.pem.decode()))
    for number in range(70):
        path = root.write_pem(tmp_path, str(number))
        clients.begin(demand(ca=path))
    assert meet(clients, demand(), root.issue(MX), tmp_path).verified
    clients.forget()
    assert meet(clients, demand(), root.issue(MX), tmp_path).verified


def test_the_systems_authorities() -> None:
    TlsClients().begin(demand())


def test_other_findings_are_told_by_number(root: Authority) -> None:
    (certificate,) = certificates_in(root.pem)
    with pytest.raises(TlsUnproven) as caught:
        judge(demand(), Shown((certificate,), (certificate,), (Finding(47, 1, certificate),)))
    assert caught.value.words == "the certificate of Test authority does not hold (X.509 error 47)"
