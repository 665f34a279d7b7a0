"""The configuration as the program sees it: frozen values. How they are read: `certmaild.config`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TypeAlias

from certmaild.keystore.tls import CertificateFiles
from certmaild.keystore.tls_values import Level
from certmaild.mailbox.layout_accounts import Role
from certmaild.partners.record import PartnerRecord
from certmaild.protocols.limits import Limits

LISTENERS = ("imaps", "pop3s", "smtp", "submission", "submissions", "https")
Network: TypeAlias = IPv4Network | IPv6Network
_THIS_MACHINE = (ip_network("127.0.0.0/8"), ip_network("::1"))


@dataclass(frozen=True, slots=True)
class Listen:
    """Addresses and, by listener, its port, ``systemd:NAME``, or None when it is off."""

    address: tuple[str, ...] = ("127.0.0.1",)
    imaps: int | str | None = None
    pop3s: int | str | None = None
    smtp: int | str | None = None
    submission: int | str | None = None
    submissions: int | str | None = None
    https: int | str | None = None
    """The fixed files that mail programs and servers look for (`certmaild.client_setup.files`)."""

    def ports(self) -> dict[str, int | str]:
        """The listeners that are on."""
        given = {name: getattr(self, name) for name in LISTENERS}
        return {name: port for name, port in given.items() if port is not None}


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates. Without ``certificate`` in the file they are our own authority's, in the data directory."""

    default: CertificateFiles
    names: tuple[CertificateFiles, ...] = ()
    minimum: str = "1.2"
    strict_names: bool = False
    """On 993, 995 and 465 a client must name a server that a certificate is for."""
    private: bool = True
    """The certificate is our own authority's."""
    next_key: Path | None = None
    """The key of the certificate to come, or that certificate: to be published and pinned before it serves."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """Port 25."""

    tls_required: bool = True
    clear_networks: tuple[Network, ...] = ()
    """Who may deliver without TLS all the same."""
    checks: bool = True
    """SPF, DKIM, ARC and DMARC of what comes."""
    unchecked_networks: tuple[Network, ...] = _THIS_MACHINE
    """Whose mail is not checked: own servers, which have looked at it."""
    honours_dmarc: bool = True
    """What a domain asks for by DMARC is done, and not only written down."""
    arc_sealers: tuple[str, ...] = ()
    """Domains whose word on what they passed on counts (RFC 8617); lower-case A-labels."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """How human passwords are stretched."""

    kdf: str = "bcrypt"
    rounds: int | None = None
    """None: calibrated to 250 ms."""
    login_cache: bool = True


@dataclass(frozen=True, slots=True)
class Outbound:
    """Mail to other servers; times in seconds."""

    level: Level = Level.VERIFY
    """What a destination without a partner record must prove; DANE and MTA-STS raise it."""
    smart_host: str | None = None
    """``host:port`` that takes everything but partners' mail; its name must be in its certificate."""
    smart_host_user: str | None = None
    smart_host_password_file: Path | None = None
    retry: int = 60
    """Before the second try; twice as long each time."""
    longest_retry: int = 3600
    lifetime: int = 5 * 86400
    """After which a message goes back."""
    warn_after: int = 15 * 60
    """The sender is told that a destination does not prove itself."""
    delay_after: int = 4 * 3600
    """The sender is told that the message is late (RFC 3461 section 4.1, DELAY)."""
    connections: int = 10
    """At once to one destination."""
    source: tuple[str, ...] = ()
    """Own addresses to connect from, one of each IP version; empty: the system's choice."""
    warn_partners: bool = False
    """A partner's postmaster is told too when a certificate of his runs out."""
    loopback: bool = False
    """An MX record may lead to this machine's loopback addresses."""


class When(StrEnum):
    """Which outside recipients get a guest mailbox here instead of mail on the wire."""

    ALWAYS = "always"
    UNPROVEN = "unproven"
    """Whose destination proves itself neither by DANE nor by MTA-STS."""
    MARKED = "marked"
    """Only of messages marked to be sealed."""


@dataclass(frozen=True, slots=True)
class InviteDomain:
    """A domain whose unknown addresses get accounts by a message to them."""

    domain: str
    role: Role
    senders: tuple[str, ...]
    """Addresses, or ``@domain``, that may do so; empty: every member."""
    language: str


@dataclass(frozen=True, slots=True)
class Invites:
    """Guests; without ``domain`` there are none."""

    domain: str | None = None
    """Of the guests' account names; lower-case A-labels."""
    when: When = When.UNPROVEN
    code_days: int = 14
    """After which an unused pickup code dies."""
    notice_quiet: int = 86400
    """Seconds between two notices to one guest, at least."""
    unused_days: int = 90
    """After which a mailbox that nobody ever opened is removed; 0: never."""
    languages: tuple[str, ...] = ("en",)
    """Of a notice to somebody whose language is not known, in this order."""
    templates: Path | None = None
    """A directory of the operator's own templates, looked at before ours."""
    code_command: tuple[str, ...] = ()
    """A program that carries pickup codes, such as by SMS."""
    octets: int = 2**30
    messages: int = 10_000
    """Quota of a guest."""
    invitations_per_sender: int = 200
    """New guests of one sender in 24 hours."""
    notices_per_domain: int = 500
    """Notices to one domain in an hour."""
    domains: tuple[InviteDomain, ...] = ()
    trial_days: int = 0
    """After which a mailbox that somebody asked for at ``try@`` is removed; 0: there are none to be had."""
    trials_per_day: int = 50
    """Such mailboxes that are asked for in 24 hours, by all together."""

    @property
    def has_trials(self) -> bool:
        """Whether ``try@`` is anything."""
        return self.domain is not None and self.trial_days > 0


@dataclass(frozen=True, slots=True)
class Devices:
    """Ways in that people make by mail."""

    unused_days: int = 180
    """After which a device that nobody uses is revoked; 0: never."""
    shown: int = 86400
    """Seconds that a message shows a password that nobody uses."""
    most: int = 20
    """Ways in of one mailbox."""


class RelayPolicy(StrEnum):
    """What becomes of a log-in by a mail program's own cloud."""

    ALLOW = "allow"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Relays:
    """Mail programs that fetch through their maker's cloud, password and mail included."""

    policy: RelayPolicy = RelayPolicy.WARN
    networks: tuple[Network, ...] = ()
    """From where such clouds come, beside those that are known."""
    programs: tuple[str, ...] = ()
    """How they name themselves or their makers in IMAP's ID, beside those that are known."""
    domains: Mapping[str, RelayPolicy] = field(default_factory=dict)
    """Domains of accounts with another policy."""


@dataclass(frozen=True, slots=True)
class Search:
    """How SEARCH is prepared."""

    ahead: bool = False
    """Every folder gets its text column as messages come into it; else the first search by text makes it."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is set; paths are absolute, sizes in octets, times in seconds."""

    path: Path | None
    """The file it came from; None without one."""
    hostname: str
    domains: tuple[str, ...]
    """Lower-case A-labels."""
    data: Path
    secrets: Path
    tls: Tls
    listen: Listen
    workers: int = 0
    """Processes that serve beside the supervisor; 0: one process does everything."""
    postmaster: str | None = None
    privacy: bool = True
    """The address of a submitting client is left out of Received."""
    padding: bool = True
    """Frames are padded so that their sizes say less (Padme)."""
    free_disk: int = 256 * 2**20
    shutdown_time: int = 30
    inbound: Inbound = Inbound()
    limits: Limits = field(default_factory=Limits)
    passwords: Passwords = Passwords()
    outbound: Outbound = Outbound()
    resolvers: tuple[str, ...] = ()
    """IP addresses of DNS servers, with ``#port`` if not 53; empty: the system's."""
    partners: tuple[PartnerRecord, ...] = ()
    search: Search = Search()
    invite: Invites = Invites()
    devices: Devices = Devices()
    relays: Relays = Relays()
    text: str = field(default="", repr=False, compare=False)
    """What stands in the file: a worker reads its configuration from these same words (`again`)."""

    @property
    def mail_domains(self) -> tuple[str, ...]:
        """Every domain that has addresses here: the hosted ones, and that of the guests."""
        return self.domains if self.invite.domain is None else (*self.domains, self.invite.domain)

    @property
    def store(self) -> Path:
        """The LMDB environment's directory."""
        return self.data / "store"

    @property
    def volatile(self) -> Path:
        """The directory of what the daemon's processes share while it runs."""
        return self.data / "volatile"

    @property
    def bells(self) -> Path:
        """The directory of the pipes by which a process that committed wakes the others."""
        return self.volatile / "bells"
