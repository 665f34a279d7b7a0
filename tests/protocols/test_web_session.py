"""The responder's grammar and session: what is answered to a request, to the octet, and what is refused."""

import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.protocols.web.grammar import MAX_BODY, MAX_HEAD, Refused, parse_head
from certmaild.protocols.web.interfaces import Page
from certmaild.protocols.web.session import Session

NOW_S = 1_764_000_000.0
PLAIN, POSTED = Page("text/xml; charset=utf-8", b"<a/>\n"), Page("text/xml", b"<b/>\n", takes_post=True)
FILES = {("autoconfig.example.com", "/mail/config-v1.1.xml"): PLAIN, ("example.com", "/post.xml"): POSTED}


class Shelf:
    def find(self, host: str, path: str) -> Page | None:
        return FILES.get((host, path))


class Socket:
    """What `HTTPResponse` reads from."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def makefile(self, *_: Any) -> BytesIO:
        return BytesIO(self.octets)


def answer(request: bytes, method: str = "GET") -> HTTPResponse:
    """The answer as Python's own client reads it."""
    octets = Session(Shelf()).receive_data(request, now_s=NOW_S)
    assert octets is not None, "no answer"
    response = HTTPResponse(Socket(octets), method=method)  # type: ignore[arg-type]
    response.begin()
    return response


def asked(
    method: str = "GET", target: str = "/mail/config-v1.1.xml", host: str = "autoconfig.example.com", more: str = ""
) -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode("latin-1")


def test_get() -> None:
    response = answer(asked())
    assert (response.status, response.reason, response.read()) == (200, "OK", PLAIN.octets)
    assert response.getheader("Content-Type") == PLAIN.content_type
    assert response.getheader("Content-Length") == "5"
    assert response.getheader("Connection") == "close"
    assert response.getheader("Cache-Control") == "max-age=300"
    assert parsedate_to_datetime(response.getheader("Date") or "").timestamp() == NOW_S
    names = {name.lower() for name, _ in response.getheaders()}
    assert not names & {"server", "set-cookie", "location", "x-powered-by"}


def test_head_has_the_same_header_and_nothing_else() -> None:
    response = answer(asked("HEAD"), "HEAD")
    assert (response.status, response.getheader("Content-Length")) == (200, "5")
    assert Session(Shelf()).receive_data(asked("HEAD"), now_s=NOW_S).endswith(b"\r\n\r\n")  # type: ignore[union-attr]
    assert answer(asked("HEAD", "/x"), "HEAD").status == 404


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/mail/config-v1.1.xml?emailaddress=a%40example.com", "autoconfig.example.com"),
        ("/mail/config-v1.1.xml", "AutoConfig.Example.COM:443"),
        ("/mail/config-v1.1.xml", "autoconfig.example.com."),
    ],
)
def test_the_same_file_by_another_name(target: str, host: str) -> None:
    assert answer(asked(target=target, host=host)).read() == PLAIN.octets


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_other_methods(method: str) -> None:
    refused = answer(asked(method))
    assert (refused.status, refused.getheader("Allow")) == (405, "GET, HEAD")
    assert refused.getheader("Cache-Control") == "no-store"
    if method != "POST":
        assert answer(asked(method, "/post.xml", "example.com")).getheader("Allow") == "GET, HEAD, POST"
    assert answer(asked(method, "/none")).status == 404


def test_post_is_answered_once_the_content_is_there_and_what_it_says_does_not_count() -> None:
    session = Session(Shelf())
    head = asked("POST", "/post.xml", "example.com", f"Content-Length: {MAX_BODY}\r\n")
    assert session.receive_data(head + b"<" * (MAX_BODY - 1), now_s=NOW_S) is None
    octets = session.receive_data(b"<", now_s=NOW_S)
    assert octets is not None and octets.startswith(b"HTTP/1.1 200 OK\r\n") and octets.endswith(b"\r\n\r\n<b/>\n")
    assert b"no-store" in octets
    assert answer(asked("POST", "/post.xml", "example.com", f"Content-Length: {MAX_BODY + 1}\r\n")).status == 413
    assert (
        answer(asked("POST", "/post.xml", "example.com", "Content-Length: 9\r\nExpect: 100-continue\r\n")).status == 200
    )


@pytest.mark.parametrize(
    "target",
    [
        "/mail/%63onfig-v1.1.xml",
        "/mail/../mail/config-v1.1.xml",
        "/%2e%2e/mail/config-v1.1.xml",
        "/mail//config-v1.1.xml",
        "/mail/config-v1.1.xml/",
        "/MAIL/config-v1.1.xml",
        "/mail/config-v1.1.xml;a",
        "/mail\\config-v1.1.xml",
        "/",
        "/../../etc/passwd",
    ],
)
def test_a_path_is_compared_as_it_stands(target: str) -> None:
    assert answer(asked(target=target)).status == 404


@pytest.mark.parametrize("host", ["example.com", "other.example", "autoconfig.example.com.evil.example", "127.0.0.1"])
def test_other_hosts_have_other_files(host: str) -> None:
    assert answer(asked(host=host)).status == 404


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (b"GET /a HTTP/1.0\r\n\r\n", 404),
        (b"GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a\0\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"get /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET https://a/a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a\r\n\r\n", 400),
        (b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"EHLO evil.example\r\n\r\n", 400),
        (b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"POST /post.xml HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST /post.xml HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n", 501),
        (b"POST /post.xml HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        (b"POST /post.xml HTTP/1.1\r\nHost: example.com\r\nContent-Length: +5\r\n\r\n", 400),
        (b"POST /post.xml HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5, 5\r\n\r\n", 400),
        (b"POST /post.xml HTTP/1.1\r\nHost: example.com\r\nContent-Length: 99999999999\r\n\r\n", 400),
    ],
)
def test_what_is_no_request(octets: bytes, status: int) -> None:
    assert answer(octets).status == status


def test_a_head_at_its_limit_and_past_it() -> None:
    frame = len(asked(more="X: \r\n"))
    assert answer(asked(more=f"X: {'x' * (MAX_HEAD - frame)}\r\n")).status == 200
    assert answer(asked(more=f"X: {'x' * (MAX_HEAD - frame + 1)}\r\n")).status == 431
    session = Session(Shelf())
    assert session.receive_data(b"x" * MAX_HEAD, now_s=NOW_S) is None
    octets = session.receive_data(b"x", now_s=NOW_S)
    assert octets is not None and octets.startswith(b"HTTP/1.1 431 ")


def test_a_second_request_behind_the_first_is_not_answered() -> None:
    session = Session(Shelf())
    octets = session.receive_data(asked() + asked(target="/x"), now_s=NOW_S)
    assert octets is not None and octets.count(b"HTTP/1.1 ") == 1
    assert session.is_answered and session.receive_data(asked(), now_s=NOW_S) is None


def test_octet_by_octet() -> None:
    request = asked("POST", "/post.xml", "example.com", "Content-Length: 3\r\n") + b"abc"
    session = Session(Shelf())
    answers = [session.receive_data(request[at : at + 1], now_s=NOW_S) for at in range(len(request))]
    assert answers[:-1] == [None] * (len(request) - 1)
    assert answers[-1] is not None and b"200 OK" in answers[-1]


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else(octets: bytes) -> None:
    with suppress(Refused):
        parse_head(octets + b"\r\n\r\n")


@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t"])
def test_a_field_of_blanks_holds_nobody_up(blank: bytes) -> None:
    start = b"GET / HTTP/1.1\r\nA:"
    head = start + blank * ((MAX_HEAD - len(start) - 5) // len(blank)) + b"\x01\r\n\r\n"
    times = []
    for _ in range(3):
        began = time.process_time()
        with pytest.raises(Refused):
            parse_head(head)
        times.append(time.process_time() - began)
    assert min(times) < 0.005
