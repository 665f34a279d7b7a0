"""Cached passwords: bounded in number and in time, and never without the keys they stand for."""

from twisted.internet.task import Clock

from certmaild.keystore.secret import Secret
from certmaild.keystore.users import KeyRing
from certmaild.login_cache import HARD_S, IDLE_S, HeldKeys, LoginCache, digest_of
from certmaild.mailbox.identifiers import CredentialId, UserId

ONE, TWO = UserId(b"1" * 16), UserId(b"2" * 16)
CREDENTIAL = CredentialId(7)


def ring(user_id: UserId) -> KeyRing:
    return KeyRing(user_id, {1: Secret(b"k" * 32)}, {})


def test_keys_are_shared_and_closed_with_the_last_holder() -> None:
    held = HeldKeys()
    first, second = ring(ONE), ring(ONE)
    assert held.hold(ONE, first) is first
    assert held.hold(ONE, second) is first
    assert second.closed
    assert held.take(ONE) is first
    assert held.take(TWO) is None
    for _ in range(2):
        held.release(ONE)
        assert not first.closed
    held.release(ONE)
    assert first.closed
    assert len(held) == 0


def test_the_key_depends_on_user_password_and_process() -> None:
    held, clock = HeldKeys(), Clock()
    cache, other = LoginCache(held, clock.seconds), LoginCache(held, clock.seconds)
    assert cache.key_for(ONE, b"x") == cache.key_for(ONE, b"x")
    assert len({cache.key_for(ONE, b"x"), cache.key_for(TWO, b"x"), cache.key_for(ONE, b"y")}) == 3
    assert cache.key_for(ONE, b"x") != other.key_for(ONE, b"x")
    cache.key_for(ONE, b"")


def test_idle_and_hard_limits_to_the_second() -> None:
    clock, held = Clock(), HeldKeys()
    cache = LoginCache(held, clock.seconds)
    keys = held.hold(ONE, ring(ONE))
    cache.put(b"k", ONE, CREDENTIAL, b"rows")
    held.release(ONE)
    clock.advance(IDLE_S)
    entry = cache.get(b"k")
    assert entry is not None
    assert entry.stamp == digest_of(b"rows")
    clock.advance(IDLE_S + 1)
    assert cache.get(b"k") is None
    assert keys.closed

    held.hold(ONE, ring(ONE))
    cache.put(b"k", ONE, CREDENTIAL, b"rows")
    for _ in range(HARD_S // IDLE_S):
        clock.advance(IDLE_S)
        assert cache.get(b"k") is not None
    clock.advance(1)
    cache.sweep()
    assert len(cache) == 0


def test_the_least_recently_used_goes_first() -> None:
    held = HeldKeys()
    cache = LoginCache(held, Clock().seconds, entries=2)
    held.hold(ONE, ring(ONE))
    for key in (b"a", b"b"):
        cache.put(key, ONE, CREDENTIAL, b"")
    assert cache.get(b"a") is not None
    cache.put(b"c", ONE, CREDENTIAL, b"")
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    cache.clear()
    held.release(ONE)
    assert len(held) == 0


def test_nothing_is_cached_for_a_user_whose_keys_are_not_held() -> None:
    cache = LoginCache(HeldKeys(), Clock().seconds)
    cache.put(b"k", ONE, CREDENTIAL, b"")
    assert len(cache) == 0
