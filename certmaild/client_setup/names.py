"""The host names under which mail programs look for a domain's servers, and which of them the certificate must have."""

from collections.abc import Iterator

from certmaild.config_values import Config

GUESSED = ("imap", "pop", "pop3", "smtp", "mail")
"""What mail programs put before the domain of an address when nothing else tells them its servers."""
AUTOCONFIG, AUTODISCOVER, MTA_STS = "autoconfig", "autodiscover", "mta-sts"
FETCHED = (AUTOCONFIG, AUTODISCOVER, MTA_STS)
"""From where files are fetched by HTTPS: by Thunderbird and K-9, by Outlook, by other servers (RFC 8461)."""


def guessed_names(domain: str) -> tuple[str, ...]:
    """What mail programs try for an address at ``domain``; nothing for a name without a dot, as ``localhost``."""
    return tuple(f"{label}.{domain}" for label in GUESSED) if "." in domain else ()


def fetched_names(config: Config, domain: str) -> tuple[str, ...]:
    """Where files about ``domain`` are fetched from; MTA-STS takes no certificate of our own authority."""
    labels = (AUTOCONFIG, AUTODISCOVER) if config.tls.private else FETCHED
    return tuple(f"{label}.{domain}" for label in labels) if "." in domain else ()


def served_names(config: Config) -> list[str]:
    """The host's name first, then all under which mail programs find us: what the certificate should be for."""
    return list(dict.fromkeys((config.hostname, *_names(config))))


def _names(config: Config) -> Iterator[str]:
    for domain in config.mail_domains:
        yield from guessed_names(domain)
        if config.listen.https is not None:
            yield from fetched_names(config, domain)
