"""Fetching policies from a real HTTPS host: what is taken, and each way in which it is not."""

import gzip
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import pytest
import tls_support
from dns_support import ScriptedLookup
from https_support import WebServer, send_text, web_server
from reactor_support import on_reactor, running_reactor
from tls_support import Authority

from certmaild.keystore.tls_values import TlsResult
from certmaild.outbound.sts_fetch import FetchFailed, StsFetch

HOST = "mta-sts.example.org"
PATH = "/.well-known/mta-sts.txt"
TEXT = "version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 86400\n"
Answer = BaseHTTPRequestHandler


@pytest.fixture(scope="module")
def root() -> Authority:
    return tls_support.authority()


@pytest.fixture(scope="module")
def ca_file(root: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return root.write_pem(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def web(root: Authority) -> Iterator[WebServer]:
    with web_server(root.issue(HOST)) as server:
        yield server


def fetch(port: int, ca: Path | None, *, longest_s: float = 30, address: str = "127.0.0.1") -> str:
    lookup = ScriptedLookup({(HOST, "A"): [address]})
    fetcher = StsFetch(
        running_reactor(), lookup, allowed=lambda ip: ip != "127.0.0.9", authorities=ca, port=port, longest_s=longest_s
    )
    return on_reactor(lambda: fetcher.fetch("example.org"))


def failure(port: int, ca: Path | None, **settings: object) -> tuple[TlsResult, str]:
    with pytest.raises(FetchFailed) as caught:
        fetch(port, ca, **settings)  # type: ignore[arg-type]
    return caught.value.result, caught.value.reason


def test_a_policy_is_fetched(web: WebServer, ca_file: Path) -> None:
    web.pages = {PATH: TEXT}
    web.asked.clear()
    assert fetch(web.port, ca_file) == TEXT
    ((name, path, fields),) = web.asked
    assert (name, path) == (HOST, PATH)
    assert "accept-encoding" not in fields
    assert fields["host"] == HOST


def endless_header(answer: Answer) -> None:
    answer.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        answer.wfile.write(b"x-more: " + b"a" * 1000 + b"\r\n")


def cut_off(answer: Answer) -> None:
    answer.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 99\r\n\r\nversion")
    answer.connection.close()


def redirect(answer: Answer) -> None:
    send_text(answer, TEXT, 302, location=f"https://{HOST}/elsewhere")


def packed(answer: Answer) -> None:
    send_text(answer, gzip.compress(b"a" * 10**8), content_encoding="gzip")


@pytest.mark.parametrize(
    ("answer", "result", "reason"),
    [
        (redirect, TlsResult.STS_POLICY_FETCH_ERROR, "the policy host answers 302"),
        (lambda answer: answer.send_error(404), TlsResult.STS_POLICY_FETCH_ERROR, "the policy host answers 404"),
        (
            lambda answer: send_text(answer, TEXT, content_type="text/html; charset=utf-8"),
            TlsResult.STS_POLICY_INVALID,
            "the policy is not sent as text/plain",
        ),
        (lambda answer: send_text(answer, "a" * 65_537), TlsResult.STS_POLICY_INVALID, "the policy is too long"),
        (packed, TlsResult.STS_POLICY_INVALID, "the policy is sent packed, unasked"),
        (cut_off, TlsResult.STS_POLICY_FETCH_ERROR, "the policy was cut off"),
        (
            endless_header,
            TlsResult.STS_POLICY_FETCH_ERROR,
            "the policy host does not answer as a web server does",
        ),
        (
            lambda answer: answer.wfile.write(b"220 mail.example.org ESMTP\r\n"),
            TlsResult.STS_POLICY_FETCH_ERROR,
            "the policy host does not answer as a web server does",
        ),
    ],
)
def test_what_is_not_taken(
    web: WebServer, ca_file: Path, answer: Callable[[Answer], None], result: TlsResult, reason: str
) -> None:
    web.pages = {PATH: answer, "/elsewhere": TEXT}
    web.asked.clear()
    assert failure(web.port, ca_file) == (result, reason)
    assert [path for _, path, _ in web.asked] == [PATH], "no redirect is followed"


def test_the_longest_policy_is_taken(web: WebServer, ca_file: Path) -> None:
    web.pages = {PATH: "a" * 65_536}
    assert len(fetch(web.port, ca_file)) == 65_536


def test_a_silent_host_is_left(web: WebServer, ca_file: Path) -> None:
    left = Event()

    def silent(answer: Answer) -> None:
        try:
            answer.rfile.read(1)
        finally:
            # However the connection ended: without a close_notify reading raises.
            left.set()

    web.pages = {PATH: silent}
    expected = (TlsResult.STS_POLICY_FETCH_ERROR, "the policy host takes too long")
    assert failure(web.port, ca_file, longest_s=0.5) == expected
    assert left.wait(10), "the connection is closed"


@pytest.mark.parametrize(
    ("names", "days"),
    [(["example.org"], 90), (["*.sts.example.org"], 90), ([HOST], -1)],
    ids=["another name", "a wildcard elsewhere", "expired"],
)
def test_certificates_that_prove_nothing(root: Authority, ca_file: Path, names: list[str], days: int) -> None:
    with web_server(root.issue(*names, start=timedelta(days=-9), end=timedelta(days=days))) as bad:
        bad.pages = {PATH: TEXT}
        assert failure(bad.port, ca_file)[0] is TlsResult.STS_WEBPKI_INVALID
        assert not bad.asked


def test_an_unknown_authority_proves_nothing(web: WebServer, tmp_path: Path) -> None:
    words = "the policy host has no valid certificate for its name"
    for ca in (tls_support.authority().write_pem(tmp_path), None):
        assert failure(web.port, ca) == (TlsResult.STS_WEBPKI_INVALID, words)


def test_hosts_that_are_not_reached(web: WebServer, ca_file: Path) -> None:
    refused = (TlsResult.STS_POLICY_FETCH_ERROR, "the policy host cannot be connected to")
    assert failure(web.port, ca_file, address="127.0.0.8") == refused
    nowhere = (TlsResult.STS_POLICY_FETCH_ERROR, "the policy host has no address")
    assert failure(web.port, ca_file, address="127.0.0.9") == nowhere
