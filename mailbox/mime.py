"""The MIME scanner: offsets, sizes, ENVELOPE and BODYSTRUCTURE of a message as it streams by.

Bodies are never walked line by line: delimiters are found by ``bytes.find`` and lines counted by ``bytes.count``. The
result does not depend on how the octets are cut, any octets give a grammatical result, and time is linear.
"""

import re
from typing import Final

from certmaild.mailbox.decoding import Base64Counter, QuotedPrintableCounter, base64_lines
from certmaild.mailbox.mime_envelope import envelope, message_ids, reference_hashes
from certmaild.mailbox.mime_fields import part_facts, part_fields
from certmaild.mailbox.mime_header import listed_fields, parameter
from certmaild.mailbox.mime_parts import Part, Scan
from certmaild.mailbox.mime_structure import PartFacts, leaf_structure, multipart_structure

SLICE: Final = 1 << 16
"""Octets looked at in one go: bounds what a search that finds nothing may cost."""
LARGE_HEADER: Final = 128 * 1024
"""Octets that may all be header and are parsed without asking for a thread."""
MAX_DELIMITER: Final = 1024
"""A delimiter line longer than this, trailing spaces included, is none."""
MAX_FAILED: Final = 64
"""Lines that look like delimiters and are none, after which a compiled pattern takes over."""
_MULTIPART, _MESSAGE, _LEAF = range(3)


class _Node:
    """A part under way."""

    __slots__ = (
        "body_offset",
        "boundary",
        "children",
        "count",
        "counter",
        "envelope",
        "facts",
        "header_offset",
        "index",
        "is_root",
        "kind",
        "path",
        "start_lines",
        "text_offset",
    )

    def __init__(self, path: tuple[int, ...], header_offset: int, index: int, is_root: bool) -> None:
        self.path = path
        self.header_offset = header_offset
        self.index = index
        self.is_root = is_root
        self.kind = _LEAF
        self.boundary: bytes | None = None
        self.children: list[bytes] = []
        self.count = 0
        self.counter: Base64Counter | QuotedPrintableCounter | None = None
        self.envelope = b""
        self.body_offset = self.text_offset = header_offset
        self.start_lines = 0
        self.facts = PartFacts()


_NO_DELIMITERS: Final[dict[bytes, tuple[int, bool]]] = {}


class Scanner:
    """Feed it a message in pieces, then `finish`.

    Limits: parts, nesting (deeper containers become application/octet-stream), octets of header parsed, for the
    message and for all parts inside together. Beyond them octets are counted and not looked into.
    """

    def __init__(self, *, max_parts: int = 1000, max_depth: int = 100, max_header: int = 1 << 20) -> None:
        self._max_parts = max_parts
        self._max_depth = max_depth
        self._max_header = max_header
        self._inner_budget = max_header
        # A line ending in front of the message makes its first line like any other.
        self._rest = b"\n"
        self._base = -1
        self._at = 0
        self._lines = 0
        self._last = b""
        self._has_nul = False
        self._header: list[bytes] = []
        self._header_room = max_header
        self._parts: list[Part | None] = []
        self._delimiters: dict[bytes, tuple[int, bool]] = _NO_DELIMITERS
        self._pattern: re.Pattern[bytes] | None = None
        self._failed = 0
        self._closed_structure = b""
        self._stack: list[_Node] = []
        self._top_fields: dict[bytes, bytes] = {}
        self._listed = b""
        self._header_octets = 0
        self._envelope = b""
        self._in_header = True
        self._open((), is_root=True)

    @property
    def header_end(self) -> int | None:
        """Octets of the message's header with its blank line, once it was seen."""
        return None if self._in_header and len(self._stack) == 1 else self._header_octets

    def may_take_long(self, octets: int = 0) -> bool:
        """Whether so many octets more, or the end, may take longer than the reactor can wait: then use a thread.

        A header, the message's own or that of one inside, is parsed at once when its end comes: half a second for a
        hostile one of a MiB. Bodies take no time to speak of.
        """
        return octets + sum(map(len, self._header)) > LARGE_HEADER

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next octets."""
        if len(data) <= SLICE:
            self._feed(bytes(data))
            return
        view = memoryview(data)
        for start in range(0, len(view), SLICE):
            self._feed(bytes(view[start : start + SLICE]))

    def _feed(self, data: bytes) -> None:
        if not data:
            return
        self._has_nul = self._has_nul or b"\0" in data
        self._last = data[-2:] if len(data) > 1 else self._last[-1:] + data
        buffer = self._rest + data if self._rest else data
        self._run(buffer, final=False)

    def finish(self) -> Scan:
        """The result; the scanner is used up."""
        self._run(self._rest, final=True)
        while self._stack:
            self._close()
        fields = self._top_fields
        return Scan(
            size=self._at,
            header_octets=self._header_octets,
            lines=self._lines,
            envelope=self._envelope,
            structure=self._closed_structure,
            parts=tuple([part for part in self._parts if part is not None]),
            references=reference_hashes(fields),
            listed=self._listed,
            message_id=(message_ids(fields.get(b"message-id", b"")) or [b""])[0],
            date=fields.get(b"date", b""),
            subject=fields.get(b"subject", b""),
            author=fields.get(b"from", b""),
            final_crlf=self._last == b"\r\n",
            has_nul=self._has_nul,
        )

    def _run(self, buffer: bytes, *, final: bool) -> None:
        while self._in_header_step(buffer, final) if self._in_header else self._in_body_step(buffer, final):
            pass
        keep = self._at - 1 - self._base
        self._rest = buffer[keep:]
        self._base += keep

    def _consume(self, buffer: bytes, upto: int, *, body: bool = False) -> None:
        """Count the octets up to a position in the buffer; with ``body`` they belong to the current part."""
        start = self._at - self._base
        if upto <= start:
            return
        counter = self._stack[-1].counter if body else None
        if counter is None:
            self._lines += buffer.count(b"\n", start, upto)
        else:
            self._lines += _count(counter, buffer[start:upto])
        self._at = upto + self._base

    # Header

    def _in_header_step(self, buffer: bytes, final: bool) -> bool:
        start = self._at - 1 - self._base
        end = buffer.find(b"\n\r\n", start)
        # The second LF may be the one that the other form begins with.
        bare = buffer.find(b"\n\n", start, end + 1 if end >= 0 else len(buffer))
        if bare >= 0:
            stop, limit = bare + 2, bare + 1
        elif end >= 0:
            stop, limit = end + 3, end + 1
        else:
            stop, limit = -1, len(buffer)
        delimiter = self._find_delimiter(buffer, start, limit, final) if self._delimiters else None
        if delimiter is not None:
            self._take_header(buffer, delimiter[0] + 1)
            self._end_header()
            self._end_at_delimiter(buffer, delimiter)
            return True
        if stop >= 0:
            self._take_header(buffer, stop)
            self._end_header()
            return True
        if final:
            self._take_header(buffer, len(buffer))
            self._end_header()
            return True
        # The last line stays, it may become the blank line or a delimiter; of a long one only its end matters.
        last = buffer.rfind(b"\n", start)
        if len(buffer) - last > MAX_DELIMITER + 2:
            self._take_header(buffer, len(buffer) - 1 if buffer.endswith(b"\r") else len(buffer))
        else:
            self._take_header(buffer, last + 1)
        return False

    def _take_header(self, buffer: bytes, upto: int) -> None:
        start = self._at - self._base
        if self._header_room > 0 and upto > start:
            piece = buffer[start : min(upto, start + self._header_room)]
            self._header_room -= len(piece)
            self._header.append(piece)
        self._consume(buffer, upto)

    def _end_header(self) -> None:
        node = self._stack[-1]
        header = b"".join(self._header)
        self._header = []
        fields = part_fields(header)
        node.body_offset = node.text_offset = self._at
        node.start_lines = self._lines
        in_digest = len(self._stack) > 1 and not node.is_root and self._stack[-2].facts.subtype == b"DIGEST"
        facts = node.facts = part_facts(fields, in_digest=in_digest)
        if node.is_root:
            node.envelope = envelope(fields)
            if len(self._stack) == 1:
                self._top_fields = fields
                self._listed = listed_fields(header)
                self._header_octets = self._at
                self._envelope = node.envelope
            else:
                self._stack[-2].text_offset = self._at
        if len(self._stack) > 1:
            self._inner_budget -= len(header)
        self._in_header = False
        self._enter(node, facts)

    def _enter(self, node: _Node, facts: PartFacts) -> None:
        """After its header: what kind of part this is."""
        is_message = facts.type == b"MESSAGE" and facts.subtype in (b"RFC822", b"GLOBAL")
        if (facts.type == b"MULTIPART" or is_message) and len(self._stack) >= self._max_depth:
            facts.type, facts.subtype, is_message = b"APPLICATION", b"OCTET-STREAM", False
        if facts.type == b"MULTIPART":
            node.kind = _MULTIPART
            boundary = parameter(facts.parameters, b"BOUNDARY")
            if boundary and len(boundary) < MAX_DELIMITER - 16:
                node.boundary = boundary.rstrip(b" \t")
                self._note_delimiters()
        elif is_message:
            node.kind = _MESSAGE
        elif facts.encoding == b"BASE64":
            node.counter = Base64Counter()
        elif facts.encoding == b"QUOTED-PRINTABLE":
            node.counter = QuotedPrintableCounter()
        if node.is_root and node.kind != _MULTIPART:
            # The content of a message that is no multipart is its part 1.
            node.path = (*node.path, 1)
            node.index = len(self._parts)
            self._parts.append(None)
        if node.kind == _MESSAGE:
            self._open(node.path, is_root=True)

    def _open(self, path: tuple[int, ...], *, is_root: bool) -> None:
        index = -1
        if not (is_root and self._stack):
            index = len(self._parts)
            self._parts.append(None)
        self._stack.append(_Node(path, self._at, index, is_root))
        self._in_header = True
        self._header_room = self._max_header if len(self._stack) == 1 else max(self._inner_budget, 0)

    # Body

    def _in_body_step(self, buffer: bytes, final: bool) -> bool:
        if not self._delimiters:
            self._consume(buffer, len(buffer), body=True)
            return False
        start = self._at - 1 - self._base
        delimiter = self._find_delimiter(buffer, start, len(buffer), final)
        if delimiter is not None:
            self._end_at_delimiter(buffer, delimiter)
            return True
        hold = len(buffer)
        if not final:
            last = buffer.rfind(b"\n", max(start, hold - MAX_DELIMITER - 2))
            if last >= 0 and b"\n--".startswith(buffer[last : last + 3]):
                hold = last
            if hold and buffer[hold - 1] == 0x0D:
                hold -= 1
        self._consume(buffer, hold, body=True)
        return False

    def _find_delimiter(self, buffer: bytes, start: int, limit: int, final: bool) -> tuple[int, int, int, bool] | None:
        """Of the first delimiter line whose line feed in front lies before ``limit``: that position, the position
        after its own line, the level in the stack, and whether it closes."""
        delimiters = self._delimiters
        # One octet is looked for fifty times as fast as three, and in base64 there is no such octet.
        at = buffer.find(b"-", start + 1, limit + 2) - 1
        if at < 0:
            return None
        while (at := buffer.find(b"\n--", at, limit + 2)) >= 0:
            if self._failed >= MAX_FAILED:
                match = self._compiled().search(buffer, at)
                if match is None or match.start() >= limit:
                    return self._last_line(buffer, limit, final)
                at = match.start()
            end = buffer.find(b"\n", at + 3, at + MAX_DELIMITER)
            if end < 0:
                if final and len(buffer) - at < MAX_DELIMITER:
                    return self._last_line(buffer, limit, final)
                at += 3
                continue
            known = delimiters.get(buffer[at + 3 : end].rstrip(b"\r \t"))
            if known is not None:
                return at, end + 1, known[0], known[1]
            self._failed += 1
            at = end
        return None

    def _last_line(self, buffer: bytes, limit: int, final: bool) -> tuple[int, int, int, bool] | None:
        """The message's last line, if it is a delimiter without line ending."""
        last = buffer.rfind(b"\n")
        if not final or last >= limit or len(buffer) - last >= MAX_DELIMITER or buffer[last : last + 3] != b"\n--":
            return None
        known = self._delimiters.get(buffer[last + 3 :].rstrip(b"\r \t"))
        return (last, len(buffer), known[0], known[1]) if known is not None else None

    def _compiled(self) -> "re.Pattern[bytes]":
        """The same search in one step, for content full of lines that begin with two dashes."""
        if self._pattern is None:
            names = b"|".join([re.escape(name) for name in sorted(self._delimiters, key=len, reverse=True)])
            self._pattern = re.compile(rb"\n--(?:" + names + rb")[\r \t]*+(?=\n)")
        return self._pattern

    def _end_at_delimiter(self, buffer: bytes, delimiter: tuple[int, int, int, bool]) -> None:
        feed, after, level, closes = delimiter
        end = feed - 1 if feed and buffer[feed - 1] == 0x0D else feed
        self._consume(buffer, end, body=True)
        while len(self._stack) > level + 1:
            self._close()
        self._consume(buffer, after)
        node = self._stack[level]
        if closes:
            node.boundary = None
            self._note_delimiters()
            return
        self._note_delimiters()
        node.count += 1
        if len(self._parts) >= self._max_parts:
            self._delimiters = _NO_DELIMITERS
            return
        self._open((*node.path, node.count), is_root=False)

    def _note_delimiters(self) -> None:
        """Which delimiter lines matter now; of two multiparts with the same boundary the inner one is meant."""
        known: dict[bytes, tuple[int, bool]] = {}
        for level, node in enumerate(self._stack):
            if node.boundary is not None:
                known[node.boundary] = (level, False)
                known[node.boundary + b"--"] = (level, True)
        self._delimiters = known
        self._pattern = None
        self._failed = 0

    # The end of a part

    def _close(self) -> None:
        """End the innermost part here."""
        node = self._stack.pop()
        octets, lines, facts = self._at - node.body_offset, self._lines - node.start_lines, node.facts
        decoded = octets
        if node.kind == _MULTIPART:
            structure = multipart_structure(facts, node.children)
            if not node.children:
                empty = Part(
                    (*node.path, 1), self._at, self._at, 0, 0, 0, b"7BIT", b"TEXT", b"PLAIN", False, False, self._at
                )
                self._parts.append(empty)
        elif node.kind == _MESSAGE:
            structure = leaf_structure(facts, octets, lines, (node.envelope, node.children[0]))
        else:
            structure = leaf_structure(facts, octets, lines)
            if node.counter is not None:
                decoded = node.counter.finish()
        part = Part(
            node.path,
            node.header_offset,
            node.body_offset,
            octets,
            lines,
            decoded,
            facts.encoding,
            facts.type,
            facts.subtype,
            node.kind == _MULTIPART,
            node.kind == _MESSAGE,
            node.text_offset,
        )
        if node.index >= 0:
            self._parts[node.index] = part
        if not self._stack:
            self._closed_structure = structure
            self._parts[0] = part._replace(path=())
            return
        parent = self._stack[-1]
        parent.children.append(structure)
        if node.is_root:
            parent.envelope = node.envelope


def _count(counter: Base64Counter | QuotedPrintableCounter, octets: bytes) -> int:
    """Let the octets of a part be counted; how many lines end in them."""
    if isinstance(counter, Base64Counter) and (lines := base64_lines(octets)) is not None:
        counter.count(len(octets) - 2 * lines)
        return lines
    counter.feed(octets)
    return octets.count(b"\n")
