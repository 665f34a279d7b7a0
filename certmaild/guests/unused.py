"""Guests whose mailbox nobody ever opened are removed, by whoever works the queue; the sender hears of it once."""

from collections.abc import Callable

from twisted.logger import Logger

from certmaild.config_values import Invites
from certmaild.guests import code_texts
from certmaild.guests.retelling import nothing, retold
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.account_rows import read_account
from certmaild.mailbox.accounts import Accounts
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.errors import AccountMissing
from certmaild.mailbox.guests import all_guests, read_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_accounts import Role, State
from certmaild.mailbox.layout_guests import AuditRow, GuestRow
from certmaild.outbound.interfaces import Work
from certmaild.outbound.runner import Round
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import NotWritable, ServiceMail

log = Logger()

DAY_S = 86_400
LOOK_EACH_S = 3600
AT_ONCE = 64


class Used(Exception):
    """The guest came after all."""


def unused_since_s(row: GuestRow, invites: Invites) -> int | None:
    """Since when a mailbox that nobody ever opened has been of no use to anybody; None: it was opened, or is on trial.

    A renewed code and a further notice begin the time anew: a message that came lately is not taken away.
    """
    if row.opened_s or row.joined_s or row.trial_until_s:
        return None
    renewed_s = row.code_expires_s - invites.code_days * DAY_S if row.code_expires_s else 0
    return max(row.invited_s, row.noticed_s, renewed_s)


class UnusedGuests:
    """From `start` to `stop` unused mailboxes go; ``invites`` is asked each time."""

    def __init__(
        self, engine: Engine, secrets: ServerSecrets, mail: ServiceMail, invites: Callable[[], Invites], clock: Clock
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._invites = invites
        self._clock = clock
        self._accounts = Accounts(engine, secrets, clock.seconds, by=audit_log.SERVER)
        self._round: Round | None = None

    async def start(self) -> None:
        """Look now, and every hour."""
        self._round = Round(self._clock, self._look)
        self._round.wake()

    async def stop(self) -> None:
        """Finish the one under way, and begin nothing further."""
        if self._round is not None:
            await self._round.stop()

    async def _look(self) -> float:
        if not self._invites().unused_days:
            return LOOK_EACH_S
        found = await self._engine.scan(self._unused)
        failed = False
        for user_id, row, address in found:
            try:
                await self._remove(user_id, row, address)
            except (Used, AccountMissing):
                continue
            except Exception:
                log.failure("the unused mailbox of {guest} was not removed", guest=user_id.hex())
                failed = True
        return 0 if len(found) == AT_ONCE and not failed else LOOK_EACH_S

    def _unused(self, txn: ReadTxn) -> list[tuple[UserId, GuestRow, str]]:
        """Guests whose time is over, and their main addresses."""
        found = []
        for user_id, row in all_guests(txn, self._secrets):
            if self._is_over(row):
                account = read_account(txn, self._secrets, user_id)
                if account is not None and account.role is Role.GUEST and account.state is not State.PARKED:
                    found.append((user_id, row, account.address))
                    if len(found) == AT_ONCE:
                        break
        return found

    def _is_over(self, row: GuestRow) -> bool:
        invites = self._invites()
        since_s = unused_since_s(row, invites)
        return since_s is not None and self._clock.seconds() >= since_s + invites.unused_days * DAY_S

    async def _remove(self, user_id: UserId, row: GuestRow, address: str) -> None:
        whom = row.ordinary or address
        told = await self._told(row, whom)

        def also(txn: WriteTxn) -> None:
            now = read_guest(txn, self._secrets, user_id)
            if now is None or not self._is_over(now):
                raise Used
            told(txn)
            words = f"nobody opened it in {self._invites().unused_days} days"
            at_s = int(self._clock.seconds())
            audit_log.note(
                txn,
                self._secrets,
                AuditRow(at_s=at_s, by=audit_log.SERVER, act="guest removed", whom=whom, detail=words),
            )

        await self._accounts.remove(canonical(address), also=also)

    async def _told(self, row: GuestRow, whom: str) -> Work:
        """Word to who invited him, in the place of the message with the code where that is still there."""
        letter = code_texts.removed_letter(whom, self._invites().unused_days)
        if not row.inviter_id:
            return nothing
        if row.pickup_mid:
            return await retold(self._mail, row, letter)
        try:
            return (await self._mail.place(letter, UserId(bytes.fromhex(row.inviter_id)))).file
        except (NotWritable, ValueError):
            return nothing
