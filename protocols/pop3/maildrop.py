"""The list of messages that a POP3 session sees, fixed at log-in (RFC 1939 section 4)."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

LINES_AT_ONCE = 1000
FINAL_CRLF_OCTETS = 2


@dataclass(slots=True)
class Maildrop:
    """Messages by column; message number n is at index n - 1."""

    uids: "array[int]" = field(default_factory=lambda: array("I"))
    sizes: "array[int]" = field(default_factory=lambda: array("Q"))
    """Octets as sent, before a dot is put to lines that begin with one (RFC 1939 section 11)."""
    mids: bytearray = field(default_factory=bytearray, repr=False)
    copies: set[int] = field(default_factory=set)
    """Indexes of copies in a folder that holds the same message already."""
    deleted: set[int] = field(default_factory=set)
    read_only: bool = False

    def add(self, uid: int, mid: bytes, size: int, *, final_crlf: bool, is_copy: bool) -> None:
        """One message more; without a final CRLF it is sent, and counted, with one."""
        if is_copy:
            self.copies.add(len(self.uids))
        self.uids.append(uid)
        self.sizes.append(size if final_crlf else size + FINAL_CRLF_OCTETS)
        self.mids += mid

    def __len__(self) -> int:
        return len(self.uids)

    def total(self) -> tuple[int, int]:
        """Messages and octets, less those deleted."""
        gone = sum(self.sizes[index] for index in self.deleted)
        return len(self.uids) - len(self.deleted), sum(self.sizes) - gone

    def unique_id(self, index: int) -> bytes:
        """UIDL: the message's own id, the same for ever; a copy's has the UID appended."""
        text = self.mids[16 * index : 16 * index + 16].hex()
        if index in self.copies:
            text += f"-{self.uids[index]}"
        return text.encode("ascii")

    def scan_line(self, index: int) -> bytes:
        """LIST's line without CRLF."""
        return b"%d %d" % (index + 1, self.sizes[index])

    def unique_id_line(self, index: int) -> bytes:
        """UIDL's line without CRLF."""
        return b"%d %b" % (index + 1, self.unique_id(index))

    def lines(self, *, unique_ids: bool) -> Iterator[bytes]:
        """All lines of LIST or UIDL in pieces of `LINES_AT_ONCE`, with CRLF, without the final dot."""
        line = self.unique_id_line if unique_ids else self.scan_line
        for start in range(0, len(self.uids), LINES_AT_ONCE):
            stop = min(start + LINES_AT_ONCE, len(self.uids))
            yield b"".join([line(index) + b"\r\n" for index in range(start, stop) if index not in self.deleted])
