"""The header fields that the MIME scanner reads, and what they say of one part."""

from typing import Final

from certmaild.mailbox.mime_header import parse_disposition, parse_media_type, parse_token, read_fields
from certmaild.mailbox.mime_structure import PartFacts

_RECIPIENTS: Final = frozenset((b"to", b"cc", b"bcc"))


def part_fields(header: bytes) -> dict[bytes, bytes]:
    """The fields the scanner needs, unfolded, by name; of repeated ones the first, recipients joined."""
    fields: dict[bytes, bytes] = {}
    more: dict[bytes, list[bytes]] = {}
    for name, value in read_fields(header, _WANTED):
        if name not in fields:
            fields[name] = value
        elif name in _RECIPIENTS:
            more.setdefault(name, []).append(value)
    for name, values in more.items():
        fields[name] = b", ".join([fields[name], *values])
    return fields


_WANTED: Final = frozenset(
    b"date subject from sender reply-to to cc bcc in-reply-to message-id references content-type "
    b"content-transfer-encoding content-id content-description content-md5 content-disposition content-language "
    b"content-location".split()
)


def part_facts(fields: dict[bytes, bytes], *, in_digest: bool) -> PartFacts:
    """Facts of one part (RFC 2045 to 2047, 2183, 3282, 2557) with defaults for what is missing or makes no sense."""
    facts = PartFacts()
    media_type = fields.get(b"content-type")
    parsed = parse_media_type(media_type) if media_type is not None else None
    if parsed is not None:
        facts.type, facts.subtype, facts.parameters = parsed
    elif in_digest:
        facts.type, facts.subtype = b"MESSAGE", b"RFC822"
    else:
        facts.parameters = ((b"CHARSET", b"US-ASCII"),)
    if b"content-transfer-encoding" in fields:
        facts.encoding = parse_token(fields[b"content-transfer-encoding"]) or b"7BIT"
    facts.content_id = fields.get(b"content-id")
    facts.description = fields.get(b"content-description")
    facts.md5 = fields.get(b"content-md5")
    facts.location = fields.get(b"content-location")
    if b"content-disposition" in fields:
        facts.disposition = parse_disposition(fields[b"content-disposition"])
    if b"content-language" in fields:
        facts.languages = tuple(tag for tag in fields[b"content-language"].replace(b",", b" ").split())
    return facts
