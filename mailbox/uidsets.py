"""Arithmetic on sets of UIDs kept as ascending, disjoint ranges."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from certmaild.mailbox.values import UidSet

ALL_UIDS = (range(1, 1 << 32),)


def normalise(uids: UidSet) -> list[range]:
    """The same UIDs as ascending, disjoint ranges that do not touch; what lies outside 1..2^32-1 is dropped."""
    runs: list[range] = []
    for run in sorted((r for r in uids if len(r)), key=lambda r: r.start):
        start, stop = max(run.start, 1), min(run.stop, 1 << 32)
        if start >= stop:
            continue
        if runs and start <= runs[-1].stop:
            if stop > runs[-1].stop:
                runs[-1] = range(runs[-1].start, stop)
        else:
            runs.append(range(start, stop))
    return runs


def ranges_of(uids: Iterable[int]) -> tuple[range, ...]:
    """Ascending UIDs as ranges."""
    runs: list[range] = []
    start = stop = -1
    for uid in uids:
        if uid != stop:
            if stop > start:
                runs.append(range(start, stop))
            start = uid
        stop = uid + 1
    if stop > start:
        runs.append(range(start, stop))
    return tuple(runs)


def complement(uids: Sequence[int], below: int) -> tuple[range, ...]:
    """The UIDs from 1 up to, but not with, ``below`` that are absent from ascending ``uids``."""
    runs = []
    expected = 1
    for run in ranges_of(uids):
        if run.start >= below:
            break
        if run.start > expected:
            runs.append(range(expected, run.start))
        expected = run.stop
    if expected < below:
        runs.append(range(expected, below))
    return tuple(runs)


def overlaps(uids: Sequence[int], runs: Sequence[range]) -> Iterator[tuple[int, int]]:
    """Slices (from, to) of ascending ``uids`` that lie in normalised ``runs``."""
    if not uids:
        return
    first, last = uids[0], uids[-1]
    at = bisect_left(runs, first, key=lambda run: run.stop - 1)
    size = len(uids)
    while at < len(runs) and runs[at].start <= last:
        run = runs[at]
        low = bisect_left(uids, run.start)
        high = bisect_left(uids, run.stop, low, size)
        if low < high:
            yield low, high
        at += 1


def next_in(runs: Sequence[range], uid: int) -> int | None:
    """The smallest member of normalised ``runs`` that is ``uid`` or higher."""
    at = bisect_left(runs, uid, key=lambda run: run.stop - 1)
    return None if at == len(runs) else max(uid, runs[at].start)


def subtract_block(runs: Sequence[range], below: int) -> list[range]:
    """The part of normalised ``runs`` from ``below`` on."""
    return [range(max(run.start, below), run.stop) for run in runs if run.stop > below]
