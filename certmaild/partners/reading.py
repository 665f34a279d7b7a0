"""A partner's record as it is written, read into values: the same for the configuration and for stored records."""

import base64
import binascii
import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

import idna

from certmaild.config_file import PartnerFile
from certmaild.keystore.tls_values import Authorities, ClientFiles, Level, Pem
from certmaild.partners.record import Direction, PartnerRecord

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")
_PIN_OCTETS = 32


def host_name(given: str) -> str:
    """Lower-case A-labels without the last dot. Raises `ValueError`, whose text is a sentence's end."""
    try:
        name = given.rstrip(".").lower()
        name = name if name.isascii() else idna.encode(name, uts46=True).decode("ascii")
        if len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split(".")):
            return name
    except idna.IDNAError:
        pass
    raise ValueError(f"expected a host name, found {given!r}")


def split_host_port(given: str, port: int) -> tuple[str, int] | None:
    """Host (a name or an IP address) and port of ``host``, ``host:port``, ``[address]:port``; None for other texts."""
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::(\d{1,5}))?", given)
    if match is None:
        return None
    port = port if match[3] is None else int(match[3])
    if not 0 < port < 65536:
        return None
    try:
        if match[1] is not None:
            return str(ip_address(match[1].removeprefix("IPv6:"))), port
        if re.fullmatch(r"[0-9.]+", match[2]):
            return str(ip_address(match[2])), port
        return host_name(match[2]), port
    except ValueError:
        return None


def format_host_port(host: str, port: int) -> str:
    """Inverse of `split_host_port`."""
    try:
        is_v6 = isinstance(ip_address(host), IPv6Address)
    except ValueError:
        is_v6 = False
    return f"[{host}]:{port}" if is_v6 else f"{host}:{port}"


def read_pin(given: str) -> bytes:
    """SHA-256 of a public key, as base64 (with or without ``sha256//`` or ``sha256/``) or hex. Raises `ValueError`."""
    text = given.removeprefix("sha256//").removeprefix("sha256/").replace(":", "")
    try:
        pin = bytes.fromhex(text) if len(text) == 2 * _PIN_OCTETS else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        pin = b""
    if len(pin) != _PIN_OCTETS:
        raise ValueError(f"pins: expected the SHA-256 of a public key in base64 or hexadecimal, found {given!r}")
    return pin


def format_pin(pin: bytes) -> str:
    """Inverse of `read_pin`, as curl writes it."""
    return "sha256//" + base64.b64encode(pin).decode("ascii")


def read_name(given: str) -> str:
    """A name that a certificate may be for: a host name, also with ``*.`` or ``.`` in front. Raises `ValueError`."""
    for prefix in ("*.", "."):
        if given.startswith(prefix):
            return prefix + host_name(given.removeprefix(prefix))
    return host_name(given)


def read_authorities(given: str, place: Callable[[str], Path]) -> Authorities:
    """The key ``ca``: a path, or the certificates themselves as PEM text."""
    return Pem(given) if "-----BEGIN CERTIFICATE-----" in given else place(given)


def read_partner(file: PartnerFile, place: Callable[[str], Path]) -> PartnerRecord:
    """The record. ``place`` turns a path as written into an absolute one. Raises `ValueError` with a sentence."""
    for route in file.route:
        if split_host_port(route, 25) is None:
            raise ValueError(f"route: expected host:port, found {route!r}")
    if (file.client_certificate is None) != (file.client_key is None):
        raise ValueError("client_certificate and client_key are given together or not at all")
    if file.level == "pin" and not file.pins:
        raise ValueError('level "pin" needs a key of his (pins; --pin or --pin-certificate)')
    client = None
    if file.client_certificate is not None and file.client_key is not None:
        client = ClientFiles(place(file.client_certificate), place(file.client_key))
    return PartnerRecord(
        host_name(file.domain),
        file.subdomains,
        file.route,
        Level(file.level),
        tuple(read_name(name) for name in file.names),
        None if file.ca is None else read_authorities(file.ca, place),
        tuple(read_pin(pin) for pin in file.pins),
        file.minimum,
        Direction(file.direction),
        client,
        tuple(ip_network(one) for one in file.networks),
        file.start,
        file.certificate_in,
    )
