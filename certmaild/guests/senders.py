"""What a guest and his sender are told of a message that waits, taken from its header."""

import re

from certmaild.guests.interfaces import Sender, Waiting
from certmaild.guests.writers import author_name
from certmaild.mailbox.directory import RecipientFacts
from certmaild.mailbox.mime_header import read_fields
from certmaild.mailbox.text import decode_header
from certmaild.reports.links import without_links
from certmaild.reports.texts import ENGLISH

_WANTED = frozenset((b"subject", b"message-id"))
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")
MAX_SUBJECT = 200
MAX_SUBJECT_OCTETS = 8192
"""That are read for it."""


def read_waiting(header: bytes, address: str, account: RecipientFacts | None, reason: str, at_s: int) -> Waiting:
    """Of a message that ``address`` sends; ``account`` is his mailbox here. Words are without links, and short."""
    fields = dict(read_fields(header, _WANTED))
    message_id = fields.get(b"message-id", b"").strip()
    subject = decode_header(fields.get(b"subject", b"")[:MAX_SUBJECT_OCTETS])[:MAX_SUBJECT]
    return Waiting(
        Sender(address, author_name(header), account),
        reason,
        message_id.decode("ascii") if _MESSAGE_ID.fullmatch(message_id) else "",
        without_links(subject, ENGLISH.link_left_out),
        at_s,
    )
