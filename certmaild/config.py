"""The configuration: one TOML file, read into frozen values, with a plain sentence for whatever is wrong."""

import os
import re
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec

from certmaild.config_file import (
    DEFAULT_DATA,
    ConfigError,
    File,
    parse_duration,
    parse_size,
    parse_text,
    read_text,
)
from certmaild.config_values import (
    LISTENERS,
    Config,
    Devices,
    Inbound,
    InviteDomain,
    Invites,
    Listen,
    Network,
    Outbound,
    Passwords,
    RelayPolicy,
    Relays,
    Search,
    Tls,
    When,
)
from certmaild.keystore.certificates import PrivateFiles
from certmaild.keystore.tls import CertificateFiles
from certmaild.keystore.tls_values import Level
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.layout_accounts import Role
from certmaild.partners.reading import host_name, read_partner, split_host_port
from certmaild.partners.record import PartnerRecord
from certmaild.protocols.limits import Limits

__all__ = [
    "ConfigError",
    "again",
    "default",
    "load",
    "parse_duration",
    "parse_size",
]

_DEFAULT_PORTS = {"imaps": 1993, "pop3s": 1995, "smtp": 1025, "submission": 1587, "submissions": 1465}
MAX_WORKERS = 256
MAX_TRIAL_DAYS = 365


def default(data_dir: Path | str | None = None) -> Config:
    """The configuration without a file: high ports on 127.0.0.1 for ``localhost``."""
    data = Path(DEFAULT_DATA if data_dir is None else data_dir).absolute()
    files = PrivateFiles(data)
    return Config(
        None,
        "localhost",
        ("localhost",),
        data,
        data / "secrets",
        Tls(CertificateFiles(files.chain, files.key)),
        Listen(("127.0.0.1",), **_DEFAULT_PORTS),
    )


def load(path: Path | str, data_dir: Path | str | None = None) -> Config:
    """Read a configuration file; ``data_dir`` replaces its ``data``. Raises `ConfigError`."""
    path = Path(path).absolute()
    return again(path, read_text(path), data_dir)


def again(path: Path | None, text: str, data_dir: Path | str | None) -> Config:
    """The configuration whose file ``path`` holds ``text``; the default one without a path. Raises `ConfigError`."""
    if path is None:
        return default(data_dir)
    return replace(_Reader(path, parse_text(path, text), data_dir).config(), text=text)


class _Reader:
    """Turns the file's texts into values, and collects what is wrong with them."""

    def __init__(self, path: Path, file: File, data_dir: Path | str | None) -> None:
        self._path = path
        self._file = file
        self._data = self._place(file.data) if data_dir is None else Path(data_dir).absolute()
        self._wrong: list[str] = []

    def config(self) -> Config:
        file = self._file
        workers = _one_per_core() if file.workers is None else file.workers
        if not 0 <= workers <= MAX_WORKERS:
            self._say("workers", f"expected 0 to {MAX_WORKERS}")
        config = Config(
            self._path,
            self._host("hostname", file.hostname),
            self._domains(),
            self._data,
            self._data / "secrets" if file.secrets is None else self._place(file.secrets),
            self._tls(),
            self._listen(),
            workers,
            file.postmaster,
            file.privacy,
            file.padding,
            int(file.free_disk),
            int(file.shutdown_time),
            self._inbound(),
            self._limits(),
            self._passwords(),
            self._outbound(),
            self._resolvers(),
            self._partners(),
            Search(file.search.ahead),
            self._invites(),
            self._devices(),
            self._relays(),
        )
        if config.postmaster is not None and "@" not in config.postmaster:
            self._say("postmaster", "expected an address of a member")
        elif config.postmaster is not None and not self._is_hosted(config.postmaster, config.domains):
            self._say("postmaster", "expected an address in one of the domains")
        if not file.data or file.secrets == "":
            self._say("secrets" if file.data else "data", "expected the path of a directory")
        if self._wrong:
            raise ConfigError(*self._wrong)
        return config

    def _is_hosted(self, address: str, domains: tuple[str, ...]) -> bool:
        return self._host("postmaster", address.rpartition("@")[2]) in domains

    def _say(self, key: str, what: str) -> None:
        self._wrong.append(f"{self._path}: the key {key}: {what}.")

    def _place(self, given: str) -> Path:
        """Relative to the file."""
        return (self._path.parent / Path(given).expanduser()).absolute()

    def _host(self, key: str, given: str) -> str:
        try:
            return host_name(given)
        except ValueError as problem:
            self._say(key, str(problem))
            return ""

    def _domains(self) -> tuple[str, ...]:
        if not self._file.domains:
            self._say("domains", "expected at least one domain")
        return tuple(dict.fromkeys(self._host("domains", domain) for domain in self._file.domains))

    def _tls(self) -> Tls:
        tls = self._file.tls
        if (tls.certificate is None) != (tls.key is None):
            self._say("tls", "certificate and key are given together or not at all")
        private = tls.certificate is None or tls.key is None
        if private and tls.next_key is not None:
            self._say("tls.next_key", "without certificate and key the server keeps its next key itself")
        own = PrivateFiles(self._data)
        return Tls(
            CertificateFiles(
                own.chain if tls.certificate is None else self._place(tls.certificate),
                own.key if tls.key is None else self._place(tls.key),
            ),
            tuple(
                CertificateFiles(self._place(one.certificate), self._place(one.key), self._server_name(one.name))
                for one in tls.names
            ),
            tls.minimum,
            tls.strict_names,
            private,
            own.next_key if private else None if tls.next_key is None else self._place(tls.next_key),
        )

    def _server_name(self, given: str) -> str:
        if given.startswith("*."):
            return "*." + self._host("tls.names.name", given[2:])
        return self._host("tls.names.name", given)

    def _listen(self) -> Listen:
        listen = self._file.listen
        for address in listen.address:
            try:
                ip_address(address)
            except ValueError:
                self._say("listen.address", f"expected IP addresses, found {address!r}")
        ports: dict[str, Any] = {name: getattr(listen, name) for name in LISTENERS}
        for name, port in ports.items():
            if port is not None and not _is_port(port):
                self._say(f"listen.{name}", f'expected a port from 1 to 65535, or "systemd:NAME", found {port!r}')
        given = [port for port in ports.values() if port is not None]
        if len(set(given)) < len(given):
            self._say("listen", "two listeners have the same port")
        return Listen(tuple(listen.address), **ports)

    def _inbound(self) -> Inbound:
        given = self._file.inbound
        return Inbound(
            given.tls == "required",
            self._networks("inbound.clear_networks", given.clear_networks),
            given.checks,
            self._networks("inbound.unchecked_networks", given.unchecked_networks),
            given.dmarc == "honour",
            tuple(self._host("inbound.arc_sealers", one) for one in given.arc_sealers),
        )

    def _networks(self, key: str, all_given: tuple[str, ...]) -> tuple[Network, ...]:
        networks = []
        for given in all_given:
            try:
                networks.append(ip_network(given))
            except ValueError:
                self._say(key, f'expected networks such as "192.0.2.0/24", found {given!r}')
        return tuple(networks)

    def _limits(self) -> Limits:
        given = msgspec.structs.asdict(self._file.limits)
        given = {name: int(value) for name, value in given.items() if value is not None}
        for name, value in given.items():
            if value < 1:
                self._say(f"limits.{name}", "expected at least 1")
        return Limits(**given)

    def _outbound(self) -> Outbound:
        given = self._file.outbound
        if given.smart_host is not None and split_host_port(given.smart_host, 25) is None:
            self._say("outbound.smart_host", f"expected host:port, found {given.smart_host!r}")
        if (given.smart_host_user is None) != (given.smart_host_password_file is None):
            self._say("outbound", "smart_host_user and smart_host_password_file are given together or not at all")
        for name in ("retry", "longest_retry", "lifetime", "connections"):
            if getattr(given, name) < 1:
                self._say(f"outbound.{name}", "expected at least 1")
        if given.retry > given.longest_retry:
            self._say("outbound.longest_retry", "expected at least as long as retry")
        for address in given.source:
            self._ip("outbound.source", address)
        password = given.smart_host_password_file
        return Outbound(
            Level(given.level),
            given.smart_host,
            given.smart_host_user,
            None if password is None else self._place(password),
            int(given.retry),
            int(given.longest_retry),
            int(given.lifetime),
            int(given.warn_after),
            int(given.delay_after),
            given.connections,
            given.source,
            given.warn_partners,
            given.loopback,
        )

    def _invites(self) -> Invites:
        given = self._file.invite
        for name in (
            "code_days",
            "octets",
            "messages",
            "invitations_per_sender",
            "notices_per_domain",
            "trials_per_day",
        ):
            if getattr(given, name) < 1:
                self._say(f"invite.{name}", "expected at least 1")
        if given.unused_days < 0:
            self._say("invite.unused_days", "expected 0 or more")
        if not 0 <= given.trial_days <= MAX_TRIAL_DAYS:
            self._say("invite.trial_days", f"expected 0 (no trials) to {MAX_TRIAL_DAYS}")
        elif given.trial_days and given.domain is None:
            self._say("invite.trial_days", "trials need invite.domain, in which their accounts have names")
        elif given.trial_days and not self._file.inbound.checks:
            self._say("invite.trial_days", "trials need inbound.checks, since they are given to proven senders alone")
        domain = None if given.domain is None else self._host("invite.domain", given.domain)
        if domain is not None and domain in self._domains():
            self._say("invite.domain", "expected a domain of its own, that members have no addresses in")
        for language in given.languages:
            if not re.fullmatch(r"[a-z]{2,3}", language):
                self._say("invite.languages", f'expected languages such as "en", found {language!r}')
        if not given.languages:
            self._say("invite.languages", "expected at least one language")
        return Invites(
            domain,
            When(given.when),
            given.code_days,
            int(given.notice_quiet),
            given.unused_days,
            given.languages,
            None if given.templates is None else self._place(given.templates),
            given.code_command,
            int(given.octets),
            given.messages,
            given.invitations_per_sender,
            given.notices_per_domain,
            self._invite_domains(domain),
            given.trial_days,
            given.trials_per_day,
        )

    def _invite_domains(self, guests: str | None) -> tuple[InviteDomain, ...]:
        """``guests``: the domain of guests' account names."""
        found: dict[str, InviteDomain] = {}
        for one in self._file.invite.domains:
            domain = self._host("invite.domains.domain", one.domain)
            if guests is None:
                self._say("invite.domains", "expected invite.domain too: without it nobody is invited")
            if domain == guests or domain in found:
                self._say("invite.domains.domain", f"{domain} is the guests' own, or stands there twice")
            if one.role == "member" and domain not in self._domains():
                words = f'"member" is for domains that are hosted here, and {domain} is not in domains'
                self._say("invite.domains.role", words)
            if one.language and not re.fullmatch(r"[a-z]{2,3}", one.language):
                self._say("invite.domains.language", f'expected a language such as "en", found {one.language!r}')
            senders = tuple(self._inviter(sender) for sender in one.senders)
            role = Role.MEMBER if one.role == "member" else Role.GUEST
            found[domain] = InviteDomain(domain, role, senders, one.language)
        return tuple(found.values())

    def _inviter(self, given: str) -> str:
        """An address in the form to compare with, or ``@`` and a domain."""
        if given.startswith("@"):
            return "@" + self._host("invite.domains.senders", given[1:])
        try:
            return canonical(given).lookup
        except AddressError:
            self._say(
                "invite.domains.senders", f'expected addresses, or domains such as "@example.com", found {given!r}'
            )
            return ""

    def _devices(self) -> Devices:
        given = self._file.devices
        if given.unused_days < 0:
            self._say("devices.unused_days", "expected 0 or more")
        if given.most < 2:
            self._say("devices.most", "expected at least 2")
        return Devices(given.unused_days, int(given.shown), given.most)

    def _relays(self) -> Relays:
        given = self._file.relays
        networks = self._networks("relays.networks", given.networks)
        domains = {self._host("relays.domains", one): RelayPolicy(policy) for one, policy in given.domains.items()}
        accounts = {*self._domains(), (self._file.invite.domain or "").rstrip(".").lower()}
        for one in domains.keys() - accounts:
            self._say("relays.domains", f"expected domains that have accounts here, found {one!r}")
        if not all(one.strip() for one in given.programs):
            self._say("relays.programs", "expected how programs begin to name themselves, found an empty text")
        return Relays(RelayPolicy(given.policy), networks, given.programs, domains)

    def _resolvers(self) -> tuple[str, ...]:
        for given in self._file.resolver.addresses:
            address, _, port = given.partition("#")
            self._ip("resolver.addresses", address)
            if port and not (port.isdecimal() and 0 < int(port) < 65536):
                self._say("resolver.addresses", f"expected a port after #, found {given!r}")
        return self._file.resolver.addresses

    def _ip(self, key: str, given: str) -> None:
        try:
            ip_address(given)
        except ValueError:
            self._say(key, f"expected IP addresses, found {given!r}")

    def _partners(self) -> tuple[PartnerRecord, ...]:
        records: dict[str, PartnerRecord] = {}
        for at, one in enumerate(self._file.partner, 1):
            try:
                record = read_partner(one, self._place)
            except ValueError as problem:
                self._say(f"partner number {at} ({one.domain})", str(problem))
                continue
            if record.domain in records:
                self._say(f"partner number {at}", f"{record.domain} has a record already")
            records[record.domain] = record
        return tuple(records.values())

    def _passwords(self) -> Passwords:
        given = self._file.passwords
        if given.rounds is not None and not 64 <= given.rounds <= 512:
            self._say("passwords.rounds", "expected 64 to 512")
        return Passwords(given.kdf, given.rounds, given.login_cache)


def _one_per_core() -> int:
    """As many workers as this process may use cores; none on a single one, where a supervisor would only cost."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores == 1 else min(cores, MAX_WORKERS)


def _is_port(given: int | str) -> bool:
    if isinstance(given, str):
        return re.fullmatch(r"systemd:[A-Za-z0-9_.-]+", given) is not None
    return 1 <= given <= 65535
