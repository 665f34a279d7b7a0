"""The bytes of policies and of TLS counts, as docs/storage.md gives them."""

import pytest

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout_policies import (
    FailureRow,
    SessionsRow,
    StsRow,
    TlsDayRow,
    day_key,
    decode_day_key,
    decode_sts,
    decode_tls_day,
    encode_row,
)

STS = StsRow("example.org", "1", "version: STSv1\n", 1_800_000_000)
STS_OCTETS = b'{"domain":"example.org","id":"1","policy":"version: STSv1\\n","fetched_s":1800000000,"version":1}'
FAILURE = FailureRow("certificate-expired", "mx.example.org", "192.0.2.1", "it expired", 2)
DAY = TlsDayRow("example.org", (SessionsRow("sts", ("mode: testing",), ("*.example.org",), 3, 2, (FAILURE,)),))
DAY_OCTETS = (
    b'{"domain":"example.org","sessions":[{"kind":"sts","policy":["mode: testing"],"hosts":["*.example.org"],'
    b'"successful":3,"failed":2,"failures":[{"result":"certificate-expired","host":"mx.example.org",'
    b'"address":"192.0.2.1","reason":"it expired","count":2}]}],"version":1}'
)


def test_rows_are_written_and_read_as_documented() -> None:
    assert encode_row(STS) == STS_OCTETS
    assert decode_sts(STS_OCTETS) == STS
    assert encode_row(DAY) == DAY_OCTETS
    assert decode_tls_day(DAY_OCTETS) == DAY
    assert decode_day_key(day_key(20_000, b"p" * 16)) == (20_000, b"p" * 16)
    assert day_key(1, b"\xff") < day_key(2, b"\0")


@pytest.mark.parametrize(
    "octets", [b"", b"{}", b"\xff", STS_OCTETS[:-1], STS_OCTETS.replace(b":1}", b":2}"), DAY_OCTETS]
)
def test_what_is_no_policy_row(octets: bytes) -> None:
    with pytest.raises(Damaged):
        decode_sts(octets)


@pytest.mark.parametrize("octets", [b"", b"[]", b"\xff", DAY_OCTETS.replace(b":1}", b":2}"), STS_OCTETS])
def test_what_is_no_day_row(octets: bytes) -> None:
    with pytest.raises(Damaged):
        decode_tls_day(octets)
