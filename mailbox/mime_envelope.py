"""ENVELOPE (RFC 9051 section 7.5.2) from header fields: a linear, forgiving address parser and the field list."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from certmaild.mailbox.mime_header import QUOTED, comment_end, unescape
from certmaild.mailbox.mime_structure import nstring

MAX_ADDRESSES: Final = 2000
"""Addresses read of one field; the rest is passed over."""
MAX_ADDRESS_OCTETS: Final = 256 * 1024
"""Octets read of one address field."""
MAX_REFERENCES: Final = 200
"""Message-IDs kept of References and In-Reply-To."""

_WORD: Final = re.compile(rb'[^\s()<>@,;:"\[\]]++')
_SPACE: Final = re.compile(rb"\s++")
_LITERAL: Final = re.compile(rb"\[[^\]]*+\]?+")
_SIMPLE: Final = re.compile(
    rb'\s*+(?:"([^"\\]*+)"|([^\s()<>@,;:"\[\]\\]++(?: [^\s()<>@,;:"\[\]\\]++)*))?\s*+'
    rb'<([^\s()<>@,;:"\[\]\\]++)@([^\s()<>@,;:"\[\]\\]++)>\s*+(?:,|\Z)'
)
"""``Name <local@domain>``, the usual form, in one step."""
_MESSAGE_ID: Final = re.compile(rb"<([^<>]{1,998}+)>")


class Mailbox(NamedTuple):
    """One ``address`` of ENVELOPE. A group begins with one that has only a mailbox and ends with an empty one."""

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


_GROUP_END: Final = Mailbox(None, None, None, None)


class _Reader:
    """Reads one address list, token by token."""

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.found: list[Mailbox] = []
        self.in_group = False
        self._clear()

    def _clear(self) -> None:
        self.words: list[list[bytes]] = []
        """Words of a phrase or of the local part, without quotes, each in pieces."""
        self.spaced = False
        self.local: bytes | None = None
        self.host: list[bytes] = []
        self.angle = self.in_route = False
        self.phrase: bytes | None = None
        self.route: list[bytes] = []
        self.comment: bytes | None = None

    def _words(self, between: bytes) -> bytes:
        return between.join([b"".join(word) for word in self.words])

    def end_address(self) -> None:
        """A comma, or the end: what was read so far is an address, if anything."""
        local, host = self.local, b"".join(self.host)
        if local is None and self.words:
            local = self._words(b"" if self.angle else b" ")
        if local is not None:
            name = self.phrase if self.phrase is not None else self.comment
            self.found.append(Mailbox(name or None, b"".join(self.route) or None, local, host))
        elif self.phrase:
            self.found.append(Mailbox(None, None, self.phrase, b""))
        self._clear()

    def word(self, text: bytes, spaced: bool) -> None:
        """A word of the phrase, the local part or the domain."""
        if self.in_route:
            self.route.append(text)
        elif self.local is not None:
            self.host.append(text)
        elif self.words and not spaced:
            self.words[-1].append(text)
        else:
            self.words.append([text])

    def special(self, octet: bytes) -> None:
        """A delimiter."""
        if self.in_route and octet in (b"@", b","):
            self.word(octet, False)
        elif octet == b"@":
            self._at()
        elif octet == b"<":
            self.phrase = self._words(b" ") if self.local is None else self.local + b"@" + b"".join(self.host)
            self.words, self.local, self.host, self.angle, self.in_route = [], None, [], True, False
        elif octet == b",":
            self.end_address()
        elif octet == b":":
            self._colon()
        elif octet == b";":
            self.end_address()
            self._end_group()

    def _at(self) -> None:
        if self.local is not None:
            self.host.append(b"@")
        elif self.angle and not self.words:
            # <@a,@b:local@domain>
            self.in_route, self.route = True, [b"@"]
        else:
            self.local, self.words = self._words(b""), []

    def _colon(self) -> None:
        if self.in_route:
            self.in_route = False
        elif not self.angle and self.local is None and not self.in_group:
            self.found.append(Mailbox(None, None, self._words(b" "), None))
            self.in_group = True
            self._clear()
        else:
            self.word(b":", False)

    def _end_group(self) -> None:
        if self.in_group:
            self.found.append(_GROUP_END)
            self.in_group = False

    def read(self) -> list[Mailbox]:
        """All of it."""
        value, at, size = self.value, 0, len(self.value)
        fresh = True
        while at < size and len(self.found) < MAX_ADDRESSES:
            if fresh and (simple := _SIMPLE.match(value, at)) is not None:
                name = simple[1] if simple[1] is not None else simple[2]
                self.found.append(Mailbox(name or None, None, simple[3], simple[4]))
                at = simple.end()
                continue
            at, fresh = self._step(at)
        if len(self.found) < MAX_ADDRESSES:
            self.end_address()
        self._end_group()
        return self.found

    def _step(self, at: int) -> tuple[int, bool]:
        """One token; where it ends, and whether an address may begin there."""
        value = self.value
        if (match := _WORD.match(value, at)) is not None:
            self.word(match[0], self.spaced)
        elif (match := _SPACE.match(value, at)) is not None:
            self.spaced = True
            return match.end(), False
        elif (match := QUOTED.match(value, at)) is not None:
            self.word(unescape(match[1]), self.spaced)
        elif (match := _LITERAL.match(value, at)) is not None:
            self.word(match[0], self.spaced)
        elif value[at] == 0x28:
            end = comment_end(value, at)
            self.comment = unescape(value[at + 1 : end].removesuffix(b")")).strip()
            self.spaced = True
            return end, False
        else:
            octet = value[at : at + 1]
            self.special(octet)
            self.spaced = False
            return at + 1, octet in (b",", b":", b";") and not self.angle and self.local is None and not self.words
        self.spaced = False
        return match.end(), False


def parse_addresses(value: bytes) -> list[Mailbox]:
    """The addresses of an unfolded field, at most `MAX_ADDRESSES`, whatever the octets are."""
    only = _SIMPLE.match(value)
    if only is not None and only.end() == len(value) <= MAX_ADDRESS_OCTETS:
        return [Mailbox((only[2] if only[1] is None else only[1]) or None, None, only[3], only[4])]
    return _Reader(value[:MAX_ADDRESS_OCTETS]).read()


def format_addresses(addresses: list[Mailbox]) -> bytes:
    """``env-from`` and its like: a list, or NIL for none."""
    if not addresses:
        return b"NIL"
    return b"(%b)" % b"".join(
        [b"(%b %b %b %b)" % (nstring(a[0]), nstring(a[1]), nstring(a[2]), nstring(a[3])) for a in addresses]
    )


def envelope(fields: Mapping[bytes, bytes]) -> bytes:
    """ENVELOPE from unfolded fields by lower-case name; Sender and Reply-To default to From."""
    lists = {}
    for name in (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"):
        value = fields.get(name)
        lists[name] = format_addresses(parse_addresses(value)) if value else b"NIL"
    author = lists[b"from"]
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(fields.get(b"date")),
        nstring(fields.get(b"subject")),
        author,
        author if lists[b"sender"] == b"NIL" else lists[b"sender"],
        author if lists[b"reply-to"] == b"NIL" else lists[b"reply-to"],
        lists[b"to"],
        lists[b"cc"],
        lists[b"bcc"],
        nstring(fields.get(b"in-reply-to")),
        nstring(fields.get(b"message-id")),
    )


def message_ids(value: bytes) -> list[bytes]:
    """What stands in angle brackets, at most `MAX_REFERENCES`, the last ones."""
    return _MESSAGE_ID.findall(value)[-MAX_REFERENCES:]


def reference_hashes(fields: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """8-octet hashes of the message's own id (zeros when it has none), then of those it refers to, oldest first."""
    own = message_ids(fields.get(b"message-id", b""))[:1]
    others = message_ids(fields.get(b"references", b"")) or message_ids(fields.get(b"in-reply-to", b""))[:1]
    hashes = [blake2b(one, digest_size=8).digest() for one in own + others]
    return tuple(hashes) if own or not hashes else (bytes(8), *hashes)
