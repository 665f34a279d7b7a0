"""The fixed files that mail programs and other servers fetch by HTTPS: which host has what under which path.

A web server may have them as files (`certmaild static`), or this server answers itself (`[listen] https`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from certmaild.client_setup.autoconfig import autoconfig
from certmaild.client_setup.autodiscover import autodiscover
from certmaild.client_setup.names import AUTOCONFIG, AUTODISCOVER, FETCHED, MTA_STS
from certmaild.client_setup.profile import CONTENT_TYPE, SUFFIX, domain_profile
from certmaild.client_setup.settings import settings_for
from certmaild.config_values import Config
from certmaild.keystore.tls import Identity, read_identity
from certmaild.protocols.web.interfaces import Page

AUTODISCOVER_PATH = "/autodiscover/autodiscover.xml"
"""Outlook asks for it by POST, and in any case of letters."""
_AUTOCONFIG_PATH = "/mail/config-v1.1.xml"
_WELL_KNOWN_AUTOCONFIG = "/.well-known/autoconfig/mail/config-v1.1.xml"
_POLICY_PATH = "/.well-known/mta-sts.txt"
_XML = "text/xml; charset=utf-8"


@dataclass(frozen=True, slots=True)
class FixedFile:
    """One file at its place. Nothing in it is secret."""

    host: str
    """A-labels."""
    path: str
    """From ``/``, as in the request."""
    content_type: str
    octets: bytes = field(repr=False)
    purpose: str
    """For whom, in words."""


def fixed_files(config: Config, sts_policy: str | None = None) -> list[FixedFile]:
    """All files of all domains; ``sts_policy`` is the text of the MTA-STS policy, if there can be one.

    A profile or a set of servers that would lack the incoming or the outgoing one is left out. Raises
    `CertificateUnfit`.
    """
    identity = read_identity(config.tls.default)
    return [one for domain in config.mail_domains for one in _of_domain(config, domain, sts_policy, identity)]


def _of_domain(config: Config, domain: str, sts_policy: str | None, identity: Identity) -> Iterator[FixedFile]:
    settings = settings_for(config, domain)
    if settings.incoming and settings.outgoing:
        servers = autoconfig(settings, domain)
        mozilla = "Autoconfig: Thunderbird, K-9 and others"
        yield FixedFile(f"{AUTOCONFIG}.{domain}", _AUTOCONFIG_PATH, _XML, servers, mozilla)
        yield FixedFile(domain, _WELL_KNOWN_AUTOCONFIG, _XML, servers, mozilla)
        for host in (f"{AUTODISCOVER}.{domain}", domain):
            answer = autodiscover(settings, domain)
            yield FixedFile(host, AUTODISCOVER_PATH, _XML, answer, "Autodiscover: classic Outlook, by POST")
        profile = domain_profile(config, domain, identity, by=settings.incoming[0].speaks)
        path = f"/mail/{domain}{SUFFIX}"
        yield FixedFile(f"{AUTOCONFIG}.{domain}", path, CONTENT_TYPE, profile, "a profile for Apple's devices")
    if sts_policy is not None:
        octets = sts_policy.encode("ascii")
        yield FixedFile(f"{MTA_STS}.{domain}", _POLICY_PATH, "text/plain", octets, "MTA-STS: other mail servers")


class FileShelf:
    """A `Shelf` of a configuration's fixed files, each domain's made when one of them is first asked for.

    Profiles are signed by ``identity``. Autodiscover's path is found in any case of letters, as Outlook writes it.
    """

    def __init__(self, config: Config, sts_policy: str | None, identity: Identity) -> None:
        self._config = config
        self._sts_policy = sts_policy
        self._identity = identity
        self._domains = {
            host: domain
            for domain in config.mail_domains
            for host in (domain, *(f"{label}.{domain}" for label in FETCHED))
        }
        self._pages: dict[str, dict[tuple[str, str], Page]] = {}

    def find(self, host: str, path: str) -> Page | None:
        """See `Shelf.find`."""
        domain = self._domains.get(host)
        if domain is None:
            return None
        if domain not in self._pages:
            self._pages[domain] = self._made(domain)
        if path.lower() == AUTODISCOVER_PATH:
            path = AUTODISCOVER_PATH
        return self._pages[domain].get((host, path))

    def _made(self, domain: str) -> dict[tuple[str, str], Page]:
        files = _of_domain(self._config, domain, self._sts_policy, self._identity)
        return {
            (one.host, one.path): Page(one.content_type, one.octets, one.path == AUTODISCOVER_PATH) for one in files
        }
