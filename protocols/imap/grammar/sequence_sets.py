"""Sequence sets (RFC 9051 section 9, ``sequence-set``), parsed to ascending ranges and formatted from numbers."""

from collections.abc import Iterable

from certmaild.protocols.errors import GrammarError

LARGEST = (1 << 32) - 1
MAX_RANGES = 20_000
SAVED = b"$"
"""``seq-last-command`` (RFC 5182); whoever parses asks for it before `parse_sequence_set`."""


def parse_seq_number(text: bytes) -> int:
    """An ``nz-number`` up to 2^32-1. Raises `GrammarError`."""
    if not 0 < len(text) <= 10 or not text.isdigit():
        raise GrammarError("sequence number")
    value = int(text)
    if not 0 < value <= LARGEST:
        raise GrammarError("sequence number")
    return value


def parse_seq_range(text: bytes, *, largest: int) -> range:
    """Expand one ``seq-range`` or ``seq-number``.

    ``*`` means ``largest``, the highest number in the folder (at least 1), and the two ends may come in either order.
    Raises `GrammarError` on anything else, zero included.
    """
    first, colon, last = text.partition(b":")
    ends = [largest if end == b"*" else parse_seq_number(end) for end in (first, last if colon else first)]
    return range(min(ends), max(ends) + 1)


def parse_sequence_set(text: bytes, *, largest: int) -> tuple[range, ...]:
    """All ranges of a set, ascending, disjoint and not touching. ``largest`` as in `parse_seq_range`."""
    parts = text.split(b",", MAX_RANGES)
    if len(parts) > MAX_RANGES:
        raise GrammarError("sequence set too long")
    largest = max(largest, 1)
    return merge_ranges([parse_seq_range(part, largest=largest) for part in parts])


def merge_ranges(ranges: Iterable[range]) -> tuple[range, ...]:
    """The same numbers as ascending, disjoint ranges that do not touch."""
    merged: list[range] = []
    for part in sorted(ranges, key=_start):
        if merged and part.start <= merged[-1].stop:
            if part.stop > merged[-1].stop:
                merged[-1] = range(merged[-1].start, part.stop)
        else:
            merged.append(part)
    return tuple(merged)


def _start(part: range) -> int:
    return part.start


def format_sequence_set(numbers: Iterable[int]) -> bytes:
    """Compact text of numbers **in the order given**: each run of successive ascending ones becomes ``a:b``.

    COPYUID pairs two such sets by order (RFC 4315 section 3). Empty for no numbers, which the grammar has no text for.
    """
    parts: list[bytes] = []
    first = last = -1
    for number in numbers:
        if number == last + 1 and first >= 0:
            last = number
            continue
        if first >= 0:
            parts.append(_run(first, last))
        first = last = number
    if first >= 0:
        parts.append(_run(first, last))
    return b",".join(parts)


def _run(first: int, last: int) -> bytes:
    return b"%d" % first if first == last else b"%d:%d" % (first, last)
