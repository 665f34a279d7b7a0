"""The courier over real sockets and real TLS on loopback: what each kind of server gets, the exact words why not."""

import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path as File
from typing import Any

import pytest
import tls_support
from courier_support import CONTENT, MX, Post, host
from reactor_support import on_reactor
from smtp_peer_support import Between, Peer, Talk
from tls_support import NOW, Authority
from twisted.logger import capturedLogs

from certmaild.keystore.tls_values import ClientFiles, Demand, Level, Tlsa, TlsResult
from certmaild.outbound.courier import ATTEMPTS
from certmaild.outbound.values import Delivered, Problem
from certmaild.protocols.smtp.client.connection import Patience
from certmaild.protocols.smtp.client.grammar import Credentials, ReplyReader

DAY = timedelta(days=1)


def test_a_message_goes_out_over_proven_tls(post: Post, root: Authority, tmp_path: File) -> None:
    with Peer(root.issue(MX).server(tmp_path)) as peer:
        (fate,) = post.send(host(peer))
        assert isinstance(fate, Delivered)
        assert fate.proof is not None
        assert (fate.host, fate.reply, fate.relays_dsn) == (MX, "250 2.0.0 Queued", False)
        assert (fate.proof.verified, fate.proof.how, fate.proof.policy) == (True, f"certificate for {MX}", "default")
        assert fate.proof.version == "TLSv1.3"
    assert peer.messages == [CONTENT]
    assert peer.verbs() == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert peer.commands[0] == b"EHLO us.example"
    assert peer.commands[3] == b"MAIL FROM:<ann@example.com> SIZE=%d BODY=8BITMIME" % len(CONTENT)
    assert len(peer.commands_in_tls) == 5
    assert post.watch.saw == ["success"]


# The table of docs/operations.md: what a server shows, and what comes of it. `UNSAFE` begins each text.

UNSAFE = f"The server {MX} is not safe to send to: "
UNKNOWN = (
    "its certificate is issued by an authority that is not known here (Another authority), "
    "or it does not send the certificates in between"
)
OUTCOMES: dict[str, tuple[str, str]] = {
    "right": ("", ""),
    "expired": (f"its certificate expired on {NOW - DAY:%Y-%m-%d}", "certificate-expired"),
    "another name": (f"its certificate is for mx.other.example, not for {MX}", "certificate-host-mismatch"),
    "unknown authority": (UNKNOWN, "certificate-not-trusted"),
    "self-signed": ("its certificate is issued by nobody but itself", "certificate-not-trusted"),
    "no STARTTLS": ("it does not offer TLS (STARTTLS)", "starttls-not-supported"),
    "STARTTLS refused": (
        "it offers STARTTLS and then refuses it (454 4.7.0 TLS not available)",
        "starttls-not-supported",
    ),
    "no TLS behind STARTTLS": ("it does not speak TLS after it said that it would", "validation-failure"),
    "hangs up in the handshake": ("it broke off the TLS handshake", "validation-failure"),
    "TLS 1.0 only": ("it does not offer TLS 1.2 or later", "validation-failure"),
    "stripped": ("it does not offer TLS (STARTTLS)", "starttls-not-supported"),
    "HELO only": ("it does not offer TLS (STARTTLS)", "starttls-not-supported"),
}
PROVES_NOTHING = {"expired", "another name", "unknown authority", "self-signed"}
"""What level encrypt takes all the same."""


def garbage(talk: Talk, command: bytes) -> None:
    talk.say(b"220 Go\r\n")
    talk.line.recv(5)
    talk.say(b"500 This is no TLS, whatever was said\r\n")


def hang_up(talk: Talk, command: bytes) -> None:
    talk.say(b"220 Go\r\n")
    talk.line.recv(5)


def peer_that(kind: str, root: Authority, folder: File) -> Peer:
    """A server with what the table names."""
    context = root.issue(MX).server(folder)
    match kind:
        case "expired":
            context = root.issue(MX, start=-2 * DAY, end=-DAY).server(folder)
        case "another name":
            context = root.issue("mx.other.example").server(folder)
        case "unknown authority":
            context = tls_support.authority("Another authority").issue(MX).server(folder)
        case "self-signed":
            context = tls_support.self_signed(MX).server(folder)
        case "no STARTTLS":
            return Peer()
        case "HELO only":
            return Peer(answers={"EHLO": b"500 What?\r\n"})
        case "STARTTLS refused":
            return Peer(context, answers={"STARTTLS": b"454 4.7.0 TLS not available\r\n"})
        case "no TLS behind STARTTLS":
            return Peer(context, answers={"STARTTLS": garbage})
        case "hangs up in the handshake":
            return Peer(context, answers={"STARTTLS": hang_up})
        case "TLS 1.0 only":
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
            context.set_ciphers("ALL:@SECLEVEL=0")
    return Peer(context)


def strip(octets: bytes) -> bytes:
    return octets.replace(b"STARTTLS", b"XXXXXXXX")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("level", [Level.VERIFY, Level.SECURE, Level.STS, Level.DANE, Level.ENCRYPT, Level.MAY])
@pytest.mark.parametrize("kind", OUTCOMES)
def test_outcomes(kind: str, level: Level, post: Post, root: Authority, tmp_path: File) -> None:
    words, result = OUTCOMES[kind]
    with peer_that(kind, root, tmp_path) as peer, Between(peer.port, strip if kind == "stripped" else bytes) as between:
        (fate,) = post.send(host(between, level))
    is_encrypted = kind == "right" or (level in (Level.ENCRYPT, Level.MAY) and kind in PROVES_NOTHING)
    if is_encrypted:
        assert isinstance(fate, Delivered)
        assert fate.proof is not None
        assert fate.proof.verified == (kind == "right")
        assert post.watch.saw == ["success"]
        assert b"MAIL" not in peer.commands[: peer.commands.index(b"STARTTLS")]
    elif level is Level.MAY:
        # Only here, and on a new connection if TLS had begun.
        assert isinstance(fate, Delivered)
        assert fate.proof is None
        assert len(peer.callers) == (1 if result == "starttls-not-supported" and kind != "STARTTLS refused" else 2)
    else:
        enhanced = "4.7.4" if result == "starttls-not-supported" else "4.7.5"
        text = f"{UNSAFE}{words}. Nothing was sent to it."
        assert fate == Problem(False, 451, enhanced, text, MX, concerns_tls=True)
        assert post.watch.saw == [result]
        assert b"MAIL" not in between.heard
        assert CONTENT[:20] not in between.heard
    assert peer.messages == ([CONTENT] if isinstance(fate, Delivered) else [])


def test_pins_dane_and_minimum(post: Post, root: Authority, tmp_path: File) -> None:
    shown = tls_support.self_signed("x.example")
    pin, other = shown.pin, root.issue("y.example").pin
    with Peer(shown.server(tmp_path)) as peer:
        for good in ({"pins": (other, pin)}, {"tlsa": (Tlsa(3, 1, 1, pin),)}):
            (fate,) = post.send(host(peer, Level.PIN if "pins" in good else Level.DANE, **good))
            assert isinstance(fate, Delivered)
            assert fate.proof is not None
            assert fate.proof.how in ("pin", "DANE 3 1 1")
        for bad, level, words in (
            ({"pins": (other,)}, Level.PIN, "it shows a certificate whose key is not one of those agreed on"),
            ({"pins": (other,)}, Level.MAY, "it shows a certificate whose key is not one of those agreed on"),
            (
                {"tlsa": (Tlsa(3, 1, 1, other),)},
                Level.DANE,
                "it shows a certificate that no TLSA record (DANE) announces",
            ),
            ({}, Level.DANE_ONLY, "it publishes no TLSA records that DNSSEC proves"),
        ):
            (fate,) = post.send(host(peer, level, **bad))
            assert isinstance(fate, Problem)
            assert fate.words == f"{UNSAFE}{words}. Nothing was sent to it."
    context = root.issue(MX).server(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Peer(context) as peer:
        (fate,) = post.send(host(peer))
        assert isinstance(fate, Delivered)
        (fate,) = post.send(host(peer, minimum="1.3"))
        assert isinstance(fate, Problem)
        assert "it does not offer TLS 1.3 or later" in fate.words
    assert len(peer.messages) == 1


def test_a_certificate_of_ours(post: Post, root: Authority, tmp_path: File) -> None:
    context = root.issue(MX).server(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(root.write_pem(tmp_path))
    ours = ClientFiles(*root.issue("us.example", purposes=(tls_support.CLIENT,)).write(tmp_path, "ours"))
    with Peer(context) as peer:
        assert isinstance(post.send(host(peer, client=ours))[0], Delivered)
        (fate,) = post.send(host(peer))
        assert isinstance(fate, Problem)
        assert fate.words == (
            f"{UNSAFE}it demands a certificate of ours (tlsv13 alert certificate required). Nothing was sent to it."
        )
        broken = ClientFiles(tmp_path / "absent", ours.key)
        (fate,) = post.send(host(peer, client=broken))
        assert isinstance(fate, Problem)
        assert (fate.enhanced, "absent" in fate.words) == ("4.3.5", False)


def test_tls_at_once(post: Post, root: Authority, tmp_path: File) -> None:
    with Peer(root.issue(MX).server(tmp_path), is_tls_at_once=True) as peer:
        assert isinstance(post.send(host(peer, implicit_tls=True))[0], Delivered)
        assert peer.verbs()[0] == "EHLO"
    with Peer() as peer:
        (fate,) = post.send(host(peer, Level.MAY, implicit_tls=True))
        assert isinstance(fate, Problem)
        assert "it does not speak TLS" in fate.words
        assert peer.verbs() == []


def test_the_next_address_and_the_next_host(post: Post, root: Authority, tmp_path: File) -> None:
    right = root.issue(MX).server(tmp_path)
    with Peer(tls_support.self_signed(MX).server(tmp_path)) as bad, Peer(right, address="127.0.0.3") as good:
        nobody = replace(host(bad), name="gone.p.example", addresses=("127.0.0.2",))
        second = host(good, addresses=("127.0.0.2", "127.0.0.3"))
        connection = post.connect(nobody, host(bad), second)
        assert not isinstance(connection, Problem)
        on_reactor(connection.close)
        # The most telling of all problems.
        problem = post.connect(nobody, host(bad))
        assert problem.host == MX
        assert problem.concerns_tls
        problem = post.connect(nobody)
        assert problem == Problem(
            False,
            451,
            "4.4.1",
            "The server gone.p.example [127.0.0.2] cannot be reached: it refuses connections.",
            "gone.p.example",
        )
    assert post.connect().words == "No server is known for p.example."
    assert post.watch.saw == ["certificate-not-trusted", "success", "certificate-not-trusted"]


BROKE = "could not be talked to: it broke the rules of SMTP"


def test_so_many_addresses_are_tried(post: Post) -> None:
    nobody = tuple(f"127.0.8.{number}" for number in range(1, ATTEMPTS + 3))
    with Peer() as peer, capturedLogs() as log:
        problem = post.connect(host(peer, addresses=nobody))
    seen = [event["address"] for event in log if "address" in event]
    assert problem.enhanced == "4.4.1"
    assert tuple(seen) == nobody[:ATTEMPTS]


@pytest.mark.parametrize(
    ("settings", "code", "enhanced", "words"),
    [
        ({"greeting": b"554 5.7.1 On a list\r\n"}, 451, "4.3.2", "takes no mail from this server now."),
        ({"greeting": b"421 4.7.0 Too busy\r\n"}, 421, "4.7.0", "takes no mail from this server now."),
        (
            {"greeting": b"SSH-2.0-x\r\n"},
            451,
            "4.4.2",
            f"{BROKE} (no SMTP reply).",
        ),
        (
            {"greeting": b"2" * 4000},
            451,
            "4.4.2",
            f"{BROKE} (reply line too long).",
        ),
        ({"answers": {"EHLO": None}}, 451, "4.4.2", "could not be talked to: it closed the connection."),
    ],
)
def test_servers_that_will_not_talk(settings: dict[str, Any], code: int, enhanced: str, words: str, post: Post) -> None:
    with Peer(**settings) as peer:
        problem = post.connect(host(peer))
    assert (problem.permanent, problem.code, problem.enhanced) == (False, code, enhanced)
    assert problem.words == f"The server {MX} {words}"
    assert not problem.concerns_tls


def test_injected_octets_before_the_handshake(post: Post, root: Authority, tmp_path: File) -> None:
    with Peer(root.issue(MX).server(tmp_path), answers={"STARTTLS": b"220 Go\r\n250 evil\r\n"}) as peer:
        problem = post.connect(host(peer, Level.MAY))
    assert "octets behind the reply to STARTTLS" in problem.words
    assert len(peer.callers) == 1


NO_ANSWER = "did not answer for the message: it did not answer within"


def test_silence(root: Authority, tmp_path: File) -> None:
    def mute(talk: Talk, command: bytes) -> None:
        talk.line.recv(1000)
        talk.line.recv(1000)

    def mute_in_handshake(talk: Talk, command: bytes) -> None:
        talk.say(b"220 Go\r\n")
        while talk.line.recv(1000):
            pass

    post = Post(root, patience=Patience(greeting=1, command=1, handshake=1.25, end=1.5, data=1))
    context = root.issue(MX).server(tmp_path)
    for settings, words in (
        ({"greeting": b""}, "could not be talked to: it did not answer within 1 s."),
        ({"answers": {"EHLO": mute}}, "could not be talked to: it did not answer within 1 s."),
        (
            {"answers": {"STARTTLS": mute_in_handshake}},
            "is not safe to send to: it did not finish the TLS handshake within 1.25 s. Nothing was sent to it.",
        ),
        (
            {"answers": {"MAIL": mute}},
            f"{NO_ANSWER} 1 s. It is tried again.",
        ),
        (
            {"end": b""},
            f"{NO_ANSWER} 1.5 s. It is tried again.",
        ),
    ):
        with Peer(context, **settings) as peer:  # type: ignore[arg-type]
            (fate,) = post.send(host(peer))
        assert isinstance(fate, Problem)
        assert fate.words == f"The server {MX} {words}"
        assert not fate.permanent


def test_who_answers_slowly_is_not_asked_at_every_address(
    post: Post, root: Authority, tmp_path: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(greeting=b"421 Busy\r\n") as first, Peer(greeting=b"421 Busy\r\n") as second:
        assert isinstance(post.connect(host(first), host(second)), Problem)
        assert (len(first.callers), len(second.callers)) == (1, 1)
        monkeypatch.setattr("certmaild.outbound.courier.ATTEMPTS_S", 0)
        assert isinstance(post.connect(host(first), host(second)), Problem)
        assert (len(first.callers), len(second.callers)) == (2, 1)


# A smart host


def smart(root: Authority) -> Post:
    return Post(root, credentials=Credentials("ann", "secret"))


def test_a_smart_host_gets_the_password_in_proven_tls_only(root: Authority, tmp_path: File) -> None:
    context = root.issue(MX).server(tmp_path)
    with Peer(context, offers_in_tls=("AUTH PLAIN",)) as peer:
        assert isinstance(smart(root).send(host(peer, authenticates=True))[0], Delivered)
        assert b"AUTH PLAIN AGFubgBzZWNyZXQ=" in peer.commands_in_tls
    with Peer(tls_support.self_signed(MX).server(tmp_path), offers=("AUTH PLAIN",)) as peer:
        for level, words in (
            (Level.VERIFY, "issued by nobody but itself"),
            (Level.ENCRYPT, "it has not proven itself, so it gets no password"),
            (Level.MAY, "it has not proven itself, so it gets no password"),
        ):
            (fate,) = smart(root).send(host(peer, level, authenticates=True))
            assert isinstance(fate, Problem)
            assert words in fate.words
        assert "AUTH" not in peer.verbs()
    for settings, words in (
        ({}, "it offers no log-in by password (AUTH PLAIN or LOGIN)"),
        (
            {"offers_in_tls": ("AUTH PLAIN",), "answers": {"AUTH": b"535 5.7.8 Wrong\r\n"}},
            "it does not accept our user name and password",
        ),
    ):
        with Peer(context, **settings) as peer:  # type: ignore[arg-type]
            (fate,) = smart(root).send(host(peer, authenticates=True))
            assert isinstance(fate, Problem)
            assert (fate.permanent, words in fate.words) == (False, True)
            assert "secret" not in repr(fate)
    with Peer(context, offers_in_tls=("AUTH PLAIN",), answers={"AUTH": b"454 4.7.0 Later\r\n"}) as peer:
        (fate,) = smart(root).send(host(peer, authenticates=True))
        assert isinstance(fate, Problem)
        assert (fate.code, fate.reply) == (454, "454 4.7.0 Later")
    with Peer(context, offers_in_tls=("AUTH PLAIN",)) as peer:
        (fate,) = Post(root).send(host(peer, authenticates=True))
        assert isinstance(fate, Problem)
        assert "no user name and password are set" in fate.words


def test_own_addresses(root: Authority, tmp_path: File) -> None:
    post = Post(root, sources=("127.0.0.5",))
    with Peer(root.issue(MX).server(tmp_path)) as peer:
        assert isinstance(post.send(host(peer))[0], Delivered)
    assert peer.callers == ["127.0.0.5"]


def test_a_long_reply_makes_no_long_sentence(post: Post, root: Authority, tmp_path: File) -> None:
    with Peer(root.issue(MX).server(tmp_path), answers={"STARTTLS": b"454 " + b"x" * 1500 + b"\r\n"}) as peer:
        problem = post.connect(host(peer))
    assert "refuses it (454 xxx" in problem.words
    assert len(problem.words) < 400


def test_both_ip_versions(root: Authority, tmp_path: File) -> None:
    post = Post(root, sources=("127.0.0.5", "::1"))
    try:
        peer = Peer(root.issue("::1").server(tmp_path), address="::1")
    except OSError:
        pytest.skip("no IPv6 on loopback")
    with peer:
        literal = replace(host(peer, addresses=("127.0.0.2", "::1")), name="::1", demand=Demand(Level.VERIFY, "::1"))
        (fate,) = post.send(literal)
        assert isinstance(fate, Delivered)
        assert fate.proof is not None
        assert fate.proof.how == "certificate for ::1"
    assert peer.callers == ["::1"]


def test_an_address_that_is_not_ours(root: Authority) -> None:
    with Peer() as peer:
        problem = Post(root, sources=("192.0.2.1",)).connect(host(peer))
    assert "the address to connect from, as it is set, is none of this machine's" in problem.words


def test_results_of_the_table_are_report_types() -> None:
    assert {result for _, result in OUTCOMES.values() if result} <= {one.value for one in TlsResult}


def test_a_server_that_talks_on_while_the_line_is_closed_costs_nothing(root: Authority, tmp_path: File) -> None:
    def flood(talk: Talk, command: bytes) -> None:
        talk.say(b"nonsense\r\n")
        for _ in range(256):
            talk.say(b"x" * 65536)

    heard = 0
    reader = ReplyReader.feed

    def feed(self: ReplyReader, octets: bytes) -> None:
        nonlocal heard
        heard += len(octets)
        reader(self, octets)

    post = Post(root)
    with pytest.MonkeyPatch.context() as patch, Peer(root.issue(MX).server(tmp_path), answers={"MAIL": flood}) as peer:
        patch.setattr(ReplyReader, "feed", feed)
        (fate,) = post.send(host(peer))
        assert isinstance(fate, Problem) and "it broke the rules of SMTP" in fate.words
    assert heard < 1 << 20
