"""What real mail servers get from the courier, at every level: Postfix, Exim and OpenSMTPD as Debian ships them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path as File

import pytest
import tls_support
from courier_support import BOB, CONTENT, EVE, MX, Post, host, message
from receiving_support import Maildir, Place, open_folder, receiving_exim, receiving_opensmtpd, receiving_postfix
from smtp_peer_support import Between
from tls_support import NOW, Authority, Certified

from certmaild.keystore.tls_values import ClientFiles, Level, Tlsa
from certmaild.outbound.values import Delivered, Problem
from certmaild.protocols.smtp.grammar import Path

DAY = timedelta(days=1)
UNSAFE = f"The server {MX} is not safe to send to: "


@pytest.fixture(scope="module")
def root() -> Authority:
    return tls_support.authority()


@pytest.fixture
def post(root: Authority) -> Post:
    return Post(root)


class Postfixes:
    """Services of one Postfix, each with another fault."""

    def __init__(self, root: Authority, folder: File) -> None:
        self.shown: dict[str, Certified] = {
            "right": root.issue(MX),
            "expired": root.issue(MX, start=-2 * DAY, end=-DAY),
            "another name": root.issue("mx.other.example"),
            "unknown authority": tls_support.authority("Another authority").issue(MX),
        }
        self.services: dict[str, list[str]] = {}
        for name, shown in self.shown.items():
            path = folder / f"{name.replace(' ', '-')}.pem"
            path.write_bytes(shown.key_pem + shown.chain_pem)
            self.services[name] = [f"smtpd_tls_chain_files={path}", "smtpd_tls_security_level=may"]
        (folder / "broken.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
        right, ca = self.services["right"], root.write_pem(folder)
        self.services |= {
            "no STARTTLS": ["smtpd_tls_security_level=none"],
            "STARTTLS refused": [f"smtpd_tls_chain_files={folder}/broken.pem", "smtpd_tls_security_level=may"],
            "TLS 1.0 only": [*right, "smtpd_tls_protocols=TLSv1", "tls_medium_cipherlist=ALL:@SECLEVEL=0"],
            "our certificate": [
                *right,
                "smtpd_tls_security_level=encrypt",
                "smtpd_tls_req_ccert=yes",
                f"smtpd_tls_CAfile={ca}",
            ],
            "no chunking": [*right, "smtpd_discard_ehlo_keywords=chunking"],
            "one by one": [*right, "smtpd_discard_ehlo_keywords=chunking,pipelining,dsn,8bitmime,smtputf8"],
        }
        self.places: dict[str, Place] = {}
        self.box: Maildir


@pytest.fixture(scope="module")
def postfix(root: Authority) -> Iterator[Postfixes]:
    with open_folder() as folder:
        postfixes = Postfixes(root, folder)
        with receiving_postfix(folder, postfixes.services) as (postfixes.places, postfixes.box):
            yield postfixes


OUTCOMES = {
    "right": "",
    "expired": f"its certificate expired on {NOW - DAY:%Y-%m-%d}",
    "another name": f"its certificate is for mx.other.example, not for {MX}",
    "unknown authority": "its certificate is issued by an authority that is not known here (Another authority), "
    "or it does not send the certificates in between",
    "no STARTTLS": "it does not offer TLS (STARTTLS)",
    "STARTTLS refused": "it offers STARTTLS and then refuses it (454 4.7.0 TLS not available due to local problem)",
    "TLS 1.0 only": "it does not offer TLS 1.2 or later",
    "stripped": "it does not offer TLS (STARTTLS)",
}
LEVELS = [Level.VERIFY, Level.SECURE, Level.STS, Level.DANE, Level.ENCRYPT, Level.MAY]
IN_CLEAR = {"no STARTTLS", "STARTTLS refused", "TLS 1.0 only", "stripped"}


def strip(octets: bytes) -> bytes:
    return octets.replace(b"STARTTLS", b"XXXXXXXX")


@pytest.mark.parametrize("level", LEVELS, ids=[level.value for level in LEVELS])
@pytest.mark.parametrize("kind", OUTCOMES)
def test_postfix_at_every_level(kind: str, level: Level, post: Post, postfix: Postfixes) -> None:
    content = CONTENT.replace(b"Hello", f"{kind} {level.value}".encode())
    place = postfix.places["right" if kind == "stripped" else kind]
    with Between(place.port, strip if kind == "stripped" else bytes, place.address) as at:
        (fate,) = post.send(host(at, level), message(content=content))
    is_proven = kind == "right"
    if is_proven or level is Level.MAY or (level is Level.ENCRYPT and kind not in IN_CLEAR):
        assert isinstance(fate, Delivered)
        assert (fate.proof is None) == (kind in IN_CLEAR)
        assert fate.proof is None or fate.proof.verified == is_proven
        assert fate.relays_dsn
        assert postfix.box.next().endswith(content)
    else:
        assert isinstance(fate, Problem)
        assert (fate.permanent, fate.concerns_tls) == (False, True)
        assert fate.words == f"{UNSAFE}{OUTCOMES[kind]}. Nothing was sent to it."
        assert b"MAIL FROM" not in at.heard


def test_postfix_by_dane_and_pin(post: Post, postfix: Postfixes, root: Authority) -> None:
    shown = postfix.shown["another name"]
    at = postfix.places["another name"]
    (fate,) = post.send(host(at, Level.DANE_ONLY, tlsa=(Tlsa(3, 1, 1, shown.pin),)))
    assert isinstance(fate, Delivered)
    assert fate.proof is not None
    assert fate.proof.how == "DANE 3 1 1"
    assert postfix.box.next().endswith(CONTENT)
    anchor = (Tlsa(2, 1, 1, root.pin),)
    (fate,) = post.send(host(at, Level.DANE, tlsa=anchor))
    assert isinstance(fate, Problem)
    assert "its certificate is for mx.other.example" in fate.words
    (fate,) = post.send(host(postfix.places["right"], Level.DANE, tlsa=anchor))
    assert isinstance(fate, Delivered)
    assert postfix.box.next().endswith(CONTENT)
    (fate,) = post.send(host(at, Level.PIN, pins=(shown.pin,)))
    assert isinstance(fate, Delivered)
    assert postfix.box.next().endswith(CONTENT)


def test_postfix_that_wants_a_certificate_of_ours(
    post: Post, postfix: Postfixes, root: Authority, tmp_path: File
) -> None:
    at = postfix.places["our certificate"]
    (fate,) = post.send(host(at))
    assert isinstance(fate, Problem)
    # Postfix says so in words of its own, once TLS stands.
    assert fate.reply == "421 4.7.1 mx.p.example Error: No client certificate presented"
    ours = ClientFiles(*root.issue("us.example", purposes=(tls_support.CLIENT,)).write(tmp_path, "ours"))
    (fate,) = post.send(host(at, client=ours))
    assert isinstance(fate, Delivered)
    assert postfix.box.next().endswith(CONTENT)


@pytest.mark.parametrize("kind", ["right", "no chunking", "one by one"])
def test_postfix_takes_content_in_every_way(kind: str, post: Post, postfix: Postfixes) -> None:
    long = CONTENT + b"".join(b".%d\r\n" % number for number in range(300_000)) + "Grüße.\r\n".encode()
    at = postfix.places[kind]
    fates = post.send(host(at), message(BOB, EVE, content=long), message(EVE), message())
    assert [type(fate) for fate in fates] == [Delivered, Problem, Problem, Delivered]
    assert isinstance(fates[1], Problem)
    assert (fates[1].permanent, fates[1].code, fates[1].enhanced) == (True, 550, "5.1.1")
    assert fates[1].words == f"The server {MX} refuses the message: there is no such mailbox."
    assert sorted((postfix.box.next().partition(b"Subject: x")[2] for _ in range(2)), key=len) == [
        one.partition(b"Subject: x")[2] for one in (CONTENT, long)
    ]


def test_postfix_and_addresses_outside_ascii(post: Post, postfix: Postfixes) -> None:
    utf8 = Path("\u00fc", "p.example")
    (fate,) = post.send(host(postfix.places["right"]), message(utf8, needs_utf8=True, utf8=True))
    assert isinstance(fate, Delivered)
    assert postfix.box.next().endswith(CONTENT)
    at = postfix.places["one by one"]
    first, second = post.send(
        host(at), message(utf8, needs_utf8=True), message(Path("bob", "b\u00fccher.example"), utf8=True)
    )
    assert isinstance(first, Problem)
    assert (first.permanent, first.enhanced) == (True, "5.6.7")
    assert isinstance(second, Delivered)
    assert postfix.box.next().endswith(CONTENT)
    (fate,) = post.send(host(at), message(size=40_000_000))
    assert isinstance(fate, Problem)
    assert (fate.permanent, fate.enhanced) == (True, "5.3.4")
    assert "it has 38.1 MiB, and 28.6 MiB are allowed there." in fate.words
    (fate,) = post.send(host(at), message(require_tls=True))
    assert isinstance(fate, Problem)
    assert (fate.permanent, fate.enhanced) == (True, "5.7.30")


def test_exim(post: Post, root: Authority) -> None:
    long = CONTENT + b".line\r\n" * 200_000
    with open_folder() as folder, receiving_exim(folder, root.issue(MX)) as (place, box):
        fates = post.send(host(place), message(content=long), message(BOB, EVE))
        assert [type(fate) for fate in fates] == [Delivered] * 3
        assert isinstance(fates[0], Delivered)
        assert fates[0].proof is not None
        assert fates[0].proof.how == f"certificate for {MX}"
        (fate,) = post.send(host(place, Level.SECURE, names=("p.example",)))
        assert isinstance(fate, Problem)
        assert fate.words == f"{UNSAFE}its certificate is for {MX}, not for p.example. Nothing was sent to it."
        took = [box.next().partition(b"Subject: x")[2] for _ in range(3)]
        assert sorted(took, key=len) == [one.partition(b"Subject: x")[2] for one in (CONTENT, CONTENT, long)]


def test_opensmtpd_of_debian_12(post: Post, root: Authority) -> None:
    """Its TLS is broken with OpenSSL 3 (it breaks off every handshake): mail waits, or goes in clear by level may."""
    shown = root.issue(MX, key="2048")
    with open_folder() as folder, receiving_opensmtpd(folder, shown) as (place, box):
        (fate,) = post.send(host(place))
        if isinstance(fate, Delivered):
            # One that works.
            assert fate.proof is not None
            assert fate.proof.verified
        else:
            assert fate.words.startswith(f"{UNSAFE}it broke off the TLS handshake")
            (fate,) = post.send(host(place, Level.MAY))
            assert isinstance(fate, Delivered)
            assert fate.proof is None
        assert box.next().endswith(CONTENT)
