"""When a message on its way out is tried again, when its sender hears of it, and when it goes back."""

from dataclasses import dataclass

from certmaild.config_values import Outbound
from certmaild.outbound.values import Envelope


@dataclass(frozen=True, slots=True)
class Times:
    """``[outbound]``'s times, in seconds."""

    retry: int = 60
    """Before the second try; twice as long each time."""
    longest_retry: int = 3600
    lifetime: int = 5 * 86_400
    warn_after: int = 15 * 60
    delay_after: int = 4 * 3600
    kept: int = 3 * 86_400
    """So long it can be seen what became of a message."""

    def pause_s(self, failures: int) -> int:
        """How long to wait after so many tries in a row that failed, at least one."""
        # Beyond 2^30 no setting is longer.
        return min(self.longest_retry, self.retry << min(failures - 1, 30))


def times_of(outbound: Outbound) -> Times:
    """The times of the configuration."""
    return Times(outbound.retry, outbound.longest_retry, outbound.lifetime, outbound.warn_after, outbound.delay_after)


@dataclass(frozen=True, slots=True)
class Told:
    """What was done about a message as a whole."""

    delayed: bool = False
    """The sender was told that it is late."""
    warned: bool = False
    """The sender was told that a destination does not prove itself, by this message or one before it."""
    checks: int = 0
    """How often it was looked at whether to warn."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The moments of one message, seconds since 1970."""

    expires_s: int
    delay_s: int
    warn_s: int

    def next_s(self, told: Told) -> int:
        """The first that is still to come, as far as ``told`` goes."""
        times = [self.expires_s]
        if not told.delayed:
            times.append(self.delay_s)
        if not told.warned:
            times.append(self.warn_s)
        return min(times)


def deadlines(times: Times, envelope: Envelope, accepted_s: int, told: Told) -> Deadlines:
    """When a message is over its time, late, and due for a look at whether its destinations prove themselves.

    What is to be released later (FUTURERELEASE, RFC 4865) has all its time from then on. DELIVERBY (RFC 2852) ends it
    sooner in mode R; in mode N the sender hears at that time that it is late.
    """
    start = max(accepted_s, envelope.hold_until_s or 0)
    expires, delay = start + times.lifetime, start + times.delay_after
    if envelope.deliver_by_s is not None:
        if envelope.by_mode.startswith("R"):
            expires = min(expires, envelope.deliver_by_s)
        else:
            delay = min(delay, envelope.deliver_by_s)
    # Looked at again after twice the time: who is not told then hears of it at the delay.
    return Deadlines(expires, delay, start + (times.warn_after << min(told.checks, 30)))
