"""What stands behind the address in MAIL and RCPT: parameters to values, and back into a line (RFC 5321 4.1.2).

SIZE (RFC 1870), BODY (6152, 3030), SMTPUTF8 (6531), AUTH (4954), RET, ENVID, NOTIFY, ORCPT (3461), REQUIRETLS (8689),
MT-PRIORITY (6710), BY (2852), HOLDFOR and HOLDUNTIL (4865). No I/O, no state.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final

from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import NULL_PATH, Path, parse_path, parse_size, split_path
from certmaild.protocols.smtp.xtext import decode_xtext

MAX_ENVID = 100
"""Octets of ENVID as sent (RFC 3461 section 4.4)."""
MAX_ORCPT = 500
"""Octets of ORCPT as sent (RFC 3461 section 4.2)."""
MAX_BY_S = 999_999_999
"""Seconds that BY may name (RFC 2852 section 4)."""

_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")
_PRIORITY = re.compile(rb"-?[1-9]|0")
_BY = re.compile(rb"([+-]?[0-9]{1,9});([NRnr][Tt]?)")
_HOLD_FOR = re.compile(rb"[0-9]{1,9}")
_HOLD_UNTIL = re.compile(rb"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
_ORCPT = re.compile(rb"([A-Za-z0-9-]+);(.+)")


class Extension(Enum):
    """What a listener may offer beside what it always does; the value is the EHLO keyword."""

    DSN = "DSN"
    REQUIRETLS = "REQUIRETLS"
    MT_PRIORITY = "MT-PRIORITY"
    DELIVERBY = "DELIVERBY"
    FUTURERELEASE = "FUTURERELEASE"


class BodyKind(Enum):
    """What octets the content has (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class Notify(Enum):
    """When a recipient's fate is reported (RFC 3461 section 4.1). More than one may hold; NEVER stands alone."""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


DEFAULT_NOTIFY: Final = frozenset({Notify.FAILURE, Notify.DELAY})
"""Where NOTIFY is not given (RFC 3461 section 4.1)."""


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """How soon a message must be there (RFC 2852 section 4)."""

    seconds: int
    """From MAIL on. 0 and less: the time is over, and only `returns` being False is allowed."""
    returns: bool
    """Mode R: it goes back when the time is over; else its sender is told (mode N)."""
    traces: bool = False
    """Each relay is reported."""


@dataclass(frozen=True, slots=True)
class MailArguments:
    """What MAIL said."""

    reverse_path: Path
    size: int = 0
    """Declared octets (RFC 1870); 0 when not declared."""
    utf8: bool = False
    """SMTPUTF8 (RFC 6531)."""
    body: BodyKind | None = None
    """BODY (RFC 6152); None when not given."""
    require_tls: bool = False
    """REQUIRETLS (RFC 8689)."""
    returns_full: bool = False
    """RET=FULL (RFC 3461 section 4.3)."""
    envid: bytes | None = None
    """ENVID as given, xtext (RFC 3461 section 4.4)."""
    priority: int = 0
    """MT-PRIORITY, -9 to 9 (RFC 6710)."""
    deliver_by: DeliverBy | None = None
    hold_for_s: int = 0
    """HOLDFOR: seconds from MAIL on (RFC 4865)."""
    hold_until_s: int | None = None
    """HOLDUNTIL: seconds since 1970."""


@dataclass(frozen=True, slots=True)
class RcptArguments:
    """What RCPT said."""

    forward_path: Path
    notify: frozenset[Notify] = DEFAULT_NOTIFY
    orcpt: bytes | None = None
    """ORCPT as given: ``rfc822;`` and xtext (RFC 3461 section 4.2)."""


def parse_mail(argument: bytes, offered: Collection[Extension] = ()) -> MailArguments:
    """``FROM:<path> [parameters]`` (RFC 5321 section 4.1.1.2). Raises `Refusal`: 501, 553 or 555."""
    path, parameters = split_path(argument, b"FROM:")
    given = _parse_parameters(parameters, _OF_MAIL, offered) if parameters else {}
    if "hold_for_s" in given and "hold_until_s" in given:
        raise Refusal(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
    reverse_path = NULL_PATH if path == b"<>" else parse_path(path, utf8="utf8" in given)
    if reverse_path.local and not reverse_path.domain:
        raise Refusal(501, "5.1.7", "Sender address needs a domain")
    return MailArguments(reverse_path, **given)


def parse_rcpt(argument: bytes, offered: Collection[Extension] = (), *, utf8: bool) -> RcptArguments:
    """``TO:<path> [parameters]`` (RFC 5321 section 4.1.1.3). Raises `Refusal`: 501, 553 or 555."""
    path, parameters = split_path(argument, b"TO:")
    given = _parse_parameters(parameters, _OF_RCPT, offered) if parameters else {}
    forward_path = parse_path(path, utf8=utf8)
    if not forward_path.domain and not forward_path.is_postmaster:
        raise Refusal(501, "5.1.3", "Recipient address needs a domain")
    if not utf8 and not given.get("orcpt", b"").isascii():
        raise _bad("ORCPT")
    return RcptArguments(forward_path, **given)


# One parameter each: the fields that it sets. None as a value: nothing stood behind the name.

# BINARYMIME is not announced.
_BODIES: Final = {b"7BIT": BodyKind.SEVEN_BIT, b"8BITMIME": BodyKind.EIGHT_BIT}
_Fields = dict[str, Any]
_Reader = Callable[[bytes], _Fields]


def _size(value: bytes) -> _Fields:
    return {"size": parse_size(value)}


def _body(value: bytes) -> _Fields:
    kind = _BODIES.get(value.upper())
    if kind is None:
        raise _unknown_parameter()
    return {"body": kind}


def _ret(value: bytes) -> _Fields:
    if value.upper() not in (b"FULL", b"HDRS"):
        raise _bad("RET")
    return {"returns_full": value.upper() == b"FULL"}


def _envid(value: bytes) -> _Fields:
    try:
        is_printable = all(31 < octet < 127 for octet in decode_xtext(value))
    except ValueError:
        is_printable = False
    if not is_printable or len(value) > MAX_ENVID:
        raise _bad("ENVID")
    return {"envid": value}


def _priority(value: bytes) -> _Fields:
    if not _PRIORITY.fullmatch(value):
        raise _bad("MT-PRIORITY")
    return {"priority": int(value)}


def _by(value: bytes) -> _Fields:
    match = _BY.fullmatch(value)
    if match is None:
        raise _bad("BY")
    seconds, mode = int(match[1]), match[2].upper()
    if seconds <= 0 and mode.startswith(b"R"):
        raise Refusal(501, "5.5.4", "BY with mode R needs a time above 0")
    return {"deliver_by": DeliverBy(seconds, mode.startswith(b"R"), mode.endswith(b"T"))}


def _hold_for(value: bytes) -> _Fields:
    if not _HOLD_FOR.fullmatch(value):
        raise _bad("HOLDFOR")
    return {"hold_for_s": int(value)}


def _hold_until(value: bytes) -> _Fields:
    if not _HOLD_UNTIL.fullmatch(value):
        raise _bad("HOLDUNTIL")
    try:
        return {"hold_until_s": max(int(datetime.fromisoformat(value.decode("ascii").upper()).timestamp()), 0)}
    except (ValueError, OverflowError):
        raise _bad("HOLDUNTIL") from None


def _notify(value: bytes) -> _Fields:
    try:
        notify = frozenset(Notify(word.decode("ascii")) for word in value.upper().split(b","))
    except ValueError:
        raise _bad("NOTIFY") from None
    if Notify.NEVER in notify and len(notify) > 1:
        raise _bad("NOTIFY")
    return {"notify": notify}


def _orcpt(value: bytes) -> _Fields:
    match = _ORCPT.fullmatch(value) if len(value) <= MAX_ORCPT else None
    if match is None:
        raise _bad("ORCPT")
    try:
        # Addresses of type utf-8 may hold what xtext would encode (RFC 6533 section 3).
        match[2].decode("utf-8") if match[1].lower() == b"utf-8" else decode_xtext(match[2])
    except ValueError:
        raise _bad("ORCPT") from None
    return {"orcpt": value}


_OF_MAIL: Final[dict[bytes, tuple[Extension | None, _Reader | None]]] = {
    b"SIZE": (None, _size),
    b"BODY": (None, _body),
    b"SMTPUTF8": (None, None),
    b"AUTH": (None, lambda value: {}),
    b"REQUIRETLS": (Extension.REQUIRETLS, None),
    b"RET": (Extension.DSN, _ret),
    b"ENVID": (Extension.DSN, _envid),
    b"MT-PRIORITY": (Extension.MT_PRIORITY, _priority),
    b"BY": (Extension.DELIVERBY, _by),
    b"HOLDFOR": (Extension.FUTURERELEASE, _hold_for),
    b"HOLDUNTIL": (Extension.FUTURERELEASE, _hold_until),
}
"""By name: what must be offered, and the reader of the value; without one the name stands alone."""
_OF_RCPT: Final[dict[bytes, tuple[Extension | None, _Reader | None]]] = {
    b"NOTIFY": (Extension.DSN, _notify),
    b"ORCPT": (Extension.DSN, _orcpt),
}
_ALONE: Final[dict[bytes, _Fields]] = {b"SMTPUTF8": {"utf8": True}, b"REQUIRETLS": {"require_tls": True}}


def _parse_parameters(
    text: bytes, known: dict[bytes, tuple[Extension | None, _Reader | None]], offered: Collection[Extension]
) -> _Fields:
    given: _Fields = {}
    names: set[bytes] = set()
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise Refusal(501, "5.5.4", "Bad parameter syntax")
        name, value = match[1].upper(), match[2]
        if name in names:
            raise Refusal(501, "5.5.4", "Parameter given twice")
        names.add(name)
        extension, reader = known.get(name, (None, None))
        if name not in known or (extension is not None and extension not in offered):
            raise _unknown_parameter()
        if (reader is None) != (value is None):
            raise _unknown_parameter()
        given |= _ALONE[name] if reader is None else reader(value)
    return given


def _unknown_parameter() -> Refusal:
    return Refusal(555, "5.5.4", "Parameter not recognised or not supported")


def _bad(name: str) -> Refusal:
    return Refusal(501, "5.5.4", f"Bad value of {name}")
