"""Answers are kept for their TTL, within bounds of time and memory."""

import dns.rdata
import pytest
from dns.rdatatype import RdataType
from twisted.internet.task import Clock

from certmaild.dns.cache import DnsCache
from certmaild.dns.values import Answer, DnsStatus

A = dns.rdata.from_text("IN", "A", "192.0.2.1")
KEY = ("example.org", RdataType.A)


@pytest.mark.parametrize(
    ("answer", "kept_s"),
    [
        (Answer(DnsStatus.FOUND, "example.org", (A,), ttl_s=0), 5),
        (Answer(DnsStatus.FOUND, "example.org", (A,), ttl_s=300), 300),
        (Answer(DnsStatus.FOUND, "example.org", (A,), ttl_s=10**6), 86_400),
        (Answer(DnsStatus.NO_DATA, "example.org", ttl_s=60), 60),
        (Answer(DnsStatus.NO_NAME, "example.org", ttl_s=10**6), 3 * 3600),
        (Answer(DnsStatus.FAILED, "example.org", ttl_s=300), 5),
    ],
)
def test_each_answer_has_its_time(answer: Answer[dns.rdata.Rdata], kept_s: int) -> None:
    clock = Clock()
    cache = DnsCache(clock.seconds)
    cache.keep(KEY, answer)
    clock.advance(kept_s - 1)
    assert cache.find(KEY) is answer
    clock.advance(1)
    assert cache.find(KEY) is None
    assert len(cache) == 0


def test_the_one_unused_for_the_longest_goes_when_the_room_is_used_up() -> None:
    cache = DnsCache(Clock().seconds, octets=3_000)
    for name in ("a", "b", "c"):
        cache.keep((name, RdataType.A), Answer(DnsStatus.FOUND, name, (A,), ttl_s=300))
    assert cache.find(("a", RdataType.A)) is not None
    for name in ("d", "e"):
        cache.keep((name, RdataType.A), Answer(DnsStatus.FOUND, name, (A,), ttl_s=300))
    assert [name for name in "abcde" if cache.find((name, RdataType.A)) is not None] == ["a", "c", "d", "e"]
    cache.clear()
    for name in ("d", "e", "f", "g"):
        cache.keep((name, RdataType.A), Answer(DnsStatus.FOUND, name, (A,), ttl_s=300))
    assert len(cache) == 4


def test_what_is_larger_than_the_room_is_not_kept() -> None:
    cache = DnsCache(Clock().seconds, octets=600)
    cache.keep(KEY, Answer(DnsStatus.FOUND, "example.org", (A,) * 9, ttl_s=300))
    assert cache.find(KEY) is None
