"""What stands before each literal of APPEND (RFC 9051 section 6.3.12, RFC 3502, RFC 9755 section 4)."""

from dataclasses import dataclass

from certmaild.mailbox.values import Flags
from certmaild.protocols.imap.grammar.datetimes import parse_date_time
from certmaild.protocols.imap.grammar.flags import parse_flag_list
from certmaild.protocols.imap.grammar.tokens import Cursor

NO_FLAGS = Flags()


@dataclass(frozen=True, slots=True)
class AppendOptions:
    """Flags and date of one message; ``utf8``: its literal stands in ``UTF8 (...)``."""

    flags: Flags = NO_FLAGS
    internal_date: int | None = None
    utf8: bool = False


def parse_append_options(cursor: Cursor) -> AppendOptions:
    """``[SP flag-list] [SP date-time] SP ["UTF8" SP "("]``, to the end of the text before the literal."""
    flags = NO_FLAGS
    internal_date = None
    cursor.space()
    if cursor.peek() == b"(":
        flags = parse_flag_list(cursor)
        cursor.space()
    if cursor.peek() == b'"':
        internal_date = parse_date_time(cursor.quoted())
        cursor.space()
    utf8 = cursor.skip_word(b"UTF8")
    if utf8:
        cursor.space()
        cursor.expect(b"(")
    cursor.end()
    return AppendOptions(flags, internal_date, utf8)
