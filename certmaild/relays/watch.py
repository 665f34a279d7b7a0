"""What becomes of log-ins through the cloud of a mail program's maker: allowed, warned of, or refused."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage

import msgspec
from twisted.logger import Logger

from certmaild.config_values import RelayPolicy, Relays
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.clients import change_client, read_client
from certmaild.mailbox.devices import id_text
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_guests import AuditRow, ClientRow
from certmaild.protocols.interfaces import ClientId, Login, LogInForbidden, Service
from certmaild.relays import texts
from certmaild.relays.known import CONFIGURED, Cloud, clouds
from certmaild.reports.service_mail import Placed, ServiceMail

log = Logger()

TOLD_EVERY_S = 30 * 86400


@dataclass(frozen=True, slots=True)
class Sighting:
    """One log-in through a cloud."""

    login: Login
    cloud: Cloud
    service: Service
    peer: str
    is_refused: bool
    now: int


class RelayWatch:
    """A `ClientWatch`. The user is told at most once in 30 days for each way in, and of a first refusal at once."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        mail: ServiceMail,
        settings: Relays,
        *,
        seconds: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._seconds = seconds
        self.take_over(settings)

    def take_over(self, settings: Relays) -> None:
        """Go by these settings from now on."""
        self._settings = settings
        self._clouds = clouds(settings.networks, settings.programs)

    async def entered(self, login: Login, service: Service, peer: str) -> None:
        """See `ClientWatch.entered`: recognised by where it comes from."""
        cloud = self._clouds.by_address(peer)
        if cloud is not None:
            await self._seen(login, cloud, service, peer)

    async def told(self, login: Login, client_id: ClientId, peer: str) -> None:
        """See `ClientWatch.told`: recognised by what it says, unless it was by where it comes from."""
        cloud = self._clouds.by_words(client_id)
        if cloud is not None and self._clouds.by_address(peer) is None:
            await self._seen(login, cloud, Service.IMAP, peer)

    def policy_of(self, address: str) -> RelayPolicy:
        """What holds for an account with this main address."""
        return self._settings.domains.get(address.rpartition("@")[2], self._settings.policy)

    async def _seen(self, login: Login, cloud: Cloud, service: Service, peer: str) -> None:
        policy = self.policy_of(login.address)
        is_refused = policy is RelayPolicy.REFUSE
        seen = Sighting(login, cloud, service, peer, is_refused, int(self._seconds()))
        try:
            row = await self._engine.read(
                lambda txn: read_client(txn, self._secrets, login.user_id, login.credential_id)
            )
            if _is_news(row, seen):
                await self._tell(seen, with_words=policy is not RelayPolicy.ALLOW)
        except Exception:
            # Mail goes on without the warning; a refusal holds without it.
            log.failure("a log-in through a mail program's cloud could not be noted")
        if is_refused:
            log.info("log-in refused: it came through a mail program's cloud ({service})", service=service.value)
            raise LogInForbidden(texts.FORBIDDEN)

    async def _tell(self, seen: Sighting, *, with_words: bool) -> None:
        login, secrets = seen.login, self._secrets
        placed: Placed | None = None
        if with_words:
            placed = await self._mail.place(_letter(seen), login.user_id)

        def work(txn: WriteTxn) -> None:
            # In the meantime another session may have told him.
            if not _is_news(read_client(txn, secrets, login.user_id, login.credential_id), seen):
                return
            change_client(txn, secrets, login.user_id, login.credential_id, lambda row: _noted(row, seen))
            audit_log.note(txn, secrets, _audit_row(seen))
            if placed is not None:
                placed.file(txn)

        await self._engine.write(work, grows=True)


def _is_news(row: ClientRow, seen: Sighting) -> bool:
    """Whether the user was not told of this lately."""
    if row.relay != seen.cloud.name or row.relay_refused != seen.is_refused:
        return True
    return seen.now - row.relay_told_s >= TOLD_EVERY_S


def _noted(row: ClientRow, seen: Sighting) -> ClientRow:
    first = row.relay_s if row.relay == seen.cloud.name else seen.now
    return msgspec.structs.replace(
        row, relay=seen.cloud.name, relay_s=first, relay_told_s=seen.now, relay_refused=seen.is_refused
    )


def _audit_row(seen: Sighting) -> AuditRow:
    device = id_text(seen.login.credential_id)
    return AuditRow(
        at_s=seen.now,
        by=audit_log.SERVER,
        act="cloud log-in refused" if seen.is_refused else "cloud log-in",
        whom=seen.login.address,
        detail=f"{seen.cloud.name}, {seen.service.value}, device {device}, from {seen.peer}",
    )


def _letter(seen: Sighting) -> EmailMessage:
    cloud = texts.DEFAULT_CLOUD if seen.cloud.name == CONFIGURED else f"the servers of {seen.cloud.name}"
    device = id_text(seen.login.credential_id)
    letter = EmailMessage()
    subject, text = (texts.REFUSED_SUBJECT, texts.REFUSED) if seen.is_refused else (texts.WARNED_SUBJECT, texts.WARNED)
    letter["Subject"] = subject.format(cloud=cloud)
    letter.set_content(
        text.format(
            cloud=cloud,
            device=device,
            service=seen.service.value,
            peer=seen.peer,
            when=f"{datetime.fromtimestamp(seen.now, UTC):%Y-%m-%d %H:%M} UTC",
            revoke=texts.REVOKE.format(device=device, domain=seen.login.address.rpartition("@")[2]),
        )
    )
    return letter
