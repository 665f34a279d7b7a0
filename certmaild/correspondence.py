"""What every process needs that takes mail for elsewhere or writes to people: routes, queue, signatures, letters."""

from collections.abc import Callable

from twisted.logger import Logger

from certmaild.config_values import Config
from certmaild.dkim.key_files import KeyFiles
from certmaild.guests.notices import Notices
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.interfaces import Engine
from certmaild.outbound.dkim_sign import Signer
from certmaild.outbound.spool import Spool
from certmaild.outbound.timing import times_of
from certmaild.partners.book import PartnerBook
from certmaild.reports.names import ServerName
from certmaild.reports.reporter import SenderReports
from certmaild.reports.service_mail import ServiceMail
from certmaild.routing import Router

log = Logger()


class Correspondence:
    """Put together from the configuration; `take_over` follows a new one. Without ``partners`` nothing goes outside."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        config: Config,
        *,
        partners: PartnerBook | None,
        seconds: Callable[[], float],
    ) -> None:
        self.directory = Directory(engine, secrets)
        self.spool = Spool(secrets.queue, times_of(config.outbound))
        self._partners = partners
        self._seconds = seconds
        self._keys = KeyFiles(config.data)
        self.take_over(config)
        self.mail = ServiceMail(
            engine,
            secrets,
            lambda: self.router,
            lambda: self._name,
            seconds=seconds,
            spool=self.spool,
            signer=lambda: self.signer,
        )
        self.reporter = SenderReports(self.mail, seconds=seconds)
        self.notices = Notices(secrets, lambda: self._invites, seconds)

    def take_over(self, config: Config) -> None:
        """Go by this configuration from now on."""
        self.spool.times = times_of(config.outbound)
        self._invites = config.invite
        self.router = Router(
            self.directory,
            config.domains,
            postmaster=_postmaster(config),
            partners=self._partners,
            seconds=self._seconds,
            level=config.outbound.level,
            invites=config.invite,
        )
        self.signer = Signer(config.mail_domains, self._keys.signing)
        self._name = ServerName(config.hostname, config.domains[0], config.limits, config.padding)


def _postmaster(config: Config) -> Address | None:
    try:
        return None if config.postmaster is None else canonical(config.postmaster)
    except AddressError:
        log.warn("postmaster is not an address: the first member takes its place")
        return None
