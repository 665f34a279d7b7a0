"""Our S-expressions: strings, BODYSTRUCTURE of one part from its facts, and the forms that rev1 clients are sent.

The canonical form is the wire text of RFC 9051 whose quoted strings may hold UTF-8; a string that is not UTF-8, or is
long, is a literal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from certmaild.mailbox.mime_header import Parameters, unescape

MAX_QUOTED: Final = 2048
"""Longer strings are literals."""


MAX_TOKEN: Final = 64
"""Longer words are not remembered."""


def string(value: bytes) -> bytes:
    """A ``string`` of the IMAP grammar. ``value`` must hold no NUL, CR or LF."""
    if len(value) > MAX_QUOTED or not (value.isascii() or _is_utf8(value)):
        return b"{%d}\r\n%b" % (len(value), value)
    if b'"' in value or b"\\" in value:
        value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"%b"' % value


_token = lru_cache(maxsize=1024)(string)


def token(value: bytes) -> bytes:
    """`string` of a word that comes again and again: a type, an encoding, the name of a parameter."""
    return _token(value) if len(value) <= MAX_TOKEN else string(value)


def nstring(value: bytes | None) -> bytes:
    """A ``string``, or NIL for None."""
    return b"NIL" if value is None else string(value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@dataclass(slots=True)
class PartFacts:
    """What a part's header says of its content, with the defaults of RFC 2045 in place."""

    type: bytes = b"TEXT"
    subtype: bytes = b"PLAIN"
    parameters: Parameters = ()
    encoding: bytes = b"7BIT"
    content_id: bytes | None = None
    description: bytes | None = None
    md5: bytes | None = None
    disposition: tuple[bytes, Parameters] | None = None
    languages: tuple[bytes, ...] = ()
    location: bytes | None = None


EMPTY_PART: Final = b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 0 0 NIL NIL NIL NIL)'
"""What a multipart without parts holds (PROTOCOLS section 5)."""


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%b)" % b" ".join([b"%b %b" % (token(name), string(text)) for name, text in parameters])


def _extension(facts: PartFacts) -> bytes:
    """Disposition, language and location, common to all bodies."""
    if facts.disposition is None:
        disposition = b"NIL"
    else:
        disposition = b"(%b %b)" % (token(facts.disposition[0]), _parameters(facts.disposition[1]))
    if not facts.languages:
        language = b"NIL"
    else:
        language = b"(%b)" % b" ".join([string(tag) for tag in facts.languages])
    return b"%b %b %b" % (disposition, language, nstring(facts.location))


def multipart_structure(facts: PartFacts, children: Sequence[bytes]) -> bytes:
    """``body-type-mpart`` (RFC 9051 section 9); without children it holds one empty text."""
    inner = b"".join(children) or EMPTY_PART
    return b"(%b %b %b %b)" % (inner, token(facts.subtype), _parameters(facts.parameters), _extension(facts))


def leaf_structure(facts: PartFacts, octets: int, lines: int, message: tuple[bytes, bytes] | None = None) -> bytes:
    """``body-type-basic``, ``-text`` or, with (envelope, structure) of the ``message`` within, ``-msg``."""
    if message is not None:
        tail = b" %b %b %d" % (message[0], message[1], lines)
    elif facts.type == b"TEXT":
        tail = b" %d" % lines
    else:
        tail = b""
    return b"(%b %b %b %b %b %b %d%b %b %b)" % (
        token(facts.type),
        token(facts.subtype),
        _parameters(facts.parameters),
        nstring(facts.content_id),
        nstring(facts.description),
        token(facts.encoding),
        octets,
        tail,
        nstring(facts.md5),
        _extension(facts),
    )


_STRING: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|\{([0-9]{1,10})\}\r\n', re.S)
_OPENING: Final = re.compile(rb'["{]')


def _string_end(text: bytes, at: int) -> int:
    """The end of the string that begins at ``at``."""
    match = _STRING.match(text, at)
    if match is None:
        raise ValueError("no string")
    return match.end() if match[2] is None else match.end() + int(match[2])


def for_rev1(sexpr: bytes) -> bytes:
    """The same with 8-bit quoted strings as literals (PROTOCOLS section 2: no UTF-8 unless asked for)."""
    if sexpr.isascii():
        return sexpr
    pieces, copied, at = [], 0, 0
    while (opening := _OPENING.search(sexpr, at)) is not None:
        start = opening.start()
        at = _string_end(sexpr, start)
        if sexpr[start] == 0x22 and not sexpr[start:at].isascii():
            value = unescape(sexpr[start + 1 : at - 1])
            pieces.append(b"%b{%d}\r\n%b" % (sexpr[copied:start], len(value), value))
            copied = at
    pieces.append(sexpr[copied:])
    return b"".join(pieces)


def _value_end(text: bytes, at: int) -> int:
    """The end of the value (list, string, number, NIL) that begins at ``at``."""
    depth = 0
    while True:
        octet = text[at]
        if octet == 0x28:
            depth += 1
            at += 1
        elif octet == 0x29:
            depth -= 1
            at += 1
        elif octet in b'"{':
            at = _string_end(text, at)
        elif octet == 0x20:
            at += 1
            continue
        else:
            match = _ATOM.match(text, at)
            at = match.end() if match else at + 1
        if not depth:
            return at


_ATOM: Final = re.compile(rb"[0-9A-Z]++")


def strip_extensions(structure: bytes) -> bytes:
    """BODY from BODYSTRUCTURE: every body without its extension data (RFC 9051 section 7.5.2)."""
    out: list[bytes] = []
    at = depth = 0
    while True:
        # At the beginning of a body.
        if structure[at + 1] == 0x28:
            out.append(b"(")
            depth += 1
            at += 1
            continue
        at, is_message = _basic_fields(structure, at, out)
        if is_message:
            depth += 1
            continue
        # Behind a body: after the last one within, a multipart keeps its subtype and a message its lines.
        while depth and structure[at] != 0x28:
            end = _value_end(structure, at + 1)
            out.append(structure[at:end] + b")")
            depth -= 1
            at = _list_end(structure, end)
        if not depth:
            return b"".join(out)


def _basic_fields(structure: bytes, at: int, out: list[bytes]) -> tuple[int, bool]:
    """Copy the body at ``at``; a message is copied up to its inner body, at which the position then stands."""
    start = at
    at += 1
    end = _value_end(structure, at)
    kind = structure[at:end]
    at = end + 1
    end = _value_end(structure, at)
    subtype = structure[at:end]
    for _ in range(5):
        end = _value_end(structure, end + 1)
    if kind == b'"MESSAGE"' and subtype in (b'"RFC822"', b'"GLOBAL"'):
        end = _value_end(structure, end + 1)
        out.append(structure[start : end + 1])
        return end + 1, True
    if kind == b'"TEXT"':
        end = _value_end(structure, end + 1)
    out.append(structure[start:end] + b")")
    return _list_end(structure, end), False


def _list_end(structure: bytes, at: int) -> int:
    """After the ``)`` of the list within which ``at`` stands, behind one of its values."""
    while structure[at] != 0x29:
        at = _value_end(structure, at + 1)
    return at + 1
