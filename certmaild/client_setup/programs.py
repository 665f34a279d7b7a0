"""How to set up the usual mail programs by hand: where to go and what to type, in each one's own words."""

from collections.abc import Callable
from dataclasses import dataclass

from certmaild.client_setup.settings import ClientSettings, Server, Speaks

Fields = tuple[tuple[str, str], ...]
PASSWORD = "the device password"  # noqa: S105  # words, no secret


@dataclass(frozen=True, slots=True)
class Steps:
    """One program's way. No password is in it."""

    program: str
    key: str
    """For ``--program``."""
    where: str
    fields: Fields
    """What the program calls it, and what to type."""
    trust: str
    """How it comes to trust an authority that the world does not know; ``{ca}`` stands for that file."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    key: str
    where: str
    fields: Callable[[str, Server, Server], Fields]
    trust: str
    note: str = ""


def _thunderbird(account: str, incoming: Server, outgoing: Server) -> Fields:
    return (
        ("Full name", "your name"),
        ("Email address", account),
        ("Password", PASSWORD),
        ("Incoming: Protocol", incoming.speaks.value),
        ("Incoming: Hostname", incoming.host),
        ("Incoming: Port", str(incoming.port)),
        ("Incoming: Connection security", incoming.security.value),
        ("Outgoing: Hostname", outgoing.host),
        ("Outgoing: Port", str(outgoing.port)),
        ("Outgoing: Connection security", outgoing.security.value),
        ("both: Authentication method", "Normal password"),
        ("both: Username", account),
    )


def _outlook(account: str, incoming: Server, outgoing: Server) -> Fields:
    return (
        ("Email address", account),
        ("Account type", "POP" if incoming.speaks is Speaks.POP3 else "IMAP"),
        ("Incoming mail: Server", incoming.host),
        ("Incoming mail: Port", str(incoming.port)),
        ("Incoming mail: Encryption method", incoming.security.value),
        ("Outgoing mail: Server", outgoing.host),
        ("Outgoing mail: Port", str(outgoing.port)),
        ("Outgoing mail: Encryption method", outgoing.security.value),
        ("Require logon using SPA", "off"),
        ("User name", account),
        ("Password", PASSWORD),
    )


def _apple(account: str, incoming: Server, outgoing: Server) -> Fields:
    return (
        ("Name", "your name"),
        ("Email", account),
        ("Password", PASSWORD),
        ("Account type", "POP" if incoming.speaks is Speaks.POP3 else "IMAP"),
        ("Incoming Mail Server: Host Name", incoming.host),
        ("Outgoing Mail Server: Host Name", outgoing.host),
        ("both: User Name", f"{account} (also where it says optional)"),
        ("both: Password", PASSWORD),
        ("both: Use SSL", f"on; ports {incoming.port} and {outgoing.port}"),
    )


def _k9(account: str, incoming: Server, outgoing: Server) -> Fields:
    return (
        ("Email address", account),
        ("Password", PASSWORD),
        ("Incoming: Protocol", incoming.speaks.value),
        ("Incoming: Server", incoming.host),
        ("Incoming: Security", incoming.security.value),
        ("Incoming: Port", str(incoming.port)),
        ("Outgoing: Server", outgoing.host),
        ("Outgoing: Security", outgoing.security.value),
        ("Outgoing: Port", str(outgoing.port)),
        ("both: Authentication", "Normal password"),
        ("both: Username", account),
    )


_PROGRAMS = (
    _Program(
        "Thunderbird",
        "thunderbird",
        "Menu > New Account > Email Account > Configure Manually (seldom needed: it finds these by itself)",
        _thunderbird,
        "Settings > Privacy & Security > Manage Certificates > Authorities > Import: {ca}, to identify websites",
    ),
    _Program(
        "Outlook (classic)",
        "outlook",
        "File > Add Account > Advanced options: Let me set up my account manually > Connect",
        _outlook,
        "open {ca} (named .crt) > Install Certificate > Local Machine > Trusted Root Certification Authorities",
        "Not the new Outlook: there the maker's servers log in with your password and fetch your mail.",
    ),
    _Program(
        "Apple Mail (iPhone, iPad, Mac)",
        "apple",
        "iPhone, iPad: Settings > Apps > Mail > Mail Accounts > Add Account > Other > Add Mail Account; "
        "Mac: Mail > Add Account > Other Mail Account",
        _apple,
        "the profile holds it; then Settings > General > About > Certificate Trust Settings (Mac: Keychain Access)",
        "Or open the profile (certmaild setup --profile FILE): only the password is left to type.",
    ),
    _Program(
        "K-9 Mail, Thunderbird for Android",
        "k9",
        "Menu > Settings > Add account > Edit configuration",
        _k9,
        "the device's Settings > Security > Install a certificate > CA certificate: {ca}",
    ),
)
KEYS = tuple(one.key for one in _PROGRAMS)
"""For ``--program``."""


def steps_for(settings: ClientSettings, *, by: Speaks | None = None) -> list[Steps]:
    """How to set up each program, by IMAP where the server speaks it, unless ``by`` says otherwise.

    Empty when the server has nothing to fetch mail from (by that protocol), or to send it by.
    """
    incoming = settings.server(by) if by is not None else next(iter(settings.incoming), None)
    outgoing = settings.server(Speaks.SMTP)
    if incoming is None or outgoing is None:
        return []
    return [
        Steps(
            one.name,
            one.key,
            one.where,
            one.fields(settings.account, incoming, outgoing),
            one.trust,
            one.note,
        )
        for one in _PROGRAMS
    ]
