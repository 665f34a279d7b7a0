"""What a log-in leaves to be written, while nobody waits for it: the day of use, and the credential as of today.

A credential made under other rounds or an older pepper is written again, since only now is its secret at hand (KEYS
sections 3 and 10). Its scopes, label and time of making stay, so that no session ends by it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.kdf_pool import KdfPool
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import account_rows, ways_in
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_accounts import CredentialRow
from certmaild.mailbox.ways_in import Keyed
from certmaild.protocols.interfaces import LogInUnavailable

log = Logger()

DAY_S = 86_400


class Upkeep:
    """Writes after log-ins. ``rounds`` and the newest pepper are what credentials are to be under."""

    def __init__(
        self, engine: Engine, secrets: ServerSecrets, slow: KdfPool, seconds: Callable[[], float], rounds: int
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._slow = slow
        self._seconds = seconds
        self.rounds = rounds
        self._days: dict[tuple[UserId, CredentialId], int] = {}

    def renew_password(self, keyed: Keyed, password: bytes, root: Secret, peer: str) -> None:
        """Stretch a proven human password again if it was under other rounds or an older pepper."""
        head = keyed.credential.head
        if head.rounds != self.rounds or head.pepper_id != self._secrets.pepper_id:
            _in_background(self._stretch_again(keyed, password, Secret(bytes(root.reveal())), peer))

    async def _stretch_again(self, keyed: Keyed, password: bytes, root: Secret, peer: str) -> None:
        """Done at a later log-in when there is no place for it now."""
        head = keyed.credential.head
        try:
            with suppress(LogInUnavailable):
                made = await self._slow.run(
                    peer,
                    lambda: ways_in.new_password(
                        self._secrets,
                        keyed.user_id,
                        password,
                        root,
                        rounds=self.rounds,
                        created=head.created,
                        like=head,
                    ),
                )
                await self._replace(keyed, replace(made, label=keyed.credential.label))
        finally:
            root.wipe()

    def renew_code(self, keyed: Keyed, material: bytes, root: Secret) -> None:
        """Wrap the root key again under the newest pepper, for a proven device password under an older one."""
        if keyed.credential.head.pepper_id != self._secrets.pepper_id:
            _in_background(self._replace(keyed, ways_in.under_newest_pepper(self._secrets, keyed, material, root)))

    def renew_pickup(self, keyed: Keyed, material: bytes, root: Secret) -> None:
        """The same for a pickup code; one that was used no longer dies of age."""
        head = keyed.credential.head
        if head.expires or head.pepper_id != self._secrets.pepper_id:
            lasting = ways_in.under_newest_pepper(self._secrets, keyed, material, root, expires=0)
            _in_background(self._replace(keyed, lasting))

    async def _replace(self, keyed: Keyed, row: CredentialRow) -> None:
        """Write the credential, unless it or its account changed since it was read."""

        def work(txn: WriteTxn) -> None:
            if ways_in.read_stamp(txn, keyed.user_id, keyed.credential_id) == keyed.stamp:
                account_rows.write_credential(txn, keyed.user_id, keyed.credential_id, row)

        await self._engine.write(work)

    def note_use(self, user_id: UserId, credential_id: CredentialId) -> None:
        """Store the day of use, at most once a day."""
        today, whose = int(self._seconds()) // DAY_S, (user_id, credential_id)
        if self._days.get(whose) != today:
            self._days[whose] = today
            _in_background(self._write_day(user_id, credential_id, today))

    async def _write_day(self, user_id: UserId, credential_id: CredentialId, today: int) -> None:
        secrets = self._secrets
        day = await self._engine.read(lambda txn: account_rows.read_day(txn, secrets, user_id, credential_id))
        if day != today:
            await self._engine.write(lambda txn: account_rows.write_day(txn, secrets, user_id, credential_id, today))

    def sweep(self) -> None:
        """Forget whose day was noted; it is read again before it is written."""
        self._days.clear()


def _in_background(work: Awaitable[None]) -> None:
    async def wait() -> None:
        await work

    Deferred.fromCoroutine(wait()).addErrback(lambda failure: log.failure("after a log-in", failure))
