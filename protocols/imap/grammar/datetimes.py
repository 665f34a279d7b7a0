"""``date``, ``date-time`` (RFC 9051 section 9) to and from seconds or days since 1970, without a calendar library."""

import re

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.tokens import Cursor

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH_OF = {month.upper(): number for number, month in enumerate(MONTHS, start=1)}
_DATE = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")
_DATE_TIME = re.compile(
    rb"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"
)
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DAY_S = 86_400


def days_of(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a day of the proleptic Gregorian calendar (Howard Hinnant's ``days_from_civil``)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def civil_of(days: int) -> tuple[int, int, int]:
    """Year, month and day, so many days after 1970-01-01."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return year + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def _day(day: bytes, month: bytes, year: bytes) -> int:
    number, of_year, in_month = int(day), int(year), _MONTH_OF.get(month.upper(), 0)
    if not in_month:
        raise GrammarError("month")
    leap = in_month == 2 and of_year % 4 == 0 and (of_year % 100 != 0 or of_year % 400 == 0)
    if not 1 <= number <= _LENGTHS[in_month - 1] + leap:
        raise GrammarError("day of the month")
    return days_of(of_year, in_month, number)


def parse_date(text: bytes) -> int:
    """``date-text`` (``1-Feb-2026``): days since 1970. Raises `GrammarError`, also for the 30th of February."""
    found = _DATE.fullmatch(text)
    if found is None:
        raise GrammarError("date")
    return _day(*found.groups())


def parse_date_argument(cursor: Cursor) -> int:
    """``date``: plain or quoted (also as a literal, which some clients send)."""
    return parse_date(cursor.astring())


def parse_date_time(text: bytes) -> int:
    """``date-time`` without its quotes: seconds since 1970 UTC, not below 0. Raises `GrammarError`."""
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise GrammarError("date-time")
    day, month, year, hour, minute, second, sign, zone_hour, zone_minute = found.groups()
    days = _day(day.strip(), month, year)
    hours, minutes, seconds = int(hour), int(minute), int(second)
    if hours > 23 or minutes > 59 or seconds > 60 or int(zone_minute) > 59:
        raise GrammarError("time")
    zone = int(zone_hour) * 3600 + int(zone_minute) * 60
    at = days * DAY_S + hours * 3600 + minutes * 60 + seconds
    return max(at + zone if sign == b"-" else at - zone, 0)


_day_text: tuple[int, bytes] = (0, b" 1-Jan-1970")


def format_date_time(seconds: int) -> bytes:
    """INTERNALDATE with its quotes, in UTC. The day's text is kept, as messages come in the order of their dates."""
    global _day_text
    days, rest = divmod(seconds, DAY_S)
    known, text = _day_text
    if known != days:
        year, month, day = civil_of(days)
        text = b"%2d-%s-%04d" % (day, MONTHS[month - 1], year)
        _day_text = days, text
    return b'"%s %02d:%02d:%02d +0000"' % (text, rest // 3600, rest // 60 % 60, rest % 60)
