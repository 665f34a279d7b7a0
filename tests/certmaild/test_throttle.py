"""Password guessing is slowed and nobody is locked out."""

from twisted.internet.task import Clock

from certmaild.throttle import MAX_BUCKETS, PAIR_RATE, USER_RATE, Buckets, LocalLevels, Rate, Throttle, network_of


def test_networks() -> None:
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("unix") == "unix"


def test_delay_grows_to_32_s_and_passes_by_itself() -> None:
    clock = Clock()
    throttle = Throttle(clock.seconds)
    delays = [throttle.attempt(b"alice", "192.0.2.1").delay_s for _ in range(PAIR_RATE.burst + 8)]
    assert delays == [0] * PAIR_RATE.burst + [1, 2, 4, 8, 16, 32, 32, 32]
    clock.advance(PAIR_RATE.seconds_each * 8)
    assert throttle.attempt(b"alice", "192.0.2.1").delay_s == 0


def test_one_users_failures_delay_no_other() -> None:
    throttle = Throttle(Clock().seconds)
    for _ in range(10):
        throttle.attempt(b"alice", "192.0.2.1")
    assert throttle.attempt(b"bob", "192.0.2.1").delay_s == 0
    assert throttle.attempt(b"alice", "192.0.2.2").delay_s == 0


def test_a_flood_from_everywhere_delays_strangers_but_not_the_users_own_address() -> None:
    throttle = Throttle(Clock().seconds)
    throttle.attempt(b"alice", "192.0.2.1").succeeded()
    for n in range(USER_RATE.burst + 10):
        throttle.attempt(b"alice", f"198.51.100.{n}")
    assert throttle.attempt(b"alice", "203.0.113.9").delay_s == 32
    assert throttle.attempt(b"alice", "192.0.2.1").delay_s == 0


def test_one_address_trying_many_names_is_delayed() -> None:
    throttle = Throttle(Clock().seconds)
    delays = [throttle.attempt(b"user%d" % n, "192.0.2.1").delay_s for n in range(40)]
    assert delays[0] == 0
    assert delays[-1] == 32


def test_a_right_password_clears_the_pair_and_gives_its_tokens_back() -> None:
    throttle = Throttle(Clock().seconds)
    for _ in range(200):
        attempt = throttle.attempt(b"alice", "192.0.2.1")
        assert attempt.delay_s == 0
        attempt.succeeded()


def test_a_fault_is_no_guess() -> None:
    throttle = Throttle(Clock().seconds)
    for _ in range(200):
        attempt = throttle.attempt(b"alice", "192.0.2.1")
        assert attempt.delay_s == 0
        attempt.excused()


def test_memory_is_bounded_and_full_buckets_are_forgotten() -> None:
    clock = Clock()
    levels, buckets = LocalLevels(), Buckets(b"x", Rate(2, 1.0), clock.seconds)
    for n in range(MAX_BUCKETS + 10):
        buckets.take(levels, b"%d" % n)
    assert len(levels) == MAX_BUCKETS
    buckets.give_back(levels, b"%d" % MAX_BUCKETS)
    assert len(levels) == MAX_BUCKETS - 1
