"""How long a password attempt waits: token buckets by user and address, by user, by address (KEYS section 19.6).

Guessing is slowed, nobody is locked out: a delay never exceeds 32 s, buckets fill again by themselves, and an address
from which the user came in before is held to its own bucket alone, so that a flood from elsewhere does not delay him.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

MAX_DELAY_S = 32
MAX_DEBT = 6.0
"""Tokens below zero, so that a bucket is never further than this from letting an attempt through at once."""
MAX_BUCKETS = 65_536
MAX_KNOWN = 65_536


def network_of(peer: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 of an IPv6 one (IPv4-mapped counts as IPv4)."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` attempts at once, then one every ``seconds_each``."""

    burst: int
    seconds_each: float


PAIR_RATE = Rate(5, 60.0)
USER_RATE = Rate(20, 10.0)
NETWORK_RATE = Rate(30, 5.0)


class Buckets:
    """Token buckets of one rate by key; full ones are forgotten, the least used go when there are too many."""

    def __init__(self, rate: Rate, seconds: Callable[[], float]) -> None:
        self._rate = rate
        self._seconds = seconds
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def _level(self, key: Hashable) -> float:
        level, at = self._levels.get(key, (float(self._rate.burst), 0.0))
        return min(float(self._rate.burst), level + (self._seconds() - at) / self._rate.seconds_each)

    def take(self, key: Hashable) -> float:
        """Take a token; seconds to wait for it: 0, then 1, 2, 4 up to 32."""
        level = max(self._level(key) - 1.0, -MAX_DEBT)
        self._keep(key, level)
        return 0.0 if level >= 0 else min(float(MAX_DELAY_S), 2.0 ** (math.ceil(-level) - 1))

    def give_back(self, key: Hashable) -> None:
        """The attempt was no guess."""
        if key in self._levels:
            self._keep(key, self._level(key) + 1.0)

    def forget(self, key: Hashable) -> None:
        """A full bucket again."""
        self._levels.pop(key, None)

    def _keep(self, key: Hashable, level: float) -> None:
        self._levels.pop(key, None)
        if level < self._rate.burst:
            self._levels[key] = (level, self._seconds())
        while len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)

    def __len__(self) -> int:
        return len(self._levels)


@dataclass(slots=True)
class Attempt:
    """One password being tried. Failing leaves its tokens spent; otherwise `succeeded` or `excused` is called once."""

    throttle: "Throttle"
    user: bytes
    network: str
    delay_s: float = field(default=0.0)

    def succeeded(self) -> None:
        """The password was right."""
        self.throttle.remember(self)

    def excused(self) -> None:
        """Nothing was learnt about the password: a fault or a full queue."""
        self.throttle.give_back(self)


class Throttle:
    """Counts attempts; ``seconds`` is any steady clock. Keeps at most 65,536 buckets of each kind."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._pairs = Buckets(PAIR_RATE, seconds)
        self._users = Buckets(USER_RATE, seconds)
        self._networks = Buckets(NETWORK_RATE, seconds)
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def attempt(self, user: bytes, peer: str) -> Attempt:
        """Count an attempt; ``delay_s`` of the answer is how long to wait before looking at the password."""
        attempt = Attempt(self, user, network_of(peer))
        pair = (attempt.network, user)
        delay_s = self._pairs.take(pair)
        if pair not in self._known:
            delay_s = max(delay_s, self._users.take(user), self._networks.take(attempt.network))
        attempt.delay_s = delay_s
        return attempt

    def remember(self, attempt: Attempt) -> None:
        """A right password: the address is known for this user from now on."""
        pair = (attempt.network, attempt.user)
        self.give_back(attempt)
        self._pairs.forget(pair)
        self._known[pair] = None
        self._known.move_to_end(pair)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def give_back(self, attempt: Attempt) -> None:
        """Undo an attempt that was no guess."""
        pair = (attempt.network, attempt.user)
        self._pairs.give_back(pair)
        if pair not in self._known:
            self._users.give_back(attempt.user)
            self._networks.give_back(attempt.network)
