"""What time takes from devices, done by whoever works the queue: passwords shown for too long, devices nobody uses."""

from collections.abc import Callable
from itertools import islice

from twisted.logger import Logger

from certmaild.config_values import Devices
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.account_rows import read_account, read_day
from certmaild.mailbox.devices import devices_of, id_text, revoke
from certmaild.mailbox.identifiers import CredentialId, Mid, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Kind, State
from certmaild.mailbox.layout_queue import Due
from certmaild.mailbox.queue import Queue
from certmaild.mailbox.service_marks import read_mark
from certmaild.outbound.due_round import DueRound
from certmaild.outbound.interfaces import Work
from certmaild.outbound.runner import Round
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import NotWritable, ServiceMail
from certmaild.services import texts
from certmaild.services.fleet import day_text
from certmaild.services.steward import hide_password, taken_away

log = Logger()

DAY_S = 86_400
LOOK_EACH_S = 600
USERS_AT_ONCE = 2000
AGAIN_S = 0.05


class DeviceExpiry:
    """From `start` to `stop` it looks; ``settings`` is asked each time."""

    def __init__(
        self, engine: Engine, secrets: ServerSecrets, mail: ServiceMail, settings: Callable[[], Devices], clock: Clock
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._settings = settings
        self._clock = clock
        self._passwords = DueRound(
            engine,
            clock,
            Due.PASSWORD,
            self._hide,
            each_s=lambda: max(1.0, min(LOOK_EACH_S, settings().shown / 4)),
            until_s=lambda: max(self._now() - settings().shown, 0),
        )
        self._devices: Round | None = None
        self._next_user = b""

    async def start(self) -> None:
        """Look now; for passwords every ten minutes, for devices once a day."""
        await self._passwords.start()
        self._devices = Round(self._clock, self._look_at_devices)
        self._devices.wake()

    async def stop(self) -> None:
        """Finish what is under way, and begin nothing further."""
        await self._passwords.stop()
        if self._devices is not None:
            await self._devices.stop()

    def _now(self) -> int:
        return int(self._clock.seconds())

    # Passwords that nobody has used.

    async def _hide(self, at_s: int, what: bytes) -> None:
        user_id, mid, secrets = UserId(what[:16]), Mid(what[16:]), self._secrets
        mark, account = await self._engine.read(
            lambda txn: (read_mark(txn, secrets, user_id, mid), read_account(txn, secrets, user_id))
        )
        hide: Work | None = None
        if mark is not None and account is not None:
            domain = account.address.rpartition("@")[2]
            try:
                hide = await hide_password(self._mail, user_id, mid, None, domain, was_used=False)
            except NotWritable:
                # Nothing is written to who is disabled: the password goes without a word.
                hide = taken_away(secrets, user_id, mid, self._now())

        def work(txn: WriteTxn) -> None:
            Queue.undue(txn, Due.PASSWORD, at_s, user_id + mid)
            if hide is not None and read_mark(txn, secrets, user_id, mid) == mark:
                hide(txn)

        await self._engine.write(work)

    # Devices that nobody uses.

    async def _look_at_devices(self) -> float:
        if not self._settings().unused_days:
            return DAY_S
        users = await self._engine.scan(lambda txn: self._next_users(txn))
        for user_id in users:
            try:
                await self._revoke_idle(user_id)
            except Exception:
                log.failure("idle devices of {user} could not be revoked; it is tried tomorrow", user=user_id.hex())
        self._next_user = users[-1] if len(users) == USERS_AT_ONCE else b""
        return AGAIN_S if self._next_user else DAY_S

    async def _revoke_idle(self, user_id: UserId) -> None:
        for one in await self._engine.read(lambda txn: self._idle(txn, user_id)):
            try:
                await self._revoke(user_id, one)
            except NotWritable:
                continue

    def _next_users(self, txn: ReadTxn) -> list[UserId]:
        after = self._next_user + b"\0" if self._next_user else b""
        return [UserId(key) for key, _ in islice(txn.scan(Table.ACCT, after), USERS_AT_ONCE)]

    def _idle(self, txn: ReadTxn, user_id: UserId) -> list[CredentialId]:
        """Devices that nobody used for too long; of a mailbox without any other way in all but the one used last."""
        account = read_account(txn, self._secrets, user_id)
        if account is None or account.state is not State.ACTIVE:
            return []
        last = {
            one: max(row.head.created // DAY_S, read_day(txn, self._secrets, user_id, one) or 0)
            for one, row in devices_of(txn, user_id)
        }
        today, most = self._now() // DAY_S, self._settings().unused_days
        idle = [
            one for one, row in devices_of(txn, user_id) if row.head.kind is Kind.DEVICE and today - last[one] > most
        ]
        if len(idle) == len(last) and idle:
            idle.remove(max(idle, key=lambda one: last[one]))
        return idle

    async def _revoke(self, user_id: UserId, credential_id: CredentialId) -> None:
        days = self._settings().unused_days
        secrets = self._secrets
        account, day = await self._engine.read(
            lambda txn: (read_account(txn, secrets, user_id), read_day(txn, secrets, user_id, credential_id))
        )
        if account is None:
            return
        domain = account.address.rpartition("@")[2]
        letter = texts.idle_revoked(id_text(credential_id), day_text(day), days, domain)
        letter["From"] = f"certmaild <devices@{domain}>"
        word = await self._mail.place(letter, user_id)
        now = self._now()

        def work(txn: WriteTxn) -> bool:
            if credential_id not in self._idle(txn, user_id):
                return False
            revoke(txn, secrets, user_id, credential_id, now=now, by=audit_log.SERVER)
            word.file(txn)
            return True

        if await self._engine.write(work, grows=True):
            log.info("a device of {user} is revoked: nobody used it for {days} days", user=user_id.hex(), days=days)
