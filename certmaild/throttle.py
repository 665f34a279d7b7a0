"""How long a password attempt waits: token buckets by user and address, by user, by address (KEYS section 19.6).

Guessing is slowed, nobody is locked out: a delay never exceeds 32 s, buckets fill again by themselves, and an address
from which the user came in before is held to its own bucket alone, so that a flood from elsewhere does not delay him.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

MAX_DELAY_S = 32
MAX_DEBT = 6.0
"""Tokens below zero, so that a bucket is never further than this from letting an attempt through at once."""
MAX_BUCKETS = 65_536
FILLING, KNOWN = b"pun", b"k"
"""Kinds of levels: buckets of pairs, of users and of networks; and pairs from which a right password has come."""


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
FULL_AFTER_S = max((rate.burst + MAX_DEBT) * rate.seconds_each for rate in (PAIR_RATE, USER_RATE, NETWORK_RATE))
"""Any bucket is full again after so long without an attempt."""


class Levels(Protocol):
    """How full buckets were when, by name; what is not there is full."""

    def get(self, name: bytes) -> tuple[float, float] | None:
        """A level, and when it was so high."""
        ...

    def put(self, name: bytes, level: float, at_s: float) -> None:
        """Write a level."""
        ...

    def drop(self, name: bytes) -> None:
        """Remove a level."""
        ...


class LocalLevels:
    """The `Levels` of one process: at most so many of each kind (a name's first octet), the least used go first."""

    def __init__(self, at_most: int = MAX_BUCKETS) -> None:
        self._at_most = at_most
        self._kinds: dict[bytes, OrderedDict[bytes, tuple[float, float]]] = {}

    def get(self, name: bytes) -> tuple[float, float] | None:
        """See `Levels.get`."""
        kind = self._kinds.get(name[:1])
        return None if kind is None else kind.get(name)

    def put(self, name: bytes, level: float, at_s: float) -> None:
        """See `Levels.put`."""
        kind = self._kinds.setdefault(name[:1], OrderedDict())
        kind[name] = (level, at_s)
        kind.move_to_end(name)
        while len(kind) > self._at_most:
            kind.popitem(last=False)

    def drop(self, name: bytes) -> None:
        """See `Levels.drop`."""
        kind = self._kinds.get(name[:1])
        if kind is not None:
            kind.pop(name, None)

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))


class Buckets:
    """Token buckets of one rate; full ones are forgotten."""

    def __init__(self, kind: bytes, rate: Rate, seconds: Callable[[], float]) -> None:
        self._kind = kind
        self._rate = rate
        self._seconds = seconds

    def _level(self, levels: Levels, key: bytes) -> float:
        level, at_s = levels.get(self._kind + key) or (float(self._rate.burst), 0.0)
        return min(float(self._rate.burst), level + (self._seconds() - at_s) / self._rate.seconds_each)

    def take(self, levels: Levels, key: bytes) -> float:
        """Take a token; seconds to wait for it: 0, then 1, 2, 4 up to 32."""
        level = max(self._level(levels, key) - 1.0, -MAX_DEBT)
        self._keep(levels, key, level)
        return 0.0 if level >= 0 else min(float(MAX_DELAY_S), 2.0 ** (math.ceil(-level) - 1))

    def give_back(self, levels: Levels, key: bytes) -> None:
        """The attempt was no guess."""
        if levels.get(self._kind + key) is not None:
            self._keep(levels, key, self._level(levels, key) + 1.0)

    def forget(self, levels: Levels, key: bytes) -> None:
        """A full bucket again."""
        levels.drop(self._kind + key)

    def _keep(self, levels: Levels, key: bytes, level: float) -> None:
        if level < self._rate.burst:
            levels.put(self._kind + key, level, self._seconds())
        else:
            levels.drop(self._kind + key)


@dataclass(slots=True)
class Attempt:
    """One password being tried. Failing leaves its tokens spent; otherwise `succeeded` or `excused` is called once."""

    throttle: "Throttle"
    user: bytes
    network: str
    delay_s: float = field(default=0.0)
    own_delay_s: float = field(default=0.0)
    """The part of it that this address brought about itself, without what others tried at this user."""

    is_guess: bool = False
    """Something was compared, and wrong: what happens after that excuses nothing."""

    def succeeded(self) -> None:
        """The password was right."""
        self.throttle.remember(self)

    def excused(self) -> None:
        """Nothing was learnt about the password: a fault or a full queue."""
        if not self.is_guess:
            self.throttle.give_back(self)


class Throttle:
    """Counts attempts. ``seconds`` is any steady clock, one for all who share the levels.

    ``opened`` gives the levels for the time of a ``with``: those of the workers together, or by default those of this
    process, at most 65,536 of each kind.
    """

    def __init__(
        self, seconds: Callable[[], float], opened: Callable[[], AbstractContextManager[Levels]] | None = None
    ) -> None:
        local = LocalLevels()
        self._opened = (lambda: nullcontext(local)) if opened is None else opened
        self._seconds = seconds
        self._pairs = Buckets(b"p", PAIR_RATE, seconds)
        self._users = Buckets(b"u", USER_RATE, seconds)
        self._networks = Buckets(b"n", NETWORK_RATE, seconds)

    def attempt(self, user: bytes, peer: str) -> Attempt:
        """Count an attempt; ``delay_s`` of the answer is how long to wait before looking at the password.

        A pickup code waits only for ``own_delay_s``: 80 random bits are not guessed, and a guest whose code it is must
        come in while others guess at him.
        """
        attempt = Attempt(self, user, network_of(peer))
        pair, who, network = _keys(attempt)
        with self._opened() as levels:
            own_s = delay_s = self._pairs.take(levels, pair)
            if levels.get(KNOWN + pair) is None:
                own_s = max(own_s, self._networks.take(levels, network))
                delay_s = max(own_s, self._users.take(levels, who))
        attempt.delay_s, attempt.own_delay_s = delay_s, own_s
        return attempt

    def remember(self, attempt: Attempt) -> None:
        """A right password: the address is known for this user from now on."""
        pair = _keys(attempt)[0]
        with self._opened() as levels:
            self._give_back(levels, attempt)
            self._pairs.forget(levels, pair)
            levels.put(KNOWN + pair, 1.0, self._seconds())

    def give_back(self, attempt: Attempt) -> None:
        """Undo an attempt that was no guess."""
        with self._opened() as levels:
            self._give_back(levels, attempt)

    def _give_back(self, levels: Levels, attempt: Attempt) -> None:
        pair, who, network = _keys(attempt)
        self._pairs.give_back(levels, pair)
        if levels.get(KNOWN + pair) is None:
            self._users.give_back(levels, who)
            self._networks.give_back(levels, network)


def _keys(attempt: Attempt) -> tuple[bytes, bytes, bytes]:
    """The keys of pair, user and network: of one short length, and with nothing of an address in them."""
    network = attempt.network.encode("utf-8", "replace")
    return tuple(sha256(one).digest()[:16] for one in (network + b" " + attempt.user, attempt.user, network))  # type: ignore[return-value]
