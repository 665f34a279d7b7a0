"""What the courier sends: recipients one by one, content in every way, what a server cannot do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import pytest
import tls_support
from courier_support import BOB, CONTENT, EVE, MX, TOWARDS, Post, host, message
from reactor_support import on_reactor
from smtp_peer_support import Peer, Talk
from tls_support import Authority

from certmaild.keystore.tls_values import Level
from certmaild.outbound.values import BodyKind, Delivered, Fate, OutgoingMessage, Plan, PlannedHost, Problem
from certmaild.protocols.smtp.client.content import ContentUnfit
from certmaild.protocols.smtp.grammar import Path


def test_recipients_are_decided_one_by_one(post: Post, root: Authority, tmp_path: File) -> None:
    refusals = {b"<eve": b"550 5.1.1 No such user\r\n", b"<full": b"452 4.2.2 Over quota\r\n"}
    with Peer(root.issue(MX).server(tmp_path), recipients=refusals, offers=("DSN",)) as peer:
        full = Path("full", "p.example")
        fates = post.send(host(peer), message(BOB, EVE, full), message(EVE), message(BOB))
    assert fates == [
        fates[0],
        Problem(
            True,
            550,
            "5.1.1",
            f"The server {MX} refuses the message: there is no such mailbox.",
            MX,
            "550 5.1.1 No such user",
        ),
        Problem(
            False,
            452,
            "4.2.2",
            f"The server {MX} cannot take the message now, and asks to try again later: the mailbox is full.",
            MX,
            "452 4.2.2 Over quota",
        ),
        fates[1],
        fates[4],
    ]
    assert isinstance(fates[0], Delivered)
    assert isinstance(fates[4], Delivered)
    assert fates[0].relays_dsn
    assert peer.messages == [CONTENT] * 2


@pytest.mark.parametrize("offers", [("PIPELINING", "CHUNKING"), ("CHUNKING",), ("PIPELINING",), ()])
def test_content_in_every_way(offers: tuple[str, ...], post: Post, root: Authority, tmp_path: File) -> None:
    long = CONTENT + b"..\r\n." * 200_000
    with Peer(root.issue(MX).server(tmp_path), offers=offers) as peer:
        fates = post.send(host(peer), message(content=long), message(content=CONTENT[:-2]))
    assert all(isinstance(fate, Delivered) for fate in fates)
    assert peer.messages == [long + b"\r\n", CONTENT]
    assert ("BDAT" in peer.verbs()) == (len(offers) == 2)


def refused(post: Post, root: Authority, folder: File, offers: tuple[str, ...], one: OutgoingMessage) -> Fate:
    with Peer(root.issue(MX).server(folder), offers_in_tls=offers, offers=("PIPELINING",)) as peer:
        (fate,) = post.send(host(peer), one)
    if isinstance(fate, Problem):
        assert "MAIL" not in peer.verbs()
        assert fate.host == MX
    return fate


def test_what_a_server_cannot_do(post: Post, root: Authority, tmp_path: File) -> None:
    cases = [
        ((), message(needs_utf8=True), "5.6.7", "internationalised mail (SMTPUTF8)"),
        (("SIZE 1000",), message(size=3 << 20), "5.3.4", "it has 3.0 MiB, and 0.0 MiB are allowed there."),
        ((), message(require_tls=True), "5.7.30", "demands TLS all the way (REQUIRETLS)"),
        ((), message(deliver_by_s=1, by_mode="R"), "5.4.7", "is over"),
        (("DELIVERBY 60",), message(deliver_by_s=2**40, by_mode="R"), "", ""),
        ((), message(deliver_by_s=2**40, by_mode="R"), "5.3.3", "promises no time"),
        ((), message(deliver_by_s=1, by_mode="N"), "", ""),
        ((), message(Path("\u00fc", "p.example")), "5.6.7", "characters"),
        ((), message(Path("bob", "b\u00fccher.example")), "", ""),
        (("SMTPUTF8",), message(Path("\u00fc", "p.example"), needs_utf8=True), "", ""),
        (("REQUIRETLS",), message(require_tls=True), "", ""),
        (("SIZE",), message(body=BodyKind.SEVEN_BIT), "", ""),
    ]
    for offers, one, enhanced, words in cases:
        fate = refused(post, root, tmp_path, offers, one)
        if enhanced:
            assert isinstance(fate, Problem), one
            assert fate.permanent
            assert fate.enhanced == enhanced
            assert words in fate.words
        else:
            assert isinstance(fate, Delivered), fate


def test_requiretls_needs_proof(post: Post, tmp_path: File) -> None:
    with Peer(tls_support.self_signed().server(tmp_path), offers_in_tls=("REQUIRETLS",)) as peer:
        (fate,) = post.send(host(peer, Level.ENCRYPT), message(require_tls=True))
    assert isinstance(fate, Problem)
    assert (fate.permanent, fate.enhanced, fate.concerns_tls) == (False, "4.7.5", True)


def test_requiretls_looks_for_a_server_that_offers_it(post: Post, root: Authority, tmp_path: File) -> None:
    context = root.issue(MX).server(tmp_path)
    with Peer(context) as without, Peer(context, offers_in_tls=("REQUIRETLS",)) as offering:
        gone = replace(host(without), name="gone.p.example", addresses=("127.0.0.2",))

        def connect(*hosts: PlannedHost) -> Any:
            return on_reactor(lambda: post.courier.connect(Plan(TOWARDS, hosts, require_tls=True)))

        connection = connect(host(without), host(offering))
        fates = on_reactor(lambda: connection.send(message(require_tls=True), lambda: None))
        assert [type(fate) for fate in fates.values()] == [Delivered]
        on_reactor(connection.close)
        problem = connect(host(without))
        assert (problem.permanent, problem.enhanced, problem.concerns_tls) == (True, "5.7.30", True)
        # The one that is away now may offer it.
        problem = connect(host(without), gone)
        assert (problem.permanent, problem.enhanced) == (False, "4.4.1")
    assert without.messages == []
    assert len(offering.messages) == 1


def test_limits_of_the_server(post: Post, root: Authority, tmp_path: File) -> None:
    offers = ("PIPELINING", "LIMITS RCPTMAX=1 MAILMAX=2")
    with Peer(root.issue(MX).server(tmp_path), offers=offers) as peer:
        connection = post.connect(host(peer))
        one = message(BOB, EVE)
        fates = on_reactor(lambda: connection.send(one, lambda: None))
        assert isinstance(fates[one.recipients[0]], Delivered)
        left = fates[one.recipients[1]]
        assert (left.permanent, left.code) == (False, 452)
        assert connection.is_open
        on_reactor(lambda: connection.send(message(EVE), lambda: None))
        assert not connection.is_open
        on_reactor(connection.close)


def test_a_connection_lost_half_way(post: Post, root: Authority, tmp_path: File) -> None:
    def vanish(talk: Talk, command: bytes) -> None:
        talk.say(b"354 Go\r\n")
        talk.read(5)

    context = root.issue(MX).server(tmp_path)
    lost = f"The server {MX} did not answer for the message: it closed the connection. It is tried again."
    with Peer(context, answers={"DATA": vanish}, recipients={b"<eve": b"550 5.1.1 No\r\n"}) as peer:
        first, second = post.send(host(peer), message(BOB, EVE, content=b"x\r\n" * 100_000))
        assert first == Problem(False, 451, "4.4.2", lost, MX)
        assert isinstance(second, Problem)
        assert second.permanent
    with Peer(context, answers={"RCPT": b"421 4.3.2 Shutting down\r\n"}) as peer:
        (fate,) = post.send(host(peer))
        assert isinstance(fate, Problem)
        assert (fate.code, fate.reply) == (421, "421 4.3.2 Shutting down")


def test_last_octets_come_before_the_end(post: Post, root: Authority, tmp_path: File) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    for offers in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
        with Peer(root.issue(MX).server(tmp_path), offers=offers) as peer:
            connection = post.connect(host(peer))
            with pytest.raises(Stop):
                on_reactor(lambda connection=connection: connection.send(message(), stop))
            assert not connection.is_open
            on_reactor(connection.close)
            told: list[int] = []
            connection = post.connect(host(peer))
            call: Callable[[], None] = lambda peer=peer, told=told: told.append(len(peer.messages))  # noqa: E731
            on_reactor(lambda connection=connection, call=call: connection.send(message(), call))
            on_reactor(connection.close)
            assert told == [0]
        assert peer.messages == [CONTENT]


@pytest.mark.parametrize("content", [b"a\r\n.\nQUIT\r\n", b"a\r\n\0", b"a\rb", b"ends in\r"])
@pytest.mark.parametrize("offers", [("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_content_that_could_smuggle_is_our_fault(
    content: bytes, offers: tuple[str, ...], post: Post, root: Authority, tmp_path: File
) -> None:
    with Peer(root.issue(MX).server(tmp_path), offers=offers) as peer:
        connection = post.connect(host(peer))
        with pytest.raises(ContentUnfit):
            on_reactor(lambda: connection.send(message(content=content), lambda: None))
        assert not connection.is_open
        on_reactor(connection.close)
    assert peer.messages == []
    assert len(peer.faults) == 1


def test_lmtp(post: Post, root: Authority, tmp_path: File) -> None:
    with Peer(root.issue(MX).server(tmp_path), is_lmtp=True, offers=("PIPELINING", "CHUNKING")) as peer:
        fates = post.send(host(peer, is_lmtp=True), message(BOB, EVE))
    assert [type(fate) for fate in fates] == [Delivered, Delivered]
    assert peer.verbs().count("LHLO") == 2
    assert "BDAT" not in peer.verbs()
