"""Octets of messages not yet committed, each address's and all (PROTOCOLS section 6)."""

from certmaild.protocols.limits import MIB, Limits
from certmaild.protocols.smtp.errors import too_much_unfinished
from certmaild.tally import LocalTally, Reserve, Tally

_ALL = b"unfinished"
STEP_OCTETS = MIB
"""Reserved at once in the count of all processes, or a 64th of the limit if that is less."""
SWEEP_S = 1.0


class Unfinished:
    """The limits of all processes that share ``tally``; those of this one by default."""

    def __init__(self, limits: Limits, tally: Tally | None = None) -> None:
        self.limits = limits
        self._reserve = Reserve(LocalTally() if tally is None else tally, lambda limit: min(STEP_OCTETS, limit // 64))

    def take(self, peer: str | None, octets: int) -> None:
        """Count more; raises `Refusal` 452 past a limit. ``peer`` None: a proven sender, who counts in all only."""
        reserve, limits = self._reserve, self.limits
        if not reserve.take(_ALL, limits.unfinished, octets):
            raise too_much_unfinished()
        if peer is not None and not reserve.take(_name(peer), limits.unfinished_per_address, octets):
            reserve.give_back(_ALL, octets, limits.unfinished)
            raise too_much_unfinished()

    def give_back(self, peer: str | None, octets: int) -> None:
        """Count less."""
        self._reserve.give_back(_ALL, octets, self.limits.unfinished)
        if peer is not None and octets:
            self._reserve.give_back(_name(peer), octets, self.limits.unfinished_per_address)

    def sweep(self) -> None:
        """Let the others have what is reserved here and not used; to be called each `SWEEP_S`."""
        self._reserve.sweep()

    @property
    def total(self) -> int:
        """In use in this process."""
        return self._reserve.used(_ALL)


def _name(peer: str) -> bytes:
    return b"unfinished of " + peer.encode("utf-8", "replace")
