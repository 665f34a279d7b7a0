"""What web clients send to mail ports, and what mail clients send that only looks like it."""

import pytest

from certmaild.protocols.limits import Limits
from certmaild.protocols.pop3.events import Closed
from certmaild.protocols.pop3.session import Session
from certmaild.protocols.web_clients import is_http


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"post /x HTTP/1.0", b"PRI * HTTP/2.0", b"Host: x", b"referer:x"])
def test_web_clients_are_known(line: bytes) -> None:
    assert is_http(line)


@pytest.mark.parametrize("line", [b"", b"GETQUOTA x", b"a GET", b"EHLO Host:", b"DELE 1", b"get", b"TRACER NOOP"])
def test_mail_clients_are_not_taken_for_them(line: bytes) -> None:
    assert not is_http(line)


def test_pop3_closes_at_a_header_field_too() -> None:
    session = Session(Limits(), "mail.example.com")
    session.take_output()
    session.receive_data(b"Host: mail.example.com\r\nUSER joe\r\n")
    assert isinstance(session.next_event(), Closed)
    assert session.take_output() == b""
