"""Who wrote to a guest, as a notice may say it: names that people give themselves are shown to those who trust us."""

import re
import unicodedata

from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.layout_guests import WriterRow
from certmaild.mailbox.mime_envelope import parse_addresses
from certmaild.mailbox.mime_header import read_fields
from certmaild.mailbox.text import decode_header
from certmaild.reports.links import link_in

MAX_NAME = 60
"""Characters of a name that is shown."""
MAX_FROM = 4096
"""Octets of From that are read, and characters of a name."""
MOST = 5
"""Writers that are kept for one notice."""
_FROM = frozenset((b"from",))
_HOST = re.compile(r"\w\.[^\W\d_]{2,}")
_NUMBER = re.compile(r"(?:\d[\s().+/-]*){5,}")
_OF_ADDRESSES = re.compile(r"[@:/\\<>{}\[\]%|]")


def author_name(header: bytes) -> str:
    """How the first author in From calls himself, as `shown_name` shows it; empty where he does not."""
    for _, value in read_fields(header, _FROM):
        authors = parse_addresses(value[:MAX_FROM])
        return shown_name(decode_header(authors[0].name or b"")) if authors else ""
    return ""


def shown_name(text: str) -> str:
    """A display name in one line of at most `MAX_NAME` characters; empty for one that could lead somebody astray.

    Controls, marks of writing direction and characters that nobody sees are taken out. A name that holds an address, a
    host, a number to call or a link is not shown at all: the address says who it is.
    """
    # What stands further back is never shown, and looking at it would take a time that grows with its square.
    text = unicodedata.normalize("NFC", text[: MAX_FROM // 8])
    kept = "".join(
        char if unicodedata.category(char)[0] not in "CZ" else " " if _separates(char) else "" for char in text
    )
    name = " ".join(kept.split()).strip("\"' ")
    if link_in(name) or _HOST.search(name) or _NUMBER.search(name) or _OF_ADDRESSES.search(name):
        return ""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1].rstrip() + "…"


def shown_address(text: str) -> str:
    """An address in its canonical form, domain as A-labels; only the domain of one whose local part could be a link."""
    try:
        address = canonical(text)
    except AddressError:
        return "?"
    odd = link_in(address.wire) or not address.local.isprintable() or _OF_ADDRESSES.search(address.local)
    return f"?@{address.domain}" if odd or " " in address.local else address.wire


def shown_writer(row: WriterRow) -> str:
    """Name and address for people."""
    address = shown_address(row.address)
    return f"{row.name} ({address})" if row.name else address


def with_writer(rows: tuple[WriterRow, ...], writer: WriterRow) -> tuple[WriterRow, ...]:
    """Those that are kept for a notice, ``writer`` last; the first is forgotten when there are too many."""
    return (*(row for row in rows if row.address != writer.address), writer)[-MOST:]


def _separates(char: str) -> bool:
    return unicodedata.category(char)[0] == "Z" or char in "\t\r\n\v\f"
