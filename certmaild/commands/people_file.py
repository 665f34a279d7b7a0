"""Reading a list of people: CSV with a header line. All that is wrong with it is said at once, by line."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TypeVar

from certmaild.config import parse_size
from certmaild.mailbox.accounts import check_own
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.layout_accounts import UNLIMITED, Role
from certmaild.mailbox.ways_in import MAX_LABEL_OCTETS
from certmaild.routing import SERVICES

T = TypeVar("T")

COLUMNS = "address", "name", "role", "quota", "devices"
BETWEEN_DEVICES = "|"
"""Between the names of several devices; commas and semicolons are between columns."""
MOST_OCTETS = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Person:
    """One line of the file."""

    line: int
    address: Address
    name: str
    """Kept nowhere but in what is printed, for the letter with the password."""
    role: Role
    octets_limit: int | None
    devices: tuple[str, ...]
    """Names of devices, each of which gets a password; one without a name where none is named."""


class Wrong(Exception):
    """What is wrong with the file, one sentence for each line."""

    def __init__(self, sentences: tuple[str, ...]) -> None:
        super().__init__(*sentences)
        self.sentences = sentences


def read_people(path: Path, hosted: Sequence[str], *, most_devices: int) -> list[Person]:
    """The people of a file, in its order. Raises `Wrong`, `OSError`."""
    if path.stat().st_size > MOST_OCTETS:
        raise Wrong((f"{path.name} is larger than {MOST_OCTETS // 2**20} MiB: cut it into several.",))
    return parse_people(path.read_bytes(), hosted, most_devices=most_devices)


def parse_people(octets: bytes, hosted: Sequence[str], *, most_devices: int) -> list[Person]:
    """`read_people` of what the file holds."""
    records = _records(_text(octets))
    columns = _columns(next(records, None))
    found: list[Person] = []
    wrong: list[str] = []
    lines: dict[Address, int] = {}
    for line, fields in records:
        if len(fields) != len(columns):
            wrong.append(f"Line {line}: {len(fields)} fields, and the header line has {len(columns)}.")
            continue
        given = dict(zip(columns, map(str.strip, fields), strict=True))
        try:
            person = _person(line, given, hosted, most_devices)
        except ValueError as reason:
            wrong.append(f"Line {line}: {reason}.")
            continue
        before = lines.setdefault(person.address, line)
        if before != line:
            wrong.append(f"Line {line}: {person.address.lookup} stands in line {before} too.")
        found.append(person)
    if wrong:
        raise Wrong(tuple(wrong))
    if not found:
        raise Wrong(("Nobody is in the file: a header line and one line for each person are expected.",))
    return found


def _text(octets: bytes) -> str:
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = octets[: broken.start].count(b"\n") + 1
        raise Wrong((f'Line {line}: not UTF-8. Save the file as "CSV UTF-8".',)) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise Wrong((f'Line {line}: a NUL, which no text has. Save the file as "CSV UTF-8".',))
    return text


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Records that are not empty, each with the line that it begins in. Raises `Wrong`."""
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error:
            raise Wrong((f"Line {line}: a quotation mark is not closed, or something stands behind one.",)) from None
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield line, fields


def _columns(header: tuple[int, list[str]] | None) -> list[str]:
    columns = [] if header is None else [one.strip().lower() for one in header[1]]
    expected = f"expected a header line with {', '.join(COLUMNS)} (address alone is needed)"
    strange = [one for one in columns if one not in COLUMNS]
    if "address" not in columns or strange:
        what = f"the column {strange[0]!r} is not known" if strange else "there is no column address"
        raise Wrong((f"Line 1: {what}; {expected}.",))
    if len(set(columns)) != len(columns):
        raise Wrong((f"Line 1: a column stands there twice; {expected}.",))
    return columns


def _person(line: int, given: dict[str, str], hosted: Sequence[str], most_devices: int) -> Person:
    """Raises `ValueError` with what is wrong."""
    address = _address(given["address"], hosted)
    devices = tuple(one.strip() for one in given.get("devices", "").split(BETWEEN_DEVICES) if one.strip()) or ("",)
    if len(devices) > most_devices:
        raise ValueError(f"{len(devices)} devices, and a mailbox has at most {most_devices}")
    if any(len(one.encode()) > MAX_LABEL_OCTETS for one in devices):
        raise ValueError(f"the name of a device is longer than {MAX_LABEL_OCTETS} octets")
    return Person(
        line,
        address,
        given.get("name", ""),
        _read(given.get("role", ""), _role, Role.MEMBER),
        _read(given.get("quota", ""), _quota, None),
        devices,
    )


def _address(text: str, hosted: Sequence[str]) -> Address:
    try:
        address = canonical(text)
        check_own(address)
    except AddressError as reason:
        raise ValueError(f"{text!r} is not an address that somebody here can have: {reason}") from None
    name = address.base.lookup.partition("@")[0]
    if name in SERVICES:
        raise ValueError(f"{name}@ is the server's own address, where people command by mail")
    if address.domain not in hosted:
        raise ValueError(f"{address.domain} is not a hosted domain; the configuration names {', '.join(hosted)}")
    return address


def _read(text: str, read: Callable[[str], T], absent: T) -> T:
    return read(text) if text else absent


def _role(text: str) -> Role:
    try:
        return Role[text.upper()]
    except KeyError:
        names = ", ".join(one.name.lower() for one in Role)
        raise ValueError(f"{text!r} is no role; there are {names}") from None


def _quota(text: str) -> int | None:
    if text.lower() == "none":
        return None
    wrong = f"{text!r} is no quota such as 5GiB"
    try:
        octets = parse_size(int(text) if text.isdecimal() and text.isascii() else text)
    except ValueError:
        raise ValueError(wrong) from None
    if not 0 < octets < UNLIMITED:
        raise ValueError(wrong)
    return octets
