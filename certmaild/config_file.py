"""The configuration file as it is written: its keys and types, and sentences for what does not fit them."""

import difflib
import re
import tomllib
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec

from certmaild.protocols.limits import Limits

DEFAULT_DATA = "certmaild-data"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class ConfigError(Exception):
    """The configuration cannot be used. Its text is one sentence or more, each on a line, fit to print."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class Size(int):
    """Octets, as a number or like ``"3GiB"``, ``"150 MiB"``, ``"10GB"``."""

    expected = 'a size, such as 1048576 or "150MiB"'


class Duration(int):
    """Seconds, as a number or like ``"30s"``, ``"5m"``, ``"1h"``."""

    expected = 'a time, such as 30 or "5m"'


def parse_size(given: object) -> int:
    """Octets. Raises `ValueError`."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    match = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]{0,3})", given) if isinstance(given, str) else None
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"Expected {Size.expected}")
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_duration(given: object) -> int:
    """Seconds. Raises `ValueError`."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    match = re.fullmatch(r"(\d{1,9})\s*([a-z]{0,3})", given) if isinstance(given, str) else None
    if match is None or match[2] not in _SECONDS:
        raise ValueError(f"Expected {Duration.expected}")
    return int(match[1]) * _SECONDS[match[2]]


def _custom(kind: type, given: object) -> Size | Duration:
    """What msgspec asks for types that are not its own."""
    return Size(parse_size(given)) if kind is Size else Duration(parse_duration(given))


# The file as it is written.


class _ListenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: tuple[str, ...] = ("127.0.0.1", "::1")
    imaps: int | str | None = None
    pop3s: int | str | None = None
    smtp: int | str | None = None
    submission: int | str | None = None
    submissions: int | str | None = None
    https: int | str | None = None


class _NameFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    certificate: str
    key: str


class _TlsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str | None = None
    key: str | None = None
    next_key: str | None = None
    minimum: Literal["1.2", "1.3"] = "1.2"
    strict_names: bool = False
    names: tuple[_NameFile, ...] = ()


class _InboundFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tls: Literal["required", "offered"] = "required"
    clear_networks: tuple[str, ...] = ()
    checks: bool = True
    unchecked_networks: tuple[str, ...] = ("127.0.0.0/8", "::1")
    dmarc: Literal["honour", "report"] = "honour"
    arc_sealers: tuple[str, ...] = ()


class _OutboundFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["encrypt", "verify", "secure", "dane", "dane-only", "sts"] = "verify"
    smart_host: str | None = None
    smart_host_user: str | None = None
    smart_host_password_file: str | None = None
    retry: Duration = Duration(60)
    longest_retry: Duration = Duration(3600)
    lifetime: Duration = Duration(5 * 86400)
    warn_after: Duration = Duration(15 * 60)
    delay_after: Duration = Duration(4 * 3600)
    connections: int = 10
    source: tuple[str, ...] = ()
    warn_partners: bool = False
    loopback: bool = False


class _ResolverFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    addresses: tuple[str, ...] = ()


class PartnerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from"}):
    """One ``[[partner]]``; what ``certmaild partner add`` stores has the same keys."""

    domain: str
    subdomains: bool = False
    route: tuple[str, ...] = ()
    level: Literal["may", "encrypt", "verify", "secure", "dane", "dane-only", "sts", "pin"] = "secure"
    names: tuple[str, ...] = ()
    ca: str | None = None
    pins: tuple[str, ...] = ()
    minimum: Literal["1.2", "1.3"] = "1.2"
    direction: Literal["both", "in", "out"] = "both"
    client_certificate: str | None = None
    client_key: str | None = None
    networks: tuple[str, ...] = ()
    start: date | None = None
    certificate_in: bool = True


class _PasswordsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kdf: Literal["bcrypt"] = "bcrypt"
    rounds: int | None = None
    login_cache: bool = True


class _SearchFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ahead: bool = False


class InviteDomainFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[invite.domains]]``: a domain whose unknown addresses get accounts of their own."""

    domain: str
    role: Literal["guest", "member"] = "guest"
    senders: tuple[str, ...] = ()
    language: str = ""


class _InviteFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    domain: str | None = None
    when: Literal["always", "unproven", "marked"] = "unproven"
    code_days: int = 14
    notice_quiet: Duration = Duration(86400)
    unused_days: int = 90
    languages: tuple[str, ...] = ("en",)
    templates: str | None = None
    code_command: tuple[str, ...] = ()
    octets: Size = Size(2**30)
    messages: int = 10_000
    invitations_per_sender: int = 200
    notices_per_domain: int = 500
    trial_days: int = 0
    trials_per_day: int = 50
    domains: tuple[InviteDomainFile, ...] = ()


class _DevicesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    unused_days: int = 180
    shown: Duration = Duration(86400)
    most: int = 20


class _RelaysFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    policy: Literal["allow", "warn", "refuse"] = "warn"
    networks: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    domains: dict[str, Literal["allow", "warn", "refuse"]] = {}


_COUNTS = frozenset(
    "recipients expanded_recipients group_members recipients_elsewhere "
    "connections_per_address connections sessions_per_credential sessions_per_mailbox "
    "bad_commands_before_login bad_commands commands_in_flight mime_parts mime_depth dkim_signatures".split()
)


def _limit_type(name: str) -> Any:
    if name in _COUNTS:
        return int | None
    return (Duration if "time" in name or name == "idle_still_here" else Size) | None


_LimitsFile = msgspec.defstruct(
    "_LimitsFile",
    [(limit.name, _limit_type(limit.name), None) for limit in fields(Limits)],
    frozen=True,
    forbid_unknown_fields=True,
    module=__name__,
)


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hostname: str = "localhost"
    domains: tuple[str, ...] = ("localhost",)
    data: str = DEFAULT_DATA
    secrets: str | None = None
    workers: int | None = None
    postmaster: str | None = None
    privacy: bool = True
    padding: bool = True
    free_disk: Size = Size(256 * 2**20)
    shutdown_time: Duration = Duration(30)
    listen: _ListenFile = _ListenFile()
    tls: _TlsFile = _TlsFile()
    inbound: _InboundFile = _InboundFile()
    limits: _LimitsFile = _LimitsFile()  # type: ignore[valid-type]  # made of the fields of Limits
    passwords: _PasswordsFile = _PasswordsFile()
    search: _SearchFile = _SearchFile()
    outbound: _OutboundFile = _OutboundFile()
    resolver: _ResolverFile = _ResolverFile()
    partner: tuple[PartnerFile, ...] = ()
    invite: _InviteFile = _InviteFile()
    devices: _DevicesFile = _DevicesFile()
    relays: _RelaysFile = _RelaysFile()


def read_text(path: Path) -> str:
    """A file's text. Raises `ConfigError`."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; certmaild --config FILE init makes one.") from None
    except OSError as fault:
        raise ConfigError(f"{path}: cannot be read: {fault.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text.") from None


def parse_text(path: Path, text: str) -> File:
    """The keys and values in the text of the file ``path``. Raises `ConfigError`."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{path}: is not TOML: {fault}.") from None
    try:
        return msgspec.convert(given, File, dec_hook=_custom)
    except msgspec.ValidationError as fault:
        raise ConfigError(f"{path}: {_sentence(str(fault))}") from None


def _sentence(fault: str) -> str:
    """What msgspec says, with the key first and in words."""
    what, _, where = fault.partition(" - at `$")
    key = where.rstrip("`").lstrip(".").replace("[...]", "")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL)
    if unknown:
        full = f"{key}.{unknown[1]}" if key else unknown[1]
        near = difflib.get_close_matches(unknown[1], _known_keys(key), 1)
        return f"the key {full} is not known" + (f"; did you mean {near[0]}?" if near else ".")
    missing = re.fullmatch(r"Object missing required field `(.*)`", what, re.DOTALL)
    if missing:
        return f"the key {key}.{missing[1]} is missing."
    for name, words in (
        ("`int | null`", "a whole number"),
        ("`int | str | null`", 'a port, or "systemd:NAME"'),
        ("`int`", "a whole number"),
        ("`str | null`", "a text in quotes"),
        ("`str`", "a text in quotes"),
        ("`bool`", "true or false"),
        ("`array`", "a list in brackets"),
        ("`object | null`", "a table"),
        ("`object`", "a table"),
        ("`date | null`", "a date, such as 2027-01-31"),
        ("`float`", "a number with a point"),
    ):
        what = what.replace(name, words)
    if what.startswith("Invalid enum value"):
        choices = _CHOICES[re.sub(r"\[\d*\]", "", key)]
        what = f"expected {choices}"
    return f"the key {key}: {what[0].lower()}{what[1:]}."


_CHOICES = {
    "tls.minimum": '"1.2" or "1.3"',
    "inbound.tls": '"required" or "offered"',
    "inbound.dmarc": '"honour" or "report"',
    "passwords.kdf": '"bcrypt"',
    "outbound.level": '"encrypt", "verify", "secure", "dane", "dane-only" or "sts" ("may" only for a partner)',
    "partner.level": '"may", "encrypt", "verify", "secure", "dane", "dane-only", "sts" or "pin"',
    "partner.minimum": '"1.2" or "1.3"',
    "partner.direction": '"both", "in" or "out"',
    "invite.when": '"always", "unproven" or "marked"',
    "invite.domains.role": '"guest" or "member"',
    "relays.policy": '"allow", "warn" or "refuse"',
    "relays.domains": '"allow", "warn" or "refuse"',
}


def _known_keys(table: str) -> list[str]:
    table = re.sub(r"\[\d+\]", "", table)
    tables: dict[str, Any] = {
        "": File,
        "listen": _ListenFile,
        "tls": _TlsFile,
        "tls.names": _NameFile,
        "inbound": _InboundFile,
        "limits": _LimitsFile,
        "passwords": _PasswordsFile,
        "search": _SearchFile,
        "outbound": _OutboundFile,
        "resolver": _ResolverFile,
        "partner": PartnerFile,
        "invite": _InviteFile,
        "invite.domains": InviteDomainFile,
        "devices": _DevicesFile,
        "relays": _RelaysFile,
    }
    return [one.encode_name for one in msgspec.structs.fields(tables[table])] if table in tables else []
