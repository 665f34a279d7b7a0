"""Flags as the wire shows them (RFC 9051 section 2.3.2)."""

from certmaild.mailbox.values import SYSTEM_FLAGS, SystemFlag

SYSTEM_NAMES: dict[SystemFlag, bytes] = {
    SystemFlag.ANSWERED: b"\\Answered",
    SystemFlag.FLAGGED: b"\\Flagged",
    SystemFlag.DELETED: b"\\Deleted",
    SystemFlag.SEEN: b"\\Seen",
    SystemFlag.DRAFT: b"\\Draft",
}
_BY_BITS = [b" ".join(name for flag, name in SYSTEM_NAMES.items() if bits & flag) for bits in range(SYSTEM_FLAGS + 1)]


def format_flags(flags: int, keywords: int, names: tuple[str, ...], *, recent: bool = False) -> bytes:
    r"""The parenthesised list of a message's flags; ``names`` are the folder's keywords by bit of ``keywords``."""
    listed = _BY_BITS[flags & SYSTEM_FLAGS]
    if keywords:
        words = " ".join(name for bit, name in enumerate(names) if keywords >> bit & 1).encode("ascii")
        listed = listed + b" " + words if listed else words
    if recent:
        listed = listed + b" \\Recent" if listed else b"\\Recent"
    return b"(" + listed + b")"


def format_known_flags(names: tuple[str, ...], *, any_more: bool = False) -> bytes:
    r"""What ``FLAGS`` lists on SELECT, or, with ``\*`` for ``any_more``, what ``PERMANENTFLAGS`` lists."""
    listed = [*SYSTEM_NAMES.values(), *(name.encode("ascii") for name in names if name)]
    if any_more:
        listed.append(b"\\*")
    return b"(" + b" ".join(listed) + b")"
