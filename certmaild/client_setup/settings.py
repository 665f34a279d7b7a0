"""The settings of one account for a mail program, and the three lines that say them to a person."""

from dataclasses import dataclass
from enum import Enum

from certmaild.config_values import Config

STANDARD_PORTS = {"imaps": 993, "pop3s": 995, "submissions": 465, "submission": 587}
"""Where clients look (RFC 8314 section 7); of a listener whose socket systemd hands over, too."""


class Speaks(Enum):
    """A protocol, by the name that mail programs show."""

    IMAP = "IMAP"
    POP3 = "POP3"
    SMTP = "SMTP"


class Security(Enum):
    """How a connection becomes secret, by the name that mail programs show."""

    TLS = "SSL/TLS"
    STARTTLS = "STARTTLS"


@dataclass(frozen=True, slots=True)
class Server:
    """One server as a mail program knows it."""

    speaks: Speaks
    host: str
    """A-labels."""
    port: int
    security: Security


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Everything to type but the password. A listener that is off is left out, so each tuple may be empty."""

    account: str
    """User name and mail address, one and the same."""
    incoming: tuple[Server, ...]
    """IMAP before POP3."""
    outgoing: tuple[Server, ...]
    """Implicit TLS before STARTTLS (RFC 8314 section 3.3)."""
    ordinary: str | None = None
    """A guest's address elsewhere, if he has one; as user name it is as good."""

    @property
    def are_found(self) -> bool:
        """Whether all ports are where mail programs look that are told nothing."""
        return all(one.port in STANDARD_PORTS.values() for one in (*self.incoming, *self.outgoing))

    def server(self, speaks: Speaks) -> Server | None:
        """The server to prefer among those that speak it."""
        return next((one for one in (*self.incoming, *self.outgoing) if one.speaks is speaks), None)


_LISTENERS = {
    "imaps": (Speaks.IMAP, Security.TLS),
    "pop3s": (Speaks.POP3, Security.TLS),
    "submissions": (Speaks.SMTP, Security.TLS),
    "submission": (Speaks.SMTP, Security.STARTTLS),
}


def settings_for(config: Config, account: str, *, ordinary: str | None = None) -> ClientSettings:
    """What ``account`` (a mailbox's main address) is to type: all servers are `Config.hostname`."""
    ports = config.listen.ports()
    servers = []
    for name, (speaks, security) in _LISTENERS.items():
        if name in ports:
            port = ports[name]
            number = port if isinstance(port, int) else STANDARD_PORTS[name]
            servers.append(Server(speaks, config.hostname, number, security))
    incoming = tuple(one for one in servers if one.speaks is not Speaks.SMTP)
    outgoing = tuple(one for one in servers if one.speaks is Speaks.SMTP)
    return ClientSettings(account, incoming, outgoing, ordinary)


@dataclass(frozen=True, slots=True)
class _Words:
    incoming: str
    outgoing: str
    user_name: str
    port: str
    either: str


_WORDS = {
    "en": _Words("Incoming mail: ", "Outgoing mail: ", "User name: ", "port", "or"),
    "de": _Words("Posteingang: ", "Postausgang: ", "Benutzername: ", "Port", "oder"),
    "fr": _Words("Courrier entrant : ", "Courrier sortant : ", "Nom d'utilisateur : ", "port", "ou"),
    "es": _Words("Correo entrante: ", "Correo saliente: ", "Nombre de usuario: ", "puerto", "o"),
    "it": _Words("Posta in arrivo: ", "Posta in uscita: ", "Nome utente: ", "porta", "o"),
}
LANGUAGES = tuple(_WORDS)
"""Those that `in_words` speaks."""


def in_words(settings: ClientSettings, language: str = "en") -> str:
    """The three lines to type (``\\n`` between them): incoming, outgoing, user name; English for other languages.

    No scheme, no link: only names that have to be typed.
    """
    words = _WORDS.get(language, _WORDS["en"])
    lines = []
    for label, servers in ((words.incoming, settings.incoming), (words.outgoing, settings.outgoing[:1])):
        if servers:
            ways = f" {words.either} ".join(f"{one.speaks.value} {words.port} {one.port}" for one in servers)
            lines.append(f"{label}{servers[0].host}, {ways}, {servers[0].security.value}")
    return "\n".join([*lines, words.user_name + settings.account])
