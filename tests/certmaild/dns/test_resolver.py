"""The resolver against a real unbound over real nsd zones, and against servers that misbehave."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns.rdatatype import RdataType
from dns_support import DnsNetwork
from hypothesis import given, settings
from hypothesis import strategies as st
from reactor_support import on_reactor, running_reactor
from twisted.internet.defer import Deferred, gatherResults

from certmaild.dns.exchange import Server, parse_message
from certmaild.dns.resolver import Resolver, configured_servers, read_answer, system_servers
from certmaild.dns.values import Answer, DnsStatus, Mx, ask_a, ask_aaaa, ask_mx, ask_ptr, ask_tlsa, ask_txt

LONG = " ".join(f'"{"x" * 250}"' for _ in range(20))
ZONES = {
    "signed.test": "@ MX 10 mx\nmx A 127.0.3.1\nmx AAAA 2001:db8::1\nalias CNAME mx\nout CNAME mx.plain.test.\n"
    f"_25._tcp.mx TLSA 3 1 1 {'ab' * 32}\n",
    "plain.test": "@ MX 20 b\n@ MX 10 a\na A 127.0.3.2\nmx A 127.0.3.3\nnull MX 0 .\n"
    f'@ TXT "v=spf1" " -all"\nlong TXT {LONG}\n',
    "bogus.test": "mx A 127.0.3.4",
    "3.0.127.in-addr.arpa": "1 PTR mx.signed.test.",
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsNetwork]:
    folder = tmp_path_factory.mktemp("net")
    with DnsNetwork(folder, ZONES, signed={"signed.test"}, bogus={"bogus.test"}, dead={"dead.test"}) as dns_network:
        yield dns_network


@pytest.fixture
def resolver(network: DnsNetwork) -> Resolver:
    return Resolver(running_reactor(), [Server.read(network.resolver)])


def test_each_type_is_read(resolver: Resolver) -> None:
    assert on_reactor(lambda: ask_a(resolver, "mx.signed.test")).records == ("127.0.3.1",)
    assert on_reactor(lambda: ask_aaaa(resolver, "MX.signed.test.")).records == ("2001:db8::1",)
    assert set(on_reactor(lambda: ask_mx(resolver, "plain.test")).records) == {
        Mx(10, "a.plain.test"),
        Mx(20, "b.plain.test"),
    }
    assert on_reactor(lambda: ask_mx(resolver, "null.plain.test")).records == (Mx(0, ""),)
    assert on_reactor(lambda: ask_txt(resolver, "plain.test")).records == (b"v=spf1 -all",)
    assert on_reactor(lambda: ask_ptr(resolver, "127.0.3.1")).records == ("mx.signed.test",)
    (tlsa,) = on_reactor(lambda: ask_tlsa(resolver, "_25._tcp.mx.signed.test")).records
    assert (tlsa.usage, tlsa.selector, tlsa.matching, tlsa.data) == (3, 1, 1, b"\xab" * 32)


@pytest.mark.parametrize(
    ("name", "kind", "status", "end", "secure"),
    [
        ("mx.signed.test", "A", DnsStatus.FOUND, "mx.signed.test", True),
        ("alias.signed.test", "A", DnsStatus.FOUND, "mx.signed.test", True),
        ("out.signed.test", "A", DnsStatus.FOUND, "mx.plain.test", False),
        ("out.signed.test", "CNAME", DnsStatus.FOUND, "out.signed.test", True),
        ("mx.signed.test", "MX", DnsStatus.NO_DATA, "mx.signed.test", True),
        ("none.signed.test", "A", DnsStatus.NO_NAME, "none.signed.test", True),
        ("a.plain.test", "A", DnsStatus.FOUND, "a.plain.test", False),
        ("a.plain.test", "AAAA", DnsStatus.NO_DATA, "a.plain.test", False),
        ("none.plain.test", "A", DnsStatus.NO_NAME, "none.plain.test", False),
        ("elsewhere.example", "A", DnsStatus.NO_NAME, "elsewhere.example", False),
        ("mx.bogus.test", "A", DnsStatus.FAILED, "mx.bogus.test", False),
        ("mx.dead.test", "A", DnsStatus.FAILED, "mx.dead.test", False),
        (f"{'x' * 64}.example", "A", DnsStatus.NO_NAME, f"{'x' * 64}.example", False),
        ("a..example", "A", DnsStatus.NO_NAME, "a..example", False),
        ("bücher.example", "A", DnsStatus.NO_NAME, "bücher.example", False),
    ],
)
def test_ends_of_questions(resolver: Resolver, name: str, kind: str, status: DnsStatus, end: str, secure: bool) -> None:
    answer = on_reactor(lambda: resolver.ask(name, RdataType[kind]))
    assert (answer.status, answer.name, answer.secure) == (status, end, secure)
    assert bool(answer.records) == (status is DnsStatus.FOUND)


def test_failures_say_why(resolver: Resolver) -> None:
    bogus = on_reactor(lambda: ask_a(resolver, "mx.bogus.test"))
    assert (bogus.bogus, bogus.reason) == (True, "its DNSSEC signatures do not hold")
    dead = on_reactor(lambda: ask_a(resolver, "mx.dead.test"))
    assert (dead.bogus, dead.reason) == (False, "the DNS server says SERVFAIL")


def test_an_answer_too_long_for_udp_comes_by_tcp(resolver: Resolver) -> None:
    (text,) = on_reactor(lambda: ask_txt(resolver, "long.plain.test")).records
    assert text == b"x" * 5000


def test_what_changes_is_seen_when_the_ttl_is_over(network: DnsNetwork, resolver: Resolver) -> None:
    assert on_reactor(lambda: ask_a(resolver, "mx.plain.test")).records == ("127.0.3.3",)
    network.change("plain.test", "mx A 127.0.3.9")
    try:
        assert on_reactor(lambda: ask_a(resolver, "mx.plain.test")).records == ("127.0.3.3",)
        resolver.cache.clear()
        assert on_reactor(lambda: ask_a(resolver, "mx.plain.test")).records == ("127.0.3.9",)
    finally:
        network.change("plain.test", ZONES["plain.test"])


# Servers that misbehave.

Reply = Callable[[dns.message.Message], list[bytes]]


@contextmanager
def udp_server(reply: Reply, address: str = "127.0.0.1") -> Iterator[tuple[Server, list[dns.message.Message]]]:
    """Answers each question with the datagrams that ``reply`` makes; and what was asked."""
    asked: list[dns.message.Message] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))

        def serve() -> None:
            while True:
                question, sender = sock.recvfrom(4096)
                if question == b"end":
                    return
                asked.append(dns.message.from_wire(question))
                for datagram in reply(asked[-1]):
                    sock.sendto(datagram, sender)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Server(*sock.getsockname()), asked
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"end", sock.getsockname())
            thread.join(10)


def answer_to(question: dns.message.Message, *, ad: bool = True, address: str = "192.0.2.1") -> dns.message.Message:
    response = dns.message.make_response(question)
    response.flags |= dns.flags.RA | (dns.flags.AD if ad else 0)
    name = question.question[0].name
    response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", address))
    return response


def ask_servers(*servers: Server, rounds_s: tuple[float, ...] = (0.3, 0.3)) -> Answer[str]:
    resolver = Resolver(running_reactor(), servers, rounds_s=rounds_s)
    return on_reactor(lambda: ask_a(resolver, "mx.example.org"))


def test_what_is_no_answer_to_the_question_is_passed_over() -> None:
    def reply(question: dns.message.Message) -> list[bytes]:
        wrong_id = answer_to(question, address="192.0.2.66")
        wrong_id.id ^= 1
        wrong_name = answer_to(dns.message.make_query("mx.example.net", "A", id=question.id), address="192.0.2.66")
        no_response = answer_to(question, address="192.0.2.66")
        no_response.flags &= ~dns.flags.QR
        wrong = [one.to_wire() for one in (wrong_id, wrong_name, no_response)]
        return [b"", b"\0", *wrong, answer_to(question).to_wire()[:-2], answer_to(question).to_wire()]

    with udp_server(reply) as (server, _):
        assert ask_servers(server).records == ("192.0.2.1",)


def test_nobody_else_may_answer() -> None:
    """From another port of the same address, with the right id and question."""

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar,
    ):
        for one in (server, liar):
            one.bind(("127.0.0.1", 0))
        lies = []

        def lie() -> None:
            octets, sender = server.recvfrom(4096)
            lies.append(liar.sendto(answer_to(dns.message.from_wire(octets)).to_wire(), sender))

        thread = threading.Thread(target=lie, daemon=True)
        thread.start()
        assert ask_servers(Server(*server.getsockname()), rounds_s=(1.0,)).status is DnsStatus.FAILED
        thread.join(10)
        assert lies


def test_the_next_server_is_asked() -> None:
    def silent(question: dns.message.Message) -> list[bytes]:
        return []

    def unable(question: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(question)
        response.set_rcode(dns.rcode.SERVFAIL)
        return [response.to_wire()]

    with (
        udp_server(silent) as (first, _),
        udp_server(unable) as (second, asked),
        udp_server(lambda question: [answer_to(question).to_wire()]) as (third, _),
    ):
        closed = Server("127.0.0.1", third.port - 1 if third.port - 1 not in (first.port, second.port) else 1)
        assert ask_servers(closed, first, second, third).records == ("192.0.2.1",)
        answer = ask_servers(first, second)
        assert (answer.status, answer.reason) == (DnsStatus.FAILED, "the DNS server 127.0.0.1 does not answer")
        assert len(asked) == 2, "one that cannot say is not asked twice"


def test_a_silent_server_is_asked_last_the_next_time() -> None:
    with (
        udp_server(lambda question: []) as (silent, unheard),
        udp_server(lambda question: [answer_to(question).to_wire()]) as (good, _),
    ):
        resolver = Resolver(running_reactor(), [silent, good], rounds_s=(0.2,))
        assert not on_reactor(lambda: ask_a(resolver, "one.example.org")).failed
        assert not on_reactor(lambda: ask_a(resolver, "two.example.org")).failed
        assert len(unheard) == 1


def test_the_ad_bit_counts_from_this_machine_only() -> None:
    message = answer_to(dns.message.make_query("mx.example.org", "A"))
    assert read_answer(message, believe=Server("127.0.0.53").is_local).secure
    assert read_answer(message, believe=Server("::1").is_local).secure
    assert not read_answer(message, believe=Server("192.0.2.53").is_local).secure
    assert not read_answer(message, believe=Server("10.0.0.1").is_local).secure
    assert not read_answer(answer_to(dns.message.make_query("mx.example.org", "A"), ad=False), believe=True).secure


def test_the_same_question_goes_out_once() -> None:
    with udp_server(lambda question: [answer_to(question).to_wire()]) as (server, asked):
        resolver = Resolver(running_reactor(), [server])

        async def many() -> list[Answer[str]]:
            each = [Deferred.fromCoroutine(ask_a(resolver, "mx.example.org")) for _ in range(50)]
            return await gatherResults(each)

        assert {one.records for one in on_reactor(many)} == {("192.0.2.1",)}
        assert len(asked) == 1


def test_a_hostile_stream_is_bounded() -> None:
    """Cut by UDP, then more by TCP than is read."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()

        def stream() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(struct.pack("!H", 65_535) + b"\0" * 65_535)

        def cut(question: bytes) -> bytes:
            response = dns.message.make_response(dns.message.from_wire(question))
            response.flags |= dns.flags.TC
            return response.to_wire()

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
            threads = [
                threading.Thread(target=stream, daemon=True),
                threading.Thread(
                    target=lambda: (lambda got: sock.sendto(cut(got[0]), got[1]))(sock.recvfrom(4096)), daemon=True
                ),
            ]
            for thread in threads:
                thread.start()
            assert ask_servers(Server(*address), rounds_s=(2.0,)).failed


def test_which_servers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("search org\n# nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\n")
    assert system_servers(path) == (Server("192.0.2.1"), Server("fe80::1%eth0"))
    assert system_servers(tmp_path / "none") == (Server("127.0.0.1"),)
    assert configured_servers(["192.0.2.1#5353", "::1"]) == (Server("192.0.2.1", 5353), Server("::1"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_octets_of_strangers_make_an_answer_or_none(data: st.DataObject) -> None:
    """Whatever comes, reading it gives an answer or a `DNSException`."""
    message = answer_to(
        dns.message.make_query("mx.example.org", data.draw(st.sampled_from(["A", "MX", "TXT", "TLSA"])))
    )
    message.answer.append(dns.rrset.from_text("mx.example.org.", 9, "IN", "MX", "10 a.example.org."))
    message.answer.append(dns.rrset.from_text("mx.example.org.", 9, "IN", "TXT", '"a" "b"'))
    message.answer.append(dns.rrset.from_text("mx.example.org.", 9, "IN", "TLSA", "3 1 1 " + "ab" * 32))
    octets = bytearray(message.to_wire())
    for at in data.draw(st.lists(st.integers(0, len(octets) - 1), max_size=6)):
        octets[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)) | st.just(len(octets)))
    try:
        parsed = parse_message(bytes(octets[:cut]))
    except dns.exception.DNSException:
        return
    if message.question and dns.message.make_query("mx.example.org", "A", id=parsed.id).is_response(parsed):
        answer = read_answer(parsed, believe=True)
        assert bool(answer.records) == (answer.status is DnsStatus.FOUND)
