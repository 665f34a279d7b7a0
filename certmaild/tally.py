"""Counts with limits: of this process alone, or (`VolatileStore`) of all the workers together."""

from collections import Counter
from collections.abc import Callable
from typing import Protocol


class Tally(Protocol):
    """Counts by name; a name is told apart by its first octet."""

    def count_in(self, *wanted: tuple[bytes, int | None], amount: int = 1) -> bytes | None:
        """Count under each name, unless one would pass its limit: that name then, and nothing was counted."""
        ...

    def count_out(self, *names: bytes, amount: int = 1) -> None:
        """Take back what was counted."""
        ...


class LocalTally:
    """A `Tally` of one process."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()

    def count_in(self, *wanted: tuple[bytes, int | None], amount: int = 1) -> bytes | None:
        """See `Tally.count_in`."""
        for name, limit in wanted:
            if limit is not None and self._counts[name] + amount > limit:
                return name
        for name, _ in wanted:
            self._counts[name] += amount
        return None

    def count_out(self, *names: bytes, amount: int = 1) -> None:
        """See `Tally.count_out`."""
        for name in names:
            self._counts[name] -= amount
            if self._counts[name] <= 0:
                del self._counts[name]

    def __len__(self) -> int:
        return len(self._counts)


class Reserve:
    """Amounts that change all the time, counted in a `Tally` by larger steps.

    What is reserved and not in use is at most ``step`` a name; `sweep` gives back what has no use at all. So the sum of
    all processes never passes a limit, and may come to it earlier by a step for each process.
    """

    def __init__(self, tally: Tally, step: Callable[[int], int]) -> None:
        """``step`` gives the step for a limit."""
        self._tally = tally
        self._step = step
        self._held: dict[bytes, list[int]] = {}

    def take(self, name: bytes, limit: int, amount: int) -> bool:
        """Use more; False, and nothing is used, past the limit."""
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = [0, 0]
        lacks = held[0] + amount - held[1]
        if lacks > 0:
            ample = max(lacks, self._step(limit))
            if self._tally.count_in((name, limit), amount=ample) is None:
                held[1] += ample
            elif ample > lacks and self._tally.count_in((name, limit), amount=lacks) is None:
                held[1] += lacks
            else:
                if held[1] == 0:
                    del self._held[name]
                return False
        held[0] += amount
        return True

    def give_back(self, name: bytes, amount: int, limit: int) -> None:
        """Use less."""
        held = self._held.get(name)
        if held is None:
            return
        held[0] = max(0, held[0] - amount)
        spare = held[1] - held[0] - self._step(limit)
        if spare > 0:
            self._tally.count_out(name, amount=spare)
            held[1] -= spare
        if held[1] == 0:
            del self._held[name]

    def sweep(self) -> None:
        """Give back what nobody uses; to be called each second or so."""
        for name, (used, reserved) in tuple(self._held.items()):
            if not used:
                self._tally.count_out(name, amount=reserved)
                del self._held[name]

    def used(self, name: bytes) -> int:
        """In use in this process."""
        return self._held[name][0] if name in self._held else 0
