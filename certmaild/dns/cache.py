"""Answers kept for as long as their TTL says, within bounds (RFC 2181 section 8, RFC 2308 section 5)."""

from collections import OrderedDict
from collections.abc import Callable

import dns.rdata
from dns.rdatatype import RdataType

from certmaild.dns.values import Answer, DnsStatus

Key = tuple[str, RdataType]
SHORTEST_S = 5
"""Also for a TTL of 0: one message's looks at the same name agree."""
LONGEST_S = 86_400
LONGEST_NEGATIVE_S = 3 * 3600
FAILURE_S = 5
"""RFC 9520 section 3.2."""
_ANSWER_OCTETS = 500
"""What an answer costs beside its records."""
_RECORD_OCTETS = 200


class DnsCache:
    """At most ``octets`` of answers, about; the one unused for the longest goes first."""

    def __init__(self, seconds: Callable[[], float], *, octets: int = 8 * 2**20) -> None:
        self._seconds = seconds
        self._room = octets
        self._kept: OrderedDict[Key, tuple[float, int, Answer[dns.rdata.Rdata]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: Key) -> Answer[dns.rdata.Rdata] | None:
        """The answer, if it still counts."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        until, _, answer = kept
        if until <= self._seconds():
            self.forget(key)
            return None
        self._kept.move_to_end(key)
        return answer

    def keep(self, key: Key, answer: Answer[dns.rdata.Rdata]) -> None:
        """Keep it for its TTL, between 5 seconds and a day; absence for 3 hours at most, a failure for 5 seconds."""
        self.forget(key)
        cost = _cost(answer)
        self._kept[key] = (self._seconds() + _time_s(answer), cost, answer)
        self._room -= cost
        while self._room < 0:
            _, (_, freed, _) = self._kept.popitem(last=False)
            self._room += freed

    def forget(self, key: Key) -> None:
        """Drop one answer."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._room += kept[1]

    def clear(self) -> None:
        """Drop all answers."""
        for key in list(self._kept):
            self.forget(key)


def _time_s(answer: Answer[dns.rdata.Rdata]) -> int:
    if answer.failed:
        return FAILURE_S
    longest = LONGEST_S if answer.status is DnsStatus.FOUND else LONGEST_NEGATIVE_S
    return max(SHORTEST_S, min(answer.ttl_s, longest))


def _cost(answer: Answer[dns.rdata.Rdata]) -> int:
    return _ANSWER_OCTETS + sum(_RECORD_OCTETS + 2 * len(record.to_wire() or b"") for record in answer.records)
